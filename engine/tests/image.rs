//! The image format: what is written is read, and nothing makes the reader panic.

mod support;

use edgeprof_engine::image::{self, Image, Role};
use edgeprof_engine::session::Session;
use edgeprof_engine::{Config, DType, ImageError, KvType};
use proptest::prelude::*;
use support::{Aligned, Model, arena, small};

fn sample(dtype: DType) -> (Model, Aligned) {
    let model = Model::random(&small()[1], 3);
    let image = model.image(|r, _| if r.is_norm() { DType::F32 } else { dtype });
    (model, image)
}

#[test]
fn what_is_planned_is_read_back() {
    for dtype in DType::ALL {
        let (model, image) = sample(dtype);
        let dtype_of = |r: Role, _| if r.is_norm() { DType::F32 } else { dtype };
        let parsed = Image::parse(image.bytes()).unwrap();
        parsed.verify_checksum().unwrap();
        assert_eq!(parsed.config(), &model.config);
        assert_eq!(parsed.total_len(), image::total_len(&model.config, dtype_of));
        assert_eq!(parsed.total_len(), image.bytes().len() as u64);
        let planned: Vec<_> = image::layout(&model.config, dtype_of).collect();
        assert_eq!(parsed.tensors().collect::<Vec<_>>(), planned);
        let mut end = image::table_len(&model.config);
        for t in planned {
            assert_eq!(t.offset % 16, 0);
            assert!(t.offset >= end && t.offset < end + 16);
            end = t.offset + t.data_bytes();
            if t.scale_offset > 0 {
                assert!(t.scale_offset % 16 == 0 && t.scale_offset >= end);
                end = t.scale_offset + t.scale_bytes();
            }
            assert!(parsed.tensor(t.role, t.layer).is_some());
        }
        assert!(parsed.tensor(Role::AttnQ, model.config.layers).is_none());
    }
}

#[test]
fn a_streaming_writer_seals_the_same_header() {
    let (_, image) = sample(DType::Q8_0);
    let mut copy = image.clone();
    let crc = image::crc32(&image.bytes()[image::HEADER_LEN..]);
    copy.bytes_mut()[16..20].fill(0);
    image::seal_header(copy.bytes_mut(), crc).unwrap();
    assert_eq!(copy.bytes(), image.bytes());
    assert_eq!(image::crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn bytes_after_the_image_are_allowed_and_missing_ones_are_not() {
    let (_, image) = sample(DType::Q4_0);
    let len = image.bytes().len();
    let mut longer = Aligned::new(len + 100);
    longer.bytes_mut()[..len].copy_from_slice(image.bytes());
    Image::parse(longer.bytes()).unwrap().verify_checksum().unwrap();
    for cut in [0, 1, 127, 128, 200, len - 1] {
        let got = Image::parse(&image.bytes()[..cut]);
        assert!(matches!(got, Err(ImageError::Truncated { .. })), "{cut}: {got:?}");
    }
    assert_eq!(Image::parse(&longer.bytes()[1..]).unwrap_err(), ImageError::Misaligned);
}

#[test]
fn damage_is_named() {
    let (_, image) = sample(DType::Q8_0);
    let with = |at: usize, v: u8| {
        let mut c = image.clone();
        c.bytes_mut()[at] ^= v;
        c
    };
    let error = |c: Aligned| Image::parse(c.bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error(with(0, 1)), ImageError::Magic);
    assert_eq!(error(with(4, 2)), ImageError::Version(3));
    assert_eq!(error(with(30, 1)), ImageError::HeaderChecksum);
    assert_eq!(error(with(128, 1)), ImageError::Tensor(0));
    let last = image.bytes().len() - 1;
    let damaged = with(last, 1);
    let parsed = Image::parse(damaged.bytes()).unwrap();
    assert_eq!(parsed.verify_checksum(), Err(ImageError::PayloadChecksum));
}

#[test]
fn a_writer_refuses_what_a_reader_would() {
    let config = small()[0];
    let mut buf = Aligned::new(4000);
    let all = |_, _| DType::Q8_0;
    assert_eq!(image::write_header(buf.bytes_mut(), &config, all), Err(ImageError::Tensor(1)));
    let short = image::write_header(&mut buf.bytes_mut()[..500], &config, |_, _| DType::F32);
    assert_eq!(short, Err(ImageError::Buffer(image::table_len(&config))));
    let bad = Config { kv_heads: 3, ..config };
    let got = image::write_header(buf.bytes_mut(), &bad, |_, _| DType::F32);
    assert_eq!(got, Err(ImageError::Config("kv_heads")));
}

#[test]
fn limits_of_a_configuration() {
    let good = small()[0];
    good.validate().unwrap();
    let bad = [
        Config { dim: 0, ..good },
        Config { hidden: 0, ..good },
        Config { layers: 0, ..good },
        Config { layers: u32::MAX, ..good },
        Config { heads: 0, ..good },
        Config { kv_heads: 0, ..good },
        Config { kv_heads: 16, ..good },
        Config { head_dim: 7, ..good },
        Config { heads: 1, kv_heads: 1, head_dim: 1 << 18, ..good },
        Config { heads: 1 << 16, kv_heads: 1, head_dim: 1 << 16, ..good },
        Config { vocab: 0, ..good },
        Config { vocab: u32::MAX, ..good },
        Config { train_ctx: 0, ..good },
        Config { rope_theta: 0.0, ..good },
        Config { rope_theta: f32::NAN, ..good },
        Config { norm_eps: f32::INFINITY, ..good },
        Config { norm_eps: -1.0, ..good },
    ];
    for c in bad {
        assert!(matches!(c.validate(), Err(ImageError::Config(_))), "{c:?}");
    }
    assert_eq!(good.macs_per_token(), 3 * (2 * 4096 + 2 * 2048 + 3 * 64 * 172) + 64 * 61);
}

/// Parses; if that goes well, also runs, since nothing may panic then either.
fn survive(image: &Aligned) {
    let Ok(image) = Image::parse(image.bytes()) else { return };
    let _ = image.verify_checksum();
    let count = image.tensors().count();
    assert!(count > 0);
    let mut arena = arena(image.config(), 2, KvType::I8);
    if let Ok(mut s) = Session::new(&image, &mut arena, 2, KvType::I8) {
        let _ = s.forward(0, true);
        let _ = s.forward(1, true);
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let mut a = Aligned::new(bytes.len());
        a.bytes_mut().copy_from_slice(&bytes);
        if magic && bytes.len() >= 128 {
            a.bytes_mut()[..8].copy_from_slice(b"EPBI\x01\0\x80\0");
            image::seal(a.bytes_mut()).unwrap();
        }
        survive(&a);
    }

    #[test]
    fn a_damaged_image_with_matching_checksums_is_survived(
        kind in 0u8..6, edits in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6), head: bool,
    ) {
        let (_, mut image) = sample(DType::try_from(kind).unwrap());
        let len = image.bytes().len();
        for (at, v) in edits {
            let range = if head { 1100 } else { len };
            image.bytes_mut()[at as usize % range] ^= v;
        }
        image::seal(image.bytes_mut()).unwrap();
        survive(&image);
    }
}
