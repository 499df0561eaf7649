//! Text of others made safe to print: a model or a board may say anything, a terminal obeys some of it.

/// `text` with every control character but the line end and the tab written out. Bidirectional
/// overrides count as control characters: they make a line read as what it is not.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || c == '\t' || !(c.is_control() || reorders(c)) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// JSON that a terminal shows as it is: within strings, where alone they can be, control characters beyond
/// those that JSON escapes by itself become escapes that mean the same.
pub fn printable_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !(c.is_control() || reorders(c)) {
            out.push(c);
        } else {
            // All of them are in the basic plane.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    out
}

/// Whether a character makes a line read in another order than it is written.
fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// [`printable`] on one line, for cells and messages.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Breaks `text` at spaces so that no line is longer than `width`, and puts `indent` before each.
/// Line ends of the text itself stay; a word longer than a line is not broken.
pub(crate) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let room = width.saturating_sub(indent.chars().count()).max(20);
    let mut out = String::new();
    for line in text.split('\n') {
        let mut length = 0;
        let mut current = String::new();
        for word in line.split(' ') {
            let size = word.chars().count();
            if length > 0 && length + 1 + size > room {
                push_line(&mut out, indent, &current);
                current.clear();
                length = 0;
            } else if !current.is_empty() || length > 0 {
                current.push(' ');
                length += 1;
            }
            current.push_str(word);
            length += size;
        }
        push_line(&mut out, indent, &current);
    }
    out
}

fn push_line(out: &mut String, indent: &str, line: &str) {
    out.push_str(format!("{indent}{line}").trim_end());
    out.push('\n');
}

/// At most `limit` characters, and a mark where something was cut.
pub(crate) fn clipped(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc"), "a\\u{1b}[31mb\\u{d}\nc");
        assert_eq!(printable("x\u{202e}y\u{9b}z"), "x\\u{202e}y\\u{9b}z");
        assert_eq!(printable("naïve – 日本"), "naïve – 日本");
        assert_eq!(one_line("a\nb"), "a b");
    }

    #[test]
    fn json_means_the_same_without_what_a_terminal_would_obey() {
        let value = serde_json::json!({"a": "x\u{7f}y\u{9b}z\u{202e}\u{1b}\n – 日本"});
        let text = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains("\\u007fy\\u009bz\\u202e\\u001b\\n – 日本"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn long_lines_break_at_spaces_and_short_ones_stay() {
        let text = "one two three four five six seven\neight";
        assert_eq!(wrapped(text, "  ", 22), "  one two three four\n  five six seven\n  eight\n");
        assert_eq!(wrapped("", "  ", 80), "\n");
    }

    #[test]
    fn a_cut_is_shown() {
        assert_eq!(clipped("abcdef", 3), "abc…");
        assert_eq!(clipped("abc", 3), "abc");
    }
}
