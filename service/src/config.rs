//! TOML configuration: one typed struct a daemon, unknown keys refused by line and name.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Why a configuration could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("cannot read config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what the daemon understands; the text names line and key.
    #[error("in config {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column, key.
        source: Box<toml::de::Error>,
    },
}

/// Reads `path`, or else `/etc/edgeprof/<daemon>.toml` where that exists, or else the defaults.
///
/// # Errors
/// When the named file cannot be read, or any file has an unknown key or a wrong value.
pub fn load<T: DeserializeOwned + Default>(path: Option<&Path>, daemon: &str) -> Result<T, ConfigError> {
    let system = PathBuf::from(format!("/etc/edgeprof/{daemon}.toml"));
    match path {
        Some(path) => read(path),
        None if system.exists() => read(&system),
        None => Ok(T::default()),
    }
}

/// Reads one TOML file.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// The defaults as TOML, for `--print-default-config`.
///
/// # Panics
/// When `T` cannot be written as TOML: an error of the program, which its tests find.
pub fn print_default<T: Serialize + Default>() -> String {
    toml::to_string_pretty(&T::default()).expect("a config struct is TOML")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        listen: String,
        sessions: u32,
    }

    fn parse(text: &str) -> Result<Sample, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        load(Some(file.path()), "none").map_err(|e| e.to_string())
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("listen = \"a\"\nsesions = 3\n").unwrap_err();
        assert!(error.contains("line 2") && error.contains("sesions"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Sample>(Some(Path::new("/nowhere/x.toml")), "none").unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.toml"));
    }

    #[test]
    fn the_printed_defaults_parse_to_the_defaults() {
        assert_eq!(parse(&print_default::<Sample>()), Ok(Sample::default()));
    }
}
