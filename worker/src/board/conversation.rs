//! The link conversation with a board, over any line.

use std::{collections::VecDeque, time::Duration};

use edgeprof_engine::image;
use edgeprof_link::{
    BoardHello, Decoder, Encoder, FromBoard, ImageInfo, MAX_FRAME, PING_PERIOD_MS, PROTOCOL, Stats, ToBoard,
};
use tokio::time::{Instant, timeout_at};

use super::{error::BoardError, transcript::Transcript};
use crate::line::{self, Line, LineError};

/// A question is asked again after this, and then after twice as long, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);

/// Longest time between two askings of the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// So many pings go unanswered before the board is asked in other versions of the protocol.
const OLD_PEERS: u32 = 5;

/// Versions later than ours that are tried.
const NEWER: u8 = 3;

/// How long an idle board may take to answer a ping.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a line that takes nothing is listened to.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Bytes that are kept for the transcript until it is known whether they are a message.
const RAW: usize = 256;

/// A board on the other end of a line.
#[derive(Debug)]
pub struct Conversation {
    line: Box<dyn Line>,
    encoder: Encoder,
    decoder: Box<Decoder<FromBoard, MAX_FRAME>>,
    inbox: VecDeque<FromBoard>,
    /// What looked like return addresses, from a board that is about to say why it dies.
    trace: Vec<u64>,
    /// Since the last message.
    raw: Vec<u8>,
    transcript: Transcript,
    /// Longest frame that the board takes.
    max_frame: usize,
    run: u32,
}

impl Conversation {
    /// A conversation that is not opened yet.
    pub fn new(line: Box<dyn Line>, transcript: Transcript) -> Self {
        // The board may remember a run of an earlier conversation.
        let mut run = [0; 4];
        let _ = getrandom::fill(&mut run);
        Self {
            line,
            encoder: Encoder::new(),
            decoder: Box::new(Decoder::new()),
            inbox: VecDeque::new(),
            trace: Vec::new(),
            raw: Vec::new(),
            transcript,
            max_frame: edgeprof_link::MIN_MAX_FRAME,
            run: u32::from_le_bytes(run),
        }
    }

    /// From now on what passes is noted there.
    pub fn tell_to(&mut self, transcript: Transcript) {
        self.transcript = transcript;
    }

    /// The line itself, past the conversation: afterwards it has to be opened again.
    pub fn line(&mut self) -> &mut dyn Line {
        self.line.as_mut()
    }

    /// Gets the board's attention and hears who it is. Whatever was on the line before is dropped.
    ///
    /// # Errors
    /// When nobody answers in time, or somebody of another protocol or kind does.
    pub async fn open(&mut self, kind: &str, within: Duration) -> Result<BoardHello, BoardError> {
        let hello = self.open_any(within).await?;
        check(&hello, kind)?;
        Ok(hello)
    }

