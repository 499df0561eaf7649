//! The embedded catalogue.

use std::sync::OnceLock;

use crate::kind::{Kind, Rounding, Runtime};

/// File name and text of every kind.
const FILES: &[(&str, &str)] = &[
    ("microbit", include_str!("../kinds/microbit.toml")),
    ("mps2-an385", include_str!("../kinds/mps2-an385.toml")),
    ("mps2-an386", include_str!("../kinds/mps2-an386.toml")),
    ("mps2-an500", include_str!("../kinds/mps2-an500.toml")),
    ("mps2-an505", include_str!("../kinds/mps2-an505.toml")),
    ("netduinoplus2", include_str!("../kinds/netduinoplus2.toml")),
    ("riscv32", include_str!("../kinds/riscv32.toml")),
    ("riscv32-soft", include_str!("../kinds/riscv32-soft.toml")),
    ("riscv64", include_str!("../kinds/riscv64.toml")),
];

/// The kind whose boards do nothing. It is found by its name alone.
pub const NOOP: &str = "noop";

/// All known board kinds.
#[derive(Debug)]
pub struct Catalogue {
    kinds: Vec<Kind>,
    noop: Kind,
}

/// Why a kind's description was refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not TOML, or not our fields.
    #[error("board kind {file}: {source}")]
    Syntax {
        /// Name of the file without `.toml`.
        file: String,
        /// The parser's word.
        source: Box<toml::de::Error>,
    },
    /// Well formed, but it contradicts itself.
    #[error("board kind {file}: {what}")]
    Inconsistent {
        /// Name of the file without `.toml`.
        file: String,
        /// The contradiction.
        what: String,
    },
}

/// The embedded catalogue, parsed once.
///
/// # Panics
/// Never: the embedded files are checked by a test.
#[must_use]
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| Catalogue::parse(FILES).expect("the embedded catalogue is tested"))
}

impl Catalogue {
    /// Parses and checks kinds given as (file name without `.toml`, text).
    ///
    /// # Errors
    /// The first file that does not parse or contradicts itself.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, CatalogueError> {
        let mut kinds = Vec::with_capacity(files.len());
        for (file, text) in files {
            let kind: Kind = toml::from_str(text).map_err(|source| CatalogueError::Syntax {
                file: (*file).to_owned(),
                source: Box::new(source),
            })?;
            check(file, &kind)
                .map_err(|what| CatalogueError::Inconsistent { file: (*file).to_owned(), what })?;
            kinds.push(kind);
        }
        let noop = toml::from_str(include_str!("../benchmark/noop.toml"))
            .map_err(|source| CatalogueError::Syntax { file: NOOP.into(), source: Box::new(source) })?;
        Ok(Self { kinds, noop })
    }

    /// The kind of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().chain([&self.noop]).find(|kind| kind.name == name)
    }

    /// All kinds in catalogue order, but for [`NOOP`].
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The name that was probably meant: the closest one, if it is close.
    #[must_use]
    pub fn suggest(&self, typed: &str) -> Option<&str> {
        let typed = typed.to_ascii_lowercase();
        self.kinds
            .iter()
            .map(|kind| {
                let part = typed.len() >= 3 && kind.name != typed && kind.name.contains(&typed);
                let far = if part { 1 } else { distance(&typed, &kind.name) };
                (far, kind.name.as_str())
            })
            .min_by_key(|(far, _)| *far)
            .filter(|(far, name)| *far <= name.len() / 3)
            .map(|(_, name)| name)
    }
}

/// Edit distance over bytes; two neighbours that changed places are one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

