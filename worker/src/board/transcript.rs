//! What passes on a board's line in one attempt, for people to read. Its size has a limit: the beginning and
//! the end are kept.

use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use edgeprof_link::{FromBoard, ToBoard};
use tokio::time::Instant;

/// Bytes kept from the beginning.
const HEAD: usize = 16 << 10;

/// Bytes kept of what came last.
const TAIL: usize = 48 << 10;

/// Bytes of a line at most.
const LINE: usize = 400;

/// The transcript of the attempt in work. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    begun: Option<Instant>,
    head: String,
    tail: VecDeque<String>,
    tail_bytes: usize,
    dropped: u64,
    /// Pieces of an image pass: only what goes wrong is told.
    loading: bool,
}

impl Transcript {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets all, and counts time from now.
    pub fn begin(&self) {
        *self.kept() = Kept { begun: Some(Instant::now()), ..Kept::default() };
    }

    /// Whether the pieces of an image pass on the line.
    pub fn loading(&self, loading: bool) {
        self.kept().loading = loading;
    }

    /// A message to the board.
    pub fn to_board(&self, message: &ToBoard) {
        let mut kept = self.kept();
        match message {
            ToBoard::Chunk { .. } if kept.loading => {}
            ToBoard::Chunk { offset, data } => {
                kept.line(&format!("→ Chunk {{ offset: {offset}, {} bytes }}", data.len()));
            }
            ToBoard::Prompt { run, offset, tokens } => kept.line(&format!(
                "→ Prompt {{ run: {run}, offset: {offset}, {} tokens from {:?} }}",
                tokens.len(),
                tokens.first()
            )),
            other => kept.line(&format!("→ {other:?}")),
        }
    }

    /// A message from the board.
    pub fn from_board(&self, message: &FromBoard) {
        let mut kept = self.kept();
        match message {
            FromBoard::Loading { .. } if kept.loading => {}
            other => kept.line(&format!("← {other:?}")),
        }
    }

    /// Bytes from the board that are no message.
    pub fn garbage(&self, bytes: &[u8]) {
        let text = bytes.escape_ascii().to_string();
        self.kept().line(&format!("← {} bytes that are no message: {text}", bytes.len()));
    }

    /// Something else that belongs to the story.
    pub fn note(&self, what: &str) {
        self.kept().line(&format!("· {what}"));
    }

    /// The text so far.
    pub fn text(&self) -> String {
        let kept = self.kept();
        let mut text = kept.head.clone();
        if kept.dropped > 0 {
            let _ = writeln!(text, "… {} lines left out …", kept.dropped);
        }
        kept.tail.iter().for_each(|line| text.push_str(line));
        text
    }
}

impl Kept {
    fn line(&mut self, what: &str) {
        let Some(begun) = self.begun else { return };
        let mut line = format!("+{:.6} {what}", begun.elapsed().as_secs_f64());
        if line.len() > LINE {
            let cut = (0..=LINE).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            line.truncate(cut);
            line.push('…');
        }
        line.push('\n');
        if self.tail.is_empty() && self.head.len() + line.len() <= HEAD {
            return self.head.push_str(&line);
        }
        self.tail_bytes += line.len();
        self.tail.push_back(line);
        while self.tail_bytes > TAIL {
            let Some(oldest) = self.tail.pop_front() else { return };
            self.tail_bytes -= oldest.len();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn beginning_and_end_are_kept_and_the_middle_is_counted() {
        let transcript = Transcript::default();
        transcript.note("before the attempt");
        transcript.begin();
        for nonce in 0..100_000 {
            transcript.to_board(&ToBoard::Ping { nonce });
        }
        let text = transcript.text();
        assert!(text.len() < HEAD + TAIL + 100, "{}", text.len());
        assert!(text.starts_with("+0.000000 → Ping { nonce: 0 }\n"), "{}", &text[..100]);
        assert!(text.ends_with("+0.000000 → Ping { nonce: 99999 }\n"));
        let out = text.lines().find(|line| line.starts_with('…')).unwrap();
        let out: usize = out.split(' ').nth(1).unwrap().parse().unwrap();
        assert_eq!(out + text.lines().count() - 1, 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn noise_is_shown_and_harmless() {
        let transcript = Transcript::default();
        transcript.begin();
        transcript.garbage(b"boot \x1b[31m\xe9\0");
        transcript.garbage(&[0xff; 2_000]);
        let text = transcript.text();
        assert!(text.contains("boot \\x1b[31m\\xe9\\x00"), "{text}");
        assert!(text.lines().all(|line| line.len() < LINE + 10));
        transcript.begin();
        assert_eq!(transcript.text(), "");
    }
}
