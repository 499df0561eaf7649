//! How many connections there may be: in all, from one address, and of those that have not said anything yet.
//!
//! Pure but for its lock. Who connects costs memory before it has shown who it is; these bounds are what a
//! stranger can take, and one address cannot take all of it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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
    all: Count,
    by: HashMap<IpAddr, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    greeting: usize,
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    source: IpAddr,
    greeting: bool,
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
        self.state().all.open
    }

    /// A place for one from this address.
    pub(super) fn admit(&self, from: IpAddr) -> Result<Ticket, Refusal> {
        let (source, bounds) = (source(from), self.bounds);
        let mut state = self.state();
        let of = state.by.get(&source).copied().unwrap_or_default();
        if of.open >= bounds.open_per_address || of.greeting >= (bounds.greeting / SHARE).max(1) {
            return Err(Refusal::AddressFull);
        }
        if state.all.open >= bounds.open || state.all.greeting >= bounds.greeting {
            return Err(Refusal::Full);
        }
        let of = state.by.entry(source).or_default();
        (of.open, of.greeting) = (of.open + 1, of.greeting + 1);
        let all = &mut state.all;
        (all.open, all.greeting) = (all.open + 1, all.greeting + 1);
        Ok(Ticket { gate: self.clone(), source, greeting: true })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// It has said what it wants.
    pub(super) fn greeted(&mut self) {
        if std::mem::take(&mut self.greeting) {
            let mut state = self.gate.state();
            state.all.greeting = state.all.greeting.saturating_sub(1);
            if let Some(of) = state.by.get_mut(&self.source) {
                of.greeting = of.greeting.saturating_sub(1);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.greeted();
        let mut state = self.gate.state();
        state.all.open = state.all.open.saturating_sub(1);
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
        gate.admit(from).map(|mut ticket| {
            ticket.greeted();
            ticket
        })
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
    fn those_that_say_nothing_have_few_places_and_one_address_a_part_of_them() {
        let gate = gate(100, 50, 8);
        let mute: Vec<_> = (0..2).map(|_| gate.admit(ip(1)).unwrap()).collect();
        assert_eq!(gate.admit(ip(1)).unwrap_err(), Refusal::AddressFull);
        let mut others: Vec<_> =
            (2..5).flat_map(|n| [gate.admit(ip(n)).unwrap(), gate.admit(ip(n)).unwrap()]).collect();
        assert_eq!(gate.admit(ip(9)).unwrap_err(), Refusal::Full);
        others[0].greeted();
        gate.admit(ip(9)).unwrap();
        drop(mute);
        gate.admit(ip(1)).unwrap();
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
