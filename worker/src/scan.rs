//! `edgeprof-worker scan`: looks for boards, and writes the stanzas that configure them.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use edgeprof_boards::{Kind, catalogue};

use crate::{
    board::{conversation::Conversation, emulator, error::BoardError, transcript::Transcript},
    config::BAUD,
    line::{self, holder},
};

/// How long a board may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at `ports` besides those that the system lists, and at the emulators.
pub async fn scan(ports: &[PathBuf], baud: Option<u32>) -> String {
    let baud = baud.unwrap_or(BAUD);
    let mut text =
        String::from("# What is here, for /etc/edgeprof/boards.d/. Keep what this worker is to own.\n");
    let mut devices = serial_devices(Path::new("/dev"));
    devices.extend(ports.iter().cloned());
    if devices.is_empty() {
        text.push_str("\n# No serial device was found.\n");
    }
    for device in &devices {
        text.push_str(&port_stanza(device, baud, hello(device, baud).await));
    }
    for kind in catalogue().kinds().iter().filter(|kind| kind.emulator.is_some()) {
        text.push_str(&emulator_stanza(kind, emulator::version(kind).await));
    }
    text
}

/// Serial devices that are plugged in, by the names that stay where there are such.
fn serial_devices(dev: &Path) -> Vec<PathBuf> {
    let list = |folder: PathBuf| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let mut devices = list(dev.join("serial/by-id"));
    let named: Vec<PathBuf> = devices.iter().filter_map(|link| fs::canonicalize(link).ok()).collect();
    let plain = list(dev.to_owned()).into_iter().filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["ttyUSB", "ttyACM", "ttyAMA"].iter().any(|kind| name.starts_with(kind))
    });
    devices.extend(plain.filter(|path| !named.contains(path)));
    devices.sort();
    devices
}

/// Which board kind answers there, and with which version of the firmware.
async fn hello(path: &Path, baud: u32) -> Result<(String, String), BoardError> {
    let line = line::serial(path, baud).map_err(|source| BoardError::Port {
        path: path.to_owned(),
        holder: holder(path),
        source,
    })?;
    let mut board = Conversation::new(Box::new(line), Transcript::default());
    let hello = board.open_any(PATIENCE).await?;
    Ok((hello.kind.to_string(), hello.firmware_version.to_string()))
}

fn port_stanza(path: &Path, baud: u32, found: Result<(String, String), BoardError>) -> String {
    let port = toml::Value::String(path.display().to_string());
    let rate = if baud == BAUD { String::new() } else { format!("baud = {baud}\n") };
    match found {
        Ok((kind, version)) => {
            let known = catalogue().get(&kind);
            let silicon = known.is_some_and(|kind| kind.counter.silicon_hz.is_some());
            let mut text = format!("\n# Answers with firmware {version}.\n");
            if known.is_none() {
                let _ = writeln!(text, "# This worker does not know the kind {kind:?}.");
                return text + &commented(&format!("[[board]]\nkind = {kind:?}\nport = {port}\n"));
            }
            if silicon {
                text.push_str(
                    "# If an emulator is behind it and not the board itself, add: emulated = true\n",
                );
            }
            let emulated = if silicon { "" } else { "emulated = true\n" };
            text + &format!("[[board]]\nkind = {kind:?}\nport = {port}\n{rate}{emulated}")
        }
        Err(error) => {
            let error = error.task_error();
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let why = format!("{}{hint}", error.message);
            format!("\n# {why}\n") + &commented(&format!("[[board]]\nkind = \"…\"\nport = {port}\n{rate}"))
        }
    }
}

fn emulator_stanza(kind: &Kind, found: Result<String, BoardError>) -> String {
    let stanza = format!("[[board]]\nkind = {:?}\n", kind.name);
    match found {
        Ok(version) => format!("\n# {}, emulated by {version}\n{stanza}", kind.title),
        Err(error) => {
            let error = error.task_error();
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("\n# {}: {}{hint}\n", kind.title, error.message) + &commented(&stanza)
        }
    }
}

fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_stanza_is_configuration_or_a_comment() {
        let path = Path::new("/dev/serial/by-id/usb-\"odd\"-if00");
        let port = |kind: &str, baud| port_stanza(path, baud, Ok((kind.into(), "0.1.0".into())));
        let denied = BoardError::Port {
            path: path.into(),
            source: io::ErrorKind::PermissionDenied.into(),
            holder: None,
        };
        let kind = catalogue().get("riscv32").unwrap();
        let missing =
            BoardError::EmulatorMissing { program: "qemu-system-riscv32".into(), package: "some".into() };
        let text = [
            port("mps2-an386", BAUD),
            port("riscv32", 9_600),
            port("toaster", BAUD),
            port_stanza(path, BAUD, Err(denied)),
            emulator_stanza(kind, Ok("7.2".into())),
            emulator_stanza(kind, Err(missing)),
        ]
        .concat();
        let table: toml::Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let boards = table["board"].as_array().unwrap();
        let kinds: Vec<_> = boards.iter().map(|board| board["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["mps2-an386", "riscv32", "riscv32"]);
        assert_eq!(boards[0]["port"].as_str(), path.to_str());
        assert_eq!(
            (boards[1]["baud"].as_integer(), boards[1]["emulated"].as_bool()),
            (Some(9_600), Some(true))
        );
        for word in ["dialout", "apt install some", "toaster"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_device_is_listed_once_by_the_name_that_stays() {
        let dev = tempfile::tempdir().unwrap();
        let by_id = dev.path().join("serial/by-id");
        fs::create_dir_all(&by_id).unwrap();
        for name in ["ttyUSB0", "ttyACM1", "tty7", "null"] {
            fs::write(dev.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("../../ttyUSB0", by_id.join("usb-one")).unwrap();
        let found = serial_devices(&fs::canonicalize(dev.path()).unwrap());
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["usb-one", "ttyACM1"]);
    }
}
