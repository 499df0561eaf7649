//! Which boards a private lab has: the emulated kinds that are asked for.

use edgeprof_boards::{Catalogue, Kind};

use crate::exit::Failure;

/// What a `-b` of a private lab names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked<'a> {
    /// One kind.
    Kind(&'a Kind),
    /// Every kind that can be emulated here.
    All,
}

/// A kind that cannot be emulated on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) what: String,
    pub(crate) way_out: String,
}

/// Reads the selectors.
pub(crate) fn asked<'a>(selectors: &[String], catalogue: &'a Catalogue) -> Result<Vec<Asked<'a>>, Failure> {
    if selectors.is_empty() {
        return Err(Failure::usage("no board given")
            .hint(format!("name a kind with -b, or all; {}", known(catalogue))));
    }
    selectors.iter().map(|selector| one(selector, catalogue)).collect()
}

fn one<'a>(selector: &str, catalogue: &'a Catalogue) -> Result<Asked<'a>, Failure> {
    if selector == "all" {
        return Ok(Asked::All);
    }
    if let Some(kind) = catalogue.get(selector) {
        return match &kind.emulator {
            Some(_) => Ok(Asked::Kind(kind)),
            None => Err(Failure::usage(format!("board kind {selector} has no emulator"))
                .hint("leave --local out to run on a lab that has such a board")),
        };
    }
    let private = "--local makes its own boards, so -b names kinds";
    if selector.contains('=') {
        return Err(Failure::usage(format!("boards of a private lab have no labels: {selector:?}"))
            .hint(format!("{private}; {}", known(catalogue))));
    }
    let kind = |name: &str| name.rsplit_once('.').map_or(name, |(kind, _)| kind).to_owned();
    let name = selector.rsplit_once('/').map(|(_, name)| name);
    if name.is_some() || catalogue.get(&kind(selector)).is_some() {
        let kind = kind(name.unwrap_or(selector));
        let way = match catalogue.get(&kind) {
            Some(kind) => format!("-b {}", kind.name),
            None => known(catalogue),
        };
        return Err(Failure::usage(format!("a private lab has no board {selector:?}"))
            .hint(format!("{private}: {way}")));
    }
    let meant = catalogue.suggest(selector).map(|name| format!(", did you mean {name}?"));
    Err(Failure::usage(format!("unknown board kind {selector:?}{}", meant.unwrap_or_default()))
        .hint(known(catalogue)))
}

fn known(catalogue: &Catalogue) -> String {
    let names: Vec<_> =
        catalogue.kinds().iter().filter(|k| k.emulator.is_some()).map(|kind| kind.name.as_str()).collect();
    format!("kinds: {}", names.join(", "))
}

/// The kinds of a lab, and those of `all` that were left out, with the reason.
#[derive(Debug)]
pub(crate) struct Chosen<'a> {
    pub(crate) kinds: Vec<&'a Kind>,
    /// How many selectors name each of them.
    pub(crate) named: Vec<usize>,
    pub(crate) left_out: Vec<(&'a str, Lack)>,
}

/// Decides which kinds there will be. `lack` says why a kind cannot be emulated here.
pub(crate) fn choose<'a>(
    asked: &[Asked<'a>],
    catalogue: &'a Catalogue,
    lack: impl Fn(&Kind) -> Option<Lack>,
) -> Result<Chosen<'a>, Failure> {
    let mut chosen = Chosen { kinds: Vec::new(), named: Vec::new(), left_out: Vec::new() };
    let mut add = |kind: &'a Kind| match chosen.kinds.iter().position(|known| known.name == kind.name) {
        Some(place) => chosen.named[place] += 1,
        None => {
            chosen.kinds.push(kind);
            chosen.named.push(1);
        }
    };
    for asked in asked {
        match asked {
            Asked::Kind(kind) => match lack(kind) {
                Some(lack) => {
                    let what = format!("board kind {} cannot be emulated here: {}", kind.name, lack.what);
                    return Err(Failure::usage(what).hint(lack.way_out));
                }
                None => add(kind),
            },
            Asked::All => {
                chosen.left_out.clear();
                for kind in catalogue.kinds().iter().filter(|kind| kind.emulator.is_some()) {
                    match lack(kind) {
                        Some(lack) => chosen.left_out.push((&kind.name, lack)),
                        None => add(kind),
                    }
                }
            }
        }
    }
    if chosen.kinds.is_empty() {
        let mut failure = Failure::usage(format!(
            "no board kind can be emulated here\n  {}",
            chosen
                .left_out
                .iter()
                .map(|(kind, lack)| format!("{kind}: {}", lack.what))
                .collect::<Vec<_>>()
                .join("\n  ")
        ));
        let mut ways: Vec<_> = chosen.left_out.into_iter().map(|(_, lack)| lack.way_out).collect();
        ways.sort();
        ways.dedup();
        for way in ways {
            failure = failure.hint(way);
        }
        return Err(failure);
    }
    Ok(chosen)
}

