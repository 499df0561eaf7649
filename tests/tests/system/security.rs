//! Certificates: enrolment as it is documented, and those who have none, or not the right one.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use edgeprof_tests::{Daemon, Finished, Host, Lab, Lan, Pki, eventually, firmware, program, root};
use serde_json::Value;

use crate::{job, model};

/// Hosts that are set up by the commands of `docs/security.md` and nothing else. Each has folders of its own at
/// `/etc`, `/var/lib` and in the place of the home folder.
struct Documented {
    hosts: BTreeMap<&'static str, Host>,
    folder: tempfile::TempDir,
    daemons: Vec<Daemon>,
}

/// Stand for themselves on a machine where hosts are folders.
const SCP: &str = "#!/bin/sh -e
[ \"$1\" = -r ] && shift
for last in \"$@\"; do :; done
host=${last%%:*}; path=${last#*:}
while [ $# -gt 1 ]; do cp -r \"$1\" \"$HOSTS/$host$path\"; shift; done
";
const SSH: &str = "#!/bin/sh -e
host=$1; shift
[ \"$1 $2\" = 'mkdir -p' ]
mkdir -p \"$HOSTS/$host$3\"
";

impl Documented {
    fn new(lan: &Lan) -> Self {
        let folder = tempfile::Builder::new().prefix("edgeprof-docs-").tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        for (name, script) in [("scp", SCP), ("ssh", SSH)] {
            fs::write(tools.join(name), script).unwrap();
            fs::set_permissions(tools.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut hosts = BTreeMap::new();
        for name in ["desk", "lab", "host-1"] {
            let host = lan.host();
            for path in ["/etc", "/var/lib"] {
                let own = format!("{}/{name}{path}", folder.path().display());
                fs::create_dir_all(&own).unwrap();
                host.space().run("mount", &["--bind", &own, path]);
            }
            fs::create_dir_all(folder.path().join(name).join("home")).unwrap();
            hosts.insert(name, host);
        }
        Self { hosts, folder, daemons: Vec::new() }
    }

    fn command(&self, host: &str, name: &str) -> Command {
        let mut command = self.hosts[host].space().command(name);
        let bin = program("edgeprof").parent().unwrap().to_owned();
        let tools = self.folder.path().join("tools");
        let path = std::env::var_os("PATH").unwrap();
        let path = [tools, bin].into_iter().chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOSTS", self.folder.path())
            .env("HOME", self.folder.path().join(host).join("home"))
            .env("EDGEPROF_FIRMWARE", firmware())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, host: &str, script: &str) -> Finished {
        Finished::of(self.command(host, "sh").args(["-e", "-c", script]))
    }

    /// Does what a block of the document says: daemons go on, all else runs to its end.
    fn obey(&mut self, block: &Block) {
        if !block.script.starts_with("edgeprof-") {
            let done = self.run(block.host, &block.script);
            assert_eq!(done.code, 0, "{}: {done:?}", block.script);
            return;
        }
        let mut words = block.script.split_whitespace();
        let mut command = self.command(block.host, words.next().unwrap());
        command.args(words);
        self.daemons.push(Daemon::start(block.host, self.folder.path(), command));
    }

    fn json(&self, arguments: &str) -> Value {
        // By name: how long an announcement takes is no matter here.
        let address = self.hosts["lab"].address();
        let done = self.run("desk", &format!("edgeprof {arguments} -o json --coordinator {address}:7450"));
        assert_eq!(done.code, 0, "{arguments}: {done:?}");
        done.json()
    }
}

/// Commands of the document, and on which host.
struct Block {
    host: &'static str,
    script: String,
}

fn blocks() -> Vec<Block> {
    let text = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut blocks = Vec::new();
    for block in text.split("```sh\n").skip(1) {
        let (body, _) = block.split_once("```").unwrap();
        let (first, script) = body.split_once('\n').unwrap();
        let Some(host) = first.strip_prefix("# on ") else { continue };
        let host = ["desk", "lab", "host-1"].into_iter().find(|known| *known == host).unwrap();
        blocks.push(Block { host, script: script.trim().to_owned() });
    }
    blocks
}

#[test]
fn three_hosts_are_enrolled_renewed_and_revoked_by_the_documented_commands_alone() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Documented::new(&lan);
    let blocks = blocks();
    let [enrol, worker, coordinator, look, renew, revoke] = blocks.as_slice() else {
        panic!("the document has {} blocks", blocks.len());
    };
    for block in [enrol, worker, coordinator] {
        lab.obey(block);
    }
    // It may not have been announced yet.
    eventually("the coordinator is found", || (lab.run(look.host, &look.script).code == 0).then_some(()));
    eventually("the board is good", || {
        lab.json("boards").as_array()?.iter().any(|board| board["health"] == "good").then_some(())
    });
    let arguments = job(&model(), &["mps2-an386"], "4").join("' '");
    let runs = lab.json(&format!("run '{arguments}'"));
    assert_eq!(runs[0]["state"], "ok", "{runs}");

    lab.obey(renew);
    eventually("the worker has read its new certificate", || {
        lab.daemons[0].log().contains("certificates were read again").then_some(())
    });
    // Its session stands on the old one, which is good. Without it, the new one is shown.
    assert_eq!(lab.json("workers")[0]["health"], "alive");

    lab.obey(revoke);
    let refused = eventually("ann is refused", || {
        let address = lab.hosts["lab"].address();
        let done = lab.run("desk", &format!("edgeprof boards --coordinator {address}:7450"));
        // A call that is under way when the list is read is cut short; whoever dials after it is told why.
        (done.code != 0 && !done.stderr.contains("close_notify")).then_some(done)
    });
    let log = eventually("the refusal is told", || {
        // Her own list is the old one: it is the coordinator that refuses her.
        let log = lab.daemons[1].log();
        log.contains("revoked").then_some(log)
    });
    assert_eq!(refused.code, 3, "{refused:?}");
    for word in ["operator ann", "revoked", "edgeprof pki issue client ann"] {
        assert!(refused.stderr.contains(word), "{word:?} is not in {refused:?}");
    }
    assert!(log.contains("operator ann") && log.contains("serial="), "{log}");
}

/// What listens to who dials it.
struct Rogue {
    child: Child,
    heard: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Rogue {
    fn start(host: &Host, name: &str, site: &str) -> Self {
        let address = format!("{}:7451", host.address());
        let mut command = host.space().command(program("rogue"));
        let child = command.args([name, site, &address]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let heard = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, heard }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It takes the name of a worker that is there, and announces that it speaks no TLS.
#[test]
fn a_rogue_that_announces_itself_as_a_worker_gets_a_tls_greeting_and_nothing_more() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let site = lab.site().to_owned();
    let (first, second) = (lan.host(), lan.host());
    let mut rogues = [Rogue::start(&first, "host-1", &site), Rogue::start(&second, "host-9", &site)];
    // Where nobody is yet, it is dialled at once; where somebody is, when that one has gone.
    let hello = rogues[1].heard.next().unwrap().unwrap();
    assert!(hello.starts_with("160301") || hello.starts_with("160303"), "a TLS handshake, not {hello}");
    lab.workers[0].kill();
    let hello = rogues[0].heard.next().unwrap().unwrap();
    assert!(hello.starts_with("1603"), "a TLS handshake, not {hello}");
    let worker = lab.worker("host-1", &["mps2-an386"]);
    lab.workers[0] = worker;
    lab.wait_for_boards(1);
    let runs = lab.json(&[&["run"], job(&model(), &["mps2-an386"], "4").as_slice()].concat());
    assert_eq!(runs[0]["state"], "ok", "{runs}");
    let workers = lab.json(&["workers"]);
    let ghost = workers.as_array().unwrap().iter().find(|worker| worker["id"] == "host-9").unwrap();
    assert!(ghost["reason"].as_str().unwrap().contains("TLS"), "{workers}");
    assert_eq!(lab.json(&["boards"]).as_array().unwrap().len(), 1, "it has brought no board");
}

#[test]
fn a_worker_with_a_certificate_of_another_lab_gets_nothing_and_is_named() {
    let Some(lan) = Lan::new() else { return };
    let mut lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    let foreign = Pki::new(&lab.folder().join("foreign"));
    let ours = lab.pki().clone();
    lab.attach("host-2", lan.host());
    lab.trust(&foreign);
    let worker = lab.worker("host-2", &["mps2-an386"]);
    lab.trust(&ours);
    let reason = refusal_of(&lab, "host-2");
    for word in ["worker host-2", "another authority", "two labs"] {
        assert!(reason.contains(word), "{word:?} is not in {reason}");
    }
    assert_eq!(lab.json(&["boards"]).as_array().unwrap().len(), 1, "it has brought no board");
    drop(worker);
}

/// Why a worker is not served.
fn refusal_of(lab: &Lab, worker: &str) -> String {
    eventually(&format!("{worker} is refused"), || {
        let workers = lab.json(&["workers"]);
        let found = workers.as_array()?.iter().find(|found| found["id"] == worker)?.clone();
        Some(found["reason"].as_str()?.to_owned()).filter(|reason| reason.contains("certificate"))
    })
}

#[test]
fn a_worker_whose_certificate_is_revoked_loses_its_session_and_is_named() {
    let Some(lan) = Lan::new() else { return };
    let lab = Lab::on_hosts(&lan, &[&["mps2-an386"]]);
    // The list in the coordinator's folder is the authority's: nothing has to be copied here.
    lab.pki().run(&["revoke", "host-1", "--reason", "key-compromise"]);
    let reason = refusal_of(&lab, "host-1");
    for word in ["worker host-1", "it was revoked", "edgeprof pki issue worker host-1"] {
        assert!(reason.contains(word), "{word:?} is not in {reason}");
    }
    assert!(lab.coordinator.as_ref().unwrap().log().contains("a connection is ended"));
}

#[test]
fn without_certificates_no_daemon_listens_for_other_hosts() {
    let folder = tempfile::tempdir().unwrap();
    for (name, hint) in [("coordinator", "pki issue coordinator"), ("worker", "pki issue worker NAME")] {
        for arguments in [&["--listen", "0.0.0.0:0"][..], &["--listen", "0.0.0.0:0", "--insecure-loopback"]] {
            let mut command = Command::new(program(&format!("edgeprof-{name}")));
            let done = Finished::of(command.args(arguments).arg("--data").arg(folder.path().join(name)));
            assert_eq!(done.code, 78, "{done:?}");
            for word in ["0.0.0.0:0", hint, "docs/security.md", "127.0.0.1"] {
                assert!(done.stderr.contains(word), "{word:?} is not in {done:?}");
            }
        }
    }
}

/// No key of the lab stands in what its daemons and clients have said.
#[test]
fn keys_are_in_no_log() {
    let mut lab = Lab::new();
    lab.secure();
    lab.start(&[]);
    lab.pki().run(&["issue", "client", "bob", "--role", "viewer"]);
    let client = lab.client(&["boards"]);
    assert_eq!(client.code, 0, "{client:?}");
    let said = format!("{}{}{}", lab.coordinator.as_ref().unwrap().log(), client.stdout, client.stderr);
    let mut keys = 0;
    for file in files(lab.folder()) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        if text.contains("PRIVATE KEY") {
            keys += 1;
            assert!(
                text.lines()
                    .filter(|line| line.len() > 20 && !line.contains("---"))
                    .all(|line| !said.contains(line))
            );
        }
    }
    assert!(keys >= 4, "the authority's, the coordinator's, two clients': {keys}");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
