//! Serial devices: may this user open them, and does another process.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{
    check::Check,
    holders::{self, Holder},
};

/// Names of devices that boards and probes have.
const NAMES: [&str; 2] = ["ttyUSB", "ttyACM"];

/// A serial device. It is not opened to be looked at: that would reset many boards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    pub(crate) permitted: bool,
    /// Group that may open it.
    pub(crate) group: Option<String>,
    /// Whether this user was made a member of the group after this session began.
    pub(crate) member: bool,
    pub(crate) holder: Option<Holder>,
}

/// The serial devices of a folder, `/dev`.
pub(crate) fn probe(folder: &Path) -> Vec<Device> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut paths: Vec<_> = names
        .filter(|name| NAMES.iter().any(|start| name.to_string_lossy().starts_with(start)))
        .map(|name| folder.join(name))
        .collect();
    paths.sort();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let user = std::env::var("USER").unwrap_or_default();
    let one = |path: PathBuf| {
        let group = fs::metadata(&path).ok().and_then(|meta| group(&groups, meta.gid()));
        Device {
            permitted: access(&path, AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
            member: group.as_ref().is_some_and(|(_, members)| members.contains(&user)),
            group: group.map(|(name, _)| name),
            holder: holders::of_device(&path),
            path,
        }
    };
    paths.into_iter().map(one).collect()
}

/// Name and members of a group, from `/etc/group`.
fn group(file: &str, id: u32) -> Option<(String, Vec<String>)> {
    file.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [name, _, number, members] = fields[..] else { return None };
        let members = members.split(',').map(str::to_owned).collect();
        (number.parse() == Ok(id)).then(|| (name.to_owned(), members))
    })
}

/// A device that a worker holds is in use as it should be.
pub(crate) fn judge(devices: &[Device]) -> Vec<Check> {
    if devices.is_empty() {
        return vec![Check::ok("serial devices", "none is plugged in; emulated boards need none")];
    }
    devices.iter().map(one).collect()
}

fn one(device: &Device) -> Check {
    let name = format!("serial device {}", device.path.display());
    if !device.permitted {
        let group = device.group.as_deref().unwrap_or("dialout");
        if device.member {
            let found = format!("no permission yet: this session began before you joined the group {group}");
            return Check::problem(name, found, "log out and in again");
        }
        let found = format!("no permission: it is for the group {group}");
        return Check::problem(
            name,
            found,
            format!("sudo usermod -aG {group} $USER, then log out and in again"),
        );
    }
    match &device.holder {
        Some(holder) if holder.name.starts_with("edgeprof-worke") => {
            Check::ok(name, format!("in use by {holder}"))
        }
        Some(holder) => Check::problem(name, format!("in use by {holder}"), format!("kill {}", holder.id)),
        None => Check::ok(name, "free"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    fn device(permitted: bool, member: bool, holder: Option<&str>) -> Check {
        let holder = holder.map(|name| Holder { id: 7, name: name.into() });
        let group = Some("dialout".into());
        one(&Device { path: "/dev/ttyUSB0".into(), permitted, group, member, holder })
    }

    #[test]
    fn no_permission_names_the_group_and_the_command() {
        let check = device(false, false, None);
        assert!(check.status == Status::Problem && check.found.contains("dialout"));
        assert!(check.remedy.unwrap().starts_with("sudo usermod -aG dialout $USER"));
        assert_eq!(device(false, true, None).remedy.as_deref(), Some("log out and in again"));
    }

    #[test]
    fn a_worker_may_hold_a_device_and_nobody_else() {
        assert_eq!(device(true, false, None).status, Status::Ok);
        // The kernel keeps 15 characters of a name.
        assert_eq!(device(true, false, Some("edgeprof-worker")).status, Status::Ok);
        let check = device(true, false, Some("screen"));
        assert!(check.status == Status::Problem && check.found.contains("process 7 (screen)"), "{check:?}");
    }

    #[test]
    fn only_boards_devices_are_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ttyACM0", "ttyUSB1", "tty1", "ttyS0", "null"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<_> = probe(folder.path()).into_iter().map(|device| device.path).collect();
        assert_eq!(found, ["ttyACM0", "ttyUSB1"].map(|name| folder.path().join(name)));
        assert_eq!(
            group("root:x:0:\ndialout:x:20:ada,bob\n", 20),
            Some(("dialout".into(), vec!["ada".into(), "bob".into()]))
        );
        assert_eq!(group("garbage\n", 20), None);
    }
}
