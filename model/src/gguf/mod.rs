//! GGUF v2 and v3, little-endian: header, metadata, tensor table. Tensor data stays where it is.
//!
//! Own code rather than a crate: `gguf-rs-lib` 0.3, the one crate that survived hostile files,
//! refuses v2 outright, refuses keys that are not lower_snake_case (llama.cpp reads them), and
//! expands every array element to an enum of its own. What is needed here is small, and it can
//! borrow the rules of [`source::Source`]: no count is believed before it fits the file.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

pub(crate) mod llama;
pub(crate) mod source;
pub(crate) mod types;
pub(crate) mod value;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;

use crate::ModelError;
use source::Source;
use types::GgmlType;
use value::Value;

/// Counts above these are no sound file's (llama.cpp's largest models have some thousand tensors).
const MAX_KEYS: u64 = 65_536;
const MAX_TENSORS: u64 = 65_536;
const MAX_KEY_BYTES: u64 = 65_535;
const MAX_NAME_BYTES: u64 = 64;

/// A tensor's entry in the table.
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    /// Fastest dimension first, 1 to 4 of them, none zero.
    pub(crate) dims: Vec<u64>,
    pub(crate) ty: GgmlType,
    /// First byte, counted from the start of the file.
    pub(crate) start: u64,
    /// Size in bytes; `None` where the type is unknown.
    pub(crate) bytes: Option<u64>,
}

impl TensorInfo {
    pub(crate) fn elements(&self) -> u64 {
        self.dims.iter().fold(1, |n, &d| n.saturating_mul(d))
    }
}

/// The header of a GGUF file.
#[derive(Clone, Debug)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) meta: BTreeMap<String, Value>,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) file_bytes: u64,
    /// Where the last tensor ends: the rest of the file is of no use.
    pub(crate) data_end: u64,
}

fn invalid(what: impl Into<String>) -> ModelError {
    ModelError::invalid("gguf", what)
}

impl Gguf {
    /// Reads the header from `reader`, which stands at the start of a file of `len` bytes.
    pub(crate) fn read(reader: impl Read, len: u64) -> Result<Self, ModelError> {
        let mut s = Source::new(reader, len);
        let magic: [u8; 4] = s.array("the magic number")?;
        if &magic != b"GGUF" {
            return Err(ModelError::NotAModel { found: "no GGUF magic number".into() });
        }
        let version = s.u32("the version")?;
        if !(2..=3).contains(&version) {
            let found = match version.swap_bytes() {
                v @ 1..=3 => format!("big-endian v{v}"),
                _ => format!("v{version}"),
            };
            return Err(ModelError::unsupported("GGUF version", found, "v2 and v3, little-endian"));
        }
        let n_tensors = s.u64("the tensor count")?;
        let n_keys = s.u64("the metadata count")?;
        if n_tensors > MAX_TENSORS || n_keys > MAX_KEYS {
            return Err(invalid(format!("{n_tensors} tensors and {n_keys} metadata keys")));
        }
        let meta = read_meta(&mut s, n_keys)?;
        let align = alignment(&meta)?;
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        for i in 0..n_tensors {
            let t = read_tensor(&mut s, i)?;
            if t.start % align != 0 {
                return Err(invalid(format!(
                    "tensor {} starts at {}, no multiple of {align}",
                    t.name, t.start
                )));
            }
            if !names.insert(t.name.clone()) {
                return Err(invalid(format!("two tensors are named {}", t.name)));
            }
            tensors.push(t);
        }
        let base = s.pos.checked_next_multiple_of(align).ok_or_else(|| invalid("its size"))?;
        let placed = place(&mut tensors, base, len)?;
        // They are read with the weights.
        s.charge(placed.gaps, "gaps between tensors")?;
        Ok(Self { version, meta, tensors, file_bytes: len, data_end: placed.end })
    }

    pub(crate) fn str(&self, key: &str) -> Option<&str> {
        match self.meta.get(key) {
            Some(Value::Str(s)) => Some(s),
            _ => None,
        }
    }

