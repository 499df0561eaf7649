//! How many connections there may be: in all, from one address, and of those that have not said anything yet.
//!
//! Pure but for its lock. Who connects costs memory before it has shown who it is; these bounds are what a
//! stranger can take. Who has said nothing yet is displaced by who comes after it, and first where most are of one
//! address: so that many addresses that say nothing keep out nobody who does.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{Connections, Refusal};

/// Of the places for those that have said nothing yet, one address takes at most this part.
const SHARE: usize = 4;

/// Lets connections in.
#[derive(Clone, Debug)]
pub struct Gate {
    bounds: Bounds,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    open: usize,
    open_per_address: usize,
    greeting: usize,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    greeting: usize,
    by: HashMap<IpAddr, Source>,
    next: u64,
}

/// What one address has.
#[derive(Debug, Default)]
struct Source {
    open: usize,
    /// Those that have said nothing yet, the oldest first.
    greeting: BTreeMap<u64, Greeting>,
}

/// One that has said nothing yet, or was refused and has not left.
#[derive(Debug, Default)]
struct Greeting {
    displaced: CancellationToken,
    /// It was refused, and is counted as that already.
    refused: bool,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    source: IpAddr,
    number: u64,
    /// Fires when the place is somebody else's.
    pub(super) displaced: CancellationToken,
}

impl Gate {
    /// With these bounds.
    pub fn new(bounds: &Connections) -> Self {
        let bounds =
            Bounds { open: bounds.max, open_per_address: bounds.per_address, greeting: bounds.greeting };
        Self { bounds, state: Arc::default() }
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.state().open
    }

    /// A place for one from this address, and whether another one had to go for it that counts as displaced.
    pub(super) fn admit(&self, from: IpAddr) -> Result<(Ticket, bool), Refusal> {
        let (source, bounds) = (source(from), self.bounds);
        let mut state = self.state();
        let of = state.by.get(&source);
        let (open, greeting) = of.map_or((0, 0), |of| (of.open, of.greeting.len()));
        if open >= bounds.open_per_address {
            return Err(Refusal::AddressFull);
        }
        if state.open >= bounds.open {
            return Err(Refusal::Full);
        }
        let most = |state: &State| {
            let most = state.by.iter().max_by_key(|(_, of)| of.greeting.len());
            most.map(|(address, _)| *address)
        };
        let gives_way = if greeting >= (bounds.greeting / SHARE).max(1) {
            Some(source)
        } else if state.greeting >= bounds.greeting {
            most(&state)
        } else {
            None
        };
        let counts = gives_way.is_some_and(|address| state.displace(address));
        let (number, waits) = (state.next, Greeting::default());
        let displaced = waits.displaced.clone();
        (state.next, state.open, state.greeting) = (number + 1, state.open + 1, state.greeting + 1);
        let of = state.by.entry(source).or_default();
        of.open += 1;
        of.greeting.insert(number, waits);
        Ok((Ticket { gate: self.clone(), source, number, displaced }, counts))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The oldest of this address that has said nothing goes, and whether that counts: it does unless it was refused.
    fn displace(&mut self, address: IpAddr) -> bool {
        let Some((_, oldest)) = self.by.get_mut(&address).and_then(|of| of.greeting.pop_first()) else {
            return false;
        };
        self.greeting = self.greeting.saturating_sub(1);
        oldest.displaced.cancel();
        !oldest.refused
    }
}

impl Ticket {
    /// It has said what it wants, and keeps its place, unless that is somebody else's already.
    pub(super) fn greeted(&mut self) -> bool {
        let mut state = self.gate.state();
        let of = state.by.get_mut(&self.source);
        let keeps = of.is_some_and(|of| of.greeting.remove(&self.number).is_some());
        if keeps {
            state.greeting = state.greeting.saturating_sub(1);
        }
        keeps
    }

