//! What the cluster promises of every job, whatever happened to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edgeprof_tests::Lab;
use serde_json::Value;

use crate::{job, model};

/// A worker that is silent for so long is dead, where nobody has a reason to wait longer.
pub(crate) const DEAD: Duration = Duration::from_secs(8);

/// Repetitions make a task long enough to be struck in its middle.
pub(crate) fn long_job<'a>(model: &'a str, boards: &[&'a str], repetitions: &'a str) -> Vec<&'a str> {
    [job(model, boards, "200"), vec!["-r", repetitions]].concat()
}

/// Four tasks that take a second or more each.
pub(crate) fn busy_job<'a>(model: &'a str, boards: &[&'a str]) -> Vec<&'a str> {
    [job(model, boards, "170,180,190,200"), vec!["-r", "2"]].concat()
}

/// Whether some task has begun its work.
pub(crate) fn has_running(job: &Value) -> bool {
    tasks(job).iter().any(runs)
}

/// Whether this task has begun its work.
pub(crate) fn runs(task: &Value) -> bool {
    task["progress"]["phase"] == "run" && task["progress"]["done"].as_u64() > Some(0)
}

/// The tasks of a job.
pub(crate) fn tasks(job: &Value) -> &[Value] {
    job["tasks"].as_array().map_or(&[], Vec::as_slice)
}

/// The worker that a task is on.
pub(crate) fn worker_of(task: &Value) -> Option<&str> {
    task["board"].as_str()?.split_once('/').map(|(worker, _)| worker)
}

/// The number of recorded runs, none of which shares its task with another.
pub(crate) fn recorded(runs: &Value) -> usize {
    let ids: Vec<_> = runs.as_array().unwrap().iter().map(|run| run["task_id"].as_str().unwrap()).collect();
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), distinct.len(), "each task is recorded once: {runs}");
    ids.len()
}

/// The attempts of each task that the boards began, as its story tells them; after the success of a task there is none.
fn begun(lab: &Lab, id: &str) -> BTreeMap<String, BTreeSet<u64>> {
    let story = lab.json(&["show", id, "--events"]);
    let (mut begun, mut succeeded) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for event in story.as_array().unwrap() {
        let (task, what) = (event["task_id"].as_str().unwrap(), event["what"].as_str().unwrap());
        let attempts = begun.entry(task.to_owned()).or_default();
        if what == "succeeded" {
            assert!(succeeded.insert(task.to_owned()), "{task} succeeds once: {story}");
        }
        if ["offered", "accepted", "started"].contains(&what) {
            assert!(!succeeded.contains(task), "what is done is not begun again: {story}");
        }
        if what == "started" {
            attempts.insert(event["attempt"].as_u64().unwrap());
        }
    }
    begun
}

/// No task of the job was begun twice: whatever happened cost no work.
pub(crate) fn none_was_begun_twice(lab: &Lab, id: &str) {
    for (task, attempts) in begun(lab, id) {
        assert!(attempts.len() < 2, "{task}: {}", lab.client(&["show", id, "--events"]).stdout);
    }
}

/// No attempt of the job was given up, whether or not another had begun by then.
pub(crate) fn none_was_lost(lab: &Lab, id: &str) {
    let story = lab.json(&["show", id, "--events"]);
    let lost = story.as_array().unwrap().iter().find(|event| event["what"] == "lost");
    assert_eq!(lost, None);
}

/// Waits until every task of `job` has succeeded, each recorded once, and gives the job.
pub(crate) fn all_succeed_once(lab: &Lab, id: &str) -> Value {
    let ended = lab.wait_for_job(id, "ended", |job| job["state"] != "open");
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(recorded(&lab.json(&["results", id])), tasks(&ended).len(), "{ended}");
    assert_eq!(begun(lab, id).len(), tasks(&ended).len(), "each task has its story");
    ended
}

/// Who comes back late changes nothing: what was told of `job` stands when each of these boards has done a task more,
/// and so has delivered all that it had.
pub(crate) fn stands_when_boards_have_worked_again(lab: &Lab, id: &str, boards: &[&str]) {
    let (told, runs) = (lab.json(&["show", id]), lab.json(&["results", id]));
    let model = model();
    for board in boards {
        let well = lab.json(&[&["run"], job(&model, &[board], "4").as_slice()].concat());
        assert_eq!(well[0]["state"], "ok", "{board} takes work: {well}");
    }
    assert_eq!(lab.json(&["results", id]), runs);
    assert_eq!(lab.json(&["show", id]), told);
}

/// Four tasks on two workers of a board each: `strike` takes one away while it works, the other ends the job, and
/// after `mend` the first is back, has changed nothing, and takes work.
pub(crate) fn work_moves_off(
    lab: &mut Lab,
    strike: impl FnOnce(&mut Lab, usize),
    mend: impl FnOnce(&mut Lab, usize),
) {
    let model = model();
    let id = lab.submit(&busy_job(&model, &["mps2-an386"]));
    let running = lab.wait_for_job(&id, "running", has_running);
    let struck = tasks(&running).iter().find(|task| runs(task)).unwrap();
    let worker = usize::from(worker_of(struck) == Some("host-2"));
    strike(lab, worker);
    let ended = all_succeed_once(lab, &id);
    let moved = tasks(&ended).iter().find(|task| task["task_id"] == struck["task_id"]).unwrap();
    assert_ne!(moved["board"], struck["board"], "it was ended by the other worker: {ended}");
    mend(lab, worker);
    lab.wait_for_boards(2);
    stands_when_boards_have_worked_again(lab, &id, &["host-1/mps2-an386.0", "host-2/mps2-an386.0"]);
}
