//! A board in memory: speaks the link as firmware does, and fails as it is told.

use edgeprof_boards::Kind;
use edgeprof_engine::image;
use edgeprof_link::{
    BoardHello, Decoder, Encoder, FailCode, FromBoard, ImageInfo, MAX_FRAME, PROTOCOL, Record, RunRequest,
    Stop, Text, ToBoard, Work,
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
    /// Damaged frames come between those of the run, a few.
    SomeNoise,
    /// So many of a hundred frames are lost, both ways.
    Loses(u32),
    /// The line ends at this token.
    DiesAt(u32),
    /// Nothing comes after this token.
    HangsAt(u32),
    /// The firmware panics at this token.
    PanicsAt(u32),
    /// Tokens come without end.
    Endless,
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
    let fake = Fake {
        line: far,
        encoder: Encoder::new(),
        kind,
        fault,
        random: 0x2545_f491,
        image: Vec::new(),
        pending: Vec::new(),
        told: Vec::new(),
    };
    tokio::spawn(fake.serve());
    Box::new(near)
}

struct Fake {
    line: DuplexStream,
    encoder: Encoder,
    kind: &'static Kind,
    fault: Fault,
    random: u32,
    /// What is loaded, and its CRC-32.
    image: Vec<u8>,
    /// The frame that comes in, for a board of another version.
    pending: Vec<u8>,
    /// Records of the run, and its number.
    told: Vec<FromBoard>,
}

impl Fake {
    /// Whether the line loses the frame at hand.
    fn loses(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        matches!(self.fault, Fault::Loses(percent) if self.random % 100 < percent)
    }

    async fn serve(mut self) {
        let mut decoder: Box<Decoder<ToBoard>> = Box::new(Decoder::new());
        let mut announced: Option<(RunRequest, Vec<u32>)> = None;
        let mut loading = (0, 0);
        let mut buffer = [0; 1_024];
        while let Ok(n) = self.line.read(&mut buffer).await {
            if n == 0 {
                return;
            }
            let mut messages = Vec::new();
            let mut heard = buffer[..n].to_vec();
            if self.fault == Fault::OldLink {
                heard = self.in_our_words(&heard);
            }
            decoder.feed(&heard, |received| messages.push(received.message));
            for message in messages {
                if self.loses() {
                    continue;
                }
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
                        self.say(&FromBoard::Accepted { run: request.run, received: 0, gap: false }).await;
                    }
                    ToBoard::Prompt { run, tokens, offset } => {
                        let Some((_, prompt)) = &mut announced else { continue };
                        if offset as usize == prompt.len() {
                            prompt.extend_from_slice(&tokens);
                        }
                        let received = u32::try_from(prompt.len()).unwrap();
                        let gap = offset > received;
                        self.say(&FromBoard::Accepted { run, received, gap }).await;
                    }
                    ToBoard::Go { .. } => match announced.take() {
                        Some((request, prompt)) => {
                            assert_eq!(prompt.len(), request.prompt_len as usize);
                            if self.run(&request, &prompt).await.is_none() {
                                return;
                            }
                        }
                        None => self.again(0).await,
                    },
                    ToBoard::Heard { next, again: true, .. } => self.again(next).await,
                    ToBoard::Load { total_len, crc32 } => {
                        if loading != (total_len, crc32) {
                            loading = (total_len, crc32);
                            self.image.clear();
                        }
                        self.loading(crc32, 0).await;
                    }
                    ToBoard::Chunk { offset, data } => {
                        if offset as usize == self.image.len() {
                            self.image.extend_from_slice(&data);
                        }
                        self.loading(loading.1, offset).await;
                    }
                    ToBoard::CodeSum { address, len } => {
                        self.say(&FromBoard::CodeSum { address, len, crc32: Some(0) }).await;
                    }
                    ToBoard::Cancel { .. } | ToBoard::Heard { .. } => {}
                }
            }
        }
    }

    /// A board of another version hears what is said in that, and nothing else.
    fn in_our_words(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        for &byte in bytes {
            if byte != 0 {
                self.pending.push(byte);
                continue;
            }
            let mut raw = cobs_decoded(&std::mem::take(&mut self.pending));
            if raw.first() == Some(&(PROTOCOL + 1)) {
                raw[0] = PROTOCOL;
                let at = raw.len() - 4;
                let sum = crc(&raw[..at]);
                raw[at..].copy_from_slice(&sum.to_le_bytes());
                heard.extend(cobs_encoded(&raw));
            }
        }
        heard
    }

    async fn loading(&mut self, crc32: u32, offset: u32) {
        let next = u32::try_from(self.image.len()).unwrap();
        self.say(&FromBoard::Loading { crc32, next, gap: offset > next }).await;
    }

    /// Tells once more.
    async fn again(&mut self, next: u32) {
        for record in self.told.clone().iter().skip(next as usize) {
            self.say(record).await;
        }
    }

    /// Tells the next thing of the run.
    async fn tell(&mut self, run: u32, what: Record, damaged: bool) {
        let number = u32::try_from(self.told.len()).unwrap();
        let record = FromBoard::Record { run, number, what };
        self.told.push(record.clone());
        self.say_or_damage(&record, damaged).await;
    }

    /// `None` when the board is gone.
    async fn run(&mut self, request: &RunRequest, prompt: &[u32]) -> Option<()> {
        let run = request.run;
        self.told.clear();
        if let Fault::Fails(code) = self.fault {
            self.tell(run, Record::Failed { code }, false).await;
            return Some(());
        }
        let noise = match self.fault {
            Fault::Noise => 1_000,
            Fault::SomeNoise => 20,
            _ => 0,
        };
        for _ in 0..noise {
            self.bytes(b"\x09notaframe\0").await;
        }
        let load = Record::Interval { work: Work::Load, ticks: 100 };
        self.tell(run, load, self.fault == Fault::DamagesLoad).await;
        for _ in request.uncounted..request.prompt_len {
            let prefill = Record::Interval { work: Work::Prefill { tokens: 1 }, ticks: 200 };
            self.tell(run, prefill, false).await;
        }
        let tokens = if self.fault == Fault::Endless { u32::MAX } else { request.n_gen };
        for index in 0..tokens {
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
                self.tell(run, Record::Interval { work: Work::Decode { index }, ticks: 300 }, false).await;
            }
            let id = prompt[0] + index;
            let damaged = self.fault == Fault::DamagesToken(index);
            self.tell(run, Record::Token { index, id }, damaged).await;
        }
        let done = Record::Done {
            generated: request.n_gen,
            stop: Stop::Length,
            logits_hash: 0x1234,
            arena_used: 10,
            kv_bytes: 5,
            stack_high_water: 1,
        };
        self.tell(run, done, false).await;
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
        if self.loses() {
            return;
        }
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
