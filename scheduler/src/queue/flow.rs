//! Start-time fair queueing between submitters: Goyal, Vin and Cheng, SIGCOMM 1996.
//!
//! Each submitter in each class is a flow with a weight. Its next task has the start tag S = max(V, F), where F is
//! the flow's finish tag and V the start tag last served; serving it sets F = S + cost / weight. The lowest start
//! tag goes first. Costs are time on boards: what is expected at the lease, and what it was at the end.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use edgeprof_common::Priority;

use super::{places::Places, spot::Spot};

/// Virtual time in one µs of board time at weight 1, so that weights divide finely.
const SCALE: u64 = 1024;

/// Board time that a flow may have in hand because no board was able to serve it, in µs.
const CREDIT: u64 = 60_000_000;

/// One submitter in one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    pub(crate) class: Reverse<Priority>,
    pub(crate) submitter: Arc<str>,
}

/// What a flow was charged for a lease, to be made good at its end.
#[derive(Clone, Debug)]
pub(crate) struct Charged {
    flow: FlowKey,
    /// In µs of board time.
    cost: u64,
}

impl Charged {
    pub(crate) const fn flow(&self) -> &FlowKey {
        &self.flow
    }

    pub(crate) const fn cost(&self) -> u64 {
        self.cost
    }
}

/// A flow's place among those that wait: class, start tag, then who came first.
pub(crate) type FlowRank = (Reverse<Priority>, u64, u64);

#[derive(Clone, Debug)]
pub(crate) struct Flow {
    weight: u64,
    /// No start tag is below it.
    floor: u64,
    finish: u64,
    /// Place of the task with which it began to wait.
    arrived: u64,
    /// Leases whose charge is not made good yet.
    open: usize,
    /// Tasks that lost an attempt, and the others.
    pub(crate) front: Places,
    pub(crate) rest: Places,
    /// Where it has tasks at the head of a lane.
    pub(crate) present: BTreeSet<Spot>,
}

impl Flow {
    fn tag(&self) -> u64 {
        self.floor.max(self.finish)
    }

    pub(crate) const fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }
}

#[derive(Clone, Debug, Default)]
struct Class {
    /// Start tag last served.
    served: u64,
    waiting: usize,
    open: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Flows {
    flows: BTreeMap<FlowKey, Flow>,
    classes: BTreeMap<Reverse<Priority>, Class>,
    names: BTreeSet<Arc<str>>,
    weights: BTreeMap<String, u32>,
}

impl Flows {
    pub(crate) fn new(weights: &BTreeMap<String, u32>) -> Self {
        Self { weights: weights.clone(), ..Self::default() }
    }

    pub(crate) fn key(&mut self, class: Priority, submitter: &str) -> FlowKey {
        let name = self.names.get(submitter).cloned().unwrap_or_else(|| Arc::from(submitter));
        self.names.insert(name.clone());
        FlowKey { class: Reverse(class), submitter: name }
    }

    pub(crate) fn get(&self, key: &FlowKey) -> Option<&Flow> {
        self.flows.get(key)
    }

    pub(crate) fn present(&mut self, key: &FlowKey) -> Option<&mut BTreeSet<Spot>> {
        self.flows.get_mut(key).map(|flow| &mut flow.present)
    }

    pub(crate) fn rank(&self, key: &FlowKey) -> Option<FlowRank> {
        self.flows.get(key).map(|flow| (key.class, flow.tag(), flow.arrived))
    }

    /// A task begins to wait.
    pub(crate) fn enter(&mut self, key: &FlowKey, front: bool, seq: u64) {
        let class = self.classes.entry(key.class).or_default();
        let weight = self.weights.get(&*key.submitter).map_or(1, |weight| u64::from(*weight).max(1));
        let flow = self.flows.entry(key.clone()).or_insert_with(|| Flow {
            weight,
            floor: 0,
            finish: 0,
            arrived: seq,
            open: 0,
            front: Places::default(),
            rest: Places::default(),
            present: BTreeSet::new(),
        });
        if flow.len() == 0 {
            flow.floor = class.served;
            flow.arrived = seq;
        }
        if front {
            flow.front.insert(seq)
        } else {
            flow.rest.insert(seq)
        }
        class.waiting += 1;
    }

    /// A task waits no longer.
    pub(crate) fn leave(&mut self, key: &FlowKey, front: bool, seq: u64) {
        if let Some(flow) = self.flows.get_mut(key) {
            if front { flow.front.remove(seq) } else { flow.rest.remove(seq) }
        }
        if let Some(class) = self.classes.get_mut(&key.class) {
            class.waiting -= 1;
        }
        self.tidy(key);
    }

    /// A task of the flow, still in it, is served.
    pub(crate) fn charge(&mut self, key: &FlowKey, cost: u64) -> Option<Charged> {
        let (flow, class) = (self.flows.get_mut(key)?, self.classes.get_mut(&key.class)?);
        let start = flow.tag().max(class.served.saturating_sub(CREDIT.saturating_mul(SCALE)));
        class.served = class.served.max(start);
        class.open += 1;
        flow.open += 1;
        flow.floor = start;
        flow.finish = start.saturating_add(cost.saturating_mul(SCALE) / flow.weight);
        Some(Charged { flow: key.clone(), cost })
    }

    /// What was charged is replaced by what it was. Gives the flow whose tag may have moved.
    pub(crate) fn correct(&mut self, charged: Charged, actual: u64) -> FlowKey {
        let Charged { flow: key, cost } = charged;
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.open = flow.open.saturating_sub(1);
            let of = |time: u64| time.saturating_mul(SCALE) / flow.weight;
            let (before, after) = (of(cost), of(actual));
            flow.finish = flow.finish.saturating_add(after).saturating_sub(before);
        }
        if let Some(class) = self.classes.get_mut(&key.class) {
            class.open = class.open.saturating_sub(1);
        }
        self.tidy(&key);
        key
    }

