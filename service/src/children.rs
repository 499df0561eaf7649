//! Child processes that die with this one, however it ends.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    os::unix::process::CommandExt,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{prctl, signal::Signal},
    unistd::{Pid, getppid},
};
use tokio::{
    process::{Child, Command},
    sync::{mpsc, oneshot},
};

/// Starts processes that die with this one.
///
/// The parent-death signal follows the thread that forked, not the process: a thread of a pool that is
/// retired would take its children with it. So one thread forks them all.
#[derive(Clone, Debug)]
pub struct Spawner {
    requests: mpsc::Sender<Request>,
}

type Request = (Command, oneshot::Sender<io::Result<Child>>);

impl Spawner {
    /// Starts the thread under a name. It ends when the last clone of the spawner is gone, and its
    /// children with it.
    ///
    /// # Errors
    /// When the system gives no thread.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(thread: &str) -> io::Result<Self> {
        let (requests, mut receiver) = mpsc::channel::<Request>(16);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name(thread.to_owned()).spawn(move || {
            let _entered = runtime.enter();
            while let Some((mut command, reply)) = receiver.blocking_recv() {
                // Nobody waits any more: the child is killed as it is dropped.
                drop(reply.send(command.spawn()));
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts `command` in a process group of its own, so that a terminal's interrupt is this process's to
    /// handle. `inherited` stays open in it under the same number. Dropped, the child is killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn spawn(
        &self,
        mut command: std::process::Command,
        inherited: Option<OwnedFd>,
    ) -> io::Result<Child> {
        command.process_group(0);
        let parent = Pid::this();
        let descriptor = inherited.as_ref().map(AsRawFd::as_raw_fd);
        // SAFETY: between fork and exec only prctl, getppid and fcntl are called, which are safe after a
        // fork; nothing allocates. The descriptor is open: `inherited` lives until the child is started.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // This process may have died between the fork and the line above.
                if getppid() != parent {
                    return Err(io::Error::from(nix::errno::Errno::ESRCH));
                }
                if let Some(descriptor) = descriptor {
                    fcntl(BorrowedFd::borrow_raw(descriptor), FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                Ok(())
            });
        }
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let (reply, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.requests.send((command, reply)).await.map_err(|_| gone())?;
        let child = started.await.map_err(|_| gone())?;
        drop(inherited);
        child
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Stdio};

    use tokio::io::AsyncReadExt;

    use super::*;

    fn shell(script: &str) -> std::process::Command {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    #[tokio::test]
    async fn a_child_dies_with_the_thread_that_started_it() {
        let spawner = Spawner::start("test").unwrap();
        let mut child = spawner.spawn(shell("exec sleep 60"), None).await.unwrap();
        drop(spawner);
        let status = child.wait().await.unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    #[tokio::test]
    async fn an_inherited_descriptor_keeps_its_number() {
        let spawner = Spawner::start("test").unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let number = writer.as_raw_fd();
        let script = format!("echo through {number} > /dev/fd/{number}");
        let mut child = spawner.spawn(shell(&script), Some(writer.into())).await.unwrap();
        assert!(child.wait().await.unwrap().success());
        assert_eq!(io::read_to_string(reader).unwrap(), format!("through {number}\n"));
    }

    #[tokio::test]
    async fn a_child_has_a_process_group_of_its_own() {
        let spawner = Spawner::start("test").unwrap();
        let script = "read -r pid name state parent group rest < /proc/$$/stat; echo $group $$";
        let mut child = spawner.spawn(shell(script), None).await.unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
        let words: Vec<_> = said.split_whitespace().collect();
        assert_eq!((words.len(), words[0]), (2, words[1]), "{said}");
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        let spawner = Spawner::start("test").unwrap();
        let nowhere = std::process::Command::new("/nowhere/program");
        let error = spawner.spawn(nowhere, None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
