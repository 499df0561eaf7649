//! The board's side of the conversation, on a line made of two queues.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use edgeprof_engine::image::{self, Role};
use edgeprof_engine::{Config, DType};
use edgeprof_firmware_core::{Counter, Facts, Line, Memory, Server};
use edgeprof_link::{
    Decoder, Encoder, FailCode, FromBoard, ImageInfo, Kv, List, LoadFailure, MAX_FRAME, Record, RunRequest,
    Stop, ToBoard, Work,
};

const MAX_PROMPT: usize = 16;

#[derive(Clone, Default)]
struct Wire {
    to_board: Rc<RefCell<VecDeque<u8>>>,
    from_board: Rc<RefCell<Vec<u8>>>,
    timing: Rc<RefCell<bool>>,
    /// What the host says as soon as the board has sent something.
    on_write: Rc<RefCell<Vec<u8>>>,
    /// What it says each time the board has nothing to do but to wait.
    on_wait: Rc<RefCell<VecDeque<Vec<u8>>>>,
    /// Hears records, and says so.
    ear: Rc<RefCell<Ear>>,
}

struct Ear {
    decoder: Decoder<FromBoard>,
    encoder: Encoder,
    deaf: bool,
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

struct Ticks(Rc<RefCell<bool>>);

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

struct Ram {
    model: Vec<u64>,
    arena: Vec<u64>,
    writable: bool,
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
const CODE: &[u8] = b"neither code nor constants";

/// A model of noise, aligned as a region is.
fn noise() -> Vec<u64> {
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

struct Bench {
    wire: Wire,
    encoder: Encoder,
    decoder: Decoder<FromBoard>,
    server: Server<Wire, Ticks, Ram, MAX_FRAME>,
}

impl Bench {
    fn new(model: Vec<u64>, arena_words: usize) -> Self {
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

    fn frame(&mut self, message: &ToBoard) -> Vec<u8> {
        let mut out = [0; MAX_FRAME];
        let len = self.encoder.encode(message, &mut out).unwrap();
        out[..len].to_vec()
    }

    /// Says something and gives the answers.
    fn say(&mut self, message: &ToBoard) -> Vec<FromBoard> {
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

    fn run(&mut self, request: RunRequest, prompt: &[u32]) -> Vec<FromBoard> {
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

fn accepted(run: u32, received: u32) -> Vec<FromBoard> {
    vec![FromBoard::Accepted { run, received, gap: false }]
}

/// What the records of a run tell, which are numbered from 0.
fn told(run: u32, said: &[FromBoard]) -> Vec<Record> {
    let mut told = Vec::new();
    for message in said {
        if let FromBoard::Record { run: of, number, what } = *message {
            assert_eq!((of, number as usize), (run, told.len()));
            told.push(what);
        }
    }
    told
}

fn request(run: u32, prompt_len: u32, n_gen: u32) -> RunRequest {
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

fn failed(run: u32, code: FailCode) -> Vec<FromBoard> {
    vec![FromBoard::Failed { run, code }]
}

#[test]
fn a_run_is_told_interval_by_interval() {
    let mut bench = Bench::new(noise(), 10_000);
    assert_eq!(bench.say(&ToBoard::Ping { nonce: 9 }), [FromBoard::Pong { nonce: 9, session: 77 }]);
    let said = bench.run(request(5, 3, 3), &[1, 2, 3]);
    let said = told(5, &said);
    let interval = |work| Record::Interval { work, ticks: 100 };
    let ids: Vec<u32> = said
        .iter()
        .filter_map(|what| if let Record::Token { id, .. } = what { Some(*id) } else { None })
        .collect();
    let token = |index: u32| Record::Token { index, id: ids[index as usize] };
    let prefill = interval(Work::Prefill { tokens: 1 });
    assert_eq!(
        said[..9],
        [
            interval(Work::Load),
            prefill,
            prefill,
            prefill,
            token(0),
            interval(Work::Decode { index: 1 }),
            token(1),
            interval(Work::Decode { index: 2 }),
            token(2),
        ]
    );
    let [Record::Done { generated: 3, stop: Stop::Length, logits_hash, .. }] = said[9..] else {
        panic!("{said:?}")
    };
    // The same again gives the same hash, and with uncounted tokens too, but less intervals.
    let again = bench.run(RunRequest { uncounted: 2, ..request(6, 3, 3) }, &[1, 2, 3]);
    let again = told(6, &again);
    assert_eq!(again.len(), said.len() - 2);
    assert!(
        matches!(again.last(), Some(Record::Done { logits_hash: same, .. }) if *same == logits_hash),
        "{again:?}"
    );
}

#[test]
fn what_was_not_heard_is_told_again_and_waited_for() {
    let mut bench = Bench::new(noise(), 10_000);
    bench.wire.ear.borrow_mut().deaf = true;
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 4))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    // After seven of ten records there is no room for two more: the host asks for all, then has heard them.
    let heard = |next, again| ToBoard::Heard { run: 5, next, again };
    let words = [bench.frame(&heard(0, true)), bench.frame(&heard(7, false))];
    bench.wire.on_wait.borrow_mut().extend(words);
    let said = bench.say(&ToBoard::Go { run: 5 });
    let number = |message: &FromBoard| match message {
        FromBoard::Record { number, .. } => *number,
        other => panic!("{other:?}"),
    };
    let numbers: Vec<u32> = said.iter().map(number).collect();
    assert_eq!(numbers, (0..7).chain(0..10).collect::<Vec<_>>());
    // The end was lost: a `Go`, or a `Heard`, brings what was not acknowledged once more.
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(matches!(said[2], FromBoard::Record { number: 9, what: Record::Done { generated: 4, .. }, .. }));
    assert_eq!(bench.say(&heard(9, true)), said[2..]);
    assert_eq!(bench.say(&heard(10, true)), []);
}

#[test]
fn a_new_host_ends_the_run_that_it_knows_nothing_of() {
    let mut bench = Bench::new(noise(), 10_000);
    bench.wire.ear.borrow_mut().deaf = true;
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 9))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    let words = [bench.frame(&ToBoard::Ping { nonce: 1 }), bench.frame(&ToBoard::Hello)].concat();
    *bench.wire.on_write.borrow_mut() = words;
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert!(said.contains(&FromBoard::Pong { nonce: 1, session: 77 }), "{said:?}");
    assert!(matches!(told(5, &said).last(), Some(Record::Done { stop: Stop::Cancelled, .. })), "{said:?}");
    assert!(matches!(bench.say(&ToBoard::Hello)[..], [FromBoard::Hello(_)]));
}

#[test]
fn while_a_run_goes_the_line_is_answered() {
    let mut bench = Bench::new(noise(), 10_000);
    let mut words = bench.frame(&ToBoard::Run(request(6, 1, 1)));
    words.extend(bench.frame(&ToBoard::Ping { nonce: 4 }));
    words.extend(bench.frame(&ToBoard::Cancel { run: 6 }));
    words.extend(bench.frame(&ToBoard::Cancel { run: 5 }));
    assert_eq!(bench.say(&ToBoard::Run(request(5, 1, 9))), accepted(5, 0));
    let tokens = List::from_slice(&[1]).unwrap();
    assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 1));
    *bench.wire.on_write.borrow_mut() = words;
    let said = bench.say(&ToBoard::Go { run: 5 });
    assert!(said.contains(&FromBoard::Failed { run: 6, code: FailCode::Busy }), "{said:?}");
    assert!(said.contains(&FromBoard::Pong { nonce: 4, session: 77 }), "{said:?}");
    let told = told(5, &said);
    assert!(
        matches!(told.last(), Some(Record::Done { generated: 1, stop: Stop::Cancelled, .. })),
        "{told:?}"
    );
}

#[test]
fn a_run_is_cancelled_in_the_middle_of_its_prompt() {
    for uncounted in [0, 8] {
        let mut bench = Bench::new(noise(), 10_000);
        let words = bench.frame(&ToBoard::Cancel { run: 5 });
        let request = RunRequest { uncounted, ..request(5, 9, 2) };
        assert_eq!(bench.say(&ToBoard::Run(request)), accepted(5, 0));
        let tokens = List::from_slice(&[1; 9]).unwrap();
        assert_eq!(bench.say(&ToBoard::Prompt { run: 5, offset: 0, tokens }), accepted(5, 9));
        // It is there as soon as the load was told of.
        *bench.wire.on_write.borrow_mut() = words;
        let said = bench.say(&ToBoard::Go { run: 5 });
        assert_eq!(said.len(), if uncounted == 0 { 3 } else { 2 }, "{said:?}");
        assert!(
            matches!(told(5, &said).last(), Some(Record::Done { generated: 0, stop: Stop::Cancelled, .. })),
            "{said:?}"
        );
    }
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let mut bench = Bench::new(noise(), 10_000);
    let over = RunRequest { ctx: 99, ..request(1, 17, 1) };
    assert_eq!(bench.say(&ToBoard::Run(over)), failed(1, FailCode::PromptTooLong { max: 16 }));
    assert_eq!(bench.say(&ToBoard::Run(request(1, 0, 1))), failed(1, FailCode::BadRequest));
    let nan = RunRequest { temperature: f32::NAN, ..request(1, 1, 1) };
    assert_eq!(bench.say(&ToBoard::Run(nan)), failed(1, FailCode::BadRequest));
    assert_eq!(bench.say(&ToBoard::Go { run: 1 }), failed(1, FailCode::UnknownRun));
    // Prompts with a hole, and too long, change nothing; one that is incomplete does not run; one of no run.
    let tokens = List::from_slice(&[1, 2]).unwrap();
    for (offset, count) in [(1, 4), (0, 1)] {
        bench.say(&ToBoard::Run(request(2, count, 1)));
        let answer = FromBoard::Accepted { run: 2, received: 0, gap: offset > 0 };
        assert_eq!(bench.say(&ToBoard::Prompt { run: 2, offset, tokens }), [answer]);
    }
    bench.say(&ToBoard::Run(request(3, 4, 1)));
    assert_eq!(bench.say(&ToBoard::Prompt { run: 3, offset: 0, tokens }), accepted(3, 2));
    assert_eq!(bench.say(&ToBoard::Go { run: 3 }), failed(3, FailCode::BadRequest));
    let said = bench.say(&ToBoard::Prompt { run: 4, offset: 0, tokens });
    assert_eq!(said, failed(4, FailCode::UnknownRun));
    // A token that the model does not have: the load was fine, the run is not.
    let said = bench.run(request(5, 1, 1), &[4_000]);
    assert_eq!(told(5, &said)[1..], [Record::Failed { code: FailCode::BadRequest }]);
}

#[test]
fn images_are_judged_before_they_run() {
    let words = noise();
    let mut damaged = words.clone();
    *damaged.last_mut().unwrap() ^= 1 << 60;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let mut newer = words.clone();
    newer[0] = u64::from_ne_bytes(*b"EPBI\x09\x00\x80\x00");

    let go = |bench: &mut Bench| told(1, &bench.run(request(1, 1, 1), &[1]));
    let refused = |code| vec![Record::Failed { code }];
    let mut bench = Bench::new(vec![0; 100], 10_000);
    assert_eq!(bench.say(&ToBoard::Image), [FromBoard::Image(ImageInfo::default())]);
    assert_eq!(go(&mut bench), refused(FailCode::NoImage));
    let mut bench = Bench::new(damaged, 10_000);
    let [FromBoard::Image(info)] = bench.say(&ToBoard::Image)[..] else { panic!() };
    assert!(info.present && !info.checksum_ok && info.total_len > 0 && info.crc32 != 0);
    assert_eq!(go(&mut bench), refused(FailCode::BadImage));
    let mut bench = Bench::new(newer, 10_000);
    assert_eq!(go(&mut bench), refused(FailCode::ImageVersion { found: 9 }));
    let mut bench = Bench::new(words, 10);
    let said = go(&mut bench);
    let [Record::Failed { code: FailCode::ArenaTooSmall { need, have: 80 } }] = said[..] else {
        panic!("{said:?}")
    };
    assert!(need > 80);
}

/// An image as it travels.
fn image() -> (Vec<u8>, u32) {
    let words = noise();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let sum = image::crc32(&bytes);
    (bytes, sum)
}

fn chunk(image: &[u8], offset: usize) -> ToBoard {
    let data = image.get(offset..(offset + 512).min(image.len())).unwrap();
    ToBoard::Chunk { offset: offset as u32, data: List::from_slice(data).unwrap() }
}

fn loading(crc32: u32, next: usize) -> Vec<FromBoard> {
    vec![FromBoard::Loading { crc32, next: next as u32, gap: false }]
}

#[test]
fn an_image_is_loaded_over_the_line_and_runs() {
    let (image, sum) = image();
    let load = ToBoard::Load { total_len: image.len() as u32, crc32: sum };
    let mut bench = Bench::new(vec![0; image.len() / 8 + 3], 10_000);
    assert_eq!(bench.say(&load), loading(sum, 0));
    // Twice, too late and beyond the end: nothing changes but by the chunk that is due.
    assert_eq!(bench.say(&chunk(&image, 0)), loading(sum, 512));
    assert_eq!(bench.say(&chunk(&image, 0)), loading(sum, 512));
    let gap = FromBoard::Loading { crc32: sum, next: 512, gap: true };
    assert_eq!(bench.say(&chunk(&image, 1_024)), [gap]);
    // A host that comes back goes on where it was.
    assert_eq!(bench.say(&load), loading(sum, 512));
    for offset in (512..image.len()).step_by(512) {
        let next = (offset + 512).min(image.len());
        assert_eq!(bench.say(&chunk(&image, offset)), loading(sum, next));
    }
    assert_eq!(bench.say(&load), loading(sum, image.len()));
    let said = bench.run(request(1, 1, 2), &[1]);
    assert!(matches!(told(1, &said).last(), Some(Record::Done { generated: 2, .. })), "{said:?}");
}

#[test]
fn an_image_that_is_there_already_is_not_sent_again() {
    let (image, sum) = image();
    let mut bench = Bench::new(noise(), 10_000);
    let load = ToBoard::Load { total_len: image.len() as u32, crc32: sum };
    assert_eq!(bench.say(&load), loading(sum, image.len()));
}

#[test]
fn a_half_loaded_image_does_not_run() {
    let (image, sum) = image();
    let mut bench = Bench::new(noise(), 10_000);
    // Another than the one that is there.
    assert_eq!(bench.say(&ToBoard::Load { total_len: 600, crc32: !sum }), loading(!sum, 0));
    let said = bench.run(request(1, 1, 1), &[1]);
    assert_eq!(told(1, &said), [Record::Failed { code: FailCode::NoImage }]);
    assert_eq!(bench.say(&chunk(&image, 0)), loading(!sum, 512));
    let rest = ToBoard::Chunk { offset: 512, data: List::from_slice(&[1; 88]).unwrap() };
    let failure = |code| vec![FromBoard::LoadFailed { code }];
    assert_eq!(bench.say(&rest), failure(LoadFailure::Damaged));
    let said = bench.run(request(2, 1, 1), &[1]);
    assert_eq!(told(2, &said), [Record::Failed { code: FailCode::BadImage }]);
    assert_eq!(bench.say(&rest), failure(LoadFailure::NotBegun));
    let max = image.len() as u32;
    let too_long = ToBoard::Load { total_len: max + 1, crc32: 0 };
    assert_eq!(bench.say(&too_long), failure(LoadFailure::TooLong { max }));
}

#[test]
fn a_region_that_cannot_be_written_says_so() {
    let (image, sum) = image();
    let mut bench = Bench::new(vec![0; image.len() / 8], 10_000);
    bench.server.memory_mut().writable = false;
    let load = ToBoard::Load { total_len: image.len() as u32, crc32: sum };
    assert_eq!(bench.say(&load), [FromBoard::LoadFailed { code: LoadFailure::ReadOnly }]);
}

#[test]
fn the_board_proves_which_code_it_runs() {
    let mut bench = Bench::new(noise(), 10_000);
    let (address, len) = (8, CODE.len() as u32);
    let sum = |crc32| vec![FromBoard::CodeSum { address, len, crc32 }];
    assert_eq!(bench.say(&ToBoard::CodeSum { address, len }), sum(Some(image::crc32(CODE))));
    let other = bench.say(&ToBoard::CodeSum { address: 9, len });
    assert_eq!(other, [FromBoard::CodeSum { address: 9, len, crc32: None }]);
}
