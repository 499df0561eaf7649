//! One task, one board, one worker: a model small enough to be obviously right says what must become of the
//! task, and the scheduler must agree after every step. Steps are generated, and shrunk when they disagree.

mod bench;
mod reference;

use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use bench::Bench;
use reference::{Place, Reference, Step};

struct Agreement;

impl StateMachineTest for Agreement {
    type SystemUnderTest = Bench;
    type Reference = Reference;

    fn init_test(_: &reference::State) -> Bench {
        Bench::new()
    }

    fn apply(mut bench: Bench, _: &reference::State, step: Step) -> Bench {
        match step {
            Step::Submit => bench.submit(),
            Step::Cancel => bench.cancel(),
            Step::Link => bench.link(),
            Step::Unlink => bench.unlink(),
            Step::Begin => bench.begin(),
            Step::End(success) => bench.end(success),
            Step::WorkerRestarts => bench.worker_restarts(),
            Step::CoordinatorRestarts => bench.coordinator_restarts(),
        }
        bench
    }

    fn check_invariants(bench: &Bench, expected: &reference::State) {
        assert!(bench.runs() <= 1, "recorded {} times", bench.runs());
        assert_eq!(bench.runs() == 1, matches!(expected.task, Place::Ended(_)));
        let row = bench.row();
        assert_eq!(row.map(|row| row.state()), expected.task.state());
        let row = row.map(|row| (row.standing.deaths, row.standing.spent));
        assert_eq!(row.unwrap_or_default(), (expected.deaths, expected.deaths + expected.failures));
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 500, failure_persistence: None, ..Config::default() })]
    #[test]
    fn the_scheduler_agrees_with_a_small_model(sequential 1..40 => Agreement);
}
