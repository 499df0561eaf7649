use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    listen: SocketAddr,
    sessions: u32,
    limits: Limits,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    board: Vec<Board>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 1).into(), sessions: 0, limits: Limits::default(), board: vec![] }
    }
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    #[serde(with = "humantime_serde")]
    wait: Duration,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Board {
    kind: String,
    #[serde(default)]
    line: Line,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Line {
    #[default]
    Socket,
    Pty,
}

fn error(text: impl AsRef<[u8]>) -> String {
    parse::<Sample>(text.as_ref(), "w.toml".as_ref()).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_key() {
    for (text, wanted) in [
        (
            "listen = \"[::1]:2\"\nsesions = 3",
            "in config w.toml, line 2, key sesions: this key is unknown, did you mean sessions?",
        ),
        (
            "colour = 3",
            "in config w.toml, line 1, key colour: this key is unknown; known here: listen, sessions, limits, board",
        ),
        (
            "\n[limits]\n\nwiat = \"1s\"",
            "in config w.toml, line 4, key limits.wiat: this key is unknown, did you mean wait?",
        ),
        (
            "[limts]\nwait = \"1s\"",
            "in config w.toml, line 1, key limts: this key is unknown, did you mean limits?",
        ),
        (
            "sessions = \"many\"",
            "in config w.toml, line 1, key sessions: invalid type: string \"many\", expected u32",
        ),
        (
            "sessions = -1",
            "in config w.toml, line 1, key sessions: invalid value: integer `-1`, expected u32",
        ),
        ("listen = \"here\"", "in config w.toml, line 1, key listen: invalid socket address syntax"),
        (
            "[limits]\nwait = 5",
            "in config w.toml, line 2, key limits.wait: invalid type: integer `5`, expected a duration",
        ),
        (
            "limits = { bytes = 1, wait = \"soon\" }",
            "in config w.toml, line 1, key limits.wait: invalid value: string \"soon\", expected a duration",
        ),
        (
            "[[board]]\nkind = \"a\"\n[[board]]\nline = \"pty\"\n",
            "in config w.toml, line 3, key board.kind: this key is missing",
        ),
        (
            "[[board]]\nkind = \"a\"\nline = \"ptty\"",
            "in config w.toml, line 3, key board.line: \"ptty\" is unknown, did you mean pty?",
        ),
        (
            "[[board]]\nkind = \"a\"\nline = \"usb\"",
            "in config w.toml, line 3, key board.line: \"usb\" is unknown; known here: socket, pty",
        ),
        (
            "[[board]]\nkind = \"a\"\nlabels = { rack = 2 }",
            "in config w.toml, line 3, key board.labels.rack: invalid type: integer `2`, expected a string",
        ),
        ("board = 1", "in config w.toml, line 1, key board: invalid type: integer `1`, expected a sequence"),
        ("sessions = 1\nsessions = 2", "in config w.toml, line 2, key sessions: duplicate key"),
        (
            "sessions = ",
            "in config w.toml, line 1, key sessions: string values must be quoted, expected literal string",
        ),
        ("sessions 3", "in config w.toml, line 1: key with no value, expected `=`"),
        ("[limits\nbytes = 1", "in config w.toml, line 1: unclosed table, expected `]`"),
    ] {
        assert_eq!(error(text), wanted, "{text:?}");
    }
    assert_eq!(error(b"sessions = 1\n# caf\xe9\n"), "in config w.toml, line 2: this is not UTF-8 text");
}

#[test]
fn a_key_that_was_understood_can_still_be_placed() {
    let text = "sessions = 1\n[[board]]\nkind = \"a\"\n[[board]]\nkind = \"b\"\n";
    let source = Source::new(text.as_bytes(), "w.toml".as_ref()).unwrap();
    source.parse::<Sample>().unwrap();
    let place = |keys: &[&str]| source.place(keys).to_string();
    assert_eq!(place(&["board", "1", "kind"]), "w.toml, line 5, key board.kind");
    assert_eq!(place(&["board", "1", "name"]), "w.toml, line 4, key board.name");
    assert_eq!(place(&["board", "7", "name"]), "w.toml, line 2, key board");
    assert_eq!(place(&["sessions"]), "w.toml, line 1, key sessions");
    assert_eq!(place(&["nothing"]), "w.toml, key nothing");
}

#[test]
fn a_missing_file_is_named() {
    let error = load::<Sample>(Some(Path::new("/nowhere/x.toml")), "none").unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.toml"));
}

#[test]
fn the_printed_defaults_say_what_they_do_and_parse_to_the_defaults() {
    let text = print_default::<Sample>(&KEYS);
    expect_test::expect![[r#"
        # Where it listens.
        listen = "127.0.0.1:1"

        # How many.
        sessions = 0

        [limits]
        # How long.
        wait = "0s"

        # How much,
        # in bytes.
        bytes = 0

        # Boards.
        # [[board]]
        # name = "a"
    "#]]
    .assert_eq(&text);
    assert_eq!(parse::<Sample>(text.as_bytes(), "w.toml".as_ref()).unwrap(), Sample::default());
}

#[test]
fn the_reference_has_every_key_with_its_default_or_an_example() {
    expect_test::expect![[r#"
        | key | default | what it does |
        | --- | --- | --- |
        | `listen` | `"127.0.0.1:1"` | Where it listens. |
        | `sessions` | `0` | How many. |
        | `limits.wait` | `"0s"` | How long. |
        | `limits.bytes` | `0` | How much, in bytes. |
        | `board` | none; such as `[[board]] ⏎ name = "a"` | Boards. |
    "#]]
    .assert_eq(&reference::<Sample>(&KEYS));
}

const KEYS: [Key; 5] = [
    Key::new("listen", "Where it listens."),
    Key::new("sessions", "How many."),
    Key::new("limits.wait", "How long."),
    Key::new("limits.bytes", "How much,\nin bytes."),
    Key::unset("board", "Boards.", "[[board]]\nname = \"a\""),
];

#[test]
#[should_panic(expected = "nothing says what these keys do: sessions")]
fn a_key_that_nothing_is_said_of_is_found() {
    print_default::<Sample>(&[KEYS[0], KEYS[2], KEYS[3], KEYS[4]]);
}

#[test]
#[should_panic(expected = "the key limits.byte has neither")]
fn a_word_on_a_key_that_is_not_there_is_found() {
    print_default::<Sample>(&[KEYS[0], Key::new("limits.byte", "How much.")]);
}
