//! Conversations with a board in memory. Time is paused: a deadline of minutes passes at once.

use std::time::Duration;

use edgeprof_boards::{Kind, catalogue};
use edgeprof_common::ErrorClass;
use edgeprof_link::{FailCode, Stop};
use edgeprof_proto::v1;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    conversation::Conversation,
    error::BoardError,
    fake::{self, Fault},
    load::load,
    run::{Ended, Patience, Repetition, repetition},
    transcript::Transcript,
};
use crate::spec::{Spec, tests::good};

const BOOT: Duration = Duration::from_secs(30);

fn kind() -> &'static Kind {
    catalogue().get("riscv32").unwrap()
}

fn spec(change: impl FnOnce(&mut v1::AttemptSpec)) -> Spec {
    let mut spec = good();
    change(&mut spec);
    Spec::check(&spec, kind()).unwrap()
}

async fn opened(fault: Fault) -> Result<Conversation, BoardError> {
    let mut board = Conversation::new(fake::board(kind(), fault), Transcript::default());
    board.open("riscv32", BOOT).await?;
    Ok(board)
}

async fn run_once(board: &mut Conversation, spec: &Spec) -> Result<Ended, BoardError> {
    let patience = Patience::of(Duration::from_secs(60), Duration::from_secs(10), 1_000, spec.uncounted);
    repetition(board, spec, patience, &CancellationToken::new(), |_| ()).await
}

async fn failure(fault: Fault) -> BoardError {
    let mut board = opened(fault).await.unwrap();
    run_once(&mut board, &spec(|_| ())).await.unwrap_err()
}

fn code(error: &BoardError) -> (ErrorClass, String) {
    let error = error.task_error();
    (error.class, error.code)
}

