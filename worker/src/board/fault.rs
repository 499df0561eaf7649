//! Where firmware died, in words: addresses become functions and lines through the firmware's own file.

use addr2line::{
    Context,
    gimli::{Dwarf, EndianSlice, LittleEndian, SectionId},
};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::error::BoardError;

/// Callers that are told.
const CALLERS: usize = 12;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Adds to a panic or fault what the firmware's file knows of its addresses. Anything else passes through.
pub fn explain(error: BoardError, elf: &[u8], isa: &str) -> BoardError {
    match error {
        BoardError::Panic { message, trace, .. } => {
            let places = Places::of(elf);
            let mut callers = places.callers(&trace, isa);
            // What lies above the panic itself is the sending of this message, and old frames.
            let of_panic =
                |place: &String| place.starts_with("core::panicking::") || place.starts_with("panic (");
            if let Some(panic) = callers.iter().rposition(of_panic) {
                callers.drain(..=panic);
            }
            let place = (!callers.is_empty()).then(|| format!("on the stack: {}", callers.join(" < ")));
            BoardError::Panic { message, trace, place }
        }
        BoardError::Fault { pc, lr, status, trace, .. } => {
            let places = Places::of(elf);
            let mut words = cause(isa, status);
            if let Some(at) = places.place(pc) {
                words = format!("{words} in {at}");
            }
            // The link register is a call away from the fault, unless the function has called others since.
            let calls: Vec<u64> = std::iter::once(lr).chain(trace.iter().copied()).collect();
            let callers = places.callers(&calls, isa);
            if !callers.is_empty() {
                words = format!("{words}; called from {}", callers.join(" < "));
            }
            BoardError::Fault { pc, lr, status, trace, place: Some(words) }
        }
        other => other,
    }
}

/// The causes that a status names: CFSR on Arm (Armv7-M Architecture Reference Manual, B3.2.15; STKOF from
/// Armv8-M, D1.2.49), mcause on RISC-V (privileged architecture 20211203, table 3.6).
fn cause(isa: &str, status: u64) -> String {
    if isa.starts_with("rv") {
        return match status {
            0 => "instruction address misaligned".into(),
            1 => "instruction access fault".into(),
            2 => "illegal instruction".into(),
            3 => "breakpoint".into(),
            4 => "load address misaligned".into(),
            5 => "load access fault".into(),
            6 => "store address misaligned".into(),
            7 => "store access fault".into(),
            other => format!("trap of cause {other}"),
        };
    }
    const BITS: [(u32, &str); 16] = [
        (0, "instruction access violation"),
        (1, "data access violation"),
        (3, "access violation at an exception's return"),
        (4, "access violation at an exception's entry"),
        (8, "bus error at an instruction fetch"),
        (9, "bus error at a data access"),
        (10, "bus error at an earlier data access"),
        (11, "bus error at an exception's return"),
        (12, "bus error at an exception's entry"),
        (16, "undefined instruction"),
        (17, "invalid state"),
        (18, "invalid return"),
        (19, "no coprocessor"),
        (20, "stack overflow"),
        (24, "unaligned access"),
        (25, "division by zero"),
    ];
    let named: Vec<&str> =
        BITS.iter().filter(|(bit, _)| status >> bit & 1 == 1).map(|(_, what)| *what).collect();
    if named.is_empty() { "fault".into() } else { named.join(", ") }
}

/// What a firmware's file knows of addresses.
struct Places<'a> {
    lines: Option<Context<Reader<'a>>>,
    /// Functions by their addresses, in ascending order.
    functions: Vec<(u64, &'a str)>,
}

