//! The link conversation with a board, over any line.

use std::{collections::VecDeque, time::Duration};

use edgeprof_engine::image;
use edgeprof_link::{
    BoardHello, Decoder, Encoder, FromBoard, ImageInfo, MAX_FRAME, PING_PERIOD_MS, PROTOCOL, Stats, ToBoard,
};
use tokio::time::{Instant, timeout_at};

use super::error::BoardError;
use crate::line::{self, Line};

/// Damaged frames in one run beyond which it is given up.
pub const MAX_GARBLED: u32 = 8;

/// Answers to `Hello` and `Image` are asked for so often.
const TRIES: u32 = 3;

/// A board on the other end of a line.
#[derive(Debug)]
pub struct Conversation {
    line: Box<dyn Line>,
    encoder: Encoder,
    decoder: Box<Decoder<FromBoard, MAX_FRAME>>,
    inbox: VecDeque<FromBoard>,
    /// Longest frame that the board takes.
    max_frame: usize,
    run: u32,
}

impl Conversation {
    /// A conversation that is not opened yet.
    pub fn new(line: Box<dyn Line>) -> Self {
        Self {
            line,
            encoder: Encoder::new(),
            decoder: Box::new(Decoder::new()),
            inbox: VecDeque::new(),
            max_frame: edgeprof_link::MIN_MAX_FRAME,
            run: 0,
        }
    }

    /// Gets the board's attention and hears who it is. Whatever was on the line before is dropped.
    ///
    /// # Errors
    /// When nobody answers in time, or somebody of another protocol or kind does.
    pub async fn open(&mut self, kind: &str, within: Duration) -> Result<BoardHello, BoardError> {
        let deadline = Instant::now() + within;
        let before = *self.decoder.stats();
        let mut nonce = [0; 4];
        getrandom::fill(&mut nonce).map_err(|e| BoardError::Protocol(e.to_string()))?;
        let nonce = u32::from_le_bytes(nonce);
        line::send(self.line.as_mut(), &[0]).await?;
        loop {
            self.tell(&ToBoard::Ping { nonce }).await?;
            let pause = Instant::now() + Duration::from_millis(PING_PERIOD_MS);
            match self.await_pong(nonce, pause.min(deadline)).await {
                Err(BoardError::Hung { .. }) => {
                    let stats = self.decoder.stats();
                    if stats.version > before.version {
                        return Err(BoardError::Firmware(format!(
                            "it speaks another link protocol than version {PROTOCOL}, which this worker speaks"
                        )));
                    }
                    if Instant::now() >= deadline {
                        return Err(BoardError::Hung { doing: "answer its first ping", after: within });
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        let hello = self.hello(deadline, within).await?;
        check(&hello, kind)?;
        self.max_frame = (hello.max_frame as usize).clamp(edgeprof_link::MIN_MAX_FRAME, MAX_FRAME);
        Ok(hello)
    }

    async fn await_pong(&mut self, wanted: u32, until: Instant) -> Result<(), BoardError> {
        loop {
            match self.next(until, Duration::from_millis(PING_PERIOD_MS), "answer a ping").await {
                Ok(FromBoard::Pong { nonce, .. }) if nonce == wanted => {
                    // What arrived before belongs to an earlier conversation.
                    self.inbox.clear();
                    return Ok(());
                }
                Ok(_) => {}
                // Last words of an earlier run say nothing about this one; the ping decides.
                Err(BoardError::Panic(_) | BoardError::Fault { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn hello(&mut self, deadline: Instant, within: Duration) -> Result<BoardHello, BoardError> {
        for _ in 0..TRIES {
            self.tell(&ToBoard::Hello).await?;
            let until = deadline.min(Instant::now() + Duration::from_secs(5));
            loop {
                match self.next(until, within, "say what it is").await {
                    Ok(FromBoard::Hello(hello)) => return Ok(hello),
                    Ok(_) => {}
                    Err(BoardError::Hung { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Err(BoardError::Hung { doing: "say what it is", after: within })
    }

    /// Asks which image lies in the model region.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn image(&mut self, within: Duration) -> Result<ImageInfo, BoardError> {
        self.tell(&ToBoard::Image).await?;
        let deadline = Instant::now() + within;
        loop {
            if let FromBoard::Image(info) = self.next(deadline, within, "check its image").await? {
                return Ok(info);
            }
        }
    }

    /// A number that no earlier run of this conversation had.
    pub fn next_run(&mut self) -> u32 {
        self.run += 1;
        self.run
    }

    /// Longest frame that the board takes.
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// What the decoder has seen.
    pub fn stats(&self) -> Stats {
        *self.decoder.stats()
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the line is gone, or the message is longer than the board takes.
    pub async fn tell(&mut self, message: &ToBoard) -> Result<(), BoardError> {
        let mut frame = [0; MAX_FRAME];
        let room = frame.get_mut(..self.max_frame).unwrap_or_default();
        let len = self.encoder.encode(message, room).map_err(|e| BoardError::Protocol(e.to_string()))?;
        line::send(self.line.as_mut(), frame.get(..len).unwrap_or_default()).await?;
        Ok(())
    }

    /// The next message. Cancel safe.
    ///
    /// # Errors
    /// When none comes until `deadline`, the line is gone, or the board has panicked.
    pub async fn next(
        &mut self,
        deadline: Instant,
        after: Duration,
        doing: &'static str,
    ) -> Result<FromBoard, BoardError> {
        let mut buffer = [0; 2_048];
        loop {
            match self.inbox.pop_front() {
                Some(FromBoard::Panic { message }) => return Err(BoardError::Panic(message.to_string())),
                Some(FromBoard::Fault { pc, lr, status }) => {
                    return Err(BoardError::Fault { pc, lr, status });
                }
                Some(message) => return Ok(message),
                None => {}
            }
            let read = line::receive(self.line.as_mut(), &mut buffer);
            let n = timeout_at(deadline, read).await.map_err(|_| BoardError::Hung { doing, after })??;
            let inbox = &mut self.inbox;
            self.decoder.feed(buffer.get(..n).unwrap_or_default(), |received| {
                inbox.push_back(received.message);
            });
        }
    }

    /// Waits while the board has nothing to do, and returns when it is gone or speaks out of turn.
    /// Cancel safe.
    pub async fn idle(&mut self) -> BoardError {
        let forever = Duration::from_secs(60 * 60 * 24 * 365);
        loop {
            match self.next(Instant::now() + forever, forever, "stay").await {
                // The tail of what was cancelled.
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}

fn check(hello: &BoardHello, kind: &str) -> Result<(), BoardError> {
    let version = hello.firmware_version;
    let differs =
        |what: &str, has: &dyn std::fmt::Display, needs: &dyn std::fmt::Display| -> Result<(), BoardError> {
            Err(BoardError::Firmware(format!(
                "firmware {version} has {what} {has}, this worker ({}) needs {needs}",
                env!("CARGO_PKG_VERSION")
            )))
        };
    if hello.protocol != u16::from(PROTOCOL) {
        return differs("link protocol", &hello.protocol, &PROTOCOL);
    }
    if hello.image_format != image::VERSION {
        return differs("image format", &hello.image_format, &image::VERSION);
    }
    if &*hello.kind != kind {
        return differs("board kind", &hello.kind, &kind);
    }
    Ok(())
}
