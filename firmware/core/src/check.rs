//! A check of the counter itself: intervals whose instructions are known.
//!
//! Sent as records of a run that carries their length: `run` is the number of instructions beyond an empty
//! interval. After each `Go`, so that the host decides when.

use edgeprof_link::{FromBoard, Record, ToBoard, Work};

use crate::board::{Counter, Line};
use crate::port::Port;

/// Lengths of the long intervals, in turns of the loop.
const TURNS: [u32; 6] = [1_000, 1_000_000, 5_300_000, 12_000_000, 100_000_000, 1_500_000_000];

/// Runs the check for ever. `sled(n)` executes n instructions, n up to 63, beyond those of `sled(0)`;
/// `turns(n)` n times `per_turn` instructions beyond those of `turns(0)`.
pub fn run<L: Line, C: Counter, const N: usize>(
    line: L,
    mut counter: C,
    sled: impl Fn(u32),
    turns: impl Fn(u32),
    per_turn: u32,
) -> ! {
    let mut port = Port::<L, N>::new(line);
    loop {
        match port.receive() {
            ToBoard::Ping { nonce } => port.send(&FromBoard::Pong { nonce, session: 0 }),
            ToBoard::Go { .. } => {
                for n in 0..64 {
                    let ticks = timed(&mut counter, &sled, n);
                    port.send(&record(n, Work::Load, ticks));
                }
                for n in TURNS {
                    let empty = timed(&mut counter, &turns, 0);
                    let ticks = timed(&mut counter, &turns, n);
                    let work = Work::Prefill { tokens: per_turn };
                    port.send(&record(0, work, empty));
                    port.send(&record(n, work, ticks));
                }
                port.send(&FromBoard::Accepted { run: 0, received: 0, gap: false });
            }
            _ => {}
        }
    }
}

fn record(run: u32, work: Work, ticks: u64) -> FromBoard {
    FromBoard::Record { run, number: 0, what: Record::Interval { work, ticks } }
}

/// One place for all, so that what surrounds the work is the same.
#[inline(never)]
fn timed<C: Counter>(counter: &mut C, work: &impl Fn(u32), n: u32) -> u64 {
    counter.start();
    work(n);
    counter.stop()
}
