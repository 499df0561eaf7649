//! What a firmware's ELF file says of itself.

use edgeprof_common::Digest;
use edgeprof_engine::image::crc32;
use object::{
    Endianness, Object, ObjectSection,
    elf::{FileHeader32, FileHeader64, PT_LOAD},
    read::elf::{ElfFile, FileHeader, ProgramHeader},
};

/// A file that is no firmware.
#[derive(Debug, thiserror::Error)]
#[error("the firmware is not an ELF file that can be loaded: {0}")]
pub struct FirmwareError(String);

/// What is recorded of a firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Over its loaded segments: the same whatever paths and symbols the file holds besides.
    pub loaded: Digest,
    /// The compiler that built it, from the `.comment` section.
    pub compiler: Option<String>,
    /// What is loaded where.
    pub segments: Vec<Segment>,
}

/// A piece that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Physical address.
    pub address: u64,
    /// Length in bytes.
    pub len: u32,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

impl Firmware {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// When it is none, is cut short, or has nothing to load.
    pub fn parse(file: &[u8]) -> Result<Self, FirmwareError> {
        match file.get(4) {
            Some(1) => parse::<FileHeader32<Endianness>>(file),
            Some(2) => parse::<FileHeader64<Endianness>>(file),
            _ => Err(FirmwareError("no ELF header".into())),
        }
    }
}

fn parse<E: FileHeader<Endian = Endianness>>(file: &[u8]) -> Result<Firmware, FirmwareError> {
    let wrong = |e: object::Error| FirmwareError(e.to_string());
    let elf = ElfFile::<E>::parse(file).map_err(wrong)?;
    let endian = elf.endian();
    // Physical address and length as u64 LE, then the bytes, segment by segment in file order.
    let mut pieces: Vec<([u8; 16], &[u8])> = Vec::new();
    let mut segments = Vec::new();
    for segment in elf.elf_program_headers() {
        let length: u64 = segment.p_filesz(endian).into();
        if segment.p_type(endian) != PT_LOAD || length == 0 {
            continue;
        }
        let address: u64 = segment.p_paddr(endian).into();
        let bytes =
            segment.data(endian, file).map_err(|()| FirmwareError("a segment is cut short".into()))?;
        let len = u32::try_from(length).map_err(|_| FirmwareError("a segment is too long".into()))?;
        segments.push(Segment { address, len, crc32: crc32(bytes) });
        let mut head = [0; 16];
        head[..8].copy_from_slice(&address.to_le_bytes());
        head[8..].copy_from_slice(&length.to_le_bytes());
        pieces.push((head, bytes));
    }
    if pieces.is_empty() {
        return Err(FirmwareError("nothing in it is loaded".into()));
    }
    let loaded = Digest::of_parts(pieces.iter().flat_map(|(head, bytes)| [head.as_slice(), bytes]));
    let comment = elf.section_by_name(".comment").and_then(|section| section.data().ok()).unwrap_or_default();
    let compiler = comment
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .find(|text| text.starts_with("rustc"))
        .map(str::to_owned);
    Ok(Firmware { loaded, compiler, segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 32-bit little-endian ELF with one segment each of (type, physical address, bytes).
    fn elf(segments: &[(u32, u32, &[u8])], trailer: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 52];
        file[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
        file[16..20].copy_from_slice(&[2, 0, 40, 0]);
        file[20] = 1;
        file[28] = 52;
        file[40] = 52;
        file[42] = 32;
        file[44] = u8::try_from(segments.len()).unwrap();
        let mut offset = 52 + 32 * segments.len();
        for (kind, address, bytes) in segments {
            let len = u32::try_from(bytes.len()).unwrap();
            for word in [*kind, u32::try_from(offset).unwrap(), 0xdead, *address, len, len, 5, 4] {
                file.extend(word.to_le_bytes());
            }
            offset += bytes.len();
        }
        segments.iter().for_each(|(_, _, bytes)| file.extend(*bytes));
        file.extend(trailer);
        file
    }

    #[test]
    fn the_digest_is_over_what_is_loaded_and_nothing_else() {
        let one = Firmware::parse(&elf(&[(1, 8, b"code"), (4, 9, b"note")], b"/home/somebody")).unwrap();
        let other = Firmware::parse(&elf(&[(1, 8, b"code")], b"")).unwrap();
        assert_eq!(one, other);
        let by_hand =
            Digest::of_parts([&8_u64.to_le_bytes()[..], &4_u64.to_le_bytes()[..], b"code".as_slice()]);
        assert_eq!(one.loaded, by_hand);
        assert_ne!(Firmware::parse(&elf(&[(1, 9, b"code")], b"")).unwrap().loaded, one.loaded);
        assert_eq!(one.compiler, None);
        assert_eq!(one.segments, [Segment { address: 8, len: 4, crc32: crc32(b"code") }]);
    }

    #[test]
    fn no_cut_of_a_file_panics() {
        let file = elf(&[(1, 8, b"code"), (1, 100, b"data")], b"");
        for end in 0..file.len() {
            assert!(Firmware::parse(&file[..end]).is_err(), "{end}");
        }
        assert!(Firmware::parse(b"#!/bin/sh").is_err());
    }
}
