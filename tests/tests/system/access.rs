//! Who may do what, as people and scripts show who they are.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use edgeprof_tests::{Finished, Lab, secret_in};

use crate::{job, model};

/// A lab that logs all there is to log.
fn talkative() -> Lab {
    let mut lab = Lab::with_addresses(&[&["mps2-an386"]]);
    lab.kill_coordinator();
    lab.start_coordinator_with(|command| {
        command.env("EDGEPROF_LOG", "trace");
    });
    lab.wait_for_boards(1);
    lab
}

fn with_token(lab: &Lab, token: &str, arguments: &[&str]) -> Finished {
    Finished::of(lab.client_command().args(arguments).env("EDGEPROF_TOKEN", token))
}

#[test]
fn tokens_open_what_their_roles_may_and_stand_in_no_log() {
    let lab = talkative();
    let mut said = Vec::new();
    let file = lab.folder().join("nightly.token");
    let path = file.to_str().unwrap();
    let issued = lab.client(&["token", "issue", "nightly", "--role", "submitter", "--to", path]);
    assert_eq!(issued.code, 0, "{issued:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    said.push(issued);
    let shown = lab.client(&["token", "issue", "guest", "--role", "viewer"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let guest = shown.stdout.trim().to_owned();
    assert!(secret_in(&guest, lab.folder()).is_some(), "the search knows what it looks for");
    assert!(!shown.stderr.contains(&guest), "{shown:?}");

    // A whole job by a token in a file; the name is the token's.
    let model = model();
    let mut run = vec!["run", "--token-file", path, "-o", "json"];
    run.extend(job(&model, &["mps2-an386"], "2"));
    let ran = lab.client(&run);
    assert_eq!(ran.code, 0, "{ran:?}");
    let jobs = lab.json(&["jobs"]);
    assert_eq!(jobs[0]["submitter"], "nightly", "{jobs}");
    said.push(ran);

    // The guest may look, and is told what it may not.
    let me = with_token(&lab, &guest, &["whoami"]);
    assert_eq!((me.code, me.stdout.as_str()), (0, "guest, viewer by token\n"), "{me:?}");
    let id = jobs[0]["job_id"].as_str().unwrap();
    let refused = with_token(&lab, &guest, &["cancel", id]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.stderr.contains("CancelJob needs the role submitter, and guest (viewer, by token) has not")
            && refused.stderr.contains("hint: "),
        "{refused:?}"
    );
    said.push(refused);

    // Others may not be able to read it, and it does not leave this machine in the clear.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = lab.client(&["whoami", "--token-file", path]);
    assert_eq!(open.code, 2, "{open:?}");
    assert!(open.stderr.contains("chmod 600"), "{open:?}");
    said.push(open);
    said.push(with_token(&lab, "edgeprof_nonsense", &["boards"]));
    assert!(said.last().unwrap().stderr.contains("none of this coordinator's"), "{said:?}");

    let revoked = lab.client(&["token", "revoke", "guest"]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    assert_eq!(with_token(&lab, &guest, &["boards"]).code, 2);
    let log = lab.json(&["audit", "--limit", "1000"]);
    let has = |rpc: &str, who: &str, outcome: &str| {
        let of = |e: &serde_json::Value| e["rpc"] == rpc && e["who"] == who && e["outcome"] == outcome;
        log.as_array().unwrap().iter().any(of)
    };
    assert!(has("IssueToken", "local", "done") && has("RevokeToken", "local", "done"), "{log}");
    assert!(has("PutArtifact", "nightly", "done") && has("SubmitJob", "nightly", "done"), "{log}");
    assert!(has("CancelJob", "guest", "refused"), "{log}");
    assert!(has("ListBoards", "", "refused"), "{log}");
    let list = lab.json(&["token", "list"]);
    assert_eq!((list.as_array().unwrap().len(), list[0]["name"].as_str()), (1, Some("nightly")), "{list}");
    assert!(list[0]["used_at"].is_string(), "{list}");

    // At the level `trace` HTTP/2 tells of each header. That the daemons' logs have none of it is looked at when
    // they end; this is what the client has said.
    let coordinator = lab.coordinator.as_ref().unwrap().log();
    assert!(coordinator.contains("TRACE"), "it logs all there is");
    for text in said.iter().map(|said| format!("{}{}", said.stdout, said.stderr)).chain([coordinator]) {
        assert_eq!(secret_in(&text, lab.folder()), None, "{text}");
        assert!(!text.contains(&guest), "{text}");
    }
}

/// The same over TLS, where whoever shows nothing is nobody.
#[test]
fn a_certificate_has_a_role_and_who_has_none_may_show_a_token() {
    let mut lab = Lab::new();
    lab.secure();
    lab.start(&[]);
    lab.pki().run(&["issue", "client", "bob", "--role", "viewer"]);
    let folder = lab.pki().of("client bob");
    let on = |folder: &Path, token: &str, arguments: &[&str]| {
        let mut command = lab.client_command();
        command.args(arguments).env("EDGEPROF_TLS_DIR", folder);
        if !token.is_empty() {
            command.env("EDGEPROF_TOKEN", token);
        }
        Finished::of(&mut command)
    };
    let me = on(&folder, "", &["whoami"]);
    assert_eq!((me.code, me.stdout.as_str()), (0, "bob, viewer by certificate\n"), "{me:?}");
    let refused = on(&folder, "", &["token", "list"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let said = "ListTokens needs the role admin, and bob (viewer, by certificate) has not";
    assert!(refused.stderr.contains(said), "{refused:?}");

    // The lab's own certificate is an admin's.
    let issued = lab.client(&["token", "issue", "ci", "--role", "submitter"]);
    assert_eq!(issued.code, 0, "{issued:?}");
    let token = issued.stdout.trim();
    // Who knows the authority alone can tell the coordinator, and has nothing to show for themselves.
    let bare = lab.folder().join("bare");
    fs::create_dir(&bare).unwrap();
    fs::copy(folder.join("ca.pem"), bare.join("ca.pem")).unwrap();
    let nobody = on(&bare, "", &["boards"]);
    assert_eq!(nobody.code, 2, "{nobody:?}");
    assert!(nobody.stderr.contains("neither certificate nor token"), "{nobody:?}");
    let me = on(&bare, token, &["whoami"]);
    assert_eq!((me.code, me.stdout.as_str()), (0, "ci, submitter by token\n"), "{me:?}");
    let me = on(&folder, token, &["whoami"]);
    assert_eq!(me.stdout, "ci, submitter by token\n", "a token counts alone: {me:?}");

    let log = lab.json(&["audit"]);
    let log = log.as_array().unwrap();
    assert!(
        log.iter().any(|e| e["who"] == "bob" && e["via"] == "certificate" && e["outcome"] == "refused"),
        "{log:?}"
    );
    let admin = |e: &&serde_json::Value| e["rpc"] == "IssueToken" && e["outcome"] == "done";
    assert_eq!(log.iter().find(admin).unwrap()["via"], "certificate", "{log:?}");
    assert!(log.iter().any(|e| e["who"] == "" && e["rpc"] == "ListBoards"), "{log:?}");
}
