//! How the command ends: exit codes, and errors with their way out.

use std::process::ExitCode;

use edgeprof_client::ClientError;
use edgeprof_report::printable;
use nix::sys::signal::Signal;

use crate::output;

/// An end that is no error of the command itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Ok,
    /// A cell failed.
    CellFailed,
    /// Something keeps a lab from working.
    Problem,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Ok => Self::SUCCESS,
            Exit::CellFailed | Exit::Problem => Self::from(1),
        }
    }
}

/// Why the command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    message: String,
    hints: Vec<String>,
}

impl Failure {
    /// The request is wrong: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), hints: Vec::new() }
    }

    /// What should have answered does not: exit code 3.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { code: 3, ..Self::usage(message) }
    }

    /// A signal ended the command; shells expect 128 and its number.
    pub(crate) fn signal(signal: Signal) -> Self {
        let name = signal.as_str();
        Self { code: 128 + signal as u8, ..Self::usage(format!("ended by {name}")) }
    }

    /// With one more way out.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With this way out in place of all others.
    #[must_use]
    pub(crate) fn only_hint(self, hint: impl Into<String>) -> Self {
        Self { hints: vec![hint.into()], ..self }
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The ways out.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Whether a signal ended the command.
    pub(crate) const fn is_signal(&self) -> bool {
        self.code > 128
    }

    /// The lines for standard error.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", printable(&self.message));
        for hint in &self.hints {
            text += &format!("hint: {}\n", printable(hint));
        }
        text
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        output::say(&self.text());
        ExitCode::from(self.code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = if error.unreachable() { 3 } else { 2 };
        Self { code, message: error.to_string(), hints: error.hint().into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_out_of_reach_is_3_and_a_wrong_request_2() {
        let code = |error: ClientError| Failure::from(error).code;
        assert_eq!(code(ClientError::Unreachable { tried: vec![] }), 3);
        assert_eq!(code(ClientError::Lost { address: "a".into(), reason: "r".into() }), 3);
        assert_eq!(code(ClientError::Failed { message: "disk".into(), hint: None }), 3);
        assert_eq!(code(ClientError::Ambiguous { found: vec![] }), 2);
        assert_eq!(code(ClientError::Address { address: "a".into() }), 2);
        let refused = ClientError::Refused {
            code: tonic::Code::NotFound,
            message: "no job".into(),
            hint: Some("h".into()),
        };
        let failure = Failure::from(refused);
        assert_eq!((failure.code, failure.text().as_str()), (2, "error: no job\nhint: h\n"));
    }
}