impl<'a> Places<'a> {
    /// Knows nothing where the file has no such sections.
    fn of(elf: &'a [u8]) -> Self {
        let Ok(file) = object::File::parse(elf) else { return Self { lines: None, functions: Vec::new() } };
        let section = |id: SectionId| -> Result<Reader<'a>, addr2line::gimli::Error> {
            let data = file.section_by_name(id.name()).and_then(|section| section.data().ok());
            Ok(EndianSlice::new(data.unwrap_or_default(), LittleEndian))
        };
        let lines = Dwarf::load(section).and_then(Context::from_dwarf).ok();
        let texts =
            file.symbols().filter(|symbol| symbol.is_definition() && symbol.kind() == SymbolKind::Text);
        let mut functions: Vec<_> =
            texts.filter_map(|symbol| Some((symbol.address() & !1, symbol.name().ok()?))).collect();
        functions.sort_unstable();
        Self { lines, functions }
    }

    /// `function (file:line)`, as far as it is known.
    fn place(&self, address: u64) -> Option<String> {
        // addr2line adds one to it.
        address.checked_add(1)?;
        let mut function = None;
        let mut line = None;
        if let Some(context) = &self.lines
            && let Ok(mut frames) = context.find_frames(address).skip_all_loads()
            && let Ok(Some(frame)) = frames.next()
        {
            function = frame
                .function
                .and_then(|name| name.demangle().ok().map(std::borrow::Cow::into_owned))
                .map(|name| short_name(&name));
            line = frame.location.and_then(|at| Some(format!("{}:{}", short_path(at.file?), at.line?)));
        }
        let function = function.or_else(|| {
            let at = self.functions.partition_point(|(start, _)| *start <= address);
            let (_, name) = self.functions.get(at.checked_sub(1)?)?;
            Some(short_name(&addr2line::demangle_auto((*name).into(), None)))
        });
        match (function, line) {
            (Some(function), Some(line)) => Some(format!("{function} ({line})")),
            (Some(function), None) => Some(function),
            (None, line) => line,
        }
    }

    /// The places of the calls that lead to these return addresses, each once.
    fn callers(&self, returns: &[u64], isa: &str) -> Vec<String> {
        let mut callers: Vec<String> = Vec::new();
        for address in returns {
            // Back into the call: past Thumb's bit 0, and by one, where no shorter instruction is.
            let after = if isa.starts_with("arm") { address & !1 } else { *address };
            if let Some(place) = after.checked_sub(2).and_then(|inside| self.place(inside))
                && !callers.contains(&place)
                && callers.len() < CALLERS
            {
                callers.push(place);
            }
        }
        callers
    }
}

/// Where the sources lie on the machine that built them says nothing; some are linked into the firmware.
fn short_path(file: &str) -> &str {
    let file = file.strip_prefix("/edgeprof/").unwrap_or(file);
    let file = file.strip_prefix("firmware/shared/").unwrap_or(file);
    let registry = file.rsplit_once("/registry/src/").map_or(file, |(_, file)| file);
    registry.rsplit_once("/lib/rustlib/src/rust/").map_or(registry, |(_, file)| file)
}

/// Without types, and without the hash of an old mangling.
fn short_name(name: &str) -> String {
    let mut depth = 0_u32;
    let mut short = String::new();
    for (at, c) in name.char_indices() {
        match c {
            // A type before its path, `<Session>::forward`, is kept.
            '<' if depth == 0 && at == 0 => {}
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            '>' if at > 0 && !name[..at].ends_with('-') => {}
            _ if depth == 0 => short.push(c),
            _ => {}
        }
    }
    match short.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => path.into(),
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_words() {
        assert_eq!(cause("armv7e-m+fp", 0x8200), "bus error at a data access");
        assert_eq!(cause("armv7-m", 1 << 16 | 1 << 25), "undefined instruction, division by zero");
        assert_eq!(cause("armv6-m", 0), "fault");
        assert_eq!(cause("rv32imac", 2), "illegal instruction");
        assert_eq!(cause("rv64gc", 99), "trap of cause 99");
    }

    #[test]
    fn a_file_that_knows_nothing_leaves_the_numbers() {
        let fault = |place| BoardError::Fault { pc: 8, lr: 0x11, status: 1 << 16, trace: vec![1, 2], place };
        for elf in [&b""[..], b"\x7fELF", &[0xff; 300]] {
            let text = explain(fault(None), elf, "armv7-m").to_string();
            assert!(text.ends_with("status 0x10000): undefined instruction"), "{text}");
        }
        let panic = BoardError::Panic { message: "a.rs:1: no".into(), trace: vec![u64::MAX], place: None };
        assert_eq!(explain(panic, b"", "rv32").to_string(), "the firmware panicked: a.rs:1: no");
    }

    #[test]
    fn names_are_short() {
        assert_eq!(short_path("/edgeprof/firmware/shared/engine/src/a.rs"), "engine/src/a.rs");
        assert_eq!(short_path("/usr/lib/rustlib/src/rust/library/core/src/a.rs"), "library/core/src/a.rs");
        assert_eq!(short_name("core::fmt::write::h0123456789abcdef"), "core::fmt::write");
        assert_eq!(short_name("core::hash::hello"), "core::hash::hello");
        assert_eq!(short_name("go<a::Uart, b::Timers<u8>, 1100>"), "go");
        assert_eq!(short_name("<a::Session>::norm::<b::No>"), "a::Session::norm::");
        assert_eq!(short_name("<<<>>>é"), "é");
    }
}
