//! Workers and boards in the hands of an operator.

use expect_test::expect;

use crate::{
    command::{code, edgeprof, err, fake, out, record},
    fake::{BOARD, Fake, JOB},
};

fn quiet() -> Fake {
    fake([record(1)])
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_says_what_runs_and_waits_until_nothing_does() {
    let fake = quiet();
    fake.state.lock().unwrap().attempts = 3;
    let state = fake.state.clone();
    let address = fake.start().await;
    let output = edgeprof(address, &["drain", "lab-1"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    expect![[r#"
        lab-1 gets no new work; 3 attempts on its boards:
          lab-1/mps2-an386-0: j0000000000001 · native kv f16 p5 n3 · 2 waiting
        2 attempts left
        1 attempt left
    "#]]
    .assert_eq(&err(&output));
    expect![[r#"
        lab-1 is drained: nothing runs there, and it gets no new work
    "#]]
    .assert_eq(&out(&output));
    assert!(state.lock().unwrap().draining);
    let output = edgeprof(address, &["drain", "lab-1", "--undo"]).await;
    assert_eq!((code(&output), out(&output).as_str()), (0, "lab-1 takes work again\n"));
    assert!(!state.lock().unwrap().draining);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_somebody_undoes_is_no_success() {
    let fake = quiet();
    (fake.state.lock().unwrap().attempts, fake.state.lock().unwrap().undoes) = (2, true);
    let address = fake.start().await;
    let output = edgeprof(address, &["drain", "lab-1"]).await;
    assert_eq!((code(&output), out(&output).as_str()), (1, "lab-1 takes work again\n"));
    assert!(err(&output).ends_with("hint: somebody undid the drain; edgeprof drain lab-1 drains it again\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_leaves_at_once_where_nobody_waits() {
    let fake = quiet();
    fake.state.lock().unwrap().attempts = 2;
    let address = fake.start().await;
    let output = edgeprof(address, &["drain", "lab-1", "--no-wait", "-o", "json"]).await;
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    let status: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&status["draining"], &status["attempts"]), (&true.into(), &2.into()));
    assert_eq!((&status["running"][0]["id"], &status["running"][0]["job_id"]), (&BOARD.into(), &JOB.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_ends_with_2_and_the_names_that_are_close() {
    let address = quiet().start().await;
    let mut all = String::new();
    for line in [
        &["drain", "lab1"][..],
        &["quarantine", "mps2-an386-0", "--reason", "x"],
        &["unquarantine", "lab-1/mps2-an385-0"],
        &["board", "reserve", "lab-1/mps2-an386", "--for", "2h"],
        &["board", "reset", "teapot"],
        &["board", "console", "teapot"],
        &["board", "check", "lab-1/mps2"],
    ] {
        let output = edgeprof(address, line).await;
        assert_eq!((code(&output), out(&output).as_str()), (2, ""), "{line:?}");
        all += &err(&output);
    }
    expect![[r#"
        error: there is no worker lab1
        hint: did you mean lab-1? edgeprof workers lists them
        error: there is no board mps2-an386-0
        hint: did you mean lab-1/mps2-an386-0? edgeprof boards lists them
        error: there is no board lab-1/mps2-an385-0
        hint: did you mean lab-1/mps2-an386-0? edgeprof boards lists them
        error: there is no board lab-1/mps2-an386
        hint: did you mean lab-1/mps2-an386-0? edgeprof boards lists them
        error: there is no board teapot
        hint: edgeprof boards lists them
        error: there is no board teapot
        hint: edgeprof boards lists them
        error: there is no board lab-1/mps2
        hint: did you mean lab-1/mps2-an386-0? edgeprof boards lists them
    "#]]
    .assert_eq(&all);
}

/// That a list failed says nothing about who is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_is_not_taken_for_an_empty_one() {
    let fake = quiet();
    fake.state.lock().unwrap().lists_fail = true;
    let address = fake.start().await;
    for (line, said) in [
        (&["drain", "lab1"][..], "error: there is no worker lab1\n"),
        (&["board", "check", "teapot"], "error: there is no board teapot\n"),
    ] {
        let output = edgeprof(address, line).await;
        assert_eq!((code(&output), err(&output).as_str()), (2, said));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_carry_who_set_them_and_one_is_not_taken_for_the_other() {
    let fake = quiet();
    let state = fake.state.clone();
    let address = fake.start().await;
    let mut all = String::new();
    for (line, ends) in [
        (&["quarantine", BOARD, "--reason", "its line is loose", "--as", "ann"][..], 0),
        (&["board", "reserve", BOARD, "--release"], 2),
        (&["boards"], 0),
        (&["unquarantine", BOARD], 0),
        (&["unquarantine", BOARD], 0),
        (&["board", "reserve", BOARD, "--for", "2h", "--as", "bob"], 0),
        (&["unquarantine", BOARD], 2),
        (&["board", "reserve", BOARD, "--for", "2h", "--as", "bob", "-o", "csv"], 0),
        (&["board", "reserve", BOARD, "--release"], 0),
        (&["quarantine", BOARD, "--reason", " "], 2),
        (&["board", "reserve", BOARD, "--for", "10ms"], 2),
    ] {
        let output = edgeprof(address, line).await;
        assert_eq!(code(&output), ends, "{line:?}: {}", err(&output));
        all += &format!("$ edgeprof {}\n{}{}\n", line.join(" "), out(&output), err(&output));
    }
    expect![[r#"
        $ edgeprof quarantine lab-1/mps2-an386-0 --reason its line is loose --as ann
        lab-1/mps2-an386-0 is quarantined by ann: its line is loose

        $ edgeprof board reserve lab-1/mps2-an386-0 --release
        error: lab-1/mps2-an386-0 is not reserved
        hint: it is quarantined by ann

        $ edgeprof boards
        board               kind        worker  health
        ──────────────────────────────────────────────
        lab-1/mps2-an386-0  mps2-an386  lab-1   good

        lab-1/mps2-an386-0: quarantined by ann: its line is loose

        $ edgeprof unquarantine lab-1/mps2-an386-0
        lab-1/mps2-an386-0 takes tasks again

        $ edgeprof unquarantine lab-1/mps2-an386-0
        lab-1/mps2-an386-0 takes tasks again

        $ edgeprof board reserve lab-1/mps2-an386-0 --for 2h --as bob
        lab-1/mps2-an386-0 is reserved by bob, 2 h left

        $ edgeprof unquarantine lab-1/mps2-an386-0
        error: lab-1/mps2-an386-0 is not quarantined
        hint: it is reserved by bob

        $ edgeprof board reserve lab-1/mps2-an386-0 --for 2h --as bob -o csv
        board,kind,worker,health,runs,firmware,labels,reason,task,scenario,mark,marked by,reserved (ms),waiting,busy (ms)
        lab-1/mps2-an386-0,mps2-an386,lab-1,good,,,,,,,reserved,bob,7200000,0,

        $ edgeprof board reserve lab-1/mps2-an386-0 --release
        lab-1/mps2-an386-0 takes tasks again

        $ edgeprof quarantine lab-1/mps2-an386-0 --reason  
        error: a quarantine needs a reason
        hint: say it to whoever finds the board so: --reason "its line is loose"

        $ edgeprof board reserve lab-1/mps2-an386-0 --for 10ms
        error: a reservation lasts a second at least
        hint: such as --for 2h

    "#]].assert_eq(&all);
    assert_eq!(state.lock().unwrap().mark, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn reset_says_what_became_of_the_board() {
    let fake = quiet();
    let state = fake.state.clone();
    let address = fake.start().await;
    let output = edgeprof(address, &["board", "reset", BOARD]).await;
    assert_eq!((code(&output), out(&output)), (0, format!("{BOARD} was restarted and is good\n")));
    state.lock().unwrap().failed = true;
    let output = edgeprof(address, &["board", "reset", BOARD]).await;
    assert_eq!(code(&output), 1);
    assert_eq!(out(&output), format!("{BOARD} was restarted and is bad: it does not answer\n"));
    assert_eq!(err(&output), format!("hint: edgeprof board check {BOARD} says what is wrong with it\n"));
    let output = edgeprof(address, &["board", "reset", BOARD, "-o", "json"]).await;
    let item: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&item["board"], &item["health"]), (&BOARD.into(), &"bad".into()));
}

/// By the time of a second one the board may be at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_whose_answer_is_lost_is_not_asked_for_again() {
    let fake = quiet();
    let state = fake.state.clone();
    state.lock().unwrap().lose_resets = true;
    let address = fake.start().await;
    let output = edgeprof(address, &["board", "reset", BOARD]).await;
    assert_eq!(code(&output), 3, "{}", err(&output));
    assert!(err(&output).contains("lost the coordinator"), "{}", err(&output));
    assert_eq!(state.lock().unwrap().resets, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_whole_story_of_a_job() {
    let address = quiet().start().await;
    let output = edgeprof(address, &["show", JOB, "--events"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    expect![[r#"
        t1 · quick · from 2026-01-01T00:00:00Z
          +0:00.000  submitted
          +0:00.250  offered    #1  lab-1/mps2-an386-0
          +0:04.500  lost       #1  lab-1/mps2-an386-0  lab-1 is dead
    "#]]
    .assert_eq(&out(&output));
    let output = edgeprof(address, &["show", "j0000000000009", "--events"]).await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("j0000000000009"), "{}", err(&output));
    let output = edgeprof(address, &["show", "42", "--events"]).await;
    assert_eq!(code(&output), 2);
}
