//! The line may do what it likes: a message arrives as it was sent, or not at all.

mod corruption;
mod samples;

use std::panic::catch_unwind;

use edgeprof_link::{
    BoardHello, Decoder, Encoder, FailCode, FromBoard, Kv, List, MAX_FRAME, MIN_MAX_FRAME, Record,
    RunRequest, Stop, Text, ToBoard, Work, isa,
};
use proptest::prelude::*;

fn hello() -> FromBoard {
    FromBoard::Hello(BoardHello {
        protocol: 2,
        kind: Text::cut("mps2-an386"),
        build_id: Text::cut("v0.1.0-12-g0123abc"),
        firmware_version: Text::cut("0.1.0"),
        engine_version: Text::cut("0.1.0"),
        image_format: 1,
        dtypes: 0x1ff,
        kv: Kv::F32.bit() | Kv::F16.bit() | Kv::I8.bit(),
        isa: isa::FPU_SINGLE | isa::DSP,
        arena_bytes: u32::MAX,
        model_region_bytes: u32::MAX,
        max_prompt: u32::MAX,
        max_frame: u32::MAX,
        tick_hz: u64::MAX,
        overhead_ticks: u32::MAX,
        counter: Text::cut("instructions"),
        static_ram: u32::MAX,
        flash_code: u32::MAX,
        stack_bytes: u32::MAX,
    })
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(index, id)| Record::Token { index, id }),
        (any::<u32>(), any::<u64>())
            .prop_map(|(tokens, ticks)| Record::Interval { work: Work::Prefill { tokens }, ticks }),
        any::<u64>().prop_map(|logits_hash| Record::Done {
            generated: 16,
            stop: Stop::StopToken,
            logits_hash,
            arena_used: 0,
            kv_bytes: 0,
            stack_high_water: 0,
        }),
    ]
}

fn from_board() -> impl Strategy<Value = FromBoard> {
    prop_oneof![
        (any::<u32>(), any::<u32>()).prop_map(|(nonce, session)| FromBoard::Pong { nonce, session }),
        Just(hello()),
        (any::<u32>(), any::<u32>(), record()).prop_map(|(run, number, what)| FromBoard::Record {
            run,
            number,
            what
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(crc32, next)| FromBoard::Loading {
            crc32,
            next,
            gap: next & 1 == 0
        }),
        prop::collection::vec(any::<u64>(), 0..=12)
            .prop_map(|addresses| FromBoard::Trace { addresses: List::from_slice(&addresses).unwrap() }),
        (any::<u64>(), any::<u64>()).prop_map(|(need, have)| FromBoard::Failed {
            run: 0,
            code: FailCode::ArenaTooSmall { need, have }
        }),
        ".{0,40}".prop_map(|text| FromBoard::Panic { message: Text::cut(&text) }),
    ]
}

fn to_board() -> impl Strategy<Value = ToBoard> {
    prop_oneof![
        any::<u32>().prop_map(|nonce| ToBoard::Ping { nonce }),
        (any::<u32>(), any::<u64>(), -1e3_f32..1e3).prop_map(|(run, seed, temperature)| {
            ToBoard::Run(RunRequest {
                run,
                prompt_len: 3,
                uncounted: 1,
                n_gen: 8,
                ctx: 64,
                kv: Kv::I8,
                temperature,
                seed,
                stop_tokens: List::from_slice(&[1, 2]).unwrap(),
            })
        }),
        (any::<u32>(), prop::collection::vec(any::<u32>(), 0..=128)).prop_map(|(run, tokens)| {
            ToBoard::Prompt { run, offset: run / 2, tokens: List::from_slice(&tokens).unwrap() }
        }),
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..=512))
            .prop_map(|(offset, data)| { ToBoard::Chunk { offset, data: List::from_slice(&data).unwrap() } }),
    ]
}

