//! How an emulator is called. Pure, but for the question whether it is there.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use edgeprof_boards::{Emulator, Kind};
use tokio::process::Command;

use super::error::BoardError;

/// How the serial line leaves the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chardev {
    /// A connected unix socket, inherited under this descriptor.
    Socket(i32),
    /// A pseudo terminal that the emulator makes.
    Pty,
}

/// The emulator's arguments.
pub fn arguments(
    emulator: &Emulator,
    chardev: Chardev,
    firmware: &Path,
    image: Option<&Path>,
) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["-M".into(), emulator.machine.as_str().into()];
    all.extend(emulator.args.iter().map(OsString::from));
    all.extend(["-display", "none", "-monitor", "none", "-nodefaults"].map(OsString::from));
    all.push("-chardev".into());
    all.push(match chardev {
        Chardev::Socket(descriptor) => format!("socket,id=u,fd={descriptor}").into(),
        Chardev::Pty => "pty,id=u".into(),
    });
    all.extend(["-serial", "chardev:u", "-icount"].map(OsString::from));
    all.push(format!("shift={}", emulator.icount_shift).into());
    all.push("-kernel".into());
    all.push(firmware.into());
    if let Some(image) = image {
        all.push("-device".into());
        let mut loader = OsString::from("loader,file=");
        loader.push(escaped(image));
        loader.push(format!(",addr={:#010x},force-raw=on", emulator.loader_address));
        all.push(loader);
    }
    all
}

/// A comma ends an option's value unless it is doubled.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

/// The device in `char device redirected to /dev/pts/N (label u)`.
pub fn pty_of(line: &str) -> Option<PathBuf> {
    let (_, rest) = line.split_once("char device redirected to ")?;
    rest.split_whitespace().next().map(PathBuf::from)
}

/// Asks the emulator of `kind` for its version.
///
/// # Errors
/// [`BoardError::EmulatorMissing`] with the package to install, where it is not there.
pub async fn version(kind: &Kind) -> Result<String, BoardError> {
    let Some(emulator) = &kind.emulator else {
        return Err(BoardError::Protocol(format!("board kind {} has no emulator", kind.name)));
    };
    let program = emulator.program.clone();
    let asked = Command::new(&program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(30), asked)
        .await
        .map_err(|_| BoardError::Hung { doing: "tell its version", after: Duration::from_secs(30) })?;
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(BoardError::EmulatorMissing { program, package: emulator.debian_package.clone() })
        }
        Err(source) => Err(BoardError::Spawn { program, source }),
        Ok(output) if !output.status.success() => Err(BoardError::Died {
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
        Ok(output) => Ok(version_of(&String::from_utf8_lossy(&output.stdout))),
    }
}

/// `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)` out of what QEMU prints.
pub fn version_of(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    line.split_once("version ").map_or(line, |(_, version)| version).to_owned()
}

#[cfg(test)]
mod tests {
    use edgeprof_boards::catalogue;

    use super::*;

    #[test]
    fn the_call_follows_the_recipe() {
        let kind = catalogue().get("mps2-an386").unwrap();
        let emulator = kind.emulator.as_ref().unwrap();
        let all = arguments(emulator, Chardev::Socket(7), Path::new("/a/fw"), Some(Path::new("/b,c/img")));
        let text = all.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            text,
            "-M mps2-an386 -display none -monitor none -nodefaults -chardev socket,id=u,fd=7 -serial chardev:u \
             -icount shift=6 -kernel /a/fw -device loader,file=/b,,c/img,addr=0x00100000,force-raw=on"
        );
        let all = arguments(emulator, Chardev::Pty, Path::new("/a/fw"), None);
        assert!(all.contains(&"pty,id=u".into()) && !all.contains(&"-device".into()));
    }

    #[test]
    fn version_and_terminal_are_read_from_what_it_prints() {
        assert_eq!(
            version_of("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"),
            "7.2.22 (Debian 1:7.2)"
        );
        assert_eq!(version_of(""), "");
        let line = "char device redirected to /dev/pts/12 (label u)";
        assert_eq!(pty_of(line), Some(PathBuf::from("/dev/pts/12")));
        assert_eq!(pty_of("something else"), None);
    }

    #[tokio::test]
    async fn an_emulator_that_does_not_start_is_no_emulator() {
        let mut kind = catalogue().get("riscv32").unwrap().clone();
        kind.emulator.as_mut().unwrap().program = "/bin/false".into();
        assert!(matches!(version(&kind).await, Err(BoardError::Died { .. })));
    }

    #[tokio::test]
    async fn a_missing_emulator_names_the_package() {
        let mut kind = catalogue().get("riscv32").unwrap().clone();
        kind.emulator.as_mut().unwrap().program = "qemu-system-nowhere".into();
        let error = version(&kind).await.unwrap_err();
        assert_eq!(error.to_string(), "qemu-system-nowhere is not installed");
        let error = error.task_error();
        assert_eq!(
            (error.code.as_str(), error.hint.as_deref()),
            ("qemu_missing", Some("apt install qemu-system-misc"))
        );
    }
}
