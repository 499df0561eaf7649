//! Digest of what a firmware puts into a board's memory: an ELF file embeds paths and symbols, so that
//! two builds of the same code differ as files and are the same firmware.

use edgeprof_common::Digest;
use object::{
    Endianness, FileKind,
    elf::{EM_ARM, EM_RISCV, FileHeader32, FileHeader64, Machine, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};

/// A file that is no firmware image.
#[derive(Debug, thiserror::Error)]
#[error("not a firmware image: {0}")]
pub struct NotFirmware(String);

/// Over each `PT_LOAD` segment with file bytes, in file order: physical address and length as u64 LE,
/// then the bytes.
///
/// # Errors
/// When the file is no ELF, is cut short, or loads nothing.
pub fn loaded_digest(elf: &[u8]) -> Result<Digest, NotFirmware> {
    match FileKind::parse(elf).map_err(|e| NotFirmware(e.to_string()))? {
        FileKind::Elf32 => segments::<FileHeader32<Endianness>>(elf),
        FileKind::Elf64 => segments::<FileHeader64<Endianness>>(elf),
        other => Err(NotFirmware(format!("found {other:?}, expected an ELF file"))),
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(elf: &[u8]) -> Result<Digest, NotFirmware> {
    let bad = |error: object::read::Error| NotFirmware(error.to_string());
    let header = H::parse(elf).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    let mut parts = Vec::new();
    for segment in header.program_headers(endian, elf).map_err(bad)? {
        let (address, length) = (segment.p_paddr(endian).into(), segment.p_filesz(endian).into());
        if segment.p_type(endian) != PT_LOAD || length == 0u64 {
            continue;
        }
        let bytes = segment
            .data(endian, elf)
            .map_err(|()| NotFirmware("a segment lies beyond the end of the file".into()))?;
        let address: u64 = address;
        parts.push([address.to_le_bytes(), length.to_le_bytes()].concat());
        parts.push(bytes.to_vec());
    }
    if parts.is_empty() {
        return Err(NotFirmware("it loads nothing".into()));
    }
    Ok(Digest::of_parts(parts.iter().map(Vec::as_slice)))
}

/// Checks that an ELF file is for a core of this instruction set, as the catalogue names it.
///
/// # Errors
/// When it is for another, which would not even start.
pub fn check_core(elf: &[u8], isa: &str) -> Result<(), NotFirmware> {
    let (wide, machine, name) = match isa {
        _ if isa.starts_with("arm") => (false, EM_ARM, "32-bit Arm"),
        _ if isa.starts_with("rv32") => (false, EM_RISCV, "32-bit RISC-V"),
        _ if isa.starts_with("rv64") => (true, EM_RISCV, "64-bit RISC-V"),
        _ => return Ok(()),
    };
    let bad = |error: object::read::Error| NotFirmware(error.to_string());
    let found = match FileKind::parse(elf).map_err(bad)? {
        FileKind::Elf32 => (false, machine_of::<FileHeader32<Endianness>>(elf).map_err(bad)?),
        FileKind::Elf64 => (true, machine_of::<FileHeader64<Endianness>>(elf).map_err(bad)?),
        other => return Err(NotFirmware(format!("found {other:?}, expected an ELF file"))),
    };
    if found == (wide, machine) {
        return Ok(());
    }
    Err(NotFirmware(format!("it is built for another processor than {isa}, which is {name}")))
}

fn machine_of<H: FileHeader<Endian = Endianness>>(elf: &[u8]) -> object::read::Result<Machine> {
    let header = H::parse(elf)?;
    Ok(header.e_machine(header.endian()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The smallest ELF with one loaded segment, and `junk` that is not loaded.
    pub(crate) fn elf(code: &[u8], junk: &[u8]) -> Vec<u8> {
        let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1];
        elf.resize(16, 0);
        let half = |elf: &mut Vec<u8>, v: u16| elf.extend(v.to_le_bytes());
        half(&mut elf, 2);
        half(&mut elf, 40);
        // version, entry, phoff, shoff, flags
        for word in [1u32, 0, 52, 0, 0] {
            elf.extend(word.to_le_bytes());
        }
        for v in [52, 32, 1, 0, 0, 0] {
            half(&mut elf, v);
        }
        let length = u32::try_from(code.len()).unwrap();
        // type, offset, vaddr, paddr, filesz, memsz, flags, align
        for word in [1u32, 84, 0x2000_0000, 0x0800_0000, length, length, 5, 4] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(code);
        elf.extend(junk);
        elf
    }

    #[test]
    fn only_what_is_loaded_counts() {
        let digest = loaded_digest(&elf(b"code", b"/home/a/src")).unwrap();
        assert_eq!(digest, loaded_digest(&elf(b"code", b"/home/b/src")).unwrap());
        assert_ne!(digest, loaded_digest(&elf(b"cod3", b"/home/a/src")).unwrap());
        let parts = [&0x0800_0000u64.to_le_bytes()[..], &4u64.to_le_bytes(), b"code"];
        assert_eq!(digest, Digest::of_parts(parts));
    }

    #[test]
    fn what_is_no_firmware_is_refused() {
        for bytes in [&b""[..], b"MZ", b"\x7fELF", &elf(b"code", b"")[..86], &elf(b"", b"")] {
            assert!(loaded_digest(bytes).is_err());
        }
    }

    #[test]
    fn a_file_for_another_core_is_told() {
        let mut elf = elf(b"code", b"");
        elf[18..20].copy_from_slice(&EM_ARM.0.to_le_bytes());
        check_core(&elf, "armv7-m").unwrap();
        check_core(&elf, "something else").unwrap();
        let error = check_core(&elf, "rv32imac").unwrap_err().to_string();
        assert!(error.contains("rv32imac") && error.contains("32-bit RISC-V"), "{error}");
        check_core(b"no ELF", "armv7-m").unwrap_err();
    }
}