    /// It is refused, and others may have its place though it has not left. Whether that counts: whoever was displaced
    /// or refused is counted already.
    pub(super) fn refuse(&self) -> bool {
        let mut state = self.gate.state();
        let waits = state.by.get_mut(&self.source).and_then(|of| of.greeting.get_mut(&self.number));
        waits.is_some_and(|waits| !std::mem::replace(&mut waits.refused, true))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.greeted();
        let mut state = self.gate.state();
        state.open = state.open.saturating_sub(1);
        if let Some(of) = state.by.get_mut(&self.source) {
            of.open = of.open.saturating_sub(1);
            if of.open == 0 {
                state.by.remove(&self.source);
            }
        }
    }
}

/// Whom an address stands for: of IPv6 one host has a whole /64.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(max: usize, per_address: usize, greeting: usize) -> Gate {
        Gate::new(&Connections { max, per_address, greeting, ..Connections::default() })
    }

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn enter(gate: &Gate, from: IpAddr) -> Result<Ticket, Refusal> {
        gate.admit(from).map(|(mut ticket, _)| {
            assert!(ticket.greeted());
            ticket
        })
    }

    fn mute(gate: &Gate, from: IpAddr) -> Ticket {
        gate.admit(from).unwrap().0
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let gate = gate(100, 10, 40);
        let held: Vec<_> = (0..10).map(|_| enter(&gate, ip(1)).unwrap()).collect();
        assert_eq!(enter(&gate, ip(1)).unwrap_err(), Refusal::AddressFull);
        assert_eq!(gate.open(), 10);
        enter(&gate, ip(2)).unwrap();
        drop(held);
        enter(&gate, ip(1)).unwrap();
        assert_eq!(gate.open(), 0);
        assert!(gate.state().by.is_empty(), "nothing is remembered of who has left");
    }

    #[test]
    fn whoever_says_nothing_gives_way_and_first_where_most_are_of_one_address() {
        let gate = gate(100, 50, 8);
        let many = [mute(&gate, ip(1)), mute(&gate, ip(1))];
        // Two of eight are the share of one address: its own oldest goes.
        let (third, displaced) = gate.admit(ip(1)).unwrap();
        assert!(displaced && many[0].displaced.is_cancelled() && !many[1].displaced.is_cancelled());
        let one = mute(&gate, ip(2));
        let others: Vec<_> = (3..8).map(|n| mute(&gate, ip(n))).collect();
        let (newcomer, displaced) = gate.admit(ip(9)).unwrap();
        assert!(displaced && many[1].displaced.is_cancelled());
        let quiet = [&third, &one, &newcomer].into_iter().chain(&others);
        assert!(quiet.into_iter().all(|ticket| !ticket.displaced.is_cancelled()));
        assert_eq!(gate.state().greeting, 8);
        drop((many, third, one, others, newcomer));
        assert_eq!((gate.open(), gate.state().greeting), (0, 0));
    }

    #[test]
    fn whoever_is_refused_or_displaced_counts_once() {
        let gate = gate(100, 50, 4);
        let refused = mute(&gate, ip(1));
        assert!(refused.refuse() && !refused.refuse());
        let (mut displaced, counts) = gate.admit(ip(1)).unwrap();
        assert!(refused.displaced.is_cancelled() && !counts, "it gives way, and is counted");
        let (_mute, counts) = gate.admit(ip(1)).unwrap();
        assert!(displaced.displaced.is_cancelled() && counts);
        assert!(!displaced.refuse() && !displaced.greeted(), "what it says comes too late");
    }

    #[test]
    fn whoever_has_spoken_is_displaced_by_nobody() {
        let gate = gate(100, 50, 4);
        let spoken: Vec<_> = (0..3).map(|_| enter(&gate, ip(1)).unwrap()).collect();
        let _mute: Vec<_> = (0..30).map(|n| mute(&gate, ip(n))).collect();
        assert!(spoken.iter().all(|ticket| !ticket.displaced.is_cancelled()));
        assert_eq!(gate.state().greeting, 4);
    }

    #[test]
    fn all_addresses_together_are_bounded() {
        let gate = gate(4, 2, 100);
        let held: Vec<_> = (0..4).map(|n| enter(&gate, ip(n)).unwrap()).collect();
        assert_eq!(enter(&gate, ip(9)).unwrap_err(), Refusal::Full);
        drop(held);
        enter(&gate, ip(9)).unwrap();
    }

    #[test]
    fn a_host_is_not_many_for_having_many_addresses() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
