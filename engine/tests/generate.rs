//! Generation: what is counted, what ends it, and the sampler.

mod support;

use core::ops::ControlFlow;
use edgeprof_engine::generate::{Interval, NoObserver, Observer, Outcome, Request, StopReason, generate};
use edgeprof_engine::hash::LogitsHash;
use edgeprof_engine::image::{Image, Role};
use edgeprof_engine::sampler::Sampler;
use edgeprof_engine::session::Session;
use edgeprof_engine::{DType, EngineError, KvType};
use support::{Aligned, Model, arena, small};

#[derive(Default)]
struct Log {
    starts: usize,
    intervals: Vec<Interval>,
    tokens: Vec<u32>,
    cancel_at: Option<u32>,
    prompt_tokens: usize,
    cancel_in_prompt_at: usize,
}

impl Observer for Log {
    fn start(&mut self) {
        self.starts += 1;
    }
    fn stop(&mut self, what: Interval) {
        self.intervals.push(what);
    }
    fn prompt_token(&mut self) -> ControlFlow<()> {
        self.prompt_tokens += 1;
        if self.cancel_in_prompt_at == self.prompt_tokens {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
    fn token(&mut self, index: u32, id: u32) -> ControlFlow<()> {
        assert_eq!(index as usize, self.tokens.len());
        self.tokens.push(id);
        if self.cancel_at == Some(index) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn model() -> Aligned {
    let q8 = |r: Role, _| if r.is_norm() { DType::F32 } else { DType::Q8_0 };
    Model::random(&small()[0], 11).image(q8)
}

fn request(prompt: &[u32], n_gen: u32) -> Request<'_> {
    Request { prompt, uncounted: 0, n_gen, temperature: 0.0, seed: 1, stop_tokens: &[], stop_at_eos: false }
}

fn go(ctx: u32, req: &Request<'_>, log: &mut Log) -> Result<Outcome, EngineError> {
    let bytes = model();
    let image = Image::parse(bytes.bytes()).unwrap();
    let mut arena = arena(image.config(), ctx, KvType::I8);
    let mut s = Session::new(&image, &mut arena, ctx, KvType::I8).unwrap();
    generate(&mut s, req, log)
}

const PREFILL: Interval = Interval::Prefill { tokens: 1 };

#[test]
fn intervals_tokens_and_hash() {
    let mut log = Log::default();
    let out = go(16, &request(&[1, 5, 9], 4), &mut log).unwrap();
    assert_eq!((out.generated, out.stop), (4, StopReason::Length));
    let decode = |index| Interval::Decode { index };
    assert_eq!(log.intervals, [PREFILL, PREFILL, PREFILL, decode(1), decode(2), decode(3)]);
    assert_eq!(log.starts, 6);

    // By hand: greedy, hashing each logit vector from the last prompt token's on.
    let bytes = model();
    let image = Image::parse(bytes.bytes()).unwrap();
    let mut arena = arena(image.config(), 16, KvType::I8);
    let mut s = Session::new(&image, &mut arena, 16, KvType::I8).unwrap();
    let (mut hash, mut tokens) = (LogitsHash::new(), vec![1, 5, 9]);
    for i in 0..6 {
        s.forward(tokens[i], i >= 2).unwrap();
        if i >= 2 {
            hash.update(s.logits());
            tokens.push(Sampler::new(0.0, 0).sample(s.logits()));
        }
    }
    assert_eq!(tokens[3..], log.tokens);
    assert_eq!(out.logits_hash, hash.finish());
}

#[test]
fn a_filled_context_is_run_but_not_counted() {
    let (mut plain, mut deep) = (Log::default(), Log::default());
    let a = go(16, &request(&[1, 5, 9, 2], 3), &mut plain).unwrap();
    let b = go(16, &Request { uncounted: 3, ..request(&[1, 5, 9, 2], 3) }, &mut deep).unwrap();
    assert_eq!(a, b);
    assert_eq!((plain.intervals.len(), deep.intervals.len(), deep.starts), (6, 3, 3));
}

#[test]
fn prompt_only() {
    let mut log = Log::default();
    let out = go(3, &request(&[1, 5, 9], 0), &mut log).unwrap();
    assert_eq!((out.generated, out.stop), (0, StopReason::Length));
    assert_eq!(log.intervals, [PREFILL; 3]);
    assert!(log.tokens.is_empty());
    assert_ne!(out.logits_hash, LogitsHash::new().finish());
}

#[test]
fn stop_tokens_count_only_where_asked() {
    let mut log = Log::default();
    let hot = Request { temperature: 9.0, seed: 5, ..request(&[1, 5, 9], 6) };
    go(16, &hot, &mut log).unwrap();
    let at = (1..6).find(|&i| !log.tokens[..i].contains(&log.tokens[i])).expect("some new token");
    let stop = [log.tokens[at]];
    let ignoring = Request { stop_tokens: &stop, ..hot };
    let mut all = Log::default();
    assert_eq!(go(16, &ignoring, &mut all).unwrap().generated, 6);

    let mut ended = Log::default();
    let out = go(16, &Request { stop_at_eos: true, ..ignoring }, &mut ended).unwrap();
    assert_eq!((out.generated as usize, out.stop), (at, StopReason::StopToken));
    assert_eq!(ended.tokens, log.tokens[..at]);
    assert_eq!(ended.intervals.len(), 3 + at - 1);
    assert_eq!(ended.starts, 3 + at);

    let first = [log.tokens[0]];
    let at_once = Request { stop_tokens: &first, stop_at_eos: true, ..hot };
    let mut none = Log::default();
    let out = go(16, &at_once, &mut none).unwrap();
    assert_eq!((out.generated, out.stop), (0, StopReason::StopToken));
    assert_eq!(none.intervals, [PREFILL; 3]);
}

#[test]
fn context_and_cancellation() {
    let mut log = Log::default();
    let out = go(5, &request(&[1, 5, 9], 10), &mut log).unwrap();
    assert_eq!((out.generated, out.stop), (3, StopReason::Context));
    let exact = go(5, &request(&[1, 5, 9], 3), &mut Log::default()).unwrap();
    assert_eq!(exact.stop, StopReason::Length);
    let mut log = Log { cancel_at: Some(1), ..Log::default() };
    let out = go(16, &request(&[1, 5, 9], 10), &mut log).unwrap();
    assert_eq!((out.generated, out.stop, log.tokens.len()), (2, StopReason::Cancelled, 2));
}

#[test]
fn a_prompt_can_be_cancelled_counted_or_not() {
    for (at, uncounted, counted) in [(2, 0, 2), (2, 3, 0), (3, 2, 1)] {
        let mut log = Log { cancel_in_prompt_at: at, ..Log::default() };
        let out = go(16, &Request { uncounted, ..request(&[1, 5, 9, 2, 3], 4) }, &mut log).unwrap();
        assert_eq!((out.generated, out.stop), (0, StopReason::Cancelled));
        assert_eq!((log.prompt_tokens, log.intervals.len(), log.starts), (at, counted, counted));
        assert!(log.tokens.is_empty());
    }
}

#[test]
fn requests_that_make_no_sense() {
    let mut log = Log::default();
    assert!(matches!(go(4, &request(&[], 1), &mut log), Err(EngineError::BadRequest(_))));
    let none = Request { uncounted: 2, ..request(&[1, 2], 1) };
    assert!(matches!(go(4, &none, &mut log), Err(EngineError::BadRequest(_))));
    assert_eq!(go(2, &request(&[1, 2, 3], 1), &mut log), Err(EngineError::ContextFull(2)));
    assert_eq!(go(4, &request(&[1, 999], 1), &mut log), Err(EngineError::BadToken(999)));
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let run = |seed| {
        let mut log = Log::default();
        let req = Request { temperature: 1.5, seed, ..request(&[1], 30) };
        let hash = go(40, &req, &mut log).unwrap().logits_hash;
        (log.tokens, hash)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let mut s = Sampler::new(0.0, 1);
    assert_eq!(s.sample(&[1.0, 3.0, 3.0, 2.0]), 1);
    assert_eq!(s.sample(&[-5.0]), 0);
    assert_eq!(s.sample(&[-0.0, 0.0]), 0);
    assert_eq!(Sampler::new(f32::NAN, 1).sample(&[0.0, 1.0]), 1);
}

#[test]
fn samples_follow_the_softmax() {
    let logits = [0.0f32, 1.0, -1.0, 2.0, -100.0];
    for temperature in [0.5f32, 1.0, 3.0] {
        let weight = logits.map(|l| (f64::from(l) / f64::from(temperature)).exp());
        let sum: f64 = weight.iter().sum();
        let n = 40_000;
        let mut sampler = Sampler::new(temperature, 3);
        let mut count = [0u32; 5];
        for _ in 0..n {
            count[sampler.sample(&logits) as usize] += 1;
        }
        for (count, w) in count.iter().zip(weight) {
            let p = w / sum;
            let sigma = (p * (1.0 - p) / f64::from(n)).sqrt();
            assert!((f64::from(*count) / f64::from(n) - p).abs() < 5.0 * sigma + 1e-9, "{count} {p}");
        }
    }
}

#[test]
fn an_observer_may_do_nothing() {
    let bytes = model();
    let image = Image::parse(bytes.bytes()).unwrap();
    let mut arena = arena(image.config(), 8, KvType::F16);
    let mut s = Session::new(&image, &mut arena, 8, KvType::F16).unwrap();
    assert_eq!(generate(&mut s, &request(&[1], 2), &mut NoObserver).unwrap().generated, 2);
}
