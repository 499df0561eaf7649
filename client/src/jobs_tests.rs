use edgeprof_client::Progress;
use expect_test::expect;

use super::*;

fn job() -> Job {
    let queued = Task {
        task_id: "t00000000000000000000000002".into(),
        state: "queued".into(),
        scenario: "q8_0 kv f16 p16 n16".into(),
        board_selector: "riscv32".into(),
        queue_position: Some(3),
        eta_ms: Some(400_000),
        ..Task::default()
    };
    let running = Task {
        task_id: "t00000000000000000000000001".into(),
        state: "leased".into(),
        board: Some("host-1/riscv32.0".into()),
        attempts: 1,
        queue_position: None,
        progress: Some(Progress { phase: "run".into(), done: 8, total: 32 }),
        eta_ms: Some(45_000),
        ..queued.clone()
    };
    Job {
        job_id: "j0000000000001".into(),
        state: "open".into(),
        submitted_at: "2026-01-01T00:00:00.25Z".into(),
        priority: "normal".into(),
        labels: [("branch".to_owned(), "main".to_owned())].into(),
        tasks_total: 2,
        tasks: vec![running, queued],
        submitter: "ann@desk".into(),
        queue_position: Some(3),
        eta_ms: Some(400_000),
        ..Job::default()
    }
}

#[test]
fn a_job_says_where_it_runs_what_is_ahead_and_when_it_is_likely_to_end() {
    let mut job = job();
    job.tasks.push(Task { queue_position: Some(0), ..job.tasks[1].clone() });
    let text = view_of(Format::Table, &job).unwrap();
    expect![[r#"
        job j0000000000001 is open: 0 of 2 cells done, 0 failed
        submitted 2026-01-01T00:00:00Z · priority normal · by ann@desk · branch=main
        ~7 min left (an estimate) · 3 tasks ahead of its first one that waits

        task                         state   board             scenario             progress    left
        ────────────────────────────────────────────────────────────────────────────────────────────
        t00000000000000000000000001  leased  host-1/riscv32.0  q8_0 kv f16 p16 n16  run 8/32   ~45 s
        t00000000000000000000000002  queued  –                 q8_0 kv f16 p16 n16  3 ahead   ~7 min
        t00000000000000000000000002  queued  –                 q8_0 kv f16 p16 n16  next      ~7 min
    "#]]
    .assert_eq(&text);
    let value: serde_json::Value = serde_json::from_str(&view_of(Format::Json, &job).unwrap()).unwrap();
    assert_eq!((&value["eta_ms"], &value["tasks"][1]["queue_position"]), (&400_000.into(), &3.into()));
}

#[test]
fn a_list_of_jobs_is_narrow_for_people_and_whole_for_programs() {
    let jobs = [job(), Job { eta_ms: None, queue_position: None, labels: Default::default(), ..job() }];
    let text = listed(Format::Table, &jobs).unwrap();
    expect![[r#"
        job             state  submitted             cells  done  failed  priority  submitter  ahead    left
        ────────────────────────────────────────────────────────────────────────────────────────────────────
        j0000000000001  open   2026-01-01T00:00:00Z      2     0       0  normal    ann@desk       3  ~7 min
        j0000000000001  open   2026-01-01T00:00:00Z      2     0       0  normal    ann@desk       –       –
    "#]]
    .assert_eq(&text);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    expect![[r#"
        job,state,submitted,cells,done,failed,priority,labels,submitter,ahead,left (ms)
        j0000000000001,open,2026-01-01T00:00:00.25Z,2,0,0,normal,branch=main,ann@desk,3,400000
        j0000000000001,open,2026-01-01T00:00:00.25Z,2,0,0,normal,,ann@desk,,
    "#]]
    .assert_eq(&listed(Format::Csv, &jobs).unwrap());
}
