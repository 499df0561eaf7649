use std::{net::SocketAddr, process::Stdio, time::Duration};

use edgeprof_common::run::{RunRecord, RunState};
use expect_test::expect;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    command::{code, command, edgeprof, err, fake, interrupt, out, record},
    fake::JOB,
    files::Files,
};

#[tokio::test(flavor = "multi_thread")]
async fn run_uploads_submits_follows_and_prints_whole_records() {
    let (fake, files) = (fake([record(1)]), Files::new());
    let state = fake.state.clone();
    let address = fake.start().await;
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let line = ["run", "-m", &model, "--tokenizer", &tokenizer, "-b", "all", "-n", "3", "-o", "json"];
    let output = edgeprof(address, &line).await;
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    let runs: Vec<RunRecord> = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(runs, [record(1)]);
    assert!(!out(&output).contains("null"));
    {
        let state = state.lock().unwrap();
        let blobs: Vec<_> = state.blobs.values().map(Vec::len).collect();
        assert_eq!(blobs.len(), 2, "model and tokenizer");
        let spec = state.spec.clone().unwrap();
        assert_eq!((spec.models[0].name.as_str(), spec.models[0].tokenizer.is_some()), ("tiny.bin", true));
        assert_eq!((spec.n_prompt, spec.n_gen), (vec![16], vec![3]));
    }
    let output = edgeprof(address, &line[..line.len() - 2]).await;
    assert_eq!(code(&output), 0);
    expect![[r#"
        model tiny.bin · weights native · kv f16 · context 8 · prompt 5 tokens · generate up to 3 · greedy

        board               cpu             prefill       decode  estimated    arena  weights  check   state
                                        instr/token  instr/token      tok/s
        ────────────────────────────────────────────────────────────────────────────────────────────────────
        lab-1/mps2-an386-0  cortex-m4f    2,384,916    2,384,916    ~4.8–10  212 KiB   20 KiB  hash ✓  ok

        counts: emulated instructions (qemu 7.2.0), the same on every run
        ~ tok/s: estimated from cpi-bounds-cortex-m4-v1, uncalibrated

        generated text:
          there was
    "#]]
    .assert_eq(&out(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_cell_ends_with_1_and_is_in_the_output() {
    let mut bad = record(2);
    bad.state = RunState::Invalid;
    bad.reasons = vec!["the logits differ from the host's".into()];
    let address = fake([record(1), bad]).start().await;
    let output = edgeprof(address, &["results", JOB, "-o", "jsonl"]).await;
    assert_eq!(code(&output), 1);
    assert_eq!(out(&output).lines().count(), 2);
    let output = edgeprof(address, &["results", JOB]).await;
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("[1] invalid: the logits differ from the host's"), "{}", out(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_prints_the_job_id_last_and_survives_a_lost_answer() {
    let (fake, files) = (fake([record(1)]), Files::new());
    fake.state.lock().unwrap().lose_submission = true;
    let state = fake.state.clone();
    let address = fake.start().await;
    std::fs::write(
        files.path("job.toml"),
        "model = \"tiny.bin\"\ntokenizer = \"tok.bin\"\nboard = \"all\"\nsuite = \"quick\"\n",
    )
    .unwrap();
    let output = edgeprof(address, &["submit", "-f", &files.text("job.toml")]).await;
    assert_eq!((code(&output), out(&output).split_whitespace().last()), (0, Some(JOB)), "{}", err(&output));
    let state = state.lock().unwrap();
    assert_eq!(state.keys.len(), 2);
    assert_eq!(state.keys[0], state.keys[1]);
    assert_eq!(state.spec.as_ref().unwrap().suite.as_deref(), Some("quick"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_job_ends_with_2_and_shows_the_coordinators_hint() {
    let files = Files::new();
    let address = fake([]).start().await;
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let output = edgeprof(address, &["run", "-m", &model, "--tokenizer", &tokenizer, "-b", "nosuch"]).await;
    assert_eq!(code(&output), 2);
    assert_eq!(err(&output), "error: no board matches nosuch\nhint: edgeprof boards lists them\n");
    let output = edgeprof(address, &["show", "j0000000000009"]).await;
    assert_eq!((code(&output), err(&output).as_str()), (2, "error: no job j0000000000009\n"));
    let output = edgeprof(address, &["show", "42"]).await;
    assert_eq!(code(&output), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_before_the_cluster_is_asked() {
    let files = Files::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    std::fs::write(files.path("photo.gguf"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0").unwrap();
    let whole = std::fs::read(files.path("tiny.bin")).unwrap();
    std::fs::write(files.path("cut.bin"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(files.path("badtok.bin"), b"\x05\0\0\0\0").unwrap();
    let tokenizer = files.text("tok.bin");
    for (model, more, said) in [
        ("photo.gguf", vec![], "photo.gguf: "),
        ("cut.bin", vec!["--tokenizer", &tokenizer], "truncated"),
        ("tiny.bin", vec![], "--tokenizer"),
        ("tiny.bin", vec!["--tokenizer", "/nowhere/tok.bin"], "/nowhere/tok.bin"),
        ("tiny.bin", vec!["--tokenizer", &files.text("badtok.bin")], "badtok.bin: "),
        ("tiny.bin", vec!["--tokenizer", &tokenizer, "--firmware", &tokenizer], "no ELF"),
    ] {
        let model = files.text(model);
        let line = [vec!["run", "-m", &model, "-b", "all"], more].concat();
        let output = edgeprof(nobody, &line).await;
        let text = err(&output);
        assert_eq!(code(&output), 2, "{text}");
        assert!(text.starts_with("error: ") && text.contains(said) && text.contains("\nhint: "), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_cluster_ends_with_3_and_says_who_was_tried() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let output = edgeprof(address, &["boards"]).await;
    assert_eq!(code(&output), 3);
    let text = err(&output);
    assert!(text.contains(&address.to_string()) && text.contains("from EDGEPROF_COORDINATOR"), "{text}");
    assert!(text.contains("\nhint: start one with `edgeprof-coordinator`"), "{text}");
    let output = edgeprof(address, &["boards", "--coordinator", "not a url"]).await;
    assert_eq!(code(&output), 2, "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_resumes_by_number_after_a_restart_and_says_so_once() {
    let fake = fake([record(1)]);
    fake.state.lock().unwrap().break_watch = true;
    let state = fake.state.clone();
    let address = fake.start().await;
    let output = edgeprof(address, &["watch", JOB, "--progress", "plain"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(state.lock().unwrap().watched_after, [0, 7]);
    let said = err(&output).replace(&address.to_string(), "ADDR");
    expect![[r#"
        lab-1/mps2-an386-0 native kv f16 p5 n3: run 25%
        lost the coordinator at http://ADDR (the coordinator stops), trying again
        the coordinator is back
        lab-1/mps2-an386-0 native kv f16 p5 n3: succeeded
    "#]]
    .assert_eq(&said);
    expect![[r#"
        job j0000000000001 is succeeded: 1 of 1 cells done, 0 failed
        submitted 2026-01-01T00:00:00Z · priority normal

        task                         state      boards  board               scenario             attempts
        ─────────────────────────────────────────────────────────────────────────────────────────────────
        t00000000000000000000000001  succeeded  all     lab-1/mps2-an386-0  native kv f16 p5 n3         1
    "#]]
    .assert_eq(&out(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_interrupt_cancels_the_job_and_waits_for_its_end() {
    let mut cut = record(1);
    cut.state = RunState::Cancelled;
    let (fake, files) = (fake([cut]), Files::new());
    fake.state.lock().unwrap().endless = true;
    let (state, watching) = (fake.state.clone(), fake.watching.clone());
    let address = fake.start().await;
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let line = ["run", "-m", &model, "--tokenizer", &tokenizer, "-b", "all", "-o", "json"];
    let child = command(Some(address), &line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    watching.notified().await;
    interrupt(&child);
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    assert!(state.lock().unwrap().cancelled);
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert_eq!(err(&output), format!("cancelling {JOB}; press Ctrl-C again to leave at once\n"));
    let runs: Vec<RunRecord> = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(runs[0].state, RunState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_interrupt_leaves_at_once() {
    let (fake, files) = (fake([record(1)]), Files::new());
    (fake.state.lock().unwrap().endless, fake.state.lock().unwrap().deaf) = (true, true);
    let watching = fake.watching.clone();
    let address = fake.start().await;
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let line = ["run", "-m", &model, "--tokenizer", &tokenizer, "-b", "all"];
    let mut child =
        command(Some(address), &line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    watching.notified().await;
    interrupt(&child);
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).await.unwrap();
    assert!(said.starts_with("cancelling"), "{said}");
    interrupt(&child);
    let output =
        tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((code(&output), out(&output).as_str()), (130, ""));
}

#[tokio::test]
async fn a_private_lab_and_a_standing_one_exclude_each_other() {
    for line in [
        &["--coordinator", "http://127.0.0.1:1", "run", "--local", "-m", "x", "-b", "all"][..],
        &["run", "--local", "-m", "x", "-b", "all", "--coordinator", "http://127.0.0.1:1"],
    ] {
        let output = command(None, line).output().await.unwrap();
        assert_eq!(code(&output), 2);
        let said = err(&output);
        assert!(said.contains("--local and --coordinator") && said.contains("hint: leave one"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_tables_for_people_and_arrays_for_programs() {
    let address = fake([record(1)]).start().await;
    let mut all = String::new();
    for line in [&["boards"][..], &["workers"], &["jobs"], &["show", JOB], &["cancel", JOB], &["suites"]] {
        let output = edgeprof(address, line).await;
        assert_eq!(code(&output), 0, "{}", err(&output));
        all += &format!("$ edgeprof {}\n{}\n", line.join(" "), out(&output));
    }
    expect![[r#"
        $ edgeprof boards
        board               kind        worker  health
        ──────────────────────────────────────────────
        lab-1/mps2-an386-0  mps2-an386  lab-1   good

        $ edgeprof workers
        worker  address         health  boards  attempts  epoch  heard  version  found by
                                                                 s ago
        ─────────────────────────────────────────────────────────────────────────────────
        lab-1   127.0.0.1:7451  alive        1         0      3    0.4  0.1.0    static

        $ edgeprof jobs
        job             state      submitted             cells  done  failed  priority
        ──────────────────────────────────────────────────────────────────────────────
        j0000000000001  succeeded  2026-01-01T00:00:00Z      1     1       0  normal

        $ edgeprof show j0000000000001
        job j0000000000001 is succeeded: 1 of 1 cells done, 0 failed
        submitted 2026-01-01T00:00:00Z · priority normal

        task                         state      boards  board               scenario             attempts
        ─────────────────────────────────────────────────────────────────────────────────────────────────
        t00000000000000000000000001  succeeded  all     lab-1/mps2-an386-0  native kv f16 p5 n3         1

        $ edgeprof cancel j0000000000001
        cancelling

        $ edgeprof suites
        suite           cells  tests                                    about
                      a board
        ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
        quick               2  --prompt "Once upon a time" -p 16 -n 16  a real prompt and a synthetic one, in seconds
        length-sweep        6  -p 8,32,128 -n 16,64                     how cost grows with the prompt and with the text

    "#]].assert_eq(&all);
    for what in ["boards", "workers", "jobs"] {
        let output = edgeprof(address, &[what, "-o", "json"]).await;
        let list: Vec<serde_json::Value> = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(list.len(), 1);
        assert!(list[0].get("tasks").is_none());
    }
    let output = edgeprof(address, &["show", JOB, "-o", "json"]).await;
    let job: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&job["job_id"], &job["state"]), (&JOB.into(), &"cancelled".into()));
    assert_eq!(job["tasks"][0]["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_show_every_attempt_and_nothing_of_a_board_reaches_the_terminal_raw() {
    let address = fake([record(1)]).start().await;
    let output = edgeprof(address, &["logs", JOB]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    expect![[r#"
        == t1 (quick) on host-1/riscv32.0: failed
        +0.1 ← noise \u{1b}[31m

        == t1 (quick) on host-1/riscv32.0: succeeded
        +0.2 all well
    "#]]
    .assert_eq(&out(&output));
    let output = edgeprof(address, &["logs", JOB, "-o", "json"]).await;
    let logs: Vec<serde_json::Value> = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((logs.len(), &logs[1]["outcome"]), (2, &"succeeded".into()));
    let output = edgeprof(address, &["logs", "j0000000000009"]).await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("j0000000000009"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn board_check_names_what_is_wrong_and_the_way_out() {
    let address = fake([record(1)]).start().await;
    let output = edgeprof(address, &["board", "check", "host-1/good"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let output = edgeprof(address, &["board", "check", "host-1/bad"]).await;
    assert_eq!(code(&output), 1);
    expect![[r#"
        check  state    found               remedy
        ─────────────────────────────────────────────────────
        line   problem  line was looked at  plug the board in
    "#]]
    .assert_eq(&out(&output));
    let output = edgeprof(address, &["board", "check", "host-1/none"]).await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("no board host-1/none"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn model_inspect_needs_no_cluster() {
    let files = Files::new();
    let line = ["model", "inspect", &files.text("tiny.bin")];
    let output = command(None, &line).output().await.unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    expect![[r#"
        property         value
        ────────────────────────────────────────────────────
        format           llama2.c
        architecture     llama
        parameters       16,864 (17 K)
        file             70 KiB
        weights          66 KiB in 11 tensors
          F32            11 tensors, 17 K parameters, 66 KiB
        layers           1
        dimensions       32, feed-forward 32
        heads            2, 2 for keys and values, 16 wide
        vocabulary       300
        trained context  64 tokens
        tokenizer        none in the file
        runs here        yes
    "#]]
    .assert_eq(&out(&output));
    let output = command(None, &["model", "inspect", "/nowhere/m.gguf"]).output().await.unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("/nowhere/m.gguf"));
}
