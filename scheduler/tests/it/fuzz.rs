//! Events in any order, whether they make sense or not.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edgeprof_common::{
    BoardHealth, BoardId, Epoch, ErrorClass, Incarnation, TaskError, TaskState, Token, WorkerHealth, WorkerId,
};
use edgeprof_scheduler::{
    AttemptPhase, BoardReport, Command, Config, Event, Frame, Held, HeldState, LeaseRef, Mark, NewTask, Now,
    Order, Outcome, Peer, Recovered, RejectReason, Scheduler, Send, TaskView, Verdict, Write,
};
use proptest::prelude::*;

use super::rig::{JOB, board, image, new_task, peer, task, worker};

const WORKERS: [&str; 4] = ["a", "b", "c", "d"];

fn any_peer() -> impl Strategy<Value = Peer> {
    (0..4_usize, 0..4_u64).prop_map(|(name, session)| peer(WORKERS[name], session))
}

fn any_board() -> impl Strategy<Value = BoardId> {
    (0..4_usize, 0..2).prop_map(|(name, n)| format!("{}/{n}", WORKERS[name]).parse().unwrap())
}

fn any_report() -> impl Strategy<Value = BoardReport> {
    (any_board(), any::<bool>(), 0..3_u32, 0..4_usize).prop_map(|(id, idle, queue, kind)| BoardReport {
        queue,
        kind: ["m4", "m4", "m3", "rv"][kind].into(),
        ..board(id.as_str(), idle)
    })
}

fn any_lease() -> impl Strategy<Value = LeaseRef> {
    (1..16_u64, 0..7_u128, any_board()).prop_map(|(counter, id, board)| LeaseRef {
        token: Token { epoch: Epoch(1), counter },
        task: task(id),
        board,
    })
}

fn any_held() -> impl Strategy<Value = Vec<Held>> {
    let state = prop_oneof![Just(HeldState::Staged), Just(HeldState::Running), Just(HeldState::Outbox)];
    proptest::collection::vec((any_lease(), state).prop_map(|(lease, state)| Held { lease, state }), 0..3)
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let outcome = prop_oneof![
        Just(Outcome::Succeeded),
        Just(Outcome::Cancelled),
        Just(Outcome::Failed(TaskError::new(ErrorClass::Infrastructure, "x", "x"))),
        Just(Outcome::Failed(TaskError::new(ErrorClass::Model, "x", "x"))),
    ];
    let reason = prop_oneof![
        Just(RejectReason::Busy),
        Just(RejectReason::UnknownBoard),
        Just(RejectReason::Recalled),
        Just(RejectReason::Draining),
        Just(RejectReason::BadRequest)
    ];
    prop_oneof![
        Just(Frame::Heard),
        (any_held(), 0..9_u64, any_report(), 0..9).prop_map(|(held, last, report, drain)| {
            let (boards, draining) = ([report].into(), drain == 0);
            Frame::Heartbeat { boards, held, last_command: Command(last), draining }
        }),
        any_report().prop_map(Frame::Board),
        any_lease().prop_map(Frame::Accepted),
        any_lease().prop_map(Frame::Started),
        (any_lease(), reason).prop_map(|(lease, reason)| Frame::Rejected {
            lease,
            reason,
            message: "no".into()
        }),
        (any_lease(), outcome).prop_map(|(lease, outcome)| Frame::Result { lease, outcome }),
    ]
}

