//! Tokens, and who did what.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Output};

use crate::{
    command::{code, command, edgeprof, err, fake, out, record},
    fake::SECRET,
    files::Files,
};

async fn with_token(address: SocketAddr, token: &str, line: &[&str]) -> Output {
    command(Some(address), line).env("EDGEPROF_TOKEN", token).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_token_is_its_holder() {
    let fake = fake([record(1)]);
    let state = fake.state.clone();
    let address = fake.start().await;
    let output = edgeprof(address, &["whoami"]).await;
    assert_eq!(out(&output), "admin: the coordinator asks nobody who they are\n", "{output:?}");
    let output = with_token(address, SECRET, &["whoami"]).await;
    assert_eq!(out(&output), "ann, viewer by token\n", "{output:?}");
    let output = with_token(address, "two words", &["whoami"]).await;
    assert_eq!((code(&output), out(&output).as_str()), (2, ""));
    assert!(err(&output).starts_with("error: what stands in EDGEPROF_TOKEN is no token\n"), "{output:?}");
    assert_eq!(code(&with_token(address, "edgeprof_1", &["whoami"]).await), 2);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let path = file.to_str().unwrap();
    let missing = edgeprof(address, &["whoami", "--token-file", path]).await;
    assert_eq!(code(&missing), 2, "{missing:?}");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    for (mode, ends) in [(0o600, 0), (0o640, 2)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let output = edgeprof(address, &["whoami", "--token-file", path]).await;
        assert_eq!(code(&output), ends, "{output:?}");
        assert!(!err(&output).contains(SECRET), "{output:?}");
    }

    // Who shows who they are says nothing else, unless they act for somebody.
    let files = Files::new();
    let (model, tokenizer) = (files.text("tiny.bin"), files.text("tok.bin"));
    let submit = |more: &[&'static str]| {
        let line = [&["submit", "-m", &model, "--tokenizer", &tokenizer, "-b", "all"][..], more].concat();
        line.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (line, token, submitter) in [
        (submit(&[]), Some(SECRET), Some("")),
        (submit(&["--as", "nightly"]), Some(SECRET), Some("nightly")),
        (submit(&[]), None, None),
    ] {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let output = match token {
            Some(token) => with_token(address, token, &line).await,
            None => edgeprof(address, &line).await,
        };
        assert_eq!(code(&output), 0, "{output:?}");
        let said = state.lock().unwrap().submitters.pop().unwrap();
        match submitter {
            Some(submitter) => assert_eq!(said, submitter),
            None => assert!(said.contains('@'), "{said}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_or_put_into_a_file_of_ones_own() {
    let address = fake([]).start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ci.token");
    let path = file.to_str().unwrap();
    let output = edgeprof(address, &["token", "issue", "ci", "--role", "submitter"]).await;
    assert_eq!((code(&output), out(&output)), (0, format!("{SECRET}\n")));
    assert!(err(&output).contains("the only time") && !err(&output).contains(SECRET), "{output:?}");
    let output = edgeprof(address, &["token", "issue", "taken", "--role", "viewer", "--to", path]).await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("token revoke taken") && !file.exists(), "{output:?}");
    let output =
        edgeprof(address, &["token", "issue", "ci", "--role", "viewer", "--to", path, "-o", "json"]).await;
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(!out(&output).contains(SECRET) && out(&output).contains("\"ci\""), "{output:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{SECRET}\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let output = edgeprof(address, &["token", "issue", "ci", "--role", "viewer", "--to", path]).await;
    assert_eq!(code(&output), 2, "nothing is overwritten");
    let output = edgeprof(address, &["token", "list", "-o", "csv"]).await;
    assert_eq!(
        out(&output),
        "token,role,only,expires,last used,issued,issued by,expired\n\
         ci,submitter,ListJobs,2026-02-01T00:00:00Z,,2026-01-01T00:00:00Z,ann,\n"
    );
    let output = edgeprof(address, &["token", "revoke", "ci"]).await;
    assert_eq!(out(&output), "the token of ci opens nothing any more\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_comes_in_pages_and_is_shown_as_it_happened() {
    let address = fake([]).start().await;
    let numbers = |output: &Output| -> Vec<u64> {
        let list: serde_json::Value = serde_json::from_str(&out(output)).unwrap();
        list.as_array().unwrap().iter().map(|entry| entry["number"].as_u64().unwrap()).collect()
    };
    let all = edgeprof(address, &["audit", "-o", "json"]).await;
    assert_eq!(numbers(&all), [1, 2, 3, 4, 5]);
    let three =
        edgeprof(address, &["audit", "-o", "json", "--limit", "3", "--who", "bob", "--since", "2h"]).await;
    assert_eq!(numbers(&three), [3, 4, 5]);
    assert!(out(&three).contains("\"bob\""));
}
