//! Manual pages and shell completions, made from a program's own command line.

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::Shell;

/// Shells whose completions are made, each with the folder below `share` where it looks for them.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes a page for `command`, which is called `name`, and for each of its subcommands, and its completions, below `folder` as they lie
/// below `/usr/share`. What is hidden is in neither.
///
/// # Errors
/// When a file cannot be written.
pub fn write(command: &Command, name: &'static str, folder: &Path) -> io::Result<()> {
    let pages = folder.join("man/man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    for (shell, place) in SHELLS {
        let place = folder.join(place);
        fs::create_dir_all(&place)?;
        let file = match shell {
            Shell::Bash => name.to_owned(),
            Shell::Zsh => format!("_{name}"),
            _ => format!("{name}.fish"),
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut shown(command, name), name, &mut text);
        fs::write(place.join(file), text)?;
    }
    Ok(())
}

/// Without subcommands that are hidden: completions would offer them.
fn shown(command: &Command, name: &'static str) -> Command {
    // clap has no way to take a subcommand away.
    let kept: Vec<_> = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let arguments: Vec<_> = command.get_arguments().cloned().collect();
    Command::new(name).args(arguments).subcommands(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_in_no_page_and_no_completion() {
        let command = Command::new("tool")
            .arg(clap::Arg::new("speed").long("speed").help("how fast"))
            .subcommand(Command::new("scan").about("looks").arg(clap::Arg::new("port").long("port")))
            .subcommand(Command::new("secret").hide(true));
        let folder = tempfile::tempdir().unwrap();
        write(&command, "tool", folder.path()).unwrap();
        let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
        assert!(read("man/man1/tool.1").contains("how fast"));
        assert!(read("man/man1/tool-scan.1").contains("looks"));
        assert!(!folder.path().join("man/man1/tool-secret.1").exists());
        for path in [
            "bash-completion/completions/tool",
            "zsh/vendor-completions/_tool",
            "fish/vendor_completions.d/tool.fish",
        ] {
            let text = read(path);
            assert!(
                text.contains("speed") && text.contains("scan") && text.contains("port"),
                "{path}: {text}"
            );
            assert!(!text.contains("secret"), "{path}: {text}");
        }
    }
}
