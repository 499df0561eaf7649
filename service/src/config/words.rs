//! What serde says of a value, in words for the person who wrote it.

/// Names closer than this to a known one are taken for a slip.
const CLOSE: f64 = 0.75;

/// One line about what is wrong. Where serde names a key that is missing or unknown, `key` becomes it.
pub(super) fn explain(message: &str, key: &mut Option<String>) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (first, known) = quoted.split_first().map_or(("", &[][..]), |(first, known)| (*first, known));
    if message.starts_with("unknown field") {
        name(key, first);
        return unknown("this key is unknown", first, known);
    }
    if message.starts_with("missing field") {
        let within = key.take();
        *key = Some(within.map_or_else(|| first.to_owned(), |within| format!("{within}.{first}")));
        return "this key is missing".into();
    }
    if message.starts_with("unknown variant") {
        return unknown(&format!("{first:?} is unknown"), first, known);
    }
    // Two errors at once come as two lines.
    message.trim().lines().collect::<Vec<_>>().join("; ")
}

/// serde's name for an unknown key is exact; the place is that of its value where it is a table.
fn name(key: &mut Option<String>, unknown: &str) {
    let last = key.as_deref().and_then(|key| key.rsplit('.').next());
    if last != Some(unknown) {
        *key = Some(key.take().map_or_else(|| unknown.to_owned(), |within| format!("{within}.{unknown}")));
    }
}

fn unknown(what: &str, typed: &str, known: &[&str]) -> String {
    let close = |name: &&&str| strsim::normalized_damerau_levenshtein(typed, name);
    let meant = known
        .iter()
        .max_by(|a, b| close(a).total_cmp(&close(b)))
        .filter(|name| close(name) >= CLOSE || (typed.len() > 3 && name.contains(typed)));
    match meant {
        Some(meant) => format!("{what}, did you mean {meant}?"),
        None if known.is_empty() => what.to_owned(),
        None => format!("{what}; known here: {}", known.join(", ")),
    }
}