    /// The same, whatever kind it is.
    ///
    /// # Errors
    /// When nobody answers in time, or in another protocol.
    pub async fn open_any(&mut self, within: Duration) -> Result<BoardHello, BoardError> {
        let deadline = Instant::now() + within;
        let before = *self.decoder.stats();
        let mut nonce = [0; 4];
        getrandom::fill(&mut nonce).map_err(|e| BoardError::Protocol(e.to_string()))?;
        let nonce = u32::from_le_bytes(nonce);
        self.resync().await?;
        let mut asked = 0;
        loop {
            self.tell(&ToBoard::Ping { nonce }).await?;
            if asked == OLD_PEERS {
                self.ask_old_peers(nonce).await?;
            }
            asked += 1;
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
        self.max_frame = (hello.max_frame as usize).clamp(edgeprof_link::MIN_MAX_FRAME, MAX_FRAME);
        Ok(hello)
    }

    /// A board of another protocol version drops what we say and never answers, unless it is asked in its own.
    async fn ask_old_peers(&mut self, nonce: u32) -> Result<(), BoardError> {
        for version in (1..=PROTOCOL.saturating_add(NEWER)).filter(|version| *version != PROTOCOL) {
            let mut frame = [0; edgeprof_link::MIN_MAX_FRAME];
            let len = Encoder::of_version(version)
                .encode(&ToBoard::Ping { nonce }, &mut frame)
                .map_err(|e| BoardError::Protocol(e.to_string()))?;
            line::send(self.line.as_mut(), frame.get(..len).unwrap_or_default()).await?;
        }
        Ok(())
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
                Err(BoardError::Panic { .. } | BoardError::Fault { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn hello(&mut self, deadline: Instant, within: Duration) -> Result<BoardHello, BoardError> {
        let left = deadline.saturating_duration_since(Instant::now()).min(within);
        self.ask(&ToBoard::Hello, left, "say what it is", |answer| match answer {
            FromBoard::Hello(hello) => Some(Ok(hello)),
            _ => None,
        })
        .await
    }

    /// Whether the board still answers.
    ///
    /// # Errors
    /// When it does not within `within`.
    pub async fn ping(&mut self, within: Duration) -> Result<(), BoardError> {
        let mut nonce = [0; 4];
        getrandom::fill(&mut nonce).map_err(|e| BoardError::Protocol(e.to_string()))?;
        let nonce = u32::from_le_bytes(nonce);
        self.ask(&ToBoard::Ping { nonce }, within, "answer a ping", |answer| {
            matches!(answer, FromBoard::Pong { nonce: same, .. } if same == nonce).then_some(Ok(()))
        })
        .await
    }

    /// Asks which image lies in the model region.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn image(&mut self, within: Duration) -> Result<ImageInfo, BoardError> {
        self.ask(&ToBoard::Image, within, "check its image", |answer| match answer {
            FromBoard::Image(info) => Some(Ok(info)),
            _ => None,
        })
        .await
    }

    /// Asks for the CRC-32 of a piece of the firmware that runs; `None` where that is no piece of it.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn code_sum(
        &mut self,
        address: u64,
        len: u32,
        within: Duration,
    ) -> Result<Option<u32>, BoardError> {
        let question = ToBoard::CodeSum { address, len };
        self.ask(&question, within, "sum up its firmware", |answer| match answer {
            FromBoard::CodeSum { address: a, len: l, crc32 } if (a, l) == (address, len) => Some(Ok(crc32)),
            _ => None,
        })
        .await
    }

    /// Asks until there is an answer: any frame may be lost.
    ///
    /// # Errors
    /// What `take` makes of an answer; [`BoardError::Hung`] when none comes within `within`.
    pub async fn ask<T>(
        &mut self,
        question: &ToBoard,
        within: Duration,
        doing: &'static str,
        mut take: impl FnMut(FromBoard) -> Option<Result<T, BoardError>>,
    ) -> Result<T, BoardError> {
        let deadline = Instant::now() + within;
        let mut pause = PAUSE;
        loop {
            self.tell(question).await?;
            let until = deadline.min(Instant::now() + pause);
            loop {
                match self.next(until, within, doing).await {
                    Ok(message) => {
                        if let Some(answer) = take(message) {
                            return answer;
                        }
                    }
                    Err(BoardError::Hung { .. }) if Instant::now() < deadline => break,
                    Err(error) => return Err(error),
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Ends whatever half frame the board may have seen.
    ///
    /// # Errors
    /// When the line is gone.
    pub async fn resync(&mut self) -> Result<(), BoardError> {
        Ok(line::send(self.line.as_mut(), &[0]).await?)
    }

    /// What is told about this conversation.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// A number that no earlier run of this conversation had.
    pub fn next_run(&mut self) -> u32 {
        self.run = self.run.wrapping_add(1).max(1);
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
        self.transcript.to_board(message);
        match line::send(self.line.as_mut(), frame.get(..len).unwrap_or_default()).await {
            Ok(()) => Ok(()),
            Err(lost) => Err(self.last_words(lost).await),
        }
    }

    /// A line that takes nothing any more may still hold what the board said before.
    async fn last_words(&mut self, lost: LineError) -> BoardError {
        let until = Instant::now() + LAST_WORDS;
        loop {
            match self.next(until, LAST_WORDS, "say why it dies").await {
                Ok(_) => {}
                Err(last @ (BoardError::Panic { .. } | BoardError::Fault { .. })) => return last,
                Err(_) => return lost.into(),
            }
        }
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
                Some(FromBoard::Trace { addresses }) => self.trace = addresses.to_vec(),
                Some(FromBoard::Panic { message }) => {
                    let trace = std::mem::take(&mut self.trace);
                    return Err(BoardError::Panic { message: message.to_string(), trace, place: None });
                }
                Some(FromBoard::Fault { pc, lr, status }) => {
                    let trace = std::mem::take(&mut self.trace);
                    return Err(BoardError::Fault { pc, lr, status, trace, place: None });
                }
                Some(message) => return Ok(message),
                None => {
                    let read = line::receive(self.line.as_mut(), &mut buffer);
                    let n =
                        timeout_at(deadline, read).await.map_err(|_| BoardError::Hung { doing, after })??;
                    self.hear(buffer.get(..n).unwrap_or_default());
                }
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let dropped = self.decoder.stats().dropped();
            if self.raw.len() < RAW && byte != 0 {
                self.raw.push(byte);
            }
            match self.decoder.push(byte) {
                Some(received) => {
                    self.transcript.from_board(&received.message);
                    self.inbox.push_back(received.message);
                }
                None if byte != 0 => continue,
                None if self.decoder.stats().dropped() > dropped || !self.raw.is_empty() => {
                    self.transcript.garbage(&self.raw);
                }
                None => {}
            }
            self.raw.clear();
        }
    }

    /// Waits while the board has nothing to do, and returns when it is gone or speaks out of turn. Asks
    /// now and then whether it is there, if `every` says how often. Cancel safe.
    pub async fn idle(&mut self, every: Option<Duration>) -> BoardError {
        let forever = Duration::from_secs(60 * 60 * 24 * 365);
        let pause = every.unwrap_or(forever);
        loop {
            match self.next(Instant::now() + pause, pause, "stay").await {
                // The tail of what was cancelled.
                Ok(_) => {}
                Err(BoardError::Hung { .. }) => {
                    if let Err(error) = self.ping(PATIENCE).await {
                        return error;
                    }
                }
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
        return Err(BoardError::OtherKind {
            version: version.to_string(),
            has: hello.kind.to_string(),
            needs: kind.to_owned(),
        });
    }
    Ok(())
}
