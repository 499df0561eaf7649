//! Which process holds a port or a device, as far as this user may see.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) id: u32,
    pub(crate) name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.id, self.name)
    }
}

/// The process that listens on a TCP port.
pub(crate) fn of_port(port: u16) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listener(table, port))?;
    with_open(Path::new(&format!("socket:[{inode}]")))
}

/// The process that has a device open.
pub(crate) fn of_device(path: &Path) -> Option<Holder> {
    with_open(path)
}

/// The inode of the socket that listens on a port, from the kernel's table.
fn listener(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, digits) = words.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(digits, 16).ok()? == port && *words.get(3)? == LISTEN;
        here.then(|| words.get(9)?.parse().ok()).flatten()
    })
}

fn with_open(target: &Path) -> Option<Holder> {
    let ids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| *id != std::process::id()).find_map(|id: u32| {
        let folder = PathBuf::from(format!("/proc/{id}"));
        let mut open = fs::read_dir(folder.join("fd")).ok()?.flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == target)).then(|| {
            let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            Holder { id, name: name.trim().to_owned() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_and_a_connected_one_is_not() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1D1A 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 111 1 0\n\
            \x20  1: 0100007F:1D1A 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 222 1 0\n";
        assert_eq!(listener(table, 7450), Some(222));
        assert_eq!(listener(table, 7451), None);
        assert_eq!(listener("garbage\nline\n", 7450), None);
    }

    #[test]
    fn a_process_is_found_by_what_it_has_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().canonicalize().unwrap();
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "exec 3< \"$0\"; echo open; read -r end"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        let holder = of_device(&path);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(holder.map(|holder| holder.id), Some(child.id()));
        assert_eq!(of_device(Path::new("/nowhere/tty")), None);
    }
}
