//! The one table: every RPC that the coordinator serves, and whom it is for.

use std::fmt::Write;

use edgeprof_common::Role;

/// An RPC and whom it is for.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    /// As HTTP/2 carries it, `/PACKAGE.SERVICE/METHOD`.
    pub path: &'static str,
    /// The least role; absent where nobody has to say who they are.
    pub least: Option<Role>,
    /// What a role alone does not say.
    pub note: &'static str,
}

impl Rpc {
    /// The name of the method, as people and scopes of tokens write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

const fn open(path: &'static str, note: &'static str) -> Rpc {
    Rpc { path, least: None, note }
}

const fn rpc(path: &'static str, least: Role, note: &'static str) -> Rpc {
    Rpc { path, least: Some(least), note }
}

/// What is not in it is not served.
pub const RPCS: &[Rpc] = &[
    open("/grpc.health.v1.Health/Check", "tells nothing of the lab"),
    open("/grpc.health.v1.Health/Watch", "tells nothing of the lab"),
    rpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Viewer, ""),
    rpc("/edgeprof.v1.Access/WhoAmI", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/ListJobs", Role::Viewer, "everybody's"),
    rpc("/edgeprof.v1.Profiler/GetJob", Role::Viewer, "anybody's"),
    rpc("/edgeprof.v1.Profiler/WatchJob", Role::Viewer, "anybody's"),
    rpc("/edgeprof.v1.Profiler/GetEvents", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/GetResults", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/GetLogs", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/ListBoards", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/ListWorkers", Role::Viewer, ""),
    rpc("/edgeprof.v1.Profiler/MissingArtifacts", Role::Submitter, ""),
    rpc("/edgeprof.v1.Profiler/PutArtifact", Role::Submitter, "within the quota"),
    rpc("/edgeprof.v1.Profiler/SubmitJob", Role::Submitter, "in another's name: operators; within the quota"),
    rpc("/edgeprof.v1.Profiler/CancelJob", Role::Submitter, "another's job: operators"),
    rpc("/edgeprof.v1.Profiler/CheckBoard", Role::Operator, ""),
    rpc("/edgeprof.v1.Profiler/DrainWorker", Role::Operator, ""),
    rpc("/edgeprof.v1.Profiler/MarkBoard", Role::Operator, "in one's own name"),
    rpc("/edgeprof.v1.Profiler/ResetBoard", Role::Operator, ""),
    rpc("/edgeprof.v1.Profiler/Console", Role::Operator, "of a board that the caller has reserved"),
    rpc("/edgeprof.v1.Access/IssueToken", Role::Admin, ""),
    rpc("/edgeprof.v1.Access/ListTokens", Role::Admin, ""),
    rpc("/edgeprof.v1.Access/RevokeToken", Role::Admin, ""),
    rpc("/edgeprof.v1.Access/PublishRevocations", Role::Admin, "of the lab's authority"),
    rpc("/edgeprof.v1.Access/ListAudit", Role::Admin, ""),
];

/// The row of a path.
#[must_use]
pub fn of(path: &str) -> Option<&'static Rpc> {
    RPCS.iter().find(|rpc| rpc.path == path)
}

/// Whether a token may be limited to an RPC of this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    RPCS.iter().any(|rpc| rpc.name() == name && rpc.least.is_some())
}

/// The table for people, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| RPC |");
    for role in Role::ALL {
        let _ = write!(text, " {role} |");
    }
    text += " |\n| --- |";
    text += &" --- |".repeat(Role::ALL.len() + 1);
    for rpc in RPCS {
        let service = rpc.path.trim_start_matches('/').rsplit('.').next().unwrap_or_default();
        let _ = write!(text, "\n| `{service}` |");
        for role in Role::ALL {
            text += if rpc.least.is_none_or(|least| *role >= least) { " yes |" } else { " – |" };
        }
        let nobody = if rpc.least.is_none() { "anybody, unasked; " } else { "" };
        let _ = write!(text, " {nobody}{} |", rpc.note);
    }
    text.replace("|  |", "| |") + "\n"
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn each_rpc_has_one_row_and_each_name_one_meaning() {
        let paths: BTreeSet<_> = RPCS.iter().map(|rpc| rpc.path).collect();
        let names: BTreeSet<_> = RPCS.iter().map(Rpc::name).collect();
        assert_eq!((paths.len(), names.len()), (RPCS.len(), RPCS.len()));
    }

    /// `UPDATE_DOCS=1` writes it anew.
    #[test]
    fn the_documents_show_the_table_as_it_is() {
        let (begin, end) = ("<!-- roles: generated -->\n", "<!-- roles: end -->");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(begin).expect("the document has the table's place");
        let (_, after) = rest.split_once(end).expect("the table's place ends");
        let wanted = format!("{before}{begin}\n{}\n{end}{after}", markdown());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, wanted).unwrap();
        } else {
            assert_eq!(
                text, wanted,
                "UPDATE_DOCS=1 cargo test -p edgeprof-coordinator writes the table anew"
            );
        }
    }
}
