//! A server on a line whose other end is the test, with a model of noise in its memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use edgeprof_engine::image::{self, Role};
use edgeprof_engine::{Config, DType};
use edgeprof_firmware_core::{Counter, Facts, Line, Memory, Server};
use edgeprof_link::{
    Decoder, Encoder, FailCode, FromBoard, Kv, List, LoadFailure, MAX_FRAME, Record, RunRequest, ToBoard,
};

const MAX_PROMPT: usize = 16;

#[derive(Clone, Default)]
pub(crate) struct Wire {
    to_board: Rc<RefCell<VecDeque<u8>>>,
    from_board: Rc<RefCell<Vec<u8>>>,
    timing: Rc<RefCell<bool>>,
    /// What the host says as soon as the board has sent something.
    pub(crate) on_write: Rc<RefCell<Vec<u8>>>,
    /// What it says each time the board has nothing to do but to wait.
    pub(crate) on_wait: Rc<RefCell<VecDeque<Vec<u8>>>>,
    /// Hears records, and says so.
    pub(crate) ear: Rc<RefCell<Ear>>,
}

pub(crate) struct Ear {
    decoder: Decoder<FromBoard>,
    encoder: Encoder,
    pub(crate) deaf: bool,
}

impl Default for Ear {
    fn default() -> Self {
        Self { decoder: Decoder::new(), encoder: Encoder::new(), deaf: false }
    }
}

impl Ear {
    fn listen(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answers = Vec::new();
        let Self { decoder, encoder, deaf } = self;
        decoder.feed(bytes, |received| {
            if let (FromBoard::Record { run, number, .. }, false) = (received.message, *deaf) {
                let mut out = [0; MAX_FRAME];
                let heard = ToBoard::Heard { run, next: number + 1, again: false };
                let len = encoder.encode(&heard, &mut out).unwrap();
                answers.extend_from_slice(&out[..len]);
            }
        });
        answers
    }
}

impl Line for Wire {
    fn read(&mut self) -> Option<u8> {
        self.to_board.borrow_mut().pop_front()
    }
    fn wait(&mut self) {
        let words = self.on_wait.borrow_mut().pop_front();
        self.to_board.borrow_mut().extend(words.expect("the host has said all it had to say"));
    }
    fn write(&mut self, bytes: &[u8]) {
        assert!(!*self.timing.borrow(), "the line was written to inside a timed interval");
        self.from_board.borrow_mut().extend_from_slice(bytes);
        self.to_board.borrow_mut().extend(self.on_write.borrow_mut().drain(..));
        self.to_board.borrow_mut().extend(self.ear.borrow_mut().listen(bytes));
    }
}

pub(crate) struct Ticks(Rc<RefCell<bool>>);

impl Counter for Ticks {
    fn start(&mut self) {
        assert!(!self.0.replace(true));
    }
    fn stop(&mut self) -> u64 {
        assert!(self.0.replace(false));
        100
    }
    fn session(&mut self) -> u32 {
        77
    }
}

pub(crate) struct Ram {
    model: Vec<u64>,
    arena: Vec<u64>,
    pub(crate) writable: bool,
}

impl Ram {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the same memory, in bytes.
        unsafe { std::slice::from_raw_parts_mut(self.model.as_mut_ptr().cast(), self.model.len() * 8) }
    }
}