    /// An unsigned number; `None` if absent, an error if it is something else.
    pub(crate) fn uint(&self, key: &str) -> Result<Option<u64>, ModelError> {
        match self.meta.get(key) {
            None => Ok(None),
            Some(Value::U(n)) => Ok(Some(*n)),
            Some(Value::I(n)) if *n >= 0 => Ok(Some(n.unsigned_abs())),
            Some(_) => Err(invalid(format!("metadata key {key} is no unsigned number"))),
        }
    }

    pub(crate) fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.meta.get(key) {
            None => Ok(None),
            Some(Value::F(x)) if x.is_finite() => Ok(Some(*x)),
            Some(_) => Err(invalid(format!("metadata key {key} is no finite number"))),
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.meta.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(_) => Err(invalid(format!("metadata key {key} is no bool"))),
        }
    }
}

fn read_meta<R: Read>(s: &mut Source<R>, count: u64) -> Result<BTreeMap<String, Value>, ModelError> {
    let mut meta = BTreeMap::new();
    for i in 0..count {
        s.charge(128, "metadata")?;
        let key = s.string(MAX_KEY_BYTES, &format!("metadata key {i}"))?;
        let ty = s.u32(&key)?;
        let keep = matches!(
            key.as_str(),
            "tokenizer.ggml.tokens"
                | "tokenizer.ggml.scores"
                | "tokenizer.ggml.token_type"
                | "tokenizer.ggml.merges"
        );
        let value = value::read(s, &key, ty, keep)?;
        if meta.contains_key(&key) {
            return Err(invalid(format!("metadata key {key} occurs twice")));
        }
        meta.insert(key, value);
    }
    Ok(meta)
}

fn alignment(meta: &BTreeMap<String, Value>) -> Result<u64, ModelError> {
    match meta.get("general.alignment") {
        None => Ok(32),
        Some(Value::U(n)) if n.is_power_of_two() && *n <= 1 << 20 => Ok(*n),
        Some(_) => Err(invalid("general.alignment is no power of two")),
    }
}

/// Reads one entry of the tensor table; `start` is still relative to the data section.
fn read_tensor<R: Read>(s: &mut Source<R>, i: u64) -> Result<TensorInfo, ModelError> {
    s.charge(512, "tensor table")?;
    let name = s.string(MAX_NAME_BYTES, &format!("the name of tensor {i}"))?;
    let n = s.u32(&name)?;
    if !(1..=4).contains(&n) {
        return Err(invalid(format!("tensor {name} has {n} dimensions")));
    }
    let mut dims = Vec::new();
    for _ in 0..n {
        dims.push(s.u64(&name)?);
    }
    let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let Some(elements) = elements.filter(|&n| n > 0) else {
        return Err(invalid(format!("tensor {name} has the shape {dims:?}")));
    };
    let ty = GgmlType(s.u32(&name)?);
    let start = s.u64(&name)?;
    Ok(TensorInfo { bytes: ty.bytes(elements, dims[0]), name, dims, ty, start })
}

/// What the tensor table says of the data.
struct Placed {
    /// Where the last tensor ends.
    end: u64,
    /// Bytes before and between tensors that belong to none.
    gaps: u64,
}

/// Turns relative starts into absolute ones; every tensor must lie in the file, apart from others.
fn place(tensors: &mut [TensorInfo], base: u64, len: u64) -> Result<Placed, ModelError> {
    let mut ranges = Vec::new();
    for t in tensors {
        let end = base
            .checked_add(t.start)
            .and_then(|start| {
                t.start = start;
                start.checked_add(t.bytes.unwrap_or(0))
            })
            .ok_or_else(|| invalid(format!("tensor {} ends beyond 2^64", t.name)))?;
        if end > len {
            return Err(ModelError::Truncated {
                format: "gguf",
                what: format!("tensor {}", t.name),
                needed: end,
                have: len,
            });
        }
        ranges.push((t.start, end, &t.name));
    }
    ranges.sort_unstable();
    let mut placed = Placed { end: base.min(len), gaps: 0 };
    for pair in ranges.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(invalid(format!("tensors {} and {} overlap", pair[0].2, pair[1].2)));
        }
    }
    for (start, end, _) in ranges {
        placed.gaps = placed.gaps.saturating_add(start.saturating_sub(placed.end));
        placed.end = end;
    }
    Ok(placed)
}
