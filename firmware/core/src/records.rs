//! What a run tells, kept until the host has heard it.

use edgeprof_link::{FromBoard, MAX_UNHEARD, Record};

use crate::board::Line;
use crate::port::Port;

/// The records of one run that the host may not have. Outlives the run: its end may have been lost.
#[derive(Debug)]
pub(crate) struct Records {
    run: u32,
    /// Number of the first that the host has not acknowledged.
    first: u32,
    /// Number of the next to come; at most [`MAX_UNHEARD`] above `first`.
    next: u32,
    /// Number n at n modulo the length.
    kept: [Option<Record>; MAX_UNHEARD],
}

impl Records {
    pub(crate) const fn new() -> Self {
        Self { run: 0, first: 0, next: 0, kept: [None; MAX_UNHEARD] }
    }

    /// Forgets all, for another run.
    pub(crate) fn restart(&mut self, run: u32) {
        (self.run, self.first, self.next) = (run, 0, 0);
        self.kept.fill(None);
    }

    /// The run that they are of.
    pub(crate) const fn run(&self) -> u32 {
        self.run
    }

    /// Whether the next two would not find room: then the run waits until the host has heard.
    pub(crate) const fn nearly_full(&self) -> bool {
        self.next - self.first + 2 > MAX_UNHEARD as u32
    }

    /// Sends a record and keeps it. The oldest goes if the host has heard too little.
    ///
    /// Not inlined: a message is as large as the largest, and would lie on the stack of the whole run.
    #[inline(never)]
    pub(crate) fn tell<L: Line, const N: usize>(&mut self, port: &mut Port<L, N>, what: Record) {
        if self.next - self.first >= MAX_UNHEARD as u32 {
            self.first += 1;
        }
        let number = self.next;
        if let Some(place) = self.kept.get_mut(number as usize % MAX_UNHEARD) {
            *place = Some(what);
        }
        self.next += 1;
        port.send(&FromBoard::Record { run: self.run, number, what });
    }

    /// The host has all below `next`, and wants the others `again` or not.
    pub(crate) fn heard<L: Line, const N: usize>(&mut self, port: &mut Port<L, N>, next: u32, again: bool) {
        if next > self.next {
            // Of another life of this run's number.
            return;
        }
        self.first = self.first.max(next);
        if !again {
            return;
        }
        for number in self.first..self.next {
            if let Some(what) = self.kept.get(number as usize % MAX_UNHEARD).copied().flatten() {
                port.send(&FromBoard::Record { run: self.run, number, what });
            }
        }
    }
}
