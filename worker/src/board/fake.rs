//! A board in memory: speaks the link as firmware does, and fails as it is told.

use edgeprof_boards::Kind;
use edgeprof_engine::image;
use edgeprof_link::{
    BoardHello, Decoder, Encoder, FailCode, FromBoard, ImageInfo, MAX_FRAME, PROTOCOL, RunRequest, Stop,
    Text, ToBoard, Work,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::line::Line;

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Nothing is ever answered.
    Deaf,
    /// Frames carry another version.
    OldLink,
    /// Noise before and between the answers of the opening.
    NoisyOpening,
    /// This generated token's frame is damaged on the line.
    DamagesToken(u32),
    /// The frame of the load interval is damaged on the line.
    DamagesLoad,
    /// Damaged frames come instead of the run.
    Noise,
    /// The line ends at this token.
    DiesAt(u32),
    /// Nothing comes after this token.
    HangsAt(u32),
    /// The firmware panics at this token.
    PanicsAt(u32),
    /// The run is refused.
    Fails(FailCode),
    /// The firmware is of another image format.
    OldImageFormat,
}

/// What a board of this kind says of itself.
pub(crate) fn hello(kind: &Kind) -> BoardHello {
    BoardHello {
        protocol: u16::from(PROTOCOL),
        kind: Text::cut(&kind.name),
        build_id: Text::new(),
        firmware_version: Text::cut("0.0.9"),
        engine_version: Text::cut("0.0.8"),
        image_format: image::VERSION,
        dtypes: 0,
        kv: 7,
        isa: 0,
        arena_bytes: 1 << 20,
        model_region_bytes: 1 << 20,
        max_prompt: kind.max_prompt,
        max_frame: kind.max_frame,
        tick_hz: kind.counter.tick_hz,
        overhead_ticks: 0,
        counter: Text::cut(&kind.counter.name),
        static_ram: 1,
        flash_code: 2,
        stack_bytes: 3,
    }
}

/// The line to a fresh board of `kind` with `fault`.
pub(crate) fn board(kind: &'static Kind, fault: Fault) -> Box<dyn Line> {
    let (near, far) = duplex(4_096);
    // It ends when the line is dropped.
    tokio::spawn(Fake { line: far, encoder: Encoder::new(), kind, fault }.serve());
    Box::new(near)
}

struct Fake {
    line: DuplexStream,
    encoder: Encoder,
    kind: &'static Kind,
    fault: Fault,
}

impl Fake {
    async fn serve(mut self) {
        let mut decoder: Box<Decoder<ToBoard>> = Box::new(Decoder::new());
        let mut announced: Option<(RunRequest, Vec<u32>)> = None;
        let mut buffer = [0; 1_024];
        while let Ok(n) = self.line.read(&mut buffer).await {
            if n == 0 {
                return;
            }
            let mut messages = Vec::new();
            decoder.feed(&buffer[..n], |received| messages.push(received.message));
            for message in messages {
                match message {
                    _ if self.fault == Fault::Deaf => {}
                    ToBoard::Ping { nonce } => {
                        if self.fault == Fault::NoisyOpening {
                            self.bytes(b"\x05boot banner\r\n\0\0\x01").await;
                            self.say(&FromBoard::Pong { nonce: !nonce, session: 1 }).await;
                        }
                        self.say(&FromBoard::Pong { nonce, session: 1 }).await;
                    }
                    ToBoard::Hello => {
                        let mut hello = hello(self.kind);
                        if self.fault == Fault::OldImageFormat {
                            hello.image_format += 1;
                        }
                        self.say(&FromBoard::Hello(hello)).await;
                    }
                    ToBoard::Image => self.say(&FromBoard::Image(ImageInfo::default())).await,
                    ToBoard::Run(request) => {
                        announced = Some((request, Vec::new()));
                        self.say(&FromBoard::Accepted { run: request.run }).await;
                    }
                    ToBoard::Prompt { tokens, offset, .. } => {
                        if let Some((_, prompt)) = &mut announced {
                            assert_eq!(offset as usize, prompt.len());
                            prompt.extend_from_slice(&tokens);
                        }
                    }
                    ToBoard::Go { .. } => {
                        if let Some((request, prompt)) = announced.take() {
                            assert_eq!(prompt.len(), request.prompt_len as usize);
                            if self.run(&request, &prompt).await.is_none() {
                                return;
                            }
                        }
                    }
                    ToBoard::Cancel { .. } => {}
                }
            }
        }
    }

