//! The line of a board in the hands of a person: raw bytes both ways.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    device::{Device, Source},
    error::BoardError,
};
use crate::line::{self, LineError};

/// What a board that is used so says of itself.
pub const OPEN: &str = "its console is open";

/// Bytes that are read at once.
const PIECE: usize = 4096;

/// A person at a board's line.
#[derive(Debug)]
pub struct Console {
    /// Whether it is theirs, or why it is not.
    pub opened: oneshot::Sender<Result<(), String>>,
    /// What they type; its end closes the console.
    pub input: mpsc::Receiver<Bytes>,
    /// What the board says; an error is the last.
    pub output: mpsc::Sender<Result<Bytes, LineError>>,
}

impl Console {
    /// Says why the line cannot be had.
    pub fn refuse(self, why: String) {
        let _ = self.opened.send(Err(why));
    }
}

/// Passes bytes until the person goes or the line is lost.
pub async fn serve(console: Console, device: &mut Device) {
    let attached = matches!(device.source(), Source::Attached(_));
    if attached
        && device.running().is_none()
        && let Err(error) = device.revive(None).await
    {
        let BoardError::Line(_) = &error else { return console.refuse(error.to_string()) };
        return console.refuse(format!("{error}; it is looked for again"));
    }
    let Some(running) = device.running() else {
        return console.refuse(
            "no firmware runs on it yet: an emulated board starts with its first task, run one first".into(),
        );
    };
    let line = running.board.line();
    let Console { opened, mut input, output } = console;
    if opened.send(Ok(())).is_err() {
        return;
    }
    let mut piece = [0; PIECE];
    loop {
        let failure = tokio::select! {
            typed = input.recv() => match typed {
                Some(typed) => line::send(line, &typed).await.err(),
                None => return,
            },
            said = line::receive(line, &mut piece) => match said {
                Ok(n) => {
                    let said = Bytes::copy_from_slice(piece.get(..n).unwrap_or_default());
                    if output.send(Ok(said)).await.is_err() {
                        return;
                    }
                    None
                }
                Err(error) => Some(error),
            },
        };
        if let Some(error) = failure {
            let _ = output.send(Err(error)).await;
            return;
        }
    }
}
