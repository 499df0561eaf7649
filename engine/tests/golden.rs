//! The bits themselves. If this fails, results of this engine no longer compare with those of the
//! one before: only change the numbers when the arithmetic was meant to change, and then compare a
//! run on every board with the host's again.

mod support;

use edgeprof_engine::hash::LogitsHash;
use edgeprof_engine::{DType, KvType};
use support::{Model, run, small};

const KV: [KvType; 3] = [KvType::F32, KvType::F16, KvType::I8];

/// By model, weights, cache.
const WANT: [[u64; 18]; 3] = [
    [
        0xb635_b018_4221_0712,
        0x8681_0b91_0810_79ff,
        0x41f4_9bb1_07c2_1486,
        0x5e8e_169c_8626_4160,
        0x08b2_43b5_d2d9_1555,
        0x568b_0727_e73a_710d,
        0x9b19_7ffa_fbca_91cd,
        0xda32_a73c_ff58_688a,
        0x4371_681e_f3ae_4a7a,
        0x6c43_3b57_7fdf_0786,
        0xfefd_60c4_f989_e1f6,
        0x123c_4eb9_d4fd_d87b,
        0x0f40_87a5_5673_7e8d,
        0x3ce7_5f04_d51b_8424,
        0x4714_7d0c_3a89_22fe,
        0x56df_0c51_ef9a_4a38,
        0x63cc_ada8_6204_2969,
        0x963d_9da6_98a7_504c,
    ],
    [
        0x2472_738d_e129_da80,
        0x605c_593a_91bd_72f1,
        0x14aa_1fb4_9427_8ac0,
        0x43f0_2fc6_958f_c9a9,
        0x51c7_811b_c9c3_4f45,
        0x41f2_ea79_f776_c46b,
        0x06fb_c8c3_d0f0_3485,
        0xd236_c2cf_651f_3c5a,
        0x319e_d028_2e7b_1488,
        0x259e_3752_06f6_cd08,
        0xce1c_9ed9_adb0_c5e7,
        0xb8ea_9d70_6282_0885,
        0x6b59_00de_03c8_fb62,
        0x3a1a_d7f5_682b_77c9,
        0xd62f_4369_4aa5_92c0,
        0xa8bc_b8b5_e041_0005,
        0xe0fb_481d_e760_4a12,
        0x423e_16e3_8b37_4dc7,
    ],
    [
        0xcf78_9004_55fe_ea9d,
        0x10ad_91c1_ddd3_6cec,
        0xb19e_9f99_ee80_cbca,
        0x4c45_09dc_f643_afd3,
        0x31c3_8555_d3a4_2c8c,
        0x1d29_f8d4_8e0c_77ca,
        0x9695_da57_8609_815c,
        0x3779_356b_777f_f237,
        0xa59d_0f9e_b316_2b3c,
        0x56d7_6742_9d7d_d5a6,
        0x7ccc_4c56_b1e9_a2a4,
        0xf385_0e17_f6d7_b4d2,
        0x28cd_12bd_dd37_2a0e,
        0xcfce_10f3_02c8_64a9,
        0x43da_6af6_569e_d4a4,
        0x0595_6503_62c6_8b8d,
        0xf42b_347b_3c21_ea47,
        0xfc1a_37bb_6aa0_3edc,
    ],
];

#[test]
fn hashes_are_what_they_were() {
    let mut got = [[0u64; 18]; 3];
    for (m, config) in small().iter().enumerate() {
        let model = Model::random(config, 77);
        for (d, dtype) in DType::ALL.into_iter().enumerate() {
            let image = model.image(|role, _| if role.is_norm() { DType::F32 } else { dtype });
            for (k, kv) in KV.into_iter().enumerate() {
                let mut hash = LogitsHash::new();
                for logits in run(&image, &[1, 7, 3, 3, 11, 0, 2, 40, 5], 9, kv) {
                    hash.update(&logits);
                }
                got[m][3 * d + k] = hash.finish();
            }
        }
    }
    assert!(got == WANT, "{got:#018x?}");
}
