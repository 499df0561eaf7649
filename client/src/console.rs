//! `edgeprof board console`: a person, or a pipe, on the line of a board.

use std::{
    io::{self, IsTerminal, Read, Write, stdin, stdout},
    os::fd::AsFd,
    time::Duration,
};

use edgeprof_client::{ClientError, Line, Typed};
use nix::sys::{
    signal::Signal,
    termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    args::{Global, YEAR},
    close::{self, Kind},
    exit::{Exit, Failure},
    output::{Format, say},
};

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// Typed bytes that the board has not taken; nothing more is read then.
const MAX_PENDING: usize = 1 << 20;

/// `edgeprof board console`
pub(crate) async fn open(global: &Global, board: &str, linger: Duration) -> Result<Exit, Failure> {
    if global.output != Format::Table {
        return Err(Failure::usage("a console carries bytes, in no other shape").hint("leave out -o"));
    }
    let client = global.connect().await?;
    let opened = client.console(board).await;
    let (typed, line) = close::checked(&client, Kind::Board, board, opened).await?;
    let person = stdin().is_terminal();
    if person {
        // Firmware of ours is silent unless it is asked in frames: whoever types has to know.
        say(&format!(
            "on the line of {}, whose firmware answers frames and echoes no text; Ctrl-] leaves\n",
            edgeprof_report::printable(board)
        ));
    }
    let raw = if person { Some(Raw::enter()?) } else { None };
    let end = carry(typed, line, person, linger.min(YEAR)).await;
    drop(raw);
    let end = end?;
    if person {
        say(match end {
            End::Left => "\nleft the console; the board stays reserved\n",
            End::Closed => "\nthe coordinator ended the console\n",
        });
    }
    Ok(Exit::Ok)
}

/// Why a console ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Left,
    Closed,
}

/// Carries bytes both ways until either side leaves.
async fn carry(typed: Typed, mut line: Line, person: bool, linger: Duration) -> Result<End, Failure> {
    let mut signals = Signals::new()?;
    let mut keys = keys();
    let (screen, shown) = screen();
    let mut pending = Vec::new();
    let mut open = true;
    let mut last = Instant::now();
    let end = loop {
        tokio::select! {
            read = keys.recv(), if open && pending.len() < MAX_PENDING => {
                let fresh = match read {
                    Some(read) => read.map_err(|error| {
                        Failure::usage(format!("cannot read standard input: {error}"))
                    })?,
                    None => Vec::new(),
                };
                let leave = person && (fresh.is_empty() || fresh.contains(&LEAVE));
                if leave {
                    break Ok(End::Left);
                }
                open = !fresh.is_empty();
                pending.extend(fresh);
                last = Instant::now();
            }
            there = typed.write(&pending), if !pending.is_empty() => {
                // A console that is gone says why on its other side.
                pending.clear();
                open &= there;
                last = Instant::now();
            }
            heard = hear(&screen, &mut line) => {
                match heard {
                    Some((place, Ok(Some(bytes)))) => place.send(bytes),
                    Some((_, Ok(None))) => break Ok(End::Closed),
                    Some((_, Err(error))) => break Err(error.into()),
                    None => break Ok(End::Left),
                }
                last = Instant::now();
            }
            () = sleep_until(last + linger), if !open && pending.is_empty() => break Ok(End::Left),
            signal = signals.next() => return Err(Failure::signal(signal)),
        }
    };
    // What was heard is shown, however it ended.
    drop(screen);
    tokio::select! {
        written = shown => match written {
            // Whoever read it has what they wanted.
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::usage(format!("cannot write to standard output: {error}")))
            }
            _ => end,
        },
        signal = signals.next() => Err(Failure::signal(signal)),
    }
}

/// What the board says next, and room to show it; nothing where nobody reads it any more.
async fn hear<'a>(
    screen: &'a mpsc::Sender<Vec<u8>>,
    line: &mut Line,
) -> Option<(mpsc::Permit<'a, Vec<u8>>, Result<Option<Vec<u8>>, ClientError>)> {
    let place = screen.reserve().await.ok()?;
    Some((place, line.next().await))
}

/// Standard input, read by a thread: no signal waits for a read. Nothing follows its end.
fn keys() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (send, receive) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        loop {
            let read = match stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|count| buffer[..count].to_vec()),
            };
            let over = !read.as_ref().is_ok_and(|bytes| !bytes.is_empty());
            if send.blocking_send(read).is_err() || over {
                return;
            }
        }
    });
    receive
}

/// Standard output, written by a thread until its sender is gone.
fn screen() -> (mpsc::Sender<Vec<u8>>, JoinHandle<io::Result<()>>) {
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(16);
    let written = tokio::task::spawn_blocking(move || {
        let mut out = stdout().lock();
        while let Some(bytes) = receive.blocking_recv() {
            out.write_all(&bytes)?;
            out.flush()?;
        }
        Ok(())
    });
    (send, written)
}

/// What ends the process from outside: heard, so that the terminal is set back first.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen to signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
        }
    }
}

/// A terminal that passes every key on. Set back when dropped, also by a panic.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> Result<Self, Failure> {
        let wrong = |error| Failure::usage(format!("cannot set up the terminal: {error}"));
        let before = tcgetattr(stdin().as_fd()).map_err(wrong)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // A bare line feed of the board starts a line, as people expect.
        raw.output_flags |= before.output_flags & (OutputFlags::OPOST | OutputFlags::ONLCR);
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &raw).map_err(wrong)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}