proptest! {
    #[test]
    fn messages_arrive_however_the_stream_is_cut(
        messages in prop::collection::vec(to_board(), 1..6),
        cuts in prop::collection::vec(1_usize..200, 1..40),
    ) {
        let mut encoder = Encoder::new();
        let mut line = Vec::new();
        for message in &messages {
            let mut out = [0; MAX_FRAME];
            let len = encoder.encode(message, &mut out).unwrap();
            line.extend_from_slice(&out[..len]);
        }
        let mut decoder = Decoder::<ToBoard>::new();
        let (mut found, mut rest, mut cuts) = (Vec::new(), &line[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            decoder.feed(piece, |received| found.push(received.message));
            rest = later;
        }
        prop_assert_eq!(found, messages);
        prop_assert_eq!(decoder.stats().dropped() + decoder.stats().lost, 0);
    }

    #[test]
    fn garbage_between_frames_costs_no_frame(
        messages in prop::collection::vec(from_board(), 1..6),
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), 6),
    ) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::<FromBoard>::new();
        let mut found = Vec::new();
        for (message, noise) in messages.iter().zip(&garbage) {
            let mut out = [0; MAX_FRAME];
            let len = encoder.encode(message, &mut out).unwrap();
            decoder.feed(noise, |received| panic!("{received:?} out of noise"));
            decoder.feed(&[0], |received| panic!("{received:?} out of noise"));
            decoder.feed(&out[..len], |received| found.push(received.message));
        }
        prop_assert_eq!(found, messages);
        prop_assert_eq!(decoder.stats().lost, 0);
    }
}

#[test]
fn causes_are_counted_apart() {
    let mut encoder = Encoder::new();
    let mut frame = [0; MAX_FRAME];
    let len = encoder.encode(&hello(), &mut frame).unwrap();
    let mut decoder = Decoder::<FromBoard, MIN_MAX_FRAME>::new();
    let none = |_| panic!("nothing may arrive");
    decoder.feed(&[7; 500], none);
    decoder.feed(&[0], none);
    assert_eq!(decoder.stats().overlong, 1);
    decoder.feed(&frame[len / 2..len], none);
    decoder.feed(&[3, 1, 1, 0], none);
    assert_eq!(decoder.stats().broken + decoder.stats().crc, 1);
    assert_eq!(decoder.stats().short, 1);
    // A message of the other direction is whole, but not ours: Hello{} has no body there.
    let len = encoder.encode(&ToBoard::Hello, &mut frame).unwrap();
    decoder.feed(&frame[..len], none);
    assert_eq!(decoder.stats().unknown, 1);
    // After all that a good frame arrives.
    let len = encoder.encode(&FromBoard::Accepted { run: 5, received: 0, gap: false }, &mut frame).unwrap();
    let mut found = 0;
    decoder.feed(&frame[..len], |_| found += 1);
    assert_eq!(found, 1);
    // And a missing one is noticed.
    encoder.encode(&FromBoard::Accepted { run: 6, received: 0, gap: false }, &mut frame).unwrap();
    let len = encoder.encode(&FromBoard::Accepted { run: 7, received: 0, gap: false }, &mut frame).unwrap();
    decoder.feed(&frame[..len], |_| found += 1);
    assert_eq!((found, decoder.stats().lost), (2, 1));
}

#[test]
fn the_longest_frames_fit() {
    let mut encoder = Encoder::new();
    let prompt = ToBoard::Prompt {
        run: u32::MAX,
        offset: u32::MAX,
        tokens: List::from_slice(&[u32::MAX; 128]).unwrap(),
    };
    assert!(encoder.encode(&prompt, &mut [0; MAX_FRAME]).unwrap() < MAX_FRAME);
    let len = encoder.encode(&hello(), &mut [0; MAX_FRAME]).unwrap();
    assert!(len <= MIN_MAX_FRAME, "{len} bytes");
    // Every shorter buffer is refused and costs neither a panic nor a number.
    for short in 0..len {
        let refused = catch_unwind(|| Encoder::new().encode(&hello(), &mut vec![0; short]));
        assert!(refused.unwrap().is_err());
    }
}
