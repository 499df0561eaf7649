//! A person, or a pipe, on the line of a board.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use nix::{
    pty::{OpenptyResult, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, tcgetattr},
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Child,
};

use crate::{
    command::{code, command, edgeprof, err, fake, out},
    fake::{BOARD, Fake},
};

fn reserved() -> Fake {
    let fake = fake([]);
    fake.state.lock().unwrap().reserved = Some(7_200_000);
    fake
}

async fn end(child: Child) -> Output {
    tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap()
}

/// Reads what the board says until it has said `wanted`.
async fn heard(child: &mut Child, wanted: &str) {
    let stdout = child.stdout.as_mut().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(wanted) {
        let read = tokio::time::timeout(Duration::from_secs(60), stdout.read_buf(&mut said)).await;
        assert!(read.unwrap().unwrap() > 0, "it ended with {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_goes_to_the_board_and_back_byte_for_byte() {
    let fake = reserved();
    let state = fake.state.clone();
    let address = fake.start().await;
    let line = ["board", "console", BOARD, "--linger", "200ms"];
    let mut command = command(Some(address), &line);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Every byte, so also the one that leaves on a terminal; but the full stop, which ends this board's console.
    let bytes: Vec<u8> = (0..=255).filter(|byte| *byte != b'.').collect();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes).await.unwrap();
    drop(input);
    let output = end(child).await;
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    assert_eq!(state.lock().unwrap().typed, bytes);
    assert_eq!(output.stdout, [b"BOOT\n".to_vec(), bytes.to_ascii_uppercase()].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_reservation_is_an_error_after_all_that_was_heard() {
    let address = reserved().start().await;
    // No instant is that late.
    let mut command = command(Some(address), &["board", "console", BOARD, "--linger", "500000000000y"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"bye.").await.unwrap();
    let output = end(child).await;
    assert_eq!((code(&output), out(&output).as_str()), (2, "BOOT\nBYE."));
    assert_eq!(err(&output), "error: the reservation has ended\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_board_that_is_not_reserved_is_refused_with_the_way_out() {
    let address = fake([]).start().await;
    let output = edgeprof(address, &["board", "console", BOARD]).await;
    assert_eq!(code(&output), 2);
    assert_eq!(
        err(&output),
        format!("error: it is not reserved\nhint: edgeprof board reserve {BOARD} --for 2h\n")
    );
    let output = edgeprof(address, &["board", "console", BOARD, "-o", "json"]).await;
    assert_eq!(code(&output), 2);
}

/// A console on a terminal of its own, on which the board has said its first word.
async fn on_a_terminal(address: SocketAddr) -> (Child, OpenptyResult) {
    let terminal = openpty(None, None).unwrap();
    let mut command = command(Some(address), &["board", "console", BOARD]);
    command.stdin(terminal.slave.try_clone().unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    heard(&mut child, "BOOT").await;
    (child, terminal)
}

fn type_on(terminal: &OpenptyResult, keys: &[u8]) {
    File::from(terminal.master.try_clone().unwrap()).write_all(keys).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_goes_to_the_board_until_the_one_that_leaves() {
    let fake = reserved();
    let state = fake.state.clone();
    let address = fake.start().await;
    let (mut child, terminal) = on_a_terminal(address).await;
    assert!(!tcgetattr(&terminal.slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ISIG));
    type_on(&terminal, b"a\x03\x1a\r");
    heard(&mut child, "A\x03\x1a\r").await;
    type_on(&terminal, b"\x1dlost");
    let output = end(child).await;
    let said = err(&output);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.contains("Ctrl-] leaves\n") && said.ends_with("the board stays reserved\n"), "{said}");
    assert_eq!(state.lock().unwrap().typed, b"a\x03\x1a\r");
    assert!(tcgetattr(&terminal.slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ISIG));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_set_back_also_when_a_signal_ends_the_console() {
    let address = reserved().start().await;
    for (signal, ends) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let (child, terminal) = on_a_terminal(address).await;
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
        let output = end(child).await;
        assert_eq!(code(&output), ends, "{}", err(&output));
        assert!(
            tcgetattr(&terminal.slave).unwrap().local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
        );
    }
}
