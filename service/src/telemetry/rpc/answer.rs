//! The body of an answer, whose end is the end of the call: what became of it comes in trailers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};

use super::{code, ended};
use crate::telemetry::trace::Span;

/// A body that ends the span of its call.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    /// Until it has ended.
    call: Option<Span>,
}

impl<B> Answer<B> {
    pub(super) fn new(body: B, call: Option<Span>) -> Self {
        Self { body, call }
    }

    fn end(&mut self, code: &'static str) {
        if let Some(call) = self.call.take() {
            ended(call, code);
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(code(trailers).unwrap_or("UNKNOWN"));
                }
            }
            Poll::Ready(Some(Err(_)) | None) => self.end("UNKNOWN"),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Nobody waits for the rest: whoever asked has gone, which is no failure of ours.
impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.with(super::STATUS, "CANCELLED").end();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use opentelemetry::{InstrumentationScope, trace::Status};
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor},
    };
    use tonic::codegen::{Bytes, http::HeaderMap};

    use super::*;
    use crate::telemetry::{
        flow::FLOWS,
        trace::{SINK, Sink},
    };

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    struct Frames(VecDeque<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    /// An answer of one piece and these trailers, read up to so many frames.
    fn read(name: &'static str, status: Option<&'static str>, frames: usize) {
        let mut trailers = HeaderMap::new();
        if let Some(status) = status {
            trailers.insert("grpc-status", status.parse().unwrap());
        }
        let pieces = [Frame::data(Bytes::from_static(b"piece")), Frame::trailers(trailers)];
        let mut answer = Answer::new(Frames(pieces.into()), Some(Span::root(name)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..frames {
            assert!(Pin::new(&mut answer).poll_frame(&mut cx).is_ready());
        }
    }

    /// One process, one sink: what is asked of spans that were handed over is asked here.
    #[test]
    fn a_call_ends_as_its_trailers_say_or_is_cancelled_by_who_does_not_wait_for_them() {
        let kept = Kept::default();
        let processor = BatchSpanProcessor::builder(kept.clone()).build();
        FLOWS[0].limit(100);
        let scope = InstrumentationScope::builder("test").build();
        SINK.set(Sink { processor, ratio: 1.0, scope }).unwrap();
        read("good", Some("0"), 3);
        read("bad", Some("16"), 2);
        read("without", None, 3);
        read("left", Some("0"), 1);
        SINK.get().unwrap().processor.force_flush().unwrap();
        let told: Vec<_> = kept.0.lock().unwrap().drain(..).collect();
        let told: Vec<_> = told
            .iter()
            .map(|span| {
                let code =
                    span.attributes.iter().find(|one| one.key.as_str() == crate::telemetry::rpc::STATUS);
                (&*span.name, code.unwrap().value.to_string(), span.status.clone())
            })
            .collect();
        let expected = [
            ("good", "OK", Status::Unset),
            ("bad", "UNAUTHENTICATED", Status::error("UNAUTHENTICATED")),
            ("without", "UNKNOWN", Status::error("UNKNOWN")),
            ("left", "CANCELLED", Status::Unset),
        ];
        assert_eq!(told, expected.map(|(name, code, status)| (name, code.to_owned(), status)));
    }
}