    /// `None` when the board is gone.
    async fn run(&mut self, request: &RunRequest, prompt: &[u32]) -> Option<()> {
        let run = request.run;
        if let Fault::Fails(code) = self.fault {
            self.say(&FromBoard::Failed { run, code }).await;
            return Some(());
        }
        if self.fault == Fault::Noise {
            for _ in 0..100 {
                self.bytes(b"\x09notaframe\0").await;
            }
        }
        let load = FromBoard::Interval { run, work: Work::Load, ticks: 100 };
        self.say_or_damage(&load, self.fault == Fault::DamagesLoad).await;
        for _ in request.uncounted..request.prompt_len {
            self.say(&FromBoard::Interval { run, work: Work::Prefill { tokens: 1 }, ticks: 200 }).await;
        }
        for index in 0..request.n_gen {
            match self.fault {
                Fault::DiesAt(at) if at == index => return None,
                Fault::HangsAt(at) if at == index => std::future::pending().await,
                Fault::PanicsAt(at) if at == index => {
                    self.say(&FromBoard::Panic { message: Text::cut("index out of bounds") }).await;
                    return None;
                }
                _ => {}
            }
            if index > 0 {
                self.say(&FromBoard::Interval { run, work: Work::Decode { index }, ticks: 300 }).await;
            }
            let id = prompt[0] + index;
            let damaged = self.fault == Fault::DamagesToken(index);
            self.say_or_damage(&FromBoard::Token { run, index, id }, damaged).await;
        }
        let done = FromBoard::Done {
            run,
            generated: request.n_gen,
            stop: Stop::Length,
            logits_hash: 0x1234,
            arena_used: 10,
            kv_bytes: 5,
            stack_high_water: 1,
        };
        self.say(&done).await;
        Some(())
    }

    async fn say_or_damage(&mut self, message: &FromBoard, damaged: bool) {
        if !damaged {
            return self.say(message).await;
        }
        let mut frame = [0; MAX_FRAME];
        let n = self.encoder.encode(message, &mut frame).unwrap();
        frame[n / 2] ^= 0x10;
        self.bytes(&frame[..n]).await;
    }

    async fn say(&mut self, message: &FromBoard) {
        let mut frame = [0; MAX_FRAME];
        let n = self.encoder.encode(message, &mut frame).unwrap();
        if self.fault == Fault::OldLink {
            // The same frame by a peer of another protocol version: version and checksum are its own.
            let mut raw = cobs_decoded(&frame[..n - 1]);
            raw[0] = PROTOCOL + 1;
            let sum = crc(&raw[..raw.len() - 4]);
            let at = raw.len() - 4;
            raw[at..].copy_from_slice(&sum.to_le_bytes());
            return self.bytes(&cobs_encoded(&raw)).await;
        }
        self.bytes(&frame[..n]).await;
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        // A line that is dropped while the board speaks is the host's affair.
        let _ = self.line.write_all(bytes).await;
    }
}

fn cobs_decoded(frame: &[u8]) -> Vec<u8> {
    let (mut raw, mut rest) = (Vec::new(), frame);
    while let Some((&code, tail)) = rest.split_first() {
        let (piece, next) = tail.split_at(usize::from(code) - 1);
        raw.extend_from_slice(piece);
        if code < 0xff && !next.is_empty() {
            raw.push(0);
        }
        rest = next;
    }
    raw
}

fn cobs_encoded(raw: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    for piece in raw.split(|byte| *byte == 0) {
        assert!(piece.len() < 254);
        frame.push(u8::try_from(piece.len() + 1).unwrap());
        frame.extend_from_slice(piece);
    }
    frame.push(0);
    frame
}

fn crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |s, _| (s >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(s & 1)))
    }) ^ !0
}
