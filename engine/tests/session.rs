//! Sessions: memory to the byte, determinism, errors, hooks.

mod support;

use edgeprof_engine::arena::Layout;
use edgeprof_engine::hooks::{Hooks, Op};
use edgeprof_engine::image::{Image, Role};
use edgeprof_engine::session::Session;
use edgeprof_engine::{Config, DType, EngineError, KvType};
use proptest::prelude::*;
use support::{Model, arena, run, small};

const KV: [KvType; 3] = [KvType::F32, KvType::F16, KvType::I8];

fn q8(r: Role, _: u32) -> DType {
    if r.is_norm() { DType::F32 } else { DType::Q8_0 }
}

#[test]
fn the_layout_is_exact() {
    for config in small() {
        let model = Model::random(&config, 9);
        let bytes = model.image(q8);
        let image = Image::parse(bytes.bytes()).unwrap();
        for kv in KV {
            for ctx in [1, 7, 32] {
                let layout = Layout::new(&config, ctx, kv).unwrap();
                assert_eq!(layout.total_bytes, layout.kv_bytes + layout.scratch_bytes);
                assert_eq!(layout.total_bytes % 8, 0);
                let mut arena = arena(&config, ctx, kv);
                let less = arena.len() - 1;
                let got = Session::new(&image, &mut arena[..less], ctx, kv).map(|_| ());
                let needed = layout.total_bytes;
                assert_eq!(got, Err(EngineError::ArenaTooSmall { needed, have: needed - 8 }));
                let mut s = Session::new(&image, &mut arena, ctx, kv).unwrap();
                assert_eq!(s.layout().total_bytes, needed);
                for t in 0..ctx {
                    s.forward(t % config.vocab, true).unwrap();
                }
                assert_eq!(s.forward(1, true), Err(EngineError::ContextFull(ctx)));
            }
        }
    }
}

#[test]
fn nothing_is_written_beyond_the_layout_and_old_contents_do_not_matter() {
    let config = small()[1];
    let model = Model::random(&config, 4);
    let bytes = model.image(q8);
    let image = Image::parse(bytes.bytes()).unwrap();
    for kv in KV {
        let exact = arena(&config, 8, kv).len();
        let mut dirty = vec![0xa5a5_a5a5_a5a5_a5a5u64; exact + 4];
        let mut s = Session::new(&image, &mut dirty, 8, kv).unwrap();
        let mut got = vec![];
        for t in [1, 2, 3] {
            s.forward(t, true).unwrap();
            got.push(s.logits().to_vec());
        }
        assert_eq!(got, run(&bytes, &[1, 2, 3], 8, kv));
        assert!(dirty[exact..].iter().all(|w| *w == 0xa5a5_a5a5_a5a5_a5a5));
    }
}

#[test]
fn layouts_that_overflow_are_none() {
    let config = small()[0];
    assert!(Layout::new(&config, 0, KvType::F32).is_none());
    assert!(Layout::new(&Config { dim: 0, ..config }, 1, KvType::F32).is_none());
    let huge = Config { layers: 4096, heads: 1 << 10, kv_heads: 1 << 10, head_dim: 1 << 10, ..config };
    assert!(Layout::new(&huge, u32::MAX, KvType::F32).is_none());
    let kv = |t| Layout::new(&config, 10, t).unwrap().kv_bytes;
    assert_eq!(kv(KvType::F32), 2 * 3 * 10 * 32 * 4);
    assert_eq!(kv(KvType::F16), 2 * 3 * 10 * 32 * 2);
    assert_eq!(kv(KvType::I8), 2 * (3 * 10 * 32 + 3 * 10 * 4 * 4));
}

#[test]
fn prefill_without_logits_changes_nothing_else() {
    let config = small()[0];
    let model = Model::random(&config, 5);
    let bytes = model.image(q8);
    let image = Image::parse(bytes.bytes()).unwrap();
    for kv in KV {
        let want = run(&bytes, &[1, 2, 3], 4, kv);
        let mut arena = arena(&config, 4, kv);
        let mut s = Session::new(&image, &mut arena, 4, kv).unwrap();
        s.forward(1, false).unwrap();
        assert!(s.logits().is_empty());
        s.forward(2, false).unwrap();
        s.forward(3, true).unwrap();
        assert_eq!(s.logits(), want[2]);
        assert_eq!(s.position(), 3);
        s.reset();
        s.forward(1, true).unwrap();
        assert_eq!(s.logits(), want[0]);
    }
}