fn any_mark() -> impl Strategy<Value = Option<Mark>> {
    prop_oneof![
        Just(None),
        Just(Some(Mark::Quarantined { by: "ann".into(), reason: "smoke".into() })),
        (0..9000_u64)
            .prop_map(|ms| { Some(Mark::Reserved { by: "ann".into(), left: Duration::from_millis(ms) }) }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..6_u128, any::<bool>()).prop_map(|(n, ready)| {
            let image = ready.then(image);
            Event::Submitted { tasks: vec![NewTask { image, ..new_task(n) }] }
        }),
        1 => (0..6_u128).prop_map(|n| Event::Ready { tasks: vec![task(n)], image: image() }),
        1 => Just(Event::CancelJob { job: JOB }),
        1 => Just(Event::Forget { job: JOB }),
        6 => (any_peer(), 0..3_u64, any_held()).prop_map(|(peer, life, held)| {
            let report = |n| BoardReport { queue: n, ..board(&format!("{}/{n}", peer.worker), true) };
            let boards = (0..2).map(report).collect();
            Event::WorkerUp { peer, incarnation: Incarnation::from_raw(life), boards, held, draining: false }
        }),
        12 => (any_peer(), any_frame()).prop_map(|(from, frame)| Event::Frame { from, frame }),
        2 => any_peer().prop_map(|peer| Event::SessionLost { peer }),
        2 => (0..4_usize).prop_map(|name| Event::DialRefused { worker: worker(WORKERS[name]) }),
        1 => (0..4_usize, any::<bool>()).prop_map(|(name, on)| Event::Drain { worker: worker(WORKERS[name]), on }),
        2 => (any_board(), any_mark()).prop_map(|(board, mark)| Event::Mark { board, mark }),
        1 => any_board().prop_map(|board| Event::NoCanary { board }),
        1 => (0..5000_u64).prop_map(|by| Event::LoopStalled { by: Duration::from_millis(by) }),
        2 => Just(Event::Tick),
    ]
}

/// Which of the leases that were given last an event is about, where it is about any.
fn any_aim() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 4 => (0..6_usize).prop_map(Some)]
}

/// The event about this lease, from whoever has its board now: by chance alone hardly any would get beyond its offer.
fn aimed(event: Event, lease: &LeaseRef, scheduler: &Scheduler) -> Event {
    let owner = scheduler.boards().find(|board| board.report.id == lease.board).map(|board| board.worker);
    let Some(owner) = scheduler.workers().find(|worker| Some(worker.id) == owner) else { return event };
    let lease = || lease.clone();
    let all =
        |held: Vec<Held>| held.into_iter().map(|held| Held { lease: lease(), ..held }).take(1).collect();
    match event {
        Event::Frame { frame, from } => {
            let from = Peer { worker: owner.id.clone(), session: owner.session.unwrap_or(from.session) };
            let frame = match frame {
                Frame::Accepted(_) => Frame::Accepted(lease()),
                Frame::Started(_) => Frame::Started(lease()),
                Frame::Rejected { reason, message, .. } => {
                    Frame::Rejected { lease: lease(), reason, message }
                }
                Frame::Result { outcome, .. } => Frame::Result { lease: lease(), outcome },
                Frame::Heartbeat { boards, held, last_command, draining } => {
                    Frame::Heartbeat { boards, held: all(held), last_command, draining }
                }
                other => other,
            };
            Event::Frame { from, frame }
        }
        Event::WorkerUp { peer, incarnation, boards, held, draining } if peer.worker == *owner.id => {
            Event::WorkerUp { peer, incarnation, boards, held: all(held), draining }
        }
        other => other,
    }
}

/// The words of what happened.
fn words(scheduler: &Scheduler, writes: &[Write], sends: &[Send]) -> BTreeSet<&'static str> {
    let phases = scheduler.tasks_of(JOB).filter_map(|task| task.attempt).map(|phase| match phase {
        AttemptPhase::Offered => "offered",
        AttemptPhase::Staged => "staged",
        AttemptPhase::Running => "running",
    });
    let verdicts = writes.iter().filter_map(|write| match write {
        Write::RecordRun { verdict: Verdict::Succeeded, .. } => Some("succeeded"),
        Write::RecordRun { verdict: Verdict::Failed(_), .. } => Some("failed"),
        Write::RecordRun { verdict: Verdict::Cancelled, .. } => Some("cancelled"),
        Write::RecordRun { verdict: Verdict::Exhausted(_), .. } => Some("exhausted"),
        Write::SetAside { .. } => Some("set aside"),
        _ => None,
    });
    let orders = sends.iter().filter_map(|send| match send {
        Send::Command { order: Order::Canary { .. }, .. } => Some("canary"),
        Send::Command { order: Order::Recall { .. }, .. } => Some("recall"),
        Send::Command { order: Order::Cancel { .. }, .. } => Some("cancel"),
        Send::Command { order: Order::Reset { .. }, .. } => Some("reset"),
        Send::Command { order: Order::Ack { .. }, .. } => Some("ack"),
        _ => None,
    });
    phases.chain(verdicts).chain(orders).collect()
}