impl Memory for Ram {
    fn model(&self) -> &[u8] {
        // SAFETY: the same memory, in bytes.
        unsafe { std::slice::from_raw_parts(self.model.as_ptr().cast(), self.model.len() * 8) }
    }
    fn model_and_arena(&mut self) -> (&[u8], &mut [u64]) {
        // SAFETY: the same memory, in bytes.
        let model = unsafe { std::slice::from_raw_parts(self.model.as_ptr().cast(), self.model.len() * 8) };
        (model, &mut self.arena)
    }
    fn clear(&mut self, _len: usize) -> Result<(), LoadFailure> {
        self.store(0, &[0; 16])
    }
    fn store(&mut self, at: usize, bytes: &[u8]) -> Result<(), LoadFailure> {
        if !self.writable {
            return Err(LoadFailure::ReadOnly);
        }
        self.bytes()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn code_sum(&self, address: u64, len: u32) -> Option<u32> {
        (address == 8).then(|| image::crc32(&CODE[..len as usize]))
    }
    fn stack_high_water(&self) -> u32 {
        1
    }
}

/// What the bench has for code, at address 8.
pub(crate) const CODE: &[u8] = b"neither code nor constants";

/// A model of noise, aligned as a region is.
pub(crate) fn noise() -> Vec<u64> {
    let config = Config {
        dim: 32,
        hidden: 44,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        vocab: 40,
        train_ctx: 32,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tied: true,
    };
    let format = |role: Role, _| if role.is_norm() { DType::F32 } else { DType::Q8_0 };
    let total = image::total_len(&config, format) as usize;
    let mut bytes = vec![0; total];
    image::write_header(&mut bytes, &config, format).unwrap();
    let mut random = 0x1234_5678_u32;
    for tensor in image::layout(&config, format) {
        for row in 0..tensor.rows as usize {
            let at = tensor.offset as usize + row * tensor.row_stride() as usize;
            let scales = tensor.scale_offset as usize + row * tensor.scale_stride() as usize;
            for column in 0..tensor.cols as usize {
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                if tensor.role.is_norm() {
                    bytes[at + 4 * column..][..4].copy_from_slice(&1_f32.to_le_bytes());
                } else {
                    bytes[at + column] = random as u8;
                    bytes[scales + column / 32 * 2..][..2].copy_from_slice(&0x1000_u16.to_le_bytes());
                }
            }
        }
    }
    image::seal(&mut bytes).unwrap();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
}

pub(crate) struct Bench {
    pub(crate) wire: Wire,
    encoder: Encoder,
    decoder: Decoder<FromBoard>,
    pub(crate) server: Server<Wire, Ticks, Ram, MAX_FRAME>,
}

impl Bench {
    pub(crate) fn new(model: Vec<u64>, arena_words: usize) -> Self {
        let wire = Wire::default();
        let facts = Facts {
            kind: "bench",
            build_id: "",
            version: "0",
            isa: 0,
            counter: "ticks",
            tick_hz: 1,
            static_ram: 0,
            flash_code: 0,
            stack_bytes: 1_000,
        };
        let mut server = Server::new(
            wire.clone(),
            Ticks(wire.timing.clone()),
            Ram { model, arena: vec![0; arena_words], writable: true },
            facts,
            vec![0; MAX_PROMPT].leak(),
        );
        server.calibrate();
        Self { wire, encoder: Encoder::new(), decoder: Decoder::new(), server }
    }

    pub(crate) fn frame(&mut self, message: &ToBoard) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = self.encoder.encode(message, &mut out).unwrap();
        out[..len].to_vec()
    }

    /// Says something and gives the answers.
    pub(crate) fn say(&mut self, message: &ToBoard) -> Vec<FromBoard> {
        let frame = self.frame(message);
        self.wire.to_board.borrow_mut().extend(frame);
        while !self.wire.to_board.borrow().is_empty() {
            self.server.step();
        }
        let bytes = self.wire.from_board.take();
        let mut found = Vec::new();
        self.decoder.feed(&bytes, |received| found.push(received.message));
        assert_eq!(self.decoder.stats().dropped(), 0);
        found
    }

    pub(crate) fn run(&mut self, request: RunRequest, prompt: &[u32]) -> Vec<FromBoard> {
        let run = request.run;
        assert_eq!(self.say(&ToBoard::Run(request)), accepted(run, 0));
        let (first, second) = prompt.split_at(prompt.len() / 2);
        for (offset, part) in [(0, first), (first.len() as u32, second)] {
            let tokens = List::from_slice(part).unwrap();
            let received = offset + part.len() as u32;
            assert_eq!(self.say(&ToBoard::Prompt { run, offset, tokens }), accepted(run, received));
        }
        self.say(&ToBoard::Go { run })
    }
}

pub(crate) fn accepted(run: u32, received: u32) -> Vec<FromBoard> {
    vec![FromBoard::Accepted { run, received, gap: false }]
}

/// What the records of a run tell, which are numbered from 0.
pub(crate) fn told(run: u32, said: &[FromBoard]) -> Vec<Record> {
    let mut told = Vec::new();
    for message in said {
        if let FromBoard::Record { run: of, number, what } = *message {
            assert_eq!((of, number as usize), (run, told.len()));
            told.push(what);
        }
    }
    told
}

pub(crate) fn request(run: u32, prompt_len: u32, n_gen: u32) -> RunRequest {
    RunRequest {
        run,
        prompt_len,
        uncounted: 0,
        n_gen,
        ctx: 16,
        kv: Kv::F16,
        temperature: 0.0,
        seed: 0,
        stop_tokens: List::new(),
    }
}

pub(crate) fn failed(run: u32, code: FailCode) -> Vec<FromBoard> {
    vec![FromBoard::Failed { run, code }]
}
