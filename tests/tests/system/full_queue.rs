//! A queue that is full: who comes is told so and when to try again, and nothing of what is there is lost.

use std::process::Stdio;

use edgeprof_tests::{Finished, Lab};

use crate::{
    job, model,
    promises::{all_succeed_once, busy_job, none_was_begun_twice},
};

/// As many tasks as either job has: the second one fits once nothing of the first one waits.
const ROOM: &str = "max_queued_tasks = 4\n";

#[test]
fn a_full_queue_says_when_to_try_again_and_who_waits_for_room_gets_it() {
    let mut lab = Lab::new();
    lab.fixed = true;
    lab.configure_coordinator(ROOM);
    lab.start(&[&["mps2-an386"]]);
    let model = model();
    let first = lab.submit(&busy_job(&model, &["mps2-an386"]));
    let more = [&["submit"], &job(&model, &["mps2-an386"], "1,2,3,4")[..]].concat();

    let refused = lab.client(&more);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    for word in
        ["the queue is full", "of at most 4 tasks wait", "try again after 10 s", "--wait-for-room 10m"]
    {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }
    let mut waiting = lab.client_command();
    waiting.args(&more).args(["--wait-for-room", "10m"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waiting = waiting.spawn().unwrap();

    // What never fits is no matter of time.
    let large = lab.client(&[&["submit"], &job(&model, &["mps2-an386"], "1,2,3,4,5")[..]].concat());
    assert_eq!(large.code, 2, "{large:?}");
    for word in ["the job has 5 tasks", "at most 4", "submit it in parts", "max_queued_tasks"] {
        assert!(large.stderr.contains(word), "{word:?} is not in {large:?}");
    }

    let told = Finished::from(waiting.wait_with_output().unwrap());
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("trying again for at most 10m"), "{told:?}");
    let second = told.stdout.trim();
    for job in [&first, second] {
        all_succeed_once(&lab, job);
        none_was_begun_twice(&lab, job);
    }
    let jobs = lab.json(&["jobs"]);
    assert_eq!(jobs.as_array().unwrap().len(), 2, "what was refused made no job: {jobs}");
}
