//! `edgeprof pki`, and certificates of the client that cannot be used.

use std::{path::Path, process::Output};

use crate::command::command;

async fn edgeprof(home: &Path, line: &[&str]) -> Output {
    command(None, line)
        .env("HOME", home)
        .env_remove("EDGEPROF_PKI")
        .env_remove("EDGEPROF_TLS_DIR")
        .output()
        .await
        .unwrap()
}

fn said(out: &Output) -> (Option<i32>, String) {
    let text = [&out.stdout[..], &out.stderr].concat();
    (out.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn a_lab_is_made_listed_and_revoked_and_each_answer_names_the_next_step() {
    let home = tempfile::tempdir().unwrap();
    let pki = async |line: &[&str]| said(&edgeprof(home.path(), &[&["pki"], line].concat()).await);
    let (code, text) = pki(&["issue", "coordinator"]).await;
    assert!(code == Some(2) && text.contains("hint: make one with `edgeprof pki init`"), "{text}");
    let (code, text) = pki(&["init", "--lab", "attic"]).await;
    assert!(code == Some(0) && text.contains(".config/edgeprof/pki/ca.key"), "{text}");
    let (code, text) = pki(&["init"]).await;
    assert!(code == Some(2) && text.contains("already") && text.contains("--dir"), "{text}");
    for line in [&["worker", "host-1"][..], &["client", "ann", "--role", "operator"]] {
        let (code, text) = pki(&[&["issue"], line].concat()).await;
        assert!(code == Some(0) && text.contains("copy ") && text.contains("good until"), "{text}");
    }
    let (code, text) = pki(&["issue", "client", "bob", "--role", "root"]).await;
    assert!(code == Some(2) && text.contains("root"), "{text}");
    let (code, text) = pki(&["issue", "worker", "../x"]).await;
    assert!(code == Some(2) && text.contains("cannot be a name"), "{text}");
    let (code, text) = pki(&["revoke", "ann", "--reason", "key-compromise"]).await;
    assert!(code == Some(0) && text.contains("crl.pem") && text.contains("no restart"), "{text}");
    let (_, text) = pki(&["list", "-o", "csv"]).await;
    let rows: Vec<_> = text.lines().collect();
    assert!(rows[1].starts_with("worker/host-1,,good,"), "{text}");
    assert!(
        rows[2].starts_with("client/ann,operator,revoked,") && rows[2].ends_with("key-compromise"),
        "{text}"
    );
    let (code, text) = pki(&["renew", "ann"]).await;
    assert!(
        code == Some(2) && text.contains("`edgeprof pki issue client ann --role operator`"),
        "the way out is a whole command: {text}"
    );
    let (code, text) = pki(&["publish", "--coordinator", "http://127.0.0.1:1"]).await;
    assert!(code == Some(3) && text.contains("refused"), "{text}");
    std::fs::remove_file(home.path().join(".config/edgeprof/pki/ca.key")).unwrap();
    let (code, text) = pki(&["list"]).await;
    assert!(code == Some(2) && text.contains("ca.key") && text.contains("hint: restore it"), "{text}");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_said_before_anybody_is_dialled() {
    let home = tempfile::tempdir().unwrap();
    let tls = home.path().join(".config/edgeprof/tls");
    std::fs::create_dir_all(&tls).unwrap();
    let (code, text) = said(&edgeprof(home.path(), &["jobs", "--coordinator", "127.0.0.1:1"]).await);
    assert!(code == Some(2) && text.contains("tls/ca.pem") && text.contains("edgeprof pki issue"), "{text}");
    // Who asks for no TLS needs none.
    let (code, text) = said(&edgeprof(home.path(), &["jobs", "--coordinator", "http://127.0.0.1:1"]).await);
    assert!(code == Some(3) && text.contains("refused"), "{text}");
    std::fs::remove_dir(&tls).unwrap();
    let (code, text) = said(&edgeprof(home.path(), &["jobs", "--coordinator", "https://127.0.0.1:1"]).await);
    assert!(code == Some(3) && text.contains("no certificates") && text.contains("--tls-dir"), "{text}");
}
