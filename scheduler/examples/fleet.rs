//! What the scheduler alone costs with few boards and with many: no-op tasks through workers that answer at once,
//! while all of them send heartbeats. Count its instructions, which are the same in every run:
//!
//! ```text
//! cargo build --release -p edgeprof-scheduler --example fleet
//! valgrind --tool=callgrind --toggle-collect='fleet::work*' target/release/examples/fleet 1000 10 20000
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    sync::Arc,
};

use edgeprof_common::{BoardHealth, BoardId, Digest, Epoch, Incarnation, JobId, Priority, TaskId, WorkerId};
use edgeprof_scheduler::{
    BoardReport, Command, Config, Effects, Event, Frame, Image, NewTask, Now, Order, Outcome, Peer,
    Recovered, Requirement, Scheduler, Send, SessionId,
};

/// Frames that come in within one ms: seven tasks, as fast as a coordinator commits them.
const FRAMES_A_MS: usize = 21;

/// Between two heartbeats of a worker, in ms.
const HEARTBEAT: usize = 1000;

struct Fleet {
    scheduler: Scheduler,
    now: u64,
    workers: Vec<(Peer, Arc<[BoardReport]>)>,
    /// The last command to each worker.
    commands: BTreeMap<SessionId, Command>,
    /// What workers said that has not arrived.
    frames: VecDeque<(Peer, Frame)>,
    beats: u64,
    ended: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [workers, boards, tasks] = arguments[..] else {
        return Err("usage: fleet WORKERS BOARDS TASKS".into());
    };
    let mut fleet = Fleet::new(workers, boards)?;
    // What happens once in a life has happened before.
    work(&mut fleet, 1, 1000);
    let beats = fleet.beats;
    work(&mut fleet, 2, tasks);
    println!(
        "{tasks} tasks through {workers} workers of {boards} boards: {:.2} heartbeats a task",
        (fleet.beats - beats) as f64 / tasks as f64
    );
    Ok(())
}

/// Submits tasks and goes on until all have ended.
#[inline(never)]
fn work(fleet: &mut Fleet, job: u64, tasks: usize) {
    let until = fleet.ended + tasks;
    fleet.submit(job, tasks);
    while fleet.ended < until {
        fleet.pass();
    }
}

impl Fleet {
    fn new(workers: usize, boards: usize) -> Result<Self, Box<dyn Error>> {
        let scheduler = Scheduler::new(Now(0), Config::default(), Epoch(1), Recovered::default())?;
        let mut fleet = Self {
            scheduler,
            now: 0,
            workers: Vec::new(),
            commands: BTreeMap::new(),
            frames: VecDeque::new(),
            beats: 0,
            ended: 0,
        };
        for n in 0..workers {
            let worker: WorkerId = format!("lab-host-{n}").parse()?;
            let boards = (0..boards).map(|n| Ok(report(BoardId::on(&worker, &format!("board-{n}"))?)));
            let boards = boards.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
            let peer = Peer { worker, session: SessionId(n as u64) };
            fleet.workers.push((peer.clone(), boards.clone().into()));
            fleet.commands.insert(peer.session, Command(0));
            let incarnation = Incarnation::from_raw(n as u64);
            fleet.step(Event::WorkerUp { peer, incarnation, boards, held: vec![], draining: false });
        }
        Ok(fleet)
    }

    fn submit(&mut self, job: u64, tasks: usize) {
        let task = |n| NewTask {
            id: TaskId::from_raw(u128::from(job << 32) + n as u128),
            job: JobId::from_raw(job),
            priority: Priority::Normal,
            requirement: Requirement::default(),
            image: Some(Image { digest: Digest::of(b"image"), model_bytes: 10, arena_bytes: 10 }),
            submitter: "ada".into(),
            work: 1,
        };
        self.step(Event::Submitted { tasks: (0..tasks).map(task).collect() });
    }

    /// One ms passes.
    fn pass(&mut self) {
        self.now += 1;
        for n in (0..self.workers.len()).filter(|n| n % HEARTBEAT == self.now as usize % HEARTBEAT) {
            self.beats += 1;
            let (peer, boards) = self.workers[n].clone();
            let last_command = self.commands[&peer.session];
            let frame = Frame::Heartbeat { boards, held: vec![], last_command, draining: false };
            self.frames.push_back((peer, frame));
        }
        for _ in 0..FRAMES_A_MS {
            let Some((from, frame)) = self.frames.pop_front() else { break };
            self.ended += usize::from(matches!(frame, Frame::Result { .. }));
            self.step(Event::Frame { from, frame });
        }
        if self.scheduler.next_wakeup().is_some_and(|at| at.0 <= self.now) {
            self.step(Event::Tick);
        }
    }

    fn step(&mut self, event: Event) {
        let Effects { sends, .. } = self.scheduler.step(Now(self.now), event);
        for send in sends {
            let Send::Command { to, command, order } = send else { continue };
            self.commands.insert(to.session, command);
            if let Order::Start { lease, .. } = order {
                let result = Frame::Result { lease: lease.clone(), outcome: Outcome::Succeeded };
                let frames = [Frame::Accepted(lease.clone()), Frame::Started(lease), result];
                self.frames.extend(frames.map(|frame| (to.clone(), frame)));
            }
        }
    }
}

fn report(id: BoardId) -> BoardReport {
    BoardReport {
        id,
        kind: "qemu-m3".into(),
        uid: None,
        labels: Arc::new(BTreeMap::from([("site".to_owned(), "bench".to_owned())])),
        health: BoardHealth::Good,
        reason: None,
        idle: true,
        queue: 32,
        model_bytes: 1 << 20,
        arena_bytes: 1 << 20,
        image: None,
    }
}
