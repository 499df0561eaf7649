//! Sends what is longer than a frame: an image into the board's model region, a prompt.

use std::{ops::Range, time::Duration};

use edgeprof_engine::image::crc32;
use edgeprof_link::{
    FromBoard, List, LoadFailure, MAX_CHUNK, MAX_PROMPT_TOKENS_PER_FRAME, RunRequest, ToBoard,
};
use tokio::time::Instant;

use super::{
    conversation::Conversation,
    error::BoardError,
    window::{Have, Window},
};

/// Without an answer for this long, all that is under way counts as lost; at first, and at least.
const SHORTEST_WAIT: Duration = Duration::from_millis(300);

/// Longest such time.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Transfers that arrive whole and damaged, one after the other.
const TRIES: u32 = 2;

/// What a load took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Bytes that were there already.
    pub had: u32,
    /// Bytes sent, those sent again included.
    pub sent: u64,
}

/// Puts `image` into the board's model region, or sees that it is there. `progress` hears how many bytes
/// are there.
///
/// # Errors
/// When the board cannot take it, falls silent for `within`, or the line garbles all of it.
pub async fn load(
    board: &mut Conversation,
    image: &[u8],
    within: Duration,
    mut progress: impl FnMut(u32),
) -> Result<Loaded, BoardError> {
    let total = u32::try_from(image.len()).unwrap_or(u32::MAX);
    let crc = crc32(image);
    let begin = ToBoard::Load { total_len: total, crc32: crc };
    let mut tries = 0;
    loop {
        // Of a transfer that was cut off, half a frame may be left.
        board.resync().await?;
        let had = board.ask(&begin, within, "take an image", |answer| loading(answer, crc)).await?.units;
        // Small boards take whole words, and have small frames: 25 bytes are not the chunk's.
        let piece = (board.max_frame().saturating_sub(25) & !15).clamp(16, MAX_CHUNK);
        let mut window = Window::new(total, u32::try_from(piece).unwrap_or(16), had);
        let chunk = |piece: Range<u32>| {
            let bytes = image.get(piece.start as usize..piece.end as usize).unwrap_or_default();
            let data = List::from_slice(bytes).map_err(|e| BoardError::Protocol(e.to_string()))?;
            Ok(ToBoard::Chunk { offset: piece.start, data })
        };
        let answer = |answer| loading(answer, crc);
        board.transcript().loading(true);
        let sent = transfer(board, &mut window, within, "take a piece of its image", chunk, answer, |n| {
            progress(n);
        })
        .await;
        board.transcript().loading(false);
        let sent = sent.map(|()| window.units_sent());
        board.transcript().note(&format!(
            "image of {total} bytes: {had} there, {} sent, {} there now",
            window.units_sent(),
            window.acknowledged()
        ));
        tries += 1;
        match sent {
            Ok(sent) => return Ok(Loaded { had, sent }),
            // It was restarted in between, or damage went undetected on the way.
            Err(BoardError::NotLoaded { code: LoadFailure::NotBegun | LoadFailure::Damaged })
                if tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn loading(answer: FromBoard, crc: u32) -> Option<Result<Have, BoardError>> {
    match answer {
        FromBoard::Loading { crc32, next, gap } if crc32 == crc => Some(Ok(Have { units: next, gap })),
        FromBoard::LoadFailed { code } => Some(Err(BoardError::NotLoaded { code })),
        _ => None,
    }
}

/// Announces a run and hands its prompt over.
///
/// # Errors
/// When the board refuses, or falls silent for `within`.
pub async fn announce(
    board: &mut Conversation,
    request: RunRequest,
    tokens: &[u32],
    within: Duration,
) -> Result<(), BoardError> {
    let run = request.run;
    let accepted = |answer| match answer {
        FromBoard::Accepted { run: of, received, gap } if of == run => {
            Some(Ok(Have { units: received, gap }))
        }
        FromBoard::Failed { run: of, code } if of == run => Some(Err(BoardError::Refused { code })),
        _ => None,
    };
    let had = board.ask(&ToBoard::Run(request), within, "accept a run", accepted).await?.units;
    // A token takes 5 bytes at most; the rest of a frame takes less than 40.
    let room = (board.max_frame().saturating_sub(40) / 5).clamp(1, MAX_PROMPT_TOKENS_PER_FRAME);
    let mut window = Window::new(request.prompt_len, u32::try_from(room).unwrap_or(1), had);
    let prompt = |piece: Range<u32>| {
        let tokens = tokens.get(piece.start as usize..piece.end as usize).unwrap_or_default();
        let tokens = List::from_slice(tokens).map_err(|e| BoardError::Protocol(e.to_string()))?;
        Ok(ToBoard::Prompt { run, offset: piece.start, tokens })
    };
    transfer(board, &mut window, within, "take its prompt", prompt, accepted, |_| ()).await
}

/// Sends piece by piece until the board has all.
async fn transfer(
    board: &mut Conversation,
    window: &mut Window,
    within: Duration,
    doing: &'static str,
    piece: impl Fn(Range<u32>) -> Result<ToBoard, BoardError>,
    answer: impl Fn(FromBoard) -> Option<Result<Have, BoardError>>,
    mut progress: impl FnMut(u32),
) -> Result<(), BoardError> {
    let mut deadline = Instant::now() + within;
    let mut wait = Wait::new();
    while !window.complete() {
        while let Some(due) = window.due() {
            board.tell(&piece(due)?).await?;
            window.sent();
        }
        wait.begin();
        match board.next(deadline.min(Instant::now() + wait.now), within, doing).await {
            Ok(message) => {
                let Some(have) = answer(message) else { continue };
                if window.heard(have?) {
                    wait.heard();
                    deadline = Instant::now() + within;
                    progress(window.acknowledged());
                }
            }
            Err(BoardError::Hung { .. }) if Instant::now() < deadline => {
                window.silent();
                wait.silent();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How long to wait for an answer: some times as long as answers took.
#[derive(Debug)]
struct Wait {
    now: Duration,
    since: Option<Instant>,
    smoothed: Option<Duration>,
}

impl Wait {
    fn new() -> Self {
        Self { now: SHORTEST_WAIT, since: None, smoothed: None }
    }

    fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn heard(&mut self) {
        let Some(took) = self.since.take().map(|since| since.elapsed()) else { return };
        let smoothed = self.smoothed.map_or(took, |before| (before * 7 + took) / 8);
        self.smoothed = Some(smoothed);
        self.now = (smoothed * 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    }

    fn silent(&mut self) {
        self.since = None;
        self.now = (self.now * 2).min(LONGEST_WAIT);
    }
}
