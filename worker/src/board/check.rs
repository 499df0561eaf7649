//! What is wrong with a board, item by item.

use std::time::Duration;

use super::{
    device::{Device, Program, Source},
    emulator,
    error::BoardError,
};

/// How long a board may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it may take to sum up its image.
const IMAGE_PATIENCE: Duration = Duration::from_secs(60);

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Warning,
    /// The board cannot be used.
    Problem,
}

impl State {
    /// Its word in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// The way out.
    pub remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), remedy: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, remedy: &str) -> Self {
        Self { name, state: State::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn problem(name: &'static str, error: &BoardError) -> Self {
        let error = error.task_error();
        Self { name, state: State::Problem, found: error.message, remedy: error.hint }
    }
}

/// Looks at a board that has no attempt. `trouble`: why it is not good at the moment.
pub async fn device(device: &mut Device, proven: Option<&Program>, trouble: Option<&str>) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(trouble) = trouble {
        checks.push(Check::warning("health", trouble, "the checks below say what is wrong now"));
    }
    if let Source::Emulated(_) = device.source() {
        match emulator::version(device.kind()).await {
            Ok(version) => {
                let program = device.kind().emulator.as_ref().map_or("", |e| e.program.as_str());
                checks.push(Check::ok("emulator", format!("{program} {version}")));
            }
            Err(error) => {
                checks.push(Check::problem("emulator", &error));
                return checks;
            }
        }
        if proven.is_none() && device.running().is_none() {
            checks.push(Check::ok("firmware", "none yet: it comes with the first task"));
            return checks;
        }
    }
    let line = match device.source() {
        Source::Emulated(emulation) => format!("{:?}", emulation.transport).to_lowercase(),
        Source::Attached(port) => format!("{} at {} baud", port.path.display(), port.baud),
    };
    if device.running().is_none()
        && let Err(error) = device.revive(proven).await
    {
        checks.push(Check::problem("line", &error));
        device.stop().await;
        return checks;
    }
    let kind = device.kind();
    let Some(running) = device.running() else { return checks };
    let before = running.board.stats();
    if let Err(error) = running.board.ping(PATIENCE).await {
        let error = running.explain(error).await;
        checks.push(Check::problem("line", &error));
        device.stop().await;
        return checks;
    }
    let stats = running.board.stats();
    let damaged = before.dropped();
    checks.push(if damaged == 0 {
        Check::ok("line", format!("{line}, answers; {} frames, none damaged", stats.messages))
    } else {
        Check::warning(
            "line",
            format!("{line}, answers; {damaged} of {} frames were damaged", stats.messages + damaged),
            "check cable, ground and baud rate",
        )
    });
    let hello = running.hello;
    checks.push(Check::ok(
        "firmware",
        format!("version {} for {}, counts {}", hello.firmware_version, hello.kind, hello.counter),
    ));
    checks.push(match running.board.image(IMAGE_PATIENCE).await {
        Ok(info) if !info.present => Check::ok("image", "none in the model region"),
        Ok(info) if info.checksum_ok => {
            Check::ok("image", format!("{} bytes, checksum right", info.total_len))
        }
        Ok(info) => Check::warning(
            "image",
            format!("{} bytes, damaged or cut short", info.total_len),
            "the next task loads it anew",
        ),
        Err(error) => Check::problem("image", &error),
    });
    let room = kind.memory.model.size;
    if u64::from(hello.model_region_bytes) != room {
        checks.push(Check::warning(
            "memory",
            format!(
                "the firmware has a model region of {} bytes, the catalogue {room}",
                hello.model_region_bytes
            ),
            "build firmware and worker from the same source",
        ));
    }
    checks
}