fn check(file: &str, kind: &Kind) -> Result<(), String> {
    if kind.name != file {
        return Err(format!("is named {}", kind.name));
    }
    if kind.clock_hz == 0 || kind.counter.tick_hz == 0 || kind.estimate.clock_hz == 0 {
        return Err("a clock stands still".into());
    }
    if !(160..=1_100).contains(&kind.max_frame) {
        return Err(format!("max_frame {} is not within 160 to 1100", kind.max_frame));
    }
    if u64::from(kind.max_prompt) * 4 > kind.memory.ram.size / 2 || kind.max_prompt == 0 {
        return Err(format!("a prompt of {} tokens takes over half of the RAM", kind.max_prompt));
    }
    let regions = kind.memory.regions();
    for (i, (name, region)) in regions.iter().enumerate() {
        if region.size == 0 || region.origin.checked_add(region.size).is_none() {
            return Err(format!("region {name} is empty or wraps"));
        }
        if region.origin % 16 != 0 || region.size % 16 != 0 {
            return Err(format!("region {name} is not aligned to 16 bytes"));
        }
        for (other, earlier) in &regions[..i] {
            if region.origin < earlier.end() && earlier.origin < region.end() {
                return Err(format!("regions {other} and {name} overlap"));
            }
        }
    }
    let runtime = if kind.target.starts_with("thumb") { Runtime::CortexMRt } else { Runtime::Riscv };
    if kind.firmware.runtime != runtime {
        return Err("the runtime does not suit the target".into());
    }
    if let Some(emulator) = &kind.emulator {
        if emulator.loader_address != kind.memory.model.origin {
            return Err("the loader misses the model region".into());
        }
        let exact = kind.counter.tick_hz << emulator.icount_shift;
        if kind.counter.rounding == Rounding::Exact && !exact.is_multiple_of(1_000_000_000) {
            return Err("an instruction is no whole number of ticks".into());
        }
        if exact < 1_000_000_000 {
            return Err("a tick is longer than an instruction: counts would not be whole".into());
        }
    }
    let bounds = kind.estimate.cycles_per_instruction;
    if !(bounds.low > 0.0 && bounds.low <= bounds.high && bounds.high.is_finite()) {
        return Err("estimate bounds are not a range".into());
    }
    if kind.estimate.sources.is_empty() {
        return Err("the estimate cites nothing".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_kind_parses_and_is_consistent() {
        let catalogue = Catalogue::parse(FILES).unwrap();
        assert_eq!(catalogue.kinds().len(), FILES.len());
        for kind in catalogue.kinds() {
            assert_eq!(catalogue.get(&kind.name), Some(kind));
        }
    }

    #[test]
    fn the_kind_that_does_nothing_is_only_found_by_its_name() {
        let kind = catalogue().get(NOOP).unwrap();
        assert!(kind.is_noop() && kind.emulator.is_none() && kind.counter.silicon_hz.is_none());
        assert!(catalogue().kinds().iter().all(|kind| !kind.is_noop()));
        assert_ne!(catalogue().suggest("nooop"), Some(NOOP));
    }

    #[test]
    fn every_file_in_the_folder_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kinds");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut known: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        known.sort();
        assert_eq!(found, known);
    }

    #[test]
    fn unknown_fields_and_overlaps_are_refused() {
        let text = include_str!("../kinds/mps2-an386.toml");
        let more = format!("colour = \"red\"\n{text}");
        assert!(matches!(Catalogue::parse(&[("mps2-an386", &more)]), Err(CatalogueError::Syntax { .. })));
        let overlap = text.replace("arena = { origin = 0x2004_0000", "arena = { origin = 0x2003_0000");
        let error = Catalogue::parse(&[("mps2-an386", &overlap)]).unwrap_err();
        assert_eq!(error.to_string(), "board kind mps2-an386: regions ram and arena overlap");
    }

    #[test]
    fn typos_find_their_kind() {
        let catalogue = catalogue();
        assert_eq!(catalogue.suggest("mps2-an368"), Some("mps2-an386"));
        assert_eq!(catalogue.suggest("an500"), Some("mps2-an500"));
        assert_eq!(catalogue.suggest("netduino"), Some("netduinoplus2"));
        assert_eq!(catalogue.suggest("RISCV32"), Some("riscv32"));
        assert_eq!(catalogue.suggest("toaster"), None);
    }
}