/// How many boards of each kind: enough to keep the cores busy, and no more than there are cells for them.
/// With `each` a board is a cell, and one emulated board is as good as another: one.
pub(crate) fn counts(named: &[usize], cells: usize, each: bool, cores: usize) -> Vec<usize> {
    let share = (cores / named.len().max(1)).max(1);
    named.iter().map(|selectors| if each { 1 } else { (cells * selectors).clamp(1, share) }).collect()
}

#[cfg(test)]
mod tests {
    use edgeprof_boards::catalogue;

    use super::*;

    fn read(selectors: &[&str]) -> Result<Vec<Asked<'static>>, String> {
        let selectors: Vec<_> = selectors.iter().map(ToString::to_string).collect();
        asked(&selectors, catalogue()).map_err(|failure| {
            assert_eq!(failure.code, 2);
            failure.text()
        })
    }

    #[test]
    fn kinds_and_all_are_boards_of_a_private_lab() {
        let riscv32 = catalogue().get("riscv32").unwrap();
        assert_eq!(read(&["riscv32", "all"]), Ok(vec![Asked::Kind(riscv32), Asked::All]));
    }

    #[test]
    fn whatever_else_is_refused_with_what_would_do() {
        let text = read(&["riscv23"]).unwrap_err();
        assert!(text.contains("did you mean riscv32?") && text.contains("kinds: microbit, "), "{text}");
        let text = read(&["bench=left"]).unwrap_err();
        assert!(text.contains("no labels: \"bench=left\"") && text.contains("kinds: "), "{text}");
        for id in ["host-1/riscv32.0", "riscv32.0"] {
            let text = read(&[id]).unwrap_err();
            assert!(text.contains(&format!("no board {id:?}")) && text.contains("-b riscv32\n"), "{text}");
        }
        let text = read(&["host-1/bench"]).unwrap_err();
        assert!(text.contains("kinds: "), "{text}");
        assert!(read(&[]).unwrap_err().contains("no board given\nhint: name a kind with -b"));
    }

    fn arm_only(kind: &Kind) -> Option<Lack> {
        let arm = kind.emulator.as_ref().unwrap().program == "qemu-system-arm";
        (!arm).then(|| Lack { what: "no emulator".into(), way_out: "install it".into() })
    }

    #[test]
    fn all_is_what_can_be_emulated_here_and_says_what_cannot() {
        let chosen = choose(&[Asked::All], catalogue(), arm_only).unwrap();
        assert!(chosen.kinds.iter().all(|kind| kind.cpu.starts_with("cortex")));
        assert_eq!(chosen.kinds.len() + chosen.left_out.len(), catalogue().kinds().len());
        assert!(chosen.left_out.iter().any(|(kind, _)| *kind == "riscv64"));
    }

    #[test]
    fn a_kind_asked_for_by_name_must_be_there() {
        let riscv32 = read(&["riscv32"]).unwrap();
        let text = choose(&riscv32, catalogue(), arm_only).unwrap_err().text();
        assert!(text.contains("riscv32") && text.contains("no emulator\nhint: install it"), "{text}");
        let none = |_: &Kind| Some(Lack { what: "no emulator".into(), way_out: "install it".into() });
        let text = choose(&[Asked::All], catalogue(), none).unwrap_err().text();
        assert!(text.contains("riscv64: no emulator") && text.matches("hint").count() == 1, "{text}");
    }

    #[test]
    fn a_kind_named_twice_is_there_once() {
        let twice = read(&["riscv32", "riscv32", "riscv64"]).unwrap();
        let chosen = choose(&twice, catalogue(), |_| None).unwrap();
        let kinds: Vec<_> = chosen.kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!((kinds, chosen.named), (vec!["riscv32", "riscv64"], vec![2, 1]));
    }

    #[test]
    fn boards_are_as_many_as_cores_can_use_and_cells_need() {
        assert_eq!(counts(&[1], 1, false, 8), [1], "one cell needs one board");
        assert_eq!(counts(&[1], 12, false, 8), [8]);
        assert_eq!(counts(&[2, 1], 2, false, 8), [4, 2]);
        assert_eq!(counts(&[1, 1, 1], 9, false, 2), [1, 1, 1], "every kind has a board");
        assert_eq!(counts(&[1], 12, true, 8), [1], "with --each the matrix does not hang on the machine");
    }
}