#[test]
fn errors_leave_the_position() {
    let config = small()[0];
    let model = Model::random(&config, 5);
    let bytes = model.image(q8);
    let image = Image::parse(bytes.bytes()).unwrap();
    let mut arena = arena(&config, 4, KvType::F16);
    let got = Session::new(&image, &mut arena, 0, KvType::F16).map(|_| ());
    assert_eq!(got, Err(EngineError::BadContext(0)));
    let mut s = Session::new(&image, &mut arena, 4, KvType::F16).unwrap();
    assert_eq!(s.forward(config.vocab, true), Err(EngineError::BadToken(config.vocab)));
    assert_eq!(s.position(), 0);
}

#[test]
fn a_logit_that_is_not_finite_is_an_error() {
    for bad in [f32::NAN, f32::INFINITY] {
        for dtype in [DType::F32, DType::Q8_0] {
            for kv in KV {
                let mut model = Model::random(&small()[0], 6);
                model.tensors.get_mut(&(Role::FfnNorm as u8, 1)).unwrap()[5] = bad;
                let bytes = model.image(|r, _| if r.is_norm() { DType::F32 } else { dtype });
                let image = Image::parse(bytes.bytes()).unwrap();
                let mut arena = arena(image.config(), 4, kv);
                let mut s = Session::new(&image, &mut arena, 4, kv).unwrap();
                assert!(matches!(s.forward(1, true), Err(EngineError::NonFinite(_))));
                assert!(s.logits().is_empty());
            }
        }
    }
}

#[test]
fn hooks_hear_every_operator_in_pairs() {
    #[derive(Default)]
    struct Ear(Vec<(Op, u32)>, Option<(Op, u32)>);
    impl Hooks for Ear {
        fn enter(&mut self, op: Op, layer: u32) {
            assert_eq!(self.1.replace((op, layer)), None);
        }
        fn leave(&mut self, op: Op, layer: u32) {
            assert_eq!(self.1.take(), Some((op, layer)));
            self.0.push((op, layer));
        }
    }
    let model = Model::random(&small()[0], 6);
    let bytes = model.image(q8);
    let image = Image::parse(bytes.bytes()).unwrap();
    let mut arena = arena(image.config(), 4, KvType::F32);
    let mut s = Session::new(&image, &mut arena, 4, KvType::F32).unwrap();
    let mut ear = Ear::default();
    s.forward_with(1, true, &mut ear).unwrap();
    assert_eq!(ear.0.len(), 1 + 3 * 9 + 2);
    assert_eq!(ear.0[3], (Op::Rope, 0));
    assert_eq!(ear.0.last().unwrap().0, Op::Classifier);
    let want = s.logits().to_vec();
    assert_eq!(want, run(&bytes, &[1], 4, KvType::F32)[0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn odd_shapes_run_the_same_twice(
        dim in 2u32..70, hidden in 1u32..80, kv_heads in 1u32..4, group in 1u32..4,
        half_head in 1u32..12, vocab in 2u32..40, tied: bool, kind in 0u8..4, kv in 0u8..3, seed: u64,
    ) {
        let config = Config {
            dim, hidden, layers: 2, heads: kv_heads * group, kv_heads, head_dim: 2 * half_head, vocab,
            train_ctx: 8, rope_theta: 500_000.0, norm_eps: 1e-5, tied,
        };
        let dtype = DType::try_from(kind).unwrap();
        let kv = KvType::try_from(kv).unwrap();
        let image = Model::random(&config, seed | 1).image(|r, _| if r.is_norm() { DType::F32 } else { dtype });
        let tokens = [0, 1, 0, 1, 1];
        prop_assert_eq!(run(&image, &tokens, 5, kv), run(&image, &tokens, 9, kv));
    }
}

/// Attention sums integers in blocks of 256 positions; a long context takes several.
#[test]
fn long_contexts_agree_between_cache_types() {
    let config = Config { layers: 1, ..small()[0] };
    let bytes = Model::random(&config, 8).image(|_, _| DType::F32);
    let tokens: Vec<u32> = (0..600).map(|i| (i * 7 + i / 5) % config.vocab).collect();
    let a = run(&bytes, &tokens, 600, KvType::F32);
    let b = run(&bytes, &tokens, 600, KvType::I8);
    let (mut error, mut power) = (0.0f64, 0.0f64);
    for (a, b) in a[550].iter().zip(&b[550]) {
        error += f64::from((a - b) * (a - b));
        power += f64::from(a * a);
    }
    assert!((error / power).sqrt() < 0.05, "{}", (error / power).sqrt());
}
