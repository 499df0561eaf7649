//! The daemons under a service manager that listens on the socket which systemd would listen on.

use std::{os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use edgeprof_tests::{Daemon, PATIENCE, program};

/// What a daemon says to its manager, message by message.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn next(&self) -> String {
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).expect("the daemon says something");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

fn is_supervised(name: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let manager = Manager::at(&socket);
    let mut command = Command::new(program(name));
    command.args(["--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("data")).args(arguments);
    command.env("NOTIFY_SOCKET", &socket);
    command.env("WATCHDOG_USEC", Duration::from_millis(200).as_micros().to_string());
    let mut daemon = Daemon::spawn(name, folder.path(), command);
    let mut said = Vec::new();
    while said.iter().filter(|word| *word == "WATCHDOG=1\n").count() < 3
        || !said.iter().any(|word: &String| word.starts_with("READY=1\n"))
    {
        said.push(manager.next());
    }
    assert!(daemon.stop().success(), "{}", daemon.log());
    let stopping = std::iter::repeat_with(|| manager.next()).find(|word| word.starts_with("STOPPING=1\n"));
    assert!(stopping.is_some());
}

#[test]
fn a_coordinator_says_when_it_serves_that_it_lives_and_that_it_stops() {
    is_supervised("edgeprof-coordinator", &["--no-discovery"]);
}

#[test]
fn a_worker_says_when_it_serves_that_it_lives_and_that_it_stops() {
    is_supervised("edgeprof-worker", &["--board", "riscv32"]);
}