    /// Forgets what says nothing any more: at the end of a busy period nobody owes anybody anything.
    fn tidy(&mut self, key: &FlowKey) {
        let Some(class) = self.classes.get(&key.class) else { return };
        let served = class.served;
        if class.waiting == 0 && class.open == 0 {
            self.classes.remove(&key.class);
            self.flows.retain(|flow, _| flow.class != key.class);
        } else if self
            .flows
            .get(key)
            .is_some_and(|flow| flow.len() == 0 && flow.open == 0 && flow.finish <= served)
        {
            self.flows.remove(key);
        }
        if self.flows.is_empty() {
            self.names.clear();
        }
    }

    /// How many tasks of a class are likely to be served before one that has `own` of its own flow before it.
    pub(crate) fn ahead(&self, key: &FlowKey, own: usize, cost: u64) -> usize {
        let Some(flow) = self.flows.get(key) else { return own };
        let cost = cost.max(1).saturating_mul(SCALE);
        let until = flow.tag().saturating_add((cost / flow.weight).saturating_mul(own as u64));
        let before = |other: &Flow| {
            let first = (other.tag(), other.arrived) < (until, flow.arrived);
            let lead = until.saturating_sub(other.tag());
            let served = usize::try_from(lead / (cost / other.weight).max(1)).unwrap_or(usize::MAX);
            (served.saturating_add(usize::from(first))).min(other.len())
        };
        let others = self.flows.range((
            std::ops::Bound::Included(FlowKey { class: key.class, submitter: Arc::from("") }),
            std::ops::Bound::Unbounded,
        ));
        let others =
            others.take_while(|(other, _)| other.class == key.class).filter(|(other, _)| *other != key);
        own + others.map(|(_, other)| before(other)).sum::<usize>()
    }

    /// How many tasks wait in classes above this one.
    pub(crate) fn above(&self, class: Reverse<Priority>) -> usize {
        self.classes.range(..class).map(|(_, class)| class.waiting).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves 60 s of boards one task at a time; gives each flow's time in ms.
    fn shares(weights: &[(&str, u32)], runs: &[(&str, u64)], expected: u64) -> BTreeMap<String, u64> {
        let weights = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        let mut flows = Flows::new(&weights);
        let keys: Vec<_> = runs.iter().map(|(name, _)| flows.key(Priority::Normal, name)).collect();
        let mut seq = 0;
        let mut wait = |flows: &mut Flows, key: &FlowKey| {
            seq += 1;
            flows.enter(key, false, seq);
            seq
        };
        let mut heads: Vec<u64> = keys.iter().map(|key| wait(&mut flows, key)).collect();
        let mut time = BTreeMap::new();
        while time.values().sum::<u64>() < 60_000 {
            let next = (0..keys.len()).min_by_key(|n| flows.rank(&keys[*n])).unwrap();
            let (key, run) = (&keys[next], runs[next].1);
            let after = wait(&mut flows, key);
            let charged = flows.charge(key, expected).unwrap();
            flows.leave(key, false, std::mem::replace(&mut heads[next], after));
            *time.entry(runs[next].0.to_owned()).or_default() += run;
            flows.correct(charged, run * 1000);
        }
        time
    }

    #[test]
    fn equal_weights_get_equal_time_however_long_their_tasks_are() {
        let time = shares(&[], &[("ann", 100), ("bob", 1000)], 500_000);
        assert!(time["ann"].abs_diff(time["bob"]) <= 1000, "{time:?}");
    }

    #[test]
    fn a_threefold_weight_gets_three_times_the_time() {
        let time = shares(&[("bob", 3)], &[("ann", 100), ("bob", 250)], 1000);
        assert!((3 * time["ann"]).abs_diff(time["bob"]) <= 1000, "{time:?}");
    }

    #[test]
    fn a_late_flow_gets_no_credit_for_the_time_before_it_came() {
        let mut flows = Flows::default();
        let (ann, bob) = (flows.key(Priority::Normal, "ann"), flows.key(Priority::Normal, "bob"));
        for seq in 0..10 {
            flows.enter(&ann, false, seq);
        }
        for seq in 0..9 {
            flows.charge(&ann, 1_000_000);
            flows.leave(&ann, false, seq);
        }
        flows.enter(&bob, false, 10);
        let (_, late, _) = flows.rank(&bob).unwrap();
        let (_, served, _) = flows.rank(&ann).unwrap();
        assert_eq!(served - late, 1_000_000 * SCALE, "one task of ann's and no more");
    }

    #[test]
    fn a_refund_gives_back_the_place() {
        let mut flows = Flows::default();
        let ann = flows.key(Priority::Normal, "ann");
        flows.enter(&ann, false, 1);
        flows.enter(&ann, false, 2);
        let before = flows.rank(&ann).unwrap();
        let charged = flows.charge(&ann, 5_000_000).unwrap();
        assert!(flows.rank(&ann).unwrap() > before);
        flows.correct(charged, 0);
        assert_eq!(flows.rank(&ann).unwrap(), before);
    }

    #[test]
    fn the_end_of_a_busy_period_forgets_every_flow() {
        let mut flows = Flows::default();
        let ann = flows.key(Priority::Normal, "ann");
        flows.enter(&ann, false, 1);
        let charged = flows.charge(&ann, 5_000_000).unwrap();
        flows.leave(&ann, false, 1);
        assert!(flows.get(&ann).is_some());
        flows.correct(charged, 7_000_000);
        assert!(flows.get(&ann).is_none() && flows.names.is_empty());
    }
}
