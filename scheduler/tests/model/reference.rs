//! What must become of the task. Everything is delivered at once, and no time passes.

use edgeprof_common::TaskState;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// Where the task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    Queued,
    /// Offered to the board.
    Offered,
    /// On the board, as far as the coordinator knows.
    Begun,
    Ended(TaskState),
}

impl Place {
    pub(crate) fn state(self) -> Option<TaskState> {
        match self {
            Self::Nowhere => None,
            Self::Queued => Some(TaskState::Queued),
            Self::Offered | Self::Begun => Some(TaskState::Leased),
            Self::Ended(state) => Some(state),
        }
    }
}

/// What the worker truly has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Board {
    Empty,
    Runs,
    /// In the outbox: a success or a failure of the model.
    Kept(bool),
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) task: Place,
    pub(crate) deaths: u32,
    pub(crate) failures: u32,
    board: Board,
    linked: bool,
    /// The coordinator restarted since the lease was given.
    recovered: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Submit,
    Cancel,
    Link,
    /// The session breaks; what was offered and not begun is lost with it.
    Unlink,
    Begin,
    /// With a success, or a failure of the model.
    End(bool),
    /// A new process: what ran is gone, what is in the outbox is not.
    WorkerRestarts,
    CoordinatorRestarts,
}

pub(crate) struct Reference;

impl ReferenceStateMachine for Reference {
    type State = State;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<State> {
        Just(State {
            task: Place::Nowhere,
            deaths: 0,
            failures: 0,
            board: Board::Empty,
            linked: false,
            recovered: false,
        })
        .boxed()
    }

    fn transitions(_: &State) -> BoxedStrategy<Step> {
        prop_oneof![
            2 => Just(Step::Submit),
            1 => Just(Step::Cancel),
            6 => Just(Step::Link),
            2 => Just(Step::Unlink),
            6 => Just(Step::Begin),
            2 => any::<bool>().prop_map(Step::End),
            3 => Just(Step::WorkerRestarts),
            2 => Just(Step::CoordinatorRestarts),
        ]
        .boxed()
    }

    fn preconditions(state: &State, step: &Step) -> bool {
        match step {
            Step::Submit => state.task == Place::Nowhere,
            Step::Cancel => state.task != Place::Nowhere,
            Step::Link => !state.linked,
            Step::Unlink => state.linked,
            Step::Begin => state.linked && state.task == Place::Offered,
            Step::End(_) => state.board == Board::Runs,
            Step::WorkerRestarts | Step::CoordinatorRestarts => true,
        }
    }

    fn apply(mut state: State, step: &Step) -> State {
        match step {
            Step::Submit => state.task = Place::Queued,
            Step::Cancel => {
                if !matches!(state.task, Place::Ended(_)) {
                    state.task = Place::Ended(TaskState::Cancelled);
                }
                state.stop();
            }
            Step::Link => {
                state.linked = true;
                state.stop();
                state.reconcile();
            }
            Step::Unlink => state.linked = false,
            Step::Begin => (state.task, state.board) = (Place::Begun, Board::Runs),
            Step::End(success) => state.board = Board::Kept(*success),
            Step::WorkerRestarts => {
                state.linked = false;
                if state.board == Board::Runs {
                    state.board = Board::Empty;
                }
            }
            Step::CoordinatorRestarts => {
                state.linked = false;
                state.recovered = true;
            }
        }
        state.deliver();
        state.place();
        state
    }
}

impl State {
    /// What has ended is stopped on its board, once the worker can be told.
    fn stop(&mut self) {
        if self.linked && self.board == Board::Runs && matches!(self.task, Place::Ended(_)) {
            self.board = Board::Empty;
        }
    }

    /// At the handshake: what the worker does not have is gone. Only what had begun, in this life of the
    /// coordinator, and died with its process counts.
    fn reconcile(&mut self) {
        if self.board != Board::Empty {
            // What the worker is seen to have is as good as given in this life.
            self.recovered = false;
            if self.task == Place::Offered {
                self.task = Place::Begun;
            }
            return;
        }
        match self.task {
            Place::Offered => self.task = Place::Queued,
            Place::Begun => {
                self.deaths += u32::from(!self.recovered);
                let exhausted = self.deaths == 2;
                self.task = if exhausted { Place::Ended(TaskState::Exhausted) } else { Place::Queued };
            }
            _ => {}
        }
    }

    /// A kept result reaches the coordinator: the first that counts ends the task.
    fn deliver(&mut self) {
        let Board::Kept(success) = self.board else { return };
        if !self.linked {
            return;
        }
        self.board = Board::Empty;
        if matches!(self.task, Place::Offered | Place::Begun) {
            self.failures += u32::from(!success);
            self.task = Place::Ended(if success { TaskState::Succeeded } else { TaskState::Failed });
        }
    }

    fn place(&mut self) {
        if self.linked && self.task == Place::Queued {
            self.task = Place::Offered;
            self.recovered = false;
        }
    }
}
