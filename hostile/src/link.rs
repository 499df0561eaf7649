//! What comes over the line to a board, from either end.

use std::fmt::Debug;

use edgeprof_link::{Decoder, Encoder, FromBoard, MAX_FRAME, MIN_MAX_FRAME, PROTOCOL, ToBoard};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) fn from_board(bytes: &[u8]) {
    stream::<FromBoard>(bytes);
}

pub(crate) fn to_board(bytes: &[u8]) {
    stream::<ToBoard>(bytes);
}

/// Bodies of frames, which a checksum keeps random bytes from reaching.
pub(crate) fn messages(bytes: &[u8]) {
    body::<FromBoard>(bytes);
    body::<ToBoard>(bytes);
}

fn stream<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let mut large = Decoder::<M, MAX_FRAME>::new();
    let mut small = Decoder::<M, MIN_MAX_FRAME>::new();
    let (mut by_large, mut by_small) = (0, 0);
    large.feed(bytes, |received| {
        by_large += 1;
        again(&received.message);
    });
    small.feed(bytes, |_| by_small += 1);
    assert!(by_small <= by_large, "the shorter buffer found more");
    let ends = bytes.iter().filter(|byte| **byte == 0).count();
    let stats = large.stats();
    assert_eq!(stats.messages, by_large);
    assert!(u64::from(stats.messages) <= ends as u64, "more messages than frames");
}

fn body<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok((message, _)) = postcard::take_from_bytes::<M>(bytes) {
        again(&message);
    }
}

/// Whatever was understood can be said, and is understood as the same.
fn again<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M) {
    let mut frame = [0; MAX_FRAME];
    let len = Encoder::new().encode(message, &mut frame).expect("a message fits a frame");
    let mut found = 0;
    Decoder::<M>::new().feed(&frame[..len], |received| {
        // Compared as bytes: a NaN is not equal to itself.
        let both = [&received.message, message].map(|m| postcard::to_stdvec(m).expect("it was encoded"));
        assert_eq!(both[0], both[1]);
        found += 1;
    });
    assert_eq!(found, 1, "protocol {PROTOCOL}: {message:?}");
}
