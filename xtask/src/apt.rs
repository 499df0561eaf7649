//! Debian's packages: what an installation would do, done where that harms nothing, or unpacked into a
//! folder of ours.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{build::step, system::find};

/// What an installation would do.
pub(crate) struct Plan {
    /// Packages that would come, dependencies included.
    pub(crate) installs: Vec<String>,
    /// Packages that would go, with their versions.
    pub(crate) removals: Vec<String>,
}

/// Whether the system's packages may be changed without asking anybody.
pub(crate) fn may_install() -> bool {
    let sudo = || Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
    is_root() || sudo().is_ok_and(|status| status.success())
}

/// What the installation of `packages` would do.
pub(crate) fn plan(packages: &[&str]) -> Result<Plan> {
    if find("apt-get").is_none() {
        bail!("missing on this machine: {}; install them with your package manager", packages.join(", "));
    }
    let simulate = || -> Result<Option<String>> {
        let arguments = ["-s", "install", "--no-install-recommends"];
        let out = Command::new("apt-get").args(arguments).args(packages).output()?;
        Ok(out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned()))
    };
    let text = match simulate()? {
        Some(text) => text,
        // A fresh machine has no package lists yet.
        None if may_install() => {
            update()?;
            simulate()?
                .with_context(|| format!("apt-get cannot install them; try\n\n    {}\n", by_hand(packages)))?
        }
        None => bail!(
            "missing on this machine: {}; run\n\n    {}\n\nand try again",
            packages.join(", "),
            by_hand(packages)
        ),
    };
    let listed = |word: &str| text.lines().filter_map(|l| l.strip_prefix(word)).map(str::to_owned).collect();
    let installs: Vec<String> = listed("Inst ");
    Ok(Plan {
        installs: installs.iter().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect(),
        removals: listed("Remv "),
    })
}

/// Installs packages, or says how; `instead` is another way, ready to be shown.
pub(crate) fn install(packages: &[&str], instead: &str) -> Result<()> {
    let by_hand = format!("{}{instead}", by_hand(packages));
    let plan = plan(packages)?;
    if !plan.removals.is_empty() {
        bail!(
            "installing {} would remove {}; decide yourself:\n\n    {by_hand}\n",
            packages.join(" "),
            plan.removals.join(", ")
        );
    }
    if !may_install() {
        bail!("missing on this machine: {}; run\n\n    {by_hand}\n\nand try again", packages.join(", "));
    }
    step(&format!("installing {}", packages.join(" ")));
    let install = || {
        apt(&["-qq", "-y", "install", "--no-install-recommends"])
            .args(packages)
            .stdout(Stdio::null())
            .status()
    };
    // Package lists grow old: files that they name may have left the mirror.
    if !install()?.success() {
        update()?;
        ensure!(install()?.success(), "apt-get failed; try\n\n    {by_hand}\n");
    }
    Ok(())
}

/// Fetches the packages of `plan` and unpacks them into `folder`, which is then a root of its own. Nothing
/// on the system changes, and nobody's rights are needed.
pub(crate) fn unpack(plan: &Plan, folder: &Path) -> Result<()> {
    let fetched = tempfile::tempdir()?;
    let fetch = || {
        Command::new("apt-get")
            .args(["-qq", "download"])
            .args(&plan.installs)
            .current_dir(fetched.path())
            .stderr(Stdio::null())
            .status()
    };
    if !fetch()?.success() {
        if may_install() {
            update()?;
        }
        ensure!(fetch()?.success(), "apt-get cannot download {}", plan.installs.join(" "));
    }
    fs::create_dir_all(folder)?;
    for package in fs::read_dir(fetched.path())? {
        let package = package?.path();
        let status = Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder).status()?;
        ensure!(status.success(), "dpkg-deb cannot unpack {}", package.display());
    }
    Ok(())
}

fn by_hand(packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    let packages = packages.join(" ");
    format!("{sudo}apt-get update && {sudo}apt-get install --no-install-recommends {packages}")
}

/// Asks the mirrors what they have now.
pub(crate) fn update() -> Result<()> {
    step("updating apt's package lists");
    apt(&["-qq", "update"]).status().context("running apt-get update")?;
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
    if !is_root() {
        command.args(["-n", "apt-get"]);
    }
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
