//! What it answers.

use std::pin::Pin;

use edgeprof_common::Digest;
use edgeprof_proto::{
    bridge,
    v1::{self, mark_board_request::Mark, profiler_server::Profiler},
};
use edgeprof_service::status;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{BOARD, Fake, JOB};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Profiler for Fake {
    type WatchJobStream = Boxed<v1::JobUpdate>;
    type GetResultsStream = Boxed<v1::Run>;
    type GetLogsStream = Boxed<v1::AttemptLog>;
    type ConsoleStream = Boxed<v1::ConsoleOutput>;

    async fn missing_artifacts(
        &self,
        request: Request<v1::MissingArtifactsRequest>,
    ) -> Result<Response<v1::MissingArtifactsResponse>, Status> {
        let state = self.state.lock().unwrap();
        let mut digests = request.into_inner().digests;
        digests.retain(|digest| !state.blobs.contains_key(digest));
        Ok(Response::new(v1::MissingArtifactsResponse { digests }))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::ArtifactChunk>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let mut chunks = request.into_inner();
        let (mut name, mut announced, mut bytes) = (String::new(), 0, Vec::new());
        while let Some(chunk) = chunks.message().await? {
            if name.is_empty() {
                (name, announced) = (chunk.digest, chunk.size);
            }
            bytes.extend_from_slice(&chunk.data);
        }
        let size = bytes.len() as u64;
        if Digest::of(&bytes).to_string() != name || size != announced {
            return Err(Status::invalid_argument("the blob is not what its name says"));
        }
        self.state.lock().unwrap().blobs.insert(name, bytes);
        Ok(Response::new(v1::PutArtifactResponse { size }))
    }

    async fn submit_job(
        &self,
        request: Request<v1::SubmitJobRequest>,
    ) -> Result<Response<v1::SubmitJobResponse>, Status> {
        let request = request.into_inner();
        {
            let mut state = self.state.lock().unwrap();
            state.keys.push(request.idempotency_key);
            state.submitters.push(request.submitter);
            if state.keys.len() <= state.full {
                return Err(status::exhausted("the queue is full", std::time::Duration::from_millis(10)));
            }
            let spec = request.spec.unwrap();
            if spec.boards.iter().any(|board| board == "nosuch") {
                let hint = Some("edgeprof boards lists them");
                return Err(status::with_hint(Code::InvalidArgument, "no board matches nosuch", hint));
            }
            state.spec = Some(spec);
            if state.lose_submission && state.keys.len() == 1 {
                return Err(Status::unavailable("going away"));
            }
        }
        let first = self.state.lock().unwrap().keys.len() == 1;
        if first && self.state.lock().unwrap().hold_submission {
            self.submitted.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(Response::new(v1::SubmitJobResponse { job: Some(self.job(false)) }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        match request.into_inner().job_id.as_str() {
            JOB => Ok(Response::new(self.job(true))),
            other => Err(Status::not_found(format!("no job {other}"))),
        }
    }

    async fn list_jobs(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let job = v1::Job { tasks: Vec::new(), ..self.job(true) };
        Ok(Response::new(v1::ListJobsResponse { jobs: vec![job] }))
    }

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let after = request.into_inner().after;
        let (breaks, endless) = {
            let mut state = self.state.lock().unwrap();
            state.watched_after.push(after);
            (state.break_watch && state.watched_after.len() == 1, state.endless)
        };
        let first = Ok(v1::JobUpdate { sequence: 7, job: Some(self.job(false)) });
        self.watching.notify_one();
        if breaks {
            let end = Err(Status::unavailable("the coordinator stops"));
            return Ok(Response::new(Box::pin(tokio_stream::iter([first, end]))));
        }
        let fake = self.clone();
        let last = async move {
            if endless {
                let _ = fake.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
            }
            Ok(v1::JobUpdate { sequence: 9, job: Some(fake.job(true)) })
        };
        let (send, receive) = tokio::sync::mpsc::channel(2);
        tokio::spawn(async move {
            if after < 7 {
                let _ = send.send(first).await;
            }
            let _ = send.send(last.await).await;
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))))
    }

    async fn cancel_job(&self, _: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        let mut state = self.state.lock().unwrap();
        state.cancelled = true;
        if !state.deaf {
            self.cancel.send_replace(true);
        }
        drop(state);
        Ok(Response::new(v1::Job { state: "cancelling".into(), ..self.job(false) }))
    }

    async fn list_boards(
        &self,
        _: Request<v1::ListBoardsRequest>,
    ) -> Result<Response<v1::ListBoardsResponse>, Status> {
        self.lists()?;
        Ok(Response::new(v1::ListBoardsResponse { boards: vec![self.board()] }))
    }

    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        self.lists()?;
        let worker = self.worker();
        let mut state = self.state.lock().unwrap();
        state.attempts = state.attempts.saturating_sub(1);
        state.draining &= !(state.undoes && state.attempts == 1);
        Ok(Response::new(v1::ListWorkersResponse { workers: vec![worker] }))
    }

    async fn get_logs(
        &self,
        request: Request<v1::GetLogsRequest>,
    ) -> Result<Response<Self::GetLogsStream>, Status> {
        let id = request.into_inner().id;
        if id != JOB {
            return Err(Status::not_found(format!("there is no job {id}")));
        }
        let log = |outcome: &str, text: &str| v1::AttemptLog {
            task_id: "t1".into(),
            scenario: "quick".into(),
            board: "host-1/riscv32.0".into(),
            outcome: outcome.into(),
            text: text.into(),
        };
        let logs = [log("failed", "+0.1 \u{2190} noise \x1b[31m\n"), log("succeeded", "+0.2 all well\n")];
        Ok(Response::new(Box::pin(tokio_stream::iter(logs).map(Ok))))
    }

    async fn check_board(
        &self,
        request: Request<v1::CheckBoardRequest>,
    ) -> Result<Response<v1::CheckBoardResponse>, Status> {
        let check = |name: &str, state: &str, remedy: Option<&str>| v1::Check {
            name: name.into(),
            state: state.into(),
            found: format!("{name} was looked at"),
            remedy: remedy.map(str::to_owned),
        };
        let checks = match request.into_inner().board.as_str() {
            "host-1/good" => vec![check("line", "ok", None)],
            "host-1/bad" => vec![check("line", "problem", Some("plug the board in"))],
            other => return Err(Status::not_found(format!("there is no board {other}"))),
        };
        Ok(Response::new(v1::CheckBoardResponse { checks }))
    }

    async fn get_results(
        &self,
        request: Request<v1::GetResultsRequest>,
    ) -> Result<Response<Self::GetResultsStream>, Status> {
        let id = request.into_inner().id;
        if id != JOB {
            return Err(Status::not_found(format!("no run {id}")));
        }
        let runs = self.state.lock().unwrap().runs.clone();
        let runs: Vec<_> = runs.iter().map(|run| bridge("run", run).unwrap()).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(runs).map(Ok))))
    }

    async fn get_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Result<Response<v1::GetEventsResponse>, Status> {
        let id = request.into_inner().id;
        if id != JOB {
            return Err(Status::not_found(format!("there is no job {id}")));
        }
        let event = |at: &str, what: &str, attempt, why: Option<&str>| v1::TaskEvent {
            task_id: "t1".into(),
            scenario: "quick".into(),
            at: format!("2026-01-01T00:00:{at}Z"),
            what: what.into(),
            attempt,
            board: (attempt > 0).then(|| BOARD.into()),
            why: why.map(str::to_owned),
        };
        let events = vec![
            event("00", "submitted", 0, None),
            event("00.25", "offered", 1, None),
            event("04.5", "lost", 1, Some("lab-1 is dead")),
        ];
        Ok(Response::new(v1::GetEventsResponse { events }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::WorkerStatus>, Status> {
        let request = request.into_inner();
        if request.worker != "lab-1" {
            return Err(Status::not_found(format!("there is no worker {}", request.worker)));
        }
        self.state.lock().unwrap().draining = !request.undo;
        Ok(Response::new(self.worker()))
    }

    async fn mark_board(
        &self,
        request: Request<v1::MarkBoardRequest>,
    ) -> Result<Response<v1::BoardStatus>, Status> {
        let v1::MarkBoardRequest { board, mark, by } = request.into_inner();
        known(&board)?;
        {
            let mut state = self.state.lock().unwrap();
            (state.mark, state.reserved) = match mark.unwrap() {
                Mark::Quarantine(v1::Quarantine { reason }) => {
                    (Some(("quarantined", by, Some(reason))), None)
                }
                Mark::Reserve(v1::Reserve { seconds }) => {
                    (Some(("reserved", by, None)), Some(seconds * 1000))
                }
                Mark::Unmark(v1::Unmark { mark }) => match &state.mark {
                    Some((is, by, _)) if *is != mark => {
                        let hint = format!("it is {is} by {by}");
                        let what = format!("{board} is not {mark}");
                        return Err(status::with_hint(Code::FailedPrecondition, what, Some(&hint)));
                    }
                    _ => (None, None),
                },
            };
        }
        Ok(Response::new(self.board()))
    }

    async fn reset_board(
        &self,
        request: Request<v1::ResetBoardRequest>,
    ) -> Result<Response<v1::ResetBoardResponse>, Status> {
        known(&request.into_inner().board)?;
        let mut state = self.state.lock().unwrap();
        state.resets += 1;
        if state.lose_resets {
            return Err(Status::unavailable("going away"));
        }
        let (health, reason) = match state.failed {
            true => ("bad", Some("it does not answer".to_owned())),
            false => ("good", None),
        };
        Ok(Response::new(v1::ResetBoardResponse { health: health.into(), reason }))
    }

    /// Says what it hears, in capitals; ends after a full stop.
    async fn console(
        &self,
        request: Request<Streaming<v1::ConsoleInput>>,
    ) -> Result<Response<Self::ConsoleStream>, Status> {
        let mut input = request.into_inner();
        let first = input.message().await?.ok_or_else(|| Status::invalid_argument("no board"))?;
        known(&first.board)?;
        if self.state.lock().unwrap().reserved.is_none() {
            let hint = format!("edgeprof board reserve {BOARD} --for 2h");
            return Err(status::with_hint(Code::FailedPrecondition, "it is not reserved", Some(&hint)));
        }
        let (send, receive) = tokio::sync::mpsc::channel(2);
        let state = self.state.clone();
        tokio::spawn(async move {
            let say = |data: &[u8]| Ok(v1::ConsoleOutput { data: data.to_ascii_uppercase() });
            let _ = send.send(say(b"boot\n")).await;
            while let Ok(Some(message)) = input.message().await {
                state.lock().unwrap().typed.extend(&message.data);
                let _ = send.send(say(&message.data)).await;
                if message.data.contains(&b'.') {
                    let _ = send.send(Err(Status::failed_precondition("the reservation has ended"))).await;
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receive))))
    }
}

fn known(board: &str) -> Result<(), Status> {
    if board == BOARD { Ok(()) } else { Err(Status::not_found(format!("there is no board {board}"))) }
}