#[tokio::test(start_paused = true)]
async fn a_run_gives_every_figure() {
    let mut board = opened(Fault::None).await.unwrap();
    for _ in 0..2 {
        let ended = run_once(&mut board, &spec(|_| ())).await.unwrap();
        let expected = Repetition {
            load: 100,
            prefill: vec![(1, 200), (1, 200)],
            decode: vec![300; 3],
            tokens: vec![1, 2, 3, 4],
            logits_hash: 0x1234,
            arena_used: 10,
            kv_bytes: 5,
            stack_high_water: 1,
        };
        assert_eq!(ended, Ended::Whole(expected, Stop::Length));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_line_loses_is_told_again() {
    let mut clean = opened(Fault::None).await.unwrap();
    let long = spec(|s| (s.tokens, s.ctx) = (vec![7; 500], 510));
    let whole = run_once(&mut clean, &long).await.unwrap();
    for fault in [
        Fault::DamagesToken(2),
        Fault::DamagesLoad,
        Fault::SomeNoise,
        Fault::Loses(1),
        Fault::Loses(10),
        Fault::Loses(40),
    ] {
        let mut board = opened(fault).await.unwrap();
        for _ in 0..2 {
            assert_eq!(run_once(&mut board, &long).await.unwrap(), whole, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_image_gets_there_whatever_is_lost_on_the_way() {
    let image: Vec<u8> = (0..100_001_u32).map(|n| (n * 7) as u8).collect();
    for fault in [Fault::None, Fault::Loses(1), Fault::Loses(10), Fault::Loses(25)] {
        let mut board = opened(fault).await.unwrap();
        let mut last = 0;
        let loaded = load(&mut board, &image, BOOT, |there| last = there).await.unwrap();
        assert_eq!((loaded.had, last), (0, 100_001), "{fault:?}");
        assert!(loaded.sent >= 100_001);
        // It is there: nothing is sent again.
        let loaded = load(&mut board, &image, BOOT, |_| ()).await.unwrap();
        assert_eq!((loaded.had, loaded.sent), (100_001, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_is_cut_into_frames_that_the_board_takes() {
    let mut board = opened(Fault::None).await.unwrap();
    let spec = spec(|s| (s.tokens, s.ctx) = (vec![u32::MAX / 2; 1_000], 1_010));
    let ended = run_once(&mut board, &spec).await.unwrap();
    assert!(matches!(ended, Ended::Whole(figures, _) if figures.prefill.len() == 999));
}

#[tokio::test(start_paused = true)]
async fn an_opening_survives_noise_and_answers_to_older_pings() {
    let mut board = opened(Fault::NoisyOpening).await.unwrap();
    assert!(board.stats().dropped() > 0);
    run_once(&mut board, &spec(|_| ())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deaf_board_is_given_up_in_time() {
    let begun = Instant::now();
    let error = opened(Fault::Deaf).await.unwrap_err();
    assert_eq!(code(&error), (ErrorClass::Infrastructure, "board_hung".into()));
    assert!((BOOT..BOOT * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn firmware_of_another_version_is_named_with_both_versions() {
    let error = opened(Fault::OldImageFormat).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("firmware 0.0.9 has image format 2") && text.contains("needs 1"), "{text}");
    assert_eq!(code(&error).1, "firmware_mismatch");
    let error = opened(Fault::OldLink).await.unwrap_err();
    assert!(error.to_string().contains("link protocol"), "{error}");
    let mut board = Conversation::new(fake::board(kind(), Fault::None), Transcript::default());
    let error = board.open("mps2-an386", BOOT).await.unwrap_err().to_string();
    assert!(error.contains("riscv32") && error.contains("mps2-an386"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_typed_and_blamed() {
    use ErrorClass::{Infrastructure, Model, Request};
    let arena = FailCode::ArenaTooSmall { need: 9, have: 8 };
    for (fault, class, word) in [
        (Fault::Noise, Infrastructure, "line_garbled"),
        (Fault::DiesAt(1), Infrastructure, "line_lost"),
        (Fault::HangsAt(1), Infrastructure, "board_hung"),
        (Fault::PanicsAt(3), Infrastructure, "board_panic"),
        (Fault::Endless, Infrastructure, "board_protocol"),
        (Fault::Fails(FailCode::BadImage), Model, "image_refused"),
        (Fault::Fails(FailCode::NonFinite), Model, "non_finite"),
        (Fault::Fails(arena), Model, "arena_too_small"),
        (Fault::Fails(FailCode::PromptTooLong { max: 3 }), Request, "prompt_too_long"),
    ] {
        let error = failure(fault).await;
        assert_eq!(code(&error), (class, word.to_owned()), "{fault:?}: {error}");
        assert_eq!(error.board_is_well(), matches!(fault, Fault::Fails(_)), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_brings_its_message() {
    let text = failure(Fault::PanicsAt(0)).await.to_string();
    assert!(text.contains("index out of bounds"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_judged_by_the_size_of_the_model() {
    let small = Patience::of(Duration::from_secs(60), Duration::from_secs(10), 300_000, 0);
    let large = Patience::of(Duration::from_secs(60), Duration::from_secs(10), 100_000_000, 9);
    assert_eq!(small.first, small.frame);
    assert!(small.frame < Duration::from_secs(63) && large.frame > Duration::from_secs(300));
    assert!(large.first > large.frame * 5);
}

#[tokio::test(start_paused = true)]
async fn a_board_that_does_not_answer_a_cancel_is_given_up() {
    let mut board = opened(Fault::HangsAt(1)).await.unwrap();
    let patience = Patience::of(Duration::from_secs(60), Duration::from_secs(10), 1_000, 0);
    let cancel = CancellationToken::new();
    let (spec, begun) = (spec(|_| ()), Instant::now());
    let mut tokens = 0;
    let ended = repetition(&mut board, &spec, patience, &cancel, |n| {
        tokens += n;
        if tokens == 3 {
            cancel.cancel();
        }
    })
    .await;
    assert_eq!(ended.unwrap(), Ended::CancelledUnanswered);
    assert!(begun.elapsed() < Duration::from_secs(15));
}
