//! What must never stand in a log: tokens, and what is in the files of keys.

use std::{fs, path::Path};

/// What every token of a coordinator begins with.
const TOKEN: &str = "edgeprof_";

/// Larger files hold no key.
const LARGEST: u64 = 16 << 10;

/// How deep below a lab's folder keys may lie.
const DEPTH: usize = 4;

/// The first secret that stands in `text`: anything that looks like one, and what is in a file of keys or tokens
/// below `folder`.
pub fn secret_in(text: &str, folder: &Path) -> Option<String> {
    let token = text.match_indices(TOKEN).find_map(|(at, _)| {
        let rest = &text[at + TOKEN.len()..];
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        (digits >= 64).then(|| text[at..at + TOKEN.len() + 8].to_owned() + "…")
    });
    let key = || text.contains("PRIVATE KEY-----").then(|| "a private key".to_owned());
    let kept = || {
        let mut parts = Vec::new();
        secrets_below(folder, DEPTH, &mut parts);
        parts.into_iter().find(|part| text.contains(part.as_str()))
    };
    token.or_else(key).or_else(kept)
}

/// Lines of the files that hold a private key or a token.
fn secrets_below(folder: &Path, depth: usize, parts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() && depth > 0 {
            secrets_below(&entry.path(), depth - 1, parts);
        } else if about.is_file() && about.len() <= LARGEST {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if text.starts_with(TOKEN) || text.contains("PRIVATE KEY-----") {
                let long = text.lines().filter(|line| line.len() >= 16 && !line.starts_with("-----"));
                parts.extend(long.map(str::to_owned));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_or_is_one_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |text: &str| secret_in(text, folder.path());
        let token = format!("edgeprof_{}", "0a".repeat(32));
        assert!(secret(&format!("INFO token={token}")).unwrap().starts_with("edgeprof_0a"));
        assert_eq!(secret("edgeprof_coordinator: serving, edgeprof_0a0a"), None);
        assert!(secret("-----BEGIN PRIVATE KEY-----").is_some());
        assert_eq!(secret("MHcCAQEEIBkg4LVWM9nuwNSk3"), None);
        let keys = folder.path().join("pki/issued");
        fs::create_dir_all(&keys).unwrap();
        let pem = "-----BEGIN PRIVATE KEY-----\nMHcCAQEEIBkg4LVWM9nuwNSk3\n-----END PRIVATE KEY-----\n";
        fs::write(keys.join("key.pem"), pem).unwrap();
        assert!(secret("x MHcCAQEEIBkg4LVWM9nuwNSk3 y").is_some());
    }
}
