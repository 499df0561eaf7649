use expect_test::expect;

use super::*;

fn boards() -> Vec<BoardStatus> {
    let idle = BoardStatus {
        id: "host-1/mps2-an386.0".into(),
        kind: "mps2-an386".into(),
        worker: "host-1".into(),
        health: "good".into(),
        ..BoardStatus::default()
    };
    let busy = BoardStatus {
        id: "host-1/riscv32.0".into(),
        kind: "riscv32".into(),
        job_id: Some("j0000000000001".into()),
        task_id: Some("t00000000000000000000000001".into()),
        scenario: Some("q8_0 kv f16 p16 n16".into()),
        waiting: 2,
        busy_ms: Some(125_000),
        ..idle.clone()
    };
    let reserved = BoardStatus {
        id: "host-2/riscv32.0".into(),
        worker: "host-2".into(),
        health: "maintenance".into(),
        mark: Some("reserved".into()),
        marked_by: Some("ann@desk".into()),
        reserved_ms: Some(6_000_000),
        ..idle.clone()
    };
    let bad = BoardStatus {
        id: "host-2/riscv32.1".into(),
        worker: "host-2".into(),
        health: "bad".into(),
        reason: Some("its line is silent".into()),
        ..idle.clone()
    };
    vec![idle, busy, reserved, bad]
}

#[test]
fn boards_say_what_they_do_and_why_they_are_not_for_everybody() {
    let boards = boards();
    let table = board_sheet(Format::Table, &boards).table() + &notes(&boards);
    expect![[r#"
        board                kind        health       runs            cell                 waiting  free in
        ───────────────────────────────────────────────────────────────────────────────────────────────────
        host-1/mps2-an386.0  mps2-an386  good         –               –                          –  –
        host-1/riscv32.0     riscv32     good         j0000000000001  q8_0 kv f16 p16 n16        2  ~2 min
        host-2/riscv32.0     mps2-an386  maintenance  –               –                          –  –
        host-2/riscv32.1     mps2-an386  bad          –               –                          –  –

        host-2/riscv32.0: reserved by ann@desk, 1 h 40 min left
        host-2/riscv32.1: its line is silent
    "#]]
    .assert_eq(&table);
    assert!(table.lines().all(|line| line.chars().count() <= 100));
    expect![[r#"
        board,kind,worker,health,runs,firmware,labels,reason,task,scenario,mark,marked by,reserved (ms),waiting,busy (ms)
        host-1/mps2-an386.0,mps2-an386,host-1,good,,,,,,,,,,0,
        host-1/riscv32.0,riscv32,host-1,good,j0000000000001,,,,t00000000000000000000000001,q8_0 kv f16 p16 n16,,,,2,125000
        host-2/riscv32.0,mps2-an386,host-2,maintenance,,,,,,,reserved,ann@desk,6000000,0,
        host-2/riscv32.1,mps2-an386,host-2,bad,,,,its line is silent,,,,,,0,
    "#]].assert_eq(&board_sheet(Format::Csv, &boards).csv());
}

#[test]
fn a_worker_that_drains_says_so_once() {
    let worker = |health: &str, draining| WorkerStatus {
        id: "host-1".into(),
        address: "10.0.0.1:7451".into(),
        health: health.into(),
        boards: 4,
        epoch: 3,
        last_heard_ms: Some(420),
        version: "0.1.0".into(),
        found_by: "mdns".into(),
        draining,
        attempts: 2,
        ..WorkerStatus::default()
    };
    let workers =
        [worker("alive", false), worker("alive", true), worker("draining", true), worker("dead", true)];
    expect![[r#"
        worker  address        health           boards  attempts  epoch  heard  version  found by
                                                                         s ago
        ─────────────────────────────────────────────────────────────────────────────────────────
        host-1  10.0.0.1:7451  alive                 4         2      3    0.4  0.1.0    mdns
        host-1  10.0.0.1:7451  alive, draining       4         2      3    0.4  0.1.0    mdns
        host-1  10.0.0.1:7451  draining              4         2      3    0.4  0.1.0    mdns
        host-1  10.0.0.1:7451  dead, draining        4         2      3    0.4  0.1.0    mdns
    "#]]
    .assert_eq(&worker_sheet(Format::Table, &workers).table());
    expect![[r#"
        worker,address,health,boards,attempts,epoch,heard (s ago),version,found by,draining,reason
        host-1,10.0.0.1:7451,alive,4,2,3,0.4,0.1.0,mdns,false,
        host-1,10.0.0.1:7451,alive,4,2,3,0.4,0.1.0,mdns,true,
    "#]]
    .assert_eq(&worker_sheet(Format::Csv, &workers[..2]).csv());
}

#[test]
fn why_a_worker_is_not_served_stands_below_the_table() {
    let refused = WorkerStatus {
        address: "10.0.0.2:7451".into(),
        health: "dead".into(),
        reason: Some("it was claimed by another cluster;\nadopt it".into()),
        ..WorkerStatus::default()
    };
    let contested = WorkerStatus {
        id: "host-1".into(),
        reason: Some("two machines claim this worker id".into()),
        ..refused.clone()
    };
    let served = WorkerStatus { reason: None, ..contested.clone() };
    let table = worker_sheet(Format::Table, &[refused.clone(), contested.clone()]).table();
    assert!(!table.contains("claim"), "{table}");
    expect![[r#"

        10.0.0.2:7451: it was claimed by another cluster; adopt it
        host-1: two machines claim this worker id
    "#]]
    .assert_eq(&reasons(&[refused, served.clone(), contested]));
    assert_eq!(reasons(&[served]), "");
}
