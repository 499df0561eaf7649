//! A configuration file's text, and which key stands where in it.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

use super::{ConfigError, Place, words};

/// A configuration file as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes = fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::new(&bytes, path)
    }

    /// Takes a file's content.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn new(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text: text.to_owned() }),
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                Err(ConfigError::Parse {
                    place: Place { path: path.to_owned(), line: Some(line), key: None },
                    what: "this is not UTF-8 text".into(),
                })
            }
        }
    }

    /// Understands it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| {
            let mut place = self.place_at(error.span());
            let what = words::explain(error.message(), &mut place.key);
            ConfigError::Parse { place, what }
        })
    }

    /// Where a key stands: the names of the tables around it and its own, numbers from 0 within lists. A
    /// key that is not there stands where the innermost table does.
    pub fn place(&self, keys: &[&str]) -> Place {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let mut table = Some(root.get_ref());
        let mut list = None;
        let mut found = None;
        let mut named: Vec<&str> = Vec::new();
        for key in keys {
            let (span, value) = if let Some(items) = list.take() {
                let items: &DeArray<'_> = items;
                let Some(item) = key.parse::<usize>().ok().and_then(|at| items.get(at)) else { break };
                (item.span(), item.get_ref())
            } else {
                named.push(key);
                let Some((name, value)) = table.and_then(|t| t.iter().find(|(k, _)| k.get_ref() == key))
                else {
                    break;
                };
                (name.span(), value.get_ref())
            };
            found = Some(span);
            (table, list) = (value.as_table(), value.as_array());
        }
        let line = found.map(|span| self.line(span.start));
        let key = (!named.is_empty()).then(|| named.join("."));
        Place { path: self.path.clone(), line, key }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// The innermost key whose name or value covers the beginning of a stretch of text.
    fn place_at(&self, span: Option<Range<usize>>) -> Place {
        let mut place = Place { path: self.path.clone(), line: None, key: None };
        let Some(span) = span else { return place };
        place.line = Some(self.line(span.start));
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let keys = find(root.get_ref(), span.start).map(|keys| keys.join("."));
        place.key = keys.or_else(|| self.written_at(span.start));
        place
    }

    /// The key that a line begins with, for lines that are no TOML.
    fn written_at(&self, at: usize) -> Option<String> {
        let before = self.text.get(..at)?;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let (key, _) = self.text.get(start..)?.lines().next()?.split_once('=')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        Some(key.trim().to_owned()).filter(|key| !key.is_empty() && key.chars().all(plain))
    }
}

/// Tables that a header opens do not cover what is in them, so that every key is looked at.
fn find(table: &DeTable<'_>, at: usize) -> Option<Vec<String>> {
    let here = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let keys = inside(value, at).or_else(|| name.span().contains(&at).then(Vec::new));
        keys.map(|keys| [vec![name.get_ref().to_string()], keys].concat())
    };
    table.iter().filter_map(here).max_by_key(Vec::len)
}

fn inside(value: &Spanned<DeValue<'_>>, at: usize) -> Option<Vec<String>> {
    let within = match value.get_ref() {
        DeValue::Table(table) => find(table, at),
        DeValue::Array(items) => items.iter().filter_map(|item| inside(item, at)).max_by_key(Vec::len),
        _ => None,
    };
    within.or_else(|| value.span().contains(&at).then(Vec::new))
}
