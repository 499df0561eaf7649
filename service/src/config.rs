//! TOML configuration: one typed struct a program. What is wrong in a file is told with its file, line and
//! key, and what was probably meant.

mod printed;
mod source;
mod words;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

pub use printed::{Key, flags, print_default, reference};
pub use source::Source;

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
    /// The file is not what the program understands.
    #[error("in config {place}: {what}")]
    Parse {
        /// Where.
        place: Place,
        /// What is wrong there, on one line.
        what: String,
    },
}

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// From 1, where it is known.
    pub line: Option<usize>,
    /// The key with the tables around it, such as `limits.outbox`, where it is about one.
    pub key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.key {
            Some(key) => write!(f, ", key {key}"),
            None => Ok(()),
        }
    }
}

/// Reads `path`, or else `/etc/edgeprof/<daemon>.toml` where that exists, or else the defaults. With it
/// comes the file, if there was one.
///
/// # Errors
/// When the named file cannot be read, or any file has an unknown key or a wrong value.
pub fn load<T: DeserializeOwned + Default>(
    path: Option<&Path>,
    daemon: &str,
) -> Result<(T, Option<Source>), ConfigError> {
    let system = PathBuf::from(format!("/etc/edgeprof/{daemon}.toml"));
    let path = match path {
        Some(path) => path,
        None if system.exists() => &system,
        None => return Ok((T::default(), None)),
    };
    let source = Source::read(path)?;
    Ok((source.parse()?, Some(source)))
}

/// Reads one TOML file.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    Source::read(path)?.parse()
}

/// Understands the content of a TOML file; `path` is for errors.
///
/// # Errors
/// When it cannot be understood.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, ConfigError> {
    Source::new(bytes, path)?.parse()
}

#[cfg(test)]
mod tests;