#[test]
fn no_events_break_the_books() {
    let seen = RefCell::new(BTreeSet::new());
    let events = proptest::collection::vec((0..6000_u64, any_aim(), any_event()), 1..120);
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(300) };
    proptest!(config, |(events in events)| {
        let mut scheduler =
            Scheduler::new(Now(0), Config::default(), Epoch(1), Recovered::default()).unwrap();
        let (mut now, mut ended, mut tokens) = (0, BTreeMap::new(), BTreeMap::new());
        let mut given: Vec<LeaseRef> = Vec::new();
        for (wait, aim, event) in events {
            now += wait;
            let event = match aim.and_then(|nth| given.iter().rev().nth(nth)) {
                Some(lease) => aimed(event, lease, &scheduler),
                None => event,
            };
            let forgets = matches!(event, Event::Forget { .. });
            let fx = scheduler.step(Now(now), event);
            seen.borrow_mut().append(&mut words(&scheduler, &fx.writes, &fx.sends));
            given.extend(fx.sends.iter().filter_map(|send| match send {
                Send::Command { order: Order::Start { lease, .. } | Order::Canary { lease }, .. } => {
                    Some(lease.clone())
                }
                _ => None,
            }));
            if forgets && scheduler.job(JOB).is_none() {
                ended.clear();
            }
            for write in fx.writes {
                match write {
                    Write::RecordRun { task, verdict, .. } => {
                        prop_assert!(ended.insert(task, verdict).is_none(), "{task} recorded twice");
                    }
                    Write::PutLastToken { board, token } => {
                        prop_assert!(tokens.insert(board, token) < Some(token));
                    }
                    Write::PutTask(row) => {
                        prop_assert_eq!(row.state().is_terminal(), ended.contains_key(&row.id));
                    }
                    _ => {}
                }
            }
            let rows: Vec<_> = scheduler.tasks_of(JOB).collect();
            let mut leased: Vec<_> = rows.iter().filter_map(|task| task.row.lease()).collect();
            let open = |task: &TaskView<'_>| task.attempt.is_some() == task.row.lease().is_some();
            prop_assert!(rows.iter().all(open));
            leased.sort_by_key(|lease| lease.token);
            prop_assert!(leased.windows(2).all(|pair| pair[0].token != pair[1].token));
            let lines = scheduler.boards().map(|board| board.waiting + usize::from(board.occupant.is_some()));
            prop_assert!(lines.max().unwrap_or(0) <= 3, "a board has more than it takes");
            let waits = rows
                .iter()
                .any(|task| task.row.state() == TaskState::Queued && task.row.standing.image.is_some());
            // A task that must be alone keeps boards from others.
            let alone = rows.iter().any(|task| task.row.standing.alone());
            let serving = |id: &WorkerId| {
                let mut workers = scheduler.workers();
                workers.any(|worker| worker.id == id && worker.health == WorkerHealth::Alive
                    && worker.session.is_some() && !worker.contested)
            };
            let free = scheduler.boards().find(|board| {
                let idle = board.report.idle && board.occupant.is_none() && board.kept.is_none();
                !alone && idle && board.health == BoardHealth::Good && serving(board.worker)
            });
            prop_assert!(!waits || free.is_none(), "{free:?} is free and a task waits");
            let waiting = rows.iter().filter(|task| {
                matches!(task.row.state(), TaskState::Queued | TaskState::Backoff)
            });
            prop_assert_eq!(scheduler.waiting(), waiting.count());
            prop_assert!(scheduler.next_wakeup().is_none_or(|at| at > Now(now)));
        }
    });
    let seen = seen.into_inner();
    for word in [
        "offered",
        "staged",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "set aside",
        "canary",
        "recall",
        "cancel",
        "reset",
        "ack",
    ] {
        assert!(seen.contains(word), "no case came as far as {word:?}: {seen:?}");
    }
}
