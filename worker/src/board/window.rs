//! Which pieces to send next over a line that may lose any of them: a sliding window that goes back to what
//! was not acknowledged. Pure.
//!
//! The window starts small and grows while everything arrives, so that it suits a line without a
//! receive buffer as well as one that holds back its sender.

/// Pieces under way at most: more than a line carries in the time of an answer is only more to send again.
const LARGEST: u32 = 8;

/// Pieces under way at first.
const FIRST: u32 = 4;

/// The state of one transfer. Positions count units: bytes of an image, tokens of a prompt.
#[derive(Clone, Debug)]
pub struct Window {
    total: u32,
    piece: u32,
    /// All before it is there.
    acknowledged: u32,
    /// The next to send.
    next: u32,
    /// Pieces that may be under way.
    limit: u32,
    /// It went back already for what is missing now.
    went_back: bool,
    /// Units sent, those sent again included.
    sent: u64,
}

/// What the other side says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    /// Units, from the first on without a gap.
    pub units: u32,
    /// A piece came that lies behind them.
    pub gap: bool,
}

impl Window {
    /// A transfer of `total` units in pieces of `piece`, of which the first `have` are there.
    pub fn new(total: u32, piece: u32, have: u32) -> Self {
        let have = have.min(total);
        Self {
            total,
            piece: piece.max(1),
            acknowledged: have,
            next: have,
            limit: FIRST,
            went_back: false,
            sent: 0,
        }
    }

    /// The piece to send now, as its range; `None` where answers have to come first.
    pub fn due(&self) -> Option<std::ops::Range<u32>> {
        let ahead = self.next - self.acknowledged;
        let room = ahead < self.limit.saturating_mul(self.piece) && self.next < self.total;
        room.then(|| self.next..self.next.saturating_add(self.piece).min(self.total))
    }

    /// The piece that is due was sent.
    pub fn sent(&mut self) {
        if let Some(piece) = self.due() {
            self.sent += u64::from(piece.end - piece.start);
            self.next = piece.end;
        }
    }

    /// The other side has the first `have` units, and something behind them if there is a `gap`; true if that
    /// is news.
    ///
    /// Only a gap sends back: the same answer twice may be to a piece that came twice.
    pub fn heard(&mut self, Have { units: have, gap }: Have) -> bool {
        if have > self.total {
            return false;
        }
        if have == self.acknowledged {
            // Once: the answers to what is under way follow, and tell of the same gap.
            if gap && self.next > have && !self.went_back {
                self.next = have;
                self.limit = (self.limit / 2).max(1);
                self.went_back = true;
            }
            return false;
        }
        // Less than before is another side that has started anew.
        self.next = if have < self.acknowledged { have } else { self.next.max(have) };
        self.acknowledged = have;
        self.limit = (self.limit + 1).min(LARGEST);
        self.went_back = false;
        true
    }

    /// Nothing was heard for too long: all that is under way counts as lost.
    pub fn silent(&mut self) {
        self.next = self.acknowledged;
        self.limit = (self.limit / 2).max(1);
        self.went_back = false;
    }

    /// Whether everything is there.
    pub fn complete(&self) -> bool {
        self.acknowledged == self.total
    }

    /// What is there.
    pub fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// Units sent so far, those sent again included.
    pub fn units_sent(&self) -> u64 {
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Sends over a line that loses what `lost` says, both ways; the number of rounds, or `None` if it
    /// never ends.
    fn transfer(window: &mut Window, mut lost: impl FnMut() -> bool) -> Option<u32> {
        let mut have = window.acknowledged();
        let mut answers = VecDeque::new();
        for round in 0..100_000 {
            if window.complete() {
                return Some(round);
            }
            while let Some(piece) = window.due() {
                window.sent();
                if lost() {
                    continue;
                }
                let gap = piece.start > have;
                if piece.start == have {
                    have = piece.end;
                }
                if !lost() {
                    answers.push_back(Have { units: have, gap });
                }
            }
            match answers.pop_front() {
                Some(answer) => drop(window.heard(answer)),
                None => window.silent(),
            }
        }
        None
    }

    fn all(units: u32) -> Have {
        Have { units, gap: false }
    }

    #[test]
    fn a_gap_sends_back_once_and_a_piece_that_came_twice_does_not() {
        let mut window = Window::new(1_000, 10, 0);
        while window.due().is_some() {
            window.sent();
        }
        window.heard(all(10));
        window.heard(all(10));
        assert!(window.due().unwrap().start > 10);
        window.heard(Have { units: 10, gap: true });
        assert_eq!(window.due(), Some(10..20));
        window.sent();
        window.heard(Have { units: 10, gap: true });
        assert_ne!(window.due(), Some(10..20));
    }

    #[test]
    fn a_clean_line_carries_every_piece_once() {
        let mut window = Window::new(10_001, 512, 0);
        assert!(transfer(&mut window, || false).is_some());
        assert_eq!(window.units_sent(), 10_001);
        let mut rest = Window::new(10_001, 512, 9_000);
        assert!(transfer(&mut rest, || false).is_some());
        assert_eq!(rest.units_sent(), 1_001);
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let mut window = Window::new(1_000_000, 10, 0);
        let mut most = 0;
        for _ in 0..10_000 {
            while window.due().is_some() {
                window.sent();
            }
            most = most.max(window.next - window.acknowledged);
            window.heard(all(window.acknowledged + 10));
        }
        assert_eq!(most, LARGEST * 10);
    }

    #[test]
    fn another_side_that_has_started_anew_gets_all_from_there() {
        let mut window = Window::new(100, 10, 0);
        while window.due().is_some() {
            window.sent();
        }
        assert!(window.heard(all(20)));
        assert!(window.heard(all(0)));
        assert_eq!(window.due(), Some(0..10));
        assert!(!window.heard(all(101)));
    }

    proptest! {
        #[test]
        fn every_transfer_ends_whatever_is_lost(
            total in 0_u32..5_000, piece in 1_u32..600, have in 0_u32..5_000,
            seed in 1_u64.., percent in 0_u64..50,
        ) {
            let mut random = seed;
            let mut window = Window::new(total, piece, have);
            let lost = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 100 < percent
            };
            prop_assert!(transfer(&mut window, lost).is_some());
        }

        #[test]
        fn no_answer_breaks_it(answers in prop::collection::vec((any::<u32>(), any::<bool>()), 0..200)) {
            let mut window = Window::new(1_000, 7, 3);
            for (answer, silent) in answers {
                while window.due().is_some() { window.sent(); }
                if silent { window.silent() } else { window.heard(Have { units: answer % 1_500, gap: answer > 1 << 31 }); }
                prop_assert!(window.acknowledged <= window.next && window.next <= window.total);
            }
        }
    }
}
