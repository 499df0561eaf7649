//! Files other than models.

use edgeprof_coordinator::{
    artifacts::{check_core, loaded_digest},
    preparing::{Line, Vocabulary},
};
use edgeprof_identity::{Certificate, RevocationList, Serial, files::revocation_list, names};
use edgeprof_worker::{
    board::{error::BoardError, fault::explain},
    firmware::Firmware,
    outbox::log,
};

/// A firmware's ELF file: coordinator and worker agree on what it loads.
pub(crate) fn firmware(bytes: &[u8]) {
    let here = loaded_digest(bytes);
    let there = Firmware::parse(bytes);
    if let (Ok(here), Ok(there)) = (&here, &there) {
        assert_eq!(*here, there.loaded);
    }
    for isa in ["armv7e-m", "rv32imac", "rv64gc", ""] {
        let _ = check_core(bytes, isa);
    }
}

/// Two addresses as u64, which a board gives for where it died, and the firmware's file that explains them.
pub(crate) fn fault(bytes: &[u8]) {
    let Some((addresses, elf)) = bytes.split_first_chunk::<16>() else { return };
    let [pc, lr] = [0, 8].map(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&addresses[at..at + 8]);
        u64::from_le_bytes(word)
    });
    for isa in ["armv7e-m", "rv32imac"] {
        let trace = vec![lr, pc, 0, u64::MAX];
        let fault = BoardError::Fault { pc, lr, status: pc, trace: trace.clone(), place: None };
        let panic = BoardError::Panic { message: String::new(), trace, place: None };
        for error in [fault, panic] {
            let _ = explain(error, elf, isa).to_string();
        }
    }
}

/// Kept results, and one whose checksum agrees.
pub(crate) fn outbox(bytes: &[u8]) {
    let (_, whole) = log::decode(bytes);
    assert!(whole <= bytes.len());
    let framed = log::frame(log::PUT, bytes);
    let (records, whole) = log::decode(&[&framed, bytes].concat());
    assert!(records.is_empty() || whole >= framed.len());
}

/// The configuration files of daemons and client, all from the same text.
pub(crate) fn config(bytes: &[u8]) {
    let path = "/etc/edgeprof/some.toml".as_ref();
    let worker = edgeprof_worker::config::parse(bytes, path).map_err(|e| e.to_string());
    let coordinator = edgeprof_service::config::parse::<edgeprof_coordinator::config::Config>(bytes, path)
        .map_err(|e| e.to_string());
    let client = edgeprof_service::config::parse::<edgeprof_client::address::Config>(bytes, path)
        .map_err(|e| e.to_string());
    for error in [worker.err(), coordinator.err(), client.err()].into_iter().flatten() {
        assert!(error.contains("/etc/edgeprof/some.toml"), "{error}");
        assert!(!error.ends_with('\n'), "{error:?}");
    }
}

/// A certificate that a stranger shows, and the words that may stand in one.
pub(crate) fn certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::read(bytes) {
        let said = certificate.to_string();
        assert!(!said.contains(char::is_control), "{said:?}");
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(identity) = names::identity(text) {
        assert_eq!(names::uri(&identity), text);
        assert!(names::path(&identity).chars().all(|c| c.is_ascii_graphic()));
    }
    if let Some(serial) = Serial::parse(text) {
        assert_eq!(Serial::parse(&serial.to_string()).unwrap_or_else(|| serial.clone()), serial);
    }
}

/// A list of what is revoked, as a file or as it is handed over.
pub(crate) fn revocations(bytes: &[u8]) {
    let Ok(list) = revocation_list(bytes) else { return };
    assert!(!list.is_of(bytes), "it is no certificate");
    let again = RevocationList::read(list.der()).expect("it was read before");
    assert_eq!((again.number(), again.revoked()), (list.number(), list.revoked()));
}

/// What a preparing child says and writes: it has read a hostile file, so it is not trusted either.
pub(crate) fn prepare(bytes: &[u8]) {
    if let Ok(line) = serde_json::from_slice::<Line>(bytes) {
        let text = serde_json::to_string(&line).expect("a line is JSON");
        assert!(!text.contains('\n'));
    }
    if let Ok(vocabulary) = Vocabulary::from_bytes(bytes) {
        let _ = vocabulary.text(Some(1), &[0, 1, 2, u32::MAX]);
    }
}
