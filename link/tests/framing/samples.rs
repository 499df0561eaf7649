//! One message of every kind in either direction, with values as they occur and at their limits.

use edgeprof_link::{
    FailCode, FromBoard, ImageInfo, Kv, List, LoadFailure, MAX_CHUNK, MAX_PROMPT_TOKENS_PER_FRAME, MAX_TRACE,
    Record, RunRequest, Stop, Text, ToBoard, Work,
};

pub(crate) fn from_board() -> Vec<FromBoard> {
    let image = ImageInfo { present: true, total_len: 275_312, crc32: 0x9a3c_f00d, checksum_ok: true };
    let mut all = vec![
        FromBoard::Pong { nonce: 7, session: 0x1234_5678 },
        super::hello(),
        FromBoard::Image(ImageInfo::default()),
        FromBoard::Image(image),
        FromBoard::Accepted { run: 1, received: 0, gap: false },
        FromBoard::Panic { message: Text::new() },
        FromBoard::Panic { message: Text::cut(&"panicked at engine/src/session.rs: ".repeat(3)) },
        FromBoard::Fault { pc: 0x0000_1a2c, lr: 0xffff_fff9, status: 0x0002_0000 },
        FromBoard::Loading { crc32: 0x9a3c_f00d, next: 0x0001_0000, gap: true },
        FromBoard::CodeSum { address: 0x2000_0000, len: 90_112, crc32: Some(0) },
        FromBoard::CodeSum { address: 0, len: 0, crc32: None },
        FromBoard::Trace { addresses: List::new() },
        FromBoard::Trace { addresses: List::from_slice(&[0x0000_1a2c; MAX_TRACE]).unwrap() },
    ];
    let mut records = vec![
        Record::Token { index: 0, id: 403 },
        Record::Token { index: u32::MAX, id: u32::MAX },
        Record::Interval { work: Work::Load, ticks: 0 },
        Record::Interval { work: Work::Prefill { tokens: 4 }, ticks: 9_539_664 },
        Record::Interval { work: Work::Decode { index: 15 }, ticks: u64::MAX },
    ];
    for stop in [Stop::Length, Stop::StopToken, Stop::Context, Stop::Cancelled] {
        records.push(Record::Done {
            generated: 16,
            stop,
            logits_hash: 0x0123_4567_89ab_cdef,
            arena_used: 34_816,
            kv_bytes: 0,
            stack_high_water: 1_992,
        });
    }
    let codes = [
        FailCode::NoImage,
        FailCode::BadImage,
        FailCode::ImageVersion { found: 2 },
        FailCode::ArenaTooSmall { need: 1 << 33, have: 98_304 },
        FailCode::PromptTooLong { max: 256 },
        FailCode::BadRequest,
        FailCode::NonFinite,
        FailCode::Busy,
        FailCode::UnknownRun,
        FailCode::Engine { code: 3 },
    ];
    records.extend(codes.map(|code| Record::Failed { code }));
    all.extend(records.into_iter().zip(0..).map(|(what, number)| FromBoard::Record { run: 1, number, what }));
    all.extend(codes.map(|code| FromBoard::Failed { run: 1, code }));
    let failures = [
        LoadFailure::ReadOnly,
        LoadFailure::TooLong { max: 3 << 20 },
        LoadFailure::NotBegun,
        LoadFailure::Damaged,
        LoadFailure::Storage { offset: 0 },
    ];
    all.extend(failures.map(|code| FromBoard::LoadFailed { code }));
    all
}

pub(crate) fn to_board() -> Vec<ToBoard> {
    let mut all = vec![
        ToBoard::Ping { nonce: 0 },
        ToBoard::Ping { nonce: u32::MAX },
        ToBoard::Hello,
        ToBoard::Image,
        ToBoard::Go { run: 1 },
        ToBoard::Heard { run: 1, next: 8, again: false },
        ToBoard::Heard { run: 1, next: 0, again: true },
        ToBoard::Cancel { run: 0x0100 },
        ToBoard::Load { total_len: 275_312, crc32: 0x9a3c_f00d },
        ToBoard::CodeSum { address: 0x2000_0000, len: 90_112 },
    ];
    for kv in [Kv::F32, Kv::F16, Kv::I8] {
        all.push(ToBoard::Run(RunRequest {
            run: 1,
            prompt_len: 4,
            uncounted: 0,
            n_gen: 16,
            ctx: 20,
            kv,
            temperature: 0.8,
            seed: 0,
            stop_tokens: List::from_slice(&[1, 2]).unwrap(),
        }));
    }
    for len in [0, 1, 5, 32, MAX_PROMPT_TOKENS_PER_FRAME] {
        let tokens: Vec<u32> = (0..len as u32).map(|i| i * i % 512).collect();
        all.push(ToBoard::Prompt { run: 1, offset: 0, tokens: List::from_slice(&tokens).unwrap() });
    }
    // Weights: as they come, all zero, and none zero, which is COBS at its longest.
    for fill in [|i: usize| (i * 37 / 8) as u8, |_| 0, |i| (i % 255) as u8 + 1] {
        for len in [4, 64, MAX_CHUNK] {
            let data: Vec<u8> = (0..len).map(fill).collect();
            all.push(ToBoard::Chunk { offset: 4_096, data: List::from_slice(&data).unwrap() });
        }
    }
    all
}

/// A variant that is appended to the protocol belongs into the samples: the first number that no sample
/// has must be no message's.
#[test]
fn every_kind_of_message_has_a_sample() {
    fn check<M: serde::Serialize + serde::de::DeserializeOwned>(samples: &[M]) {
        let mut buffer = [0; edgeprof_link::MAX_FRAME];
        let mut kinds: Vec<u8> =
            samples.iter().map(|m| postcard::to_slice(m, &mut buffer).unwrap()[0]).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(kinds.iter().enumerate().all(|(i, kind)| i == usize::from(*kind)), "{kinds:?}");
        // Zeros read as whatever fields follow.
        buffer.fill(0);
        buffer[0] = kinds.len() as u8;
        assert!(postcard::take_from_bytes::<M>(&buffer).is_err(), "kind {} has no sample", kinds.len());
    }
    check(&from_board());
    check(&to_board());
}
