//! Images: judged before they run, and loaded over the line; and the code that proves itself.

use edgeprof_engine::image;
use edgeprof_link::{FailCode, FromBoard, ImageInfo, List, LoadFailure, Record, ToBoard};

use super::bench::{Bench, CODE, noise, request, told};

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
