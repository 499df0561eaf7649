//! The certificates of a lab on hosts of its own, made by the command that people use.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use edgeprof_common::{Identity, Role};
use edgeprof_identity::{Authority, Order};
use time::{Duration, OffsetDateTime};

use crate::{Finished, program};

const DAY: Duration = Duration::days(1);

/// An authority in a folder.
#[derive(Clone, Debug)]
pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Makes one in `folder`, for the lab of this name.
    ///
    /// # Panics
    /// When the command fails.
    pub fn new(folder: &Path) -> Self {
        let pki = Self { folder: folder.to_owned() };
        pki.run(&["init", "--lab", "tested"]);
        pki
    }

    /// The same authority with folders of its own, as where those that it has issued were copied to hosts: from now
    /// on nothing that it does is seen there.
    ///
    /// # Panics
    /// When the folder cannot be copied.
    pub fn apart(&self, folder: &Path) -> Self {
        let done = Finished::of(Command::new("cp").arg("-r").arg(&self.folder).arg(folder));
        assert_eq!(done.code, 0, "{done:?}");
        Self { folder: folder.to_owned() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with the certificate of `whose`, as in `worker host-1`, issued on first use.
    ///
    /// # Panics
    /// When the command fails.
    pub fn of(&self, whose: &str) -> PathBuf {
        let folder = self.folder.join("issued").join(whose.replacen(' ', "-", 1));
        if !folder.exists() {
            let mut arguments = vec!["issue"];
            arguments.extend(whose.split(' '));
            if whose.starts_with("client ") {
                arguments.extend(["--role", "admin"]);
            }
            self.run(&arguments);
        }
        folder
    }

    /// Issues a certificate to `whose` that is good for so long from now on, shorter than the command does.
    ///
    /// # Panics
    /// When it cannot be issued.
    pub fn lasting(&self, whose: &str, left: Duration) -> PathBuf {
        let identity = match whose.split_once(' ') {
            None => Identity::Coordinator,
            Some(("worker", name)) => Identity::Worker(name.into()),
            Some((_, name)) => Identity::Client { name: name.into(), role: Role::Admin },
        };
        let order = Order { identity, lifetime: Some(DAY), again: true, out: None };
        let issued_at = OffsetDateTime::now_utc() - DAY + left;
        let mut authority = Authority::open(&self.folder).expect("the test's authority");
        authority.issue(&order, issued_at).expect("a certificate");
        authority.folder_of(&order.identity)
    }

    /// Runs `edgeprof pki` to its end.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(program("edgeprof"));
        let done = Finished::of(command.arg("pki").arg("--dir").arg(&self.folder).args(arguments));
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}");
        done
    }
}
