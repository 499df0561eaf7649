//! What a played worker answers.

use std::{pin::Pin, time::Duration};

use edgeprof_common::Digest;
use edgeprof_proto::{
    SESSION,
    v1::{
        self, FromWorker, ToWorker, from_worker::Frame as From, to_worker::Frame as To, worker_server::Worker,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::played::{Played, inventory, say};

#[tonic::async_trait]
impl Worker for Played {
    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let found = request.into_inner().board;
        let check = v1::Check { name: "line".into(), state: "ok".into(), found, remedy: None };
        Ok(Response::new(v1::CheckBoardResponse { checks: vec![check] }))
    }

    async fn reset_board(
        &self,
        _: Request<v1::ResetBoardRequest>,
    ) -> Result<Response<v1::ResetBoardResponse>, Status> {
        Ok(Response::new(v1::ResetBoardResponse { health: "good".into(), reason: None }))
    }

    type ConsoleStream = Pin<Box<dyn Stream<Item = Result<v1::ConsoleOutput, Status>> + Send>>;

    /// An echo, with the board's name before it.
    async fn console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let echo = request.into_inner().map(|input| {
            let v1::ConsoleInput { board, data } = input?;
            Ok(v1::ConsoleOutput { data: [board.as_bytes(), &data].concat() })
        });
        Ok(Response::new(Box::pin(echo)))
    }

    type SessionStream = Pin<Box<dyn Stream<Item = Result<FromWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<ToWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?;
        let Some(ToWorker { command, frame: Some(To::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first frame must be hello"));
        };
        let (outgoing, frames) = mpsc::channel(256);
        self.with(|state| {
            state.sought = hello.worker_id.clone();
            state.greeted_as = (hello.cluster_id.clone(), hello.epoch);
            if let Some(status) = &state.refusal {
                return Err(status.clone());
            }
            state.last_command = command;
            state.outgoing = Some(outgoing.clone());
            let (boards, held) = inventory(state);
            let speaks = state.speaks.unwrap_or(SESSION);
            say(
                state,
                From::Hello(Box::new(v1::WorkerHello {
                    protocol: speaks.major,
                    protocol_minor: speaks.minor,
                    worker_id: self.id.clone(),
                    incarnation: "i0000000000001".into(),
                    version: "0.1.0".into(),
                    site: hello.site,
                    boards,
                    held,
                    draining: false,
                })),
            );
            for attempt in state.held.values() {
                if let Some(result) = &attempt.result {
                    say(state, From::Result(Box::new(result.clone())));
                }
            }
            Ok(())
        })?;
        let played = self.clone();
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    message = stream.message() => match message {
                        Ok(Some(message)) => played.take(message),
                        _ => break,
                    },
                    _ = beat.tick() => {
                        let state = played.state.lock().unwrap();
                        let (boards, held) = inventory(&state);
                        let frame = From::Heartbeat(v1::Heartbeat { boards, held, draining: false });
                        let message = FromWorker { last_command: state.last_command, frame: Some(frame) };
                        let _ = outgoing.try_send(Ok(message));
                    }
                }
            }
            played.with(|state| {
                if state.outgoing.as_ref().is_some_and(|now| now.same_channel(&outgoing)) {
                    state.outgoing = None;
                }
            });
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }

    async fn put_revocations(
        &self,
        _: Request<v1::PutRevocationsRequest>,
    ) -> Result<Response<v1::PutRevocationsResponse>, Status> {
        Err(Status::failed_precondition("a played worker has no certificates"))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::BlobChunk>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let mut stream = request.into_inner();
        let (mut name, mut bytes) = (String::new(), Vec::new());
        while let Some(chunk) = stream.message().await? {
            if name.is_empty() {
                name = chunk.digest;
            }
            bytes.extend_from_slice(&chunk.data);
        }
        let digest = Digest::of(&bytes);
        assert_eq!(digest.to_string(), name);
        let size = bytes.len() as u64;
        self.with(|state| state.blobs.insert(digest, bytes));
        self.go_on();
        Ok(Response::new(v1::PutBlobResponse { size }))
    }
}
