//! The defaults as a file for people: each key under what it does.

use std::fmt::Write as _;

use serde::Serialize;
use toml::{Table, Value};

/// What a key of a configuration file does.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, after that of its section and a dot where it is in one.
    pub path: &'static str,
    /// What it does, with the unit of its value; lines of a comment.
    pub what: &'static str,
    /// How it is written, for one that has no value of its own accord; else empty.
    pub example: &'static str,
}

impl Key {
    /// A key that has a default.
    pub const fn new(path: &'static str, what: &'static str) -> Self {
        Self { path, what, example: "" }
    }

    /// A key that has none.
    pub const fn unset(path: &'static str, what: &'static str, example: &'static str) -> Self {
        Self { path, what, example }
    }
}

/// The defaults as TOML, for `--print-default-config`: `keys` in their order, those of a section together, with
/// what each does. Read back, it gives the defaults.
///
/// # Panics
/// When `keys` and the keys of `T` are not the same: an error of the program, which its tests find.
pub fn print_default<T: Serialize + Default>(keys: &[Key]) -> String {
    let mut rest = Table::try_from(T::default()).expect("a config struct is TOML");
    let (mut text, mut within) = (String::new(), "");
    for key in keys {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if !text.is_empty() {
            text.push('\n');
        }
        // A table of its own may follow a section; a bare key would belong to it.
        if section != within && !section.is_empty() {
            let _ = writeln!(text, "[{section}]");
            within = section;
        }
        for line in key.what.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let table = match section {
            "" => Some(&mut rest),
            _ => rest.get_mut(section).and_then(Value::as_table_mut),
        };
        match table.and_then(|table| table.remove(name)) {
            Some(value) if key.example.is_empty() => {
                let _ = writeln!(text, "{name} = {value}");
            }
            None if key.example.is_empty() => {
                panic!("the key {} has neither a default nor an example", key.path)
            }
            None => key.example.lines().for_each(|line| {
                let _ = writeln!(text, "# {line}");
            }),
            Some(value) => panic!("the key {} has the default {value} and needs no example", key.path),
        }
    }
    rest.retain(|_, value| value.as_table().is_none_or(|section| !section.is_empty()));
    assert!(rest.is_empty(), "nothing says what these keys do: {rest}");
    text
}

/// The keys of `T` as a table in Markdown: each with its default, or an example where it has none, and what it does.
///
/// # Panics
/// As [`print_default`] does.
pub fn reference<T: Serialize + Default>(keys: &[Key]) -> String {
    // It finds what `keys` has too much or too little.
    let _ = print_default::<T>(keys);
    let defaults = Table::try_from(T::default()).expect("a config struct is TOML");
    let mut text = "| key | default | what it does |\n| --- | --- | --- |\n".to_owned();
    for key in keys {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let table = if section.is_empty() {
            Some(&defaults)
        } else {
            defaults.get(section).and_then(Value::as_table)
        };
        let default = table.and_then(|table| table.get(name)).map_or_else(
            || format!("none; such as `{}`", key.example.lines().collect::<Vec<_>>().join(" ⏎ ")),
            |value| format!("`{value}`"),
        );
        let what = key.what.lines().collect::<Vec<_>>().join(" ");
        let _ = writeln!(text, "| `{}` | {} | {} |", key.path, cell(&default), cell(&what));
    }
    text
}

/// The flags of a command, and the variables that stand in for them, likewise.
pub fn flags(command: &clap::Command) -> String {
    let mut text = "| flag | environment | what it does |\n| --- | --- | --- |\n".to_owned();
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let Some(long) = argument.get_long() else { continue };
        let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
        let value = value.and_then(|names| names.first()).map(|name| format!(" {name}")).unwrap_or_default();
        let variable = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        let what = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, "| `--{long}{value}` | {} | {} |", variable.unwrap_or_default(), cell(&what));
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
