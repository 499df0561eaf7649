//! Metadata values. Scalars and short strings are kept, arrays only if the tokenizer wants them:
//! the rest is walked over, so that a header costs no more memory than it must.

use std::io::Read;

use super::source::Source;
use crate::ModelError;

/// Longest string value that is kept; chat templates and the like are longer.
const STRING_KEPT: u64 = 4096;
/// Arrays in arrays deeper than this are refused. None of the known keys nests at all.
const MAX_DEPTH: u32 = 4;

/// What a string of a list takes beside its bytes, once it is a token or a merge: an end here; a token, an
/// entry of a hash table that is half empty, and two allocations there.
pub(crate) const STRING_COST: u64 = 192;
/// What each of its bytes takes: three while the list grows by doubling, one in a token, one as a key.
pub(crate) const STRING_GROWTH: u64 = 5;

/// A metadata value as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Any unsigned integer type.
    U(u64),
    /// Any signed integer type.
    I(i64),
    /// f32 or f64.
    F(f64),
    Bool(bool),
    Str(String),
    /// An array of strings.
    Strings(Strings),
    /// An array of f32.
    F32s(Vec<f32>),
    /// An array of i32 or u32.
    I32s(Vec<i64>),
    /// Something that was walked over: a long string, an array nobody asked for.
    Skipped,
}

/// Many short byte strings in one allocation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let piece = &self.bytes[start..end as usize];
            start = end as usize;
            piece
        })
    }
}

/// Bytes of one element of a type, at least.
fn min_size(ty: u32) -> Option<u64> {
    Some(match ty {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10..=12 => 8,
        9 => 12,
        _ => return None,
    })
}

fn unknown_type(key: &str, ty: u32) -> ModelError {
    ModelError::invalid("gguf", format!("metadata key {key} has the unknown value type {ty}"))
}

/// Reads the value of `key`. `keep` says whether an array's elements are wanted.
pub(crate) fn read<R: Read>(s: &mut Source<R>, key: &str, ty: u32, keep: bool) -> Result<Value, ModelError> {
    Ok(match ty {
        0 => Value::U(s.array::<1>(key)?[0].into()),
        1 => Value::I(i8::from_le_bytes(s.array(key)?).into()),
        2 => Value::U(u16::from_le_bytes(s.array(key)?).into()),
        3 => Value::I(i16::from_le_bytes(s.array(key)?).into()),
        4 => Value::U(s.u32(key)?.into()),
        5 => Value::I(i32::from_le_bytes(s.array(key)?).into()),
        6 => Value::F(f32::from_le_bytes(s.array(key)?).into()),
        7 => match s.array::<1>(key)?[0] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            n => {
                return Err(ModelError::invalid(
                    "gguf",
                    format!("metadata key {key} is a bool of value {n}"),
                ));
            }
        },
        8 => {
            let n = s.u64(key)?;
            if n > STRING_KEPT {
                s.skip(n, key)?;
                return Ok(Value::Skipped);
            }
            let mut bytes = Vec::new();
            s.append(&mut bytes, n, key)?;
            // What is no UTF-8 grows to three bytes each.
            s.charge(3 * n, key)?;
            Value::Str(String::from_utf8_lossy(&bytes).into_owned())
        }
        9 => return array(s, key, keep),
        10 => Value::U(s.u64(key)?),
        11 => Value::I(i64::from_le_bytes(s.array(key)?)),
        12 => Value::F(f64::from_le_bytes(s.array(key)?)),
        _ => return Err(unknown_type(key, ty)),
    })
}

fn array_head<R: Read>(s: &mut Source<R>, key: &str) -> Result<(u32, u64), ModelError> {
    let ty = s.u32(key)?;
    let count = s.u64(key)?;
    let least = min_size(ty).ok_or_else(|| unknown_type(key, ty))?;
    s.need(count.saturating_mul(least), key)?;
    Ok((ty, count))
}

fn array<R: Read>(s: &mut Source<R>, key: &str, keep: bool) -> Result<Value, ModelError> {
    let (ty, count) = array_head(s, key)?;
    match (keep, ty) {
        (true, 8) => strings(s, key, count),
        (true, 6) => {
            s.charge(count.saturating_mul(4), key)?;
            // Exactly: a list that grows by doubling takes three times its size for a moment.
            let mut out = Vec::with_capacity(count as usize);
            for _ in 0..count {
                out.push(f32::from_le_bytes(s.array(key)?));
            }
            Ok(Value::F32s(out))
        }
        (true, 4 | 5) => {
            s.charge(count.saturating_mul(8), key)?;
            let mut out = Vec::with_capacity(count as usize);
            for _ in 0..count {
                let n = s.u32(key)?;
                out.push(if ty == 4 { n.into() } else { i64::from(n as i32) });
            }
            Ok(Value::I32s(out))
        }
        _ => {
            skip_elements(s, key, ty, count, 1)?;
            Ok(Value::Skipped)
        }
    }
}

fn strings<R: Read>(s: &mut Source<R>, key: &str, count: u64) -> Result<Value, ModelError> {
    s.charge(count.saturating_mul(STRING_COST), key)?;
    let mut out = Strings { bytes: Vec::new(), ends: Vec::with_capacity(count as usize) };
    for _ in 0..count {
        let n = s.u64(key)?;
        s.charge(n.saturating_mul(STRING_GROWTH), key)?;
        s.append(&mut out.bytes, n, key)?;
        // The memory limit is far below 4 GiB.
        out.ends.push(out.bytes.len() as u32);
    }
    Ok(Value::Strings(out))
}

fn skip_elements<R: Read>(
    s: &mut Source<R>,
    key: &str,
    ty: u32,
    count: u64,
    depth: u32,
) -> Result<(), ModelError> {
    match ty {
        8 => {
            for _ in 0..count {
                let n = s.u64(key)?;
                s.skip(n, key)?;
            }
        }
        9 => {
            if depth >= MAX_DEPTH {
                return Err(ModelError::invalid(
                    "gguf",
                    format!("metadata key {key} nests arrays deeper than {MAX_DEPTH}"),
                ));
            }
            for _ in 0..count {
                let (ty, count) = array_head(s, key)?;
                skip_elements(s, key, ty, count, depth + 1)?;
            }
        }
        _ => {
            let size = min_size(ty).ok_or_else(|| unknown_type(key, ty))?;
            s.skip(count.saturating_mul(size), key)?;
        }
    }
    Ok(())
}
