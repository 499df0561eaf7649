//! The f32 forward pass against a separately written f64 reference.

mod support;

use edgeprof_engine::{DType, KvType};
use support::{Model, reference, run, small};

#[test]
fn f32_agrees_with_an_f64_reference() {
    for (i, config) in small().into_iter().enumerate() {
        let model = Model::random(&config, i as u64 + 1);
        let image = model.image(|_, _| DType::F32);
        let tokens = [1u32, 5, 7, 3, 3, 20, 1];
        let got = run(&image, &tokens, 16, KvType::F32);
        let want = reference(&model, &tokens);
        for (got, want) in got.iter().zip(&want) {
            let worst = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs());
            let worst = worst.fold(0.0, |a: f64, b| if b > a { b } else { a });
            assert!(worst < 2e-4, "config {i}: off by {worst}");
        }
    }
}

#[test]
fn quantized_weights_and_caches_stay_close_to_the_reference() {
    for (i, config) in small().into_iter().enumerate() {
        let model = Model::random(&config, i as u64 + 1);
        let tokens = [1u32, 5, 7, 3, 3, 20, 1];
        let want = reference(&model, &tokens);
        for (dtype, kv, limit) in [
            (DType::F32, KvType::F16, 0.01),
            (DType::F32, KvType::I8, 0.06),
            (DType::F16, KvType::F32, 0.01),
            (DType::Q8_0, KvType::I8, 0.12),
            (DType::Q4_0, KvType::I8, 1.0),
            (DType::BF16, KvType::F32, 0.05),
            (DType::Q4_1, KvType::I8, 1.0),
        ] {
            let image = model.image(|role, _| if role.is_norm() { DType::F32 } else { dtype });
            let got = run(&image, &tokens, 16, kv);
            let (mut error, mut power) = (0.0, 0.0);
            for (got, want) in got.iter().zip(&want) {
                for (g, w) in got.iter().zip(want) {
                    error += (f64::from(*g) - w) * (f64::from(*g) - w);
                    power += w * w;
                }
            }
            let relative = (error / power).sqrt();
            assert!(relative < limit, "config {i} {dtype:?} {kv:?}: off by {relative}");
        }
    }
}
