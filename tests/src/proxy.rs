//! A serial line that does what serial lines do: it damages, loses, repeats, splits and holds back frames,
//! and is pulled out and put back.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd::ttyname,
};

/// What goes wrong, each of so many in ten thousand frames, both ways.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A bit is flipped.
    pub flip: u64,
    /// The frame is lost.
    pub drop: u64,
    /// It comes twice.
    pub duplicate: u64,
    /// It comes in two pieces.
    pub split: u64,
    /// It and all behind it come late.
    pub stall: u64,
}

/// How long a stalled frame is held back.
const STALL: Duration = Duration::from_millis(400);

/// A board's line, as a device that a worker can be given.
#[derive(Debug)]
pub struct Proxy {
    link: PathBuf,
    control: Arc<Mutex<Control>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Control {
    plugged: bool,
    stop: bool,
    faults: Faults,
    damaged: u64,
}

impl Proxy {
    /// A line between the device `board` and a new one, which `link` leads to while it is plugged in.
    ///
    /// # Panics
    /// When the system gives no pseudo terminal.
    pub fn new(board: &Path, link: PathBuf) -> Self {
        let control = Control { plugged: true, stop: false, faults: Faults::default(), damaged: 0 };
        let control = Arc::new(Mutex::new(control));
        let board = File::options()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(board)
            .expect("the board's terminal");
        raw(&board);
        let (shared, path) = (Arc::clone(&control), link.clone());
        let thread = thread::spawn(move || run(board, &path, &shared));
        let proxy = Self { link, control, thread: Some(thread) };
        proxy.wait_for_link(true);
        proxy
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }

    /// The device.
    pub fn path(&self) -> &Path {
        &self.link
    }

    /// From now on this goes wrong.
    pub fn set(&self, faults: Faults) {
        self.control().faults = faults;
    }

    /// Frames that something was done to.
    pub fn damaged(&self) -> u64 {
        self.control().damaged
    }

    /// Pulls the line out of the worker's host.
    pub fn pull(&self) {
        self.control().plugged = false;
        self.wait_for_link(false);
    }

    /// Puts it back.
    pub fn put_back(&self) {
        self.control().plugged = true;
        self.wait_for_link(true);
    }

    fn wait_for_link(&self, there: bool) {
        crate::eventually("the line is pulled or put back", || (self.link.exists() == there).then_some(()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control().stop = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

fn raw(terminal: impl AsFd) {
    let mut settings = tcgetattr(&terminal).expect("a terminal");
    cfmakeraw(&mut settings);
    tcsetattr(&terminal, SetArg::TCSANOW, &settings).expect("a terminal");
}

/// The worker's end: what we hold of it, and the slave, open so that the worker may come and go.
fn plug(link: &Path) -> (File, OwnedFd) {
    let pair = openpty(None, None).expect("a pseudo terminal");
    raw(&pair.slave);
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a descriptor's flags");
    symlink(ttyname(&pair.slave).expect("its name"), link).expect("a link");
    (File::from(pair.master), pair.slave)
}

fn run(mut board: File, link: &Path, control: &Mutex<Control>) {
    let mut plugged: Option<(File, OwnedFd)> = None;
    let (mut down, mut up) = (Mangler::new(0x9e37_79b9_7f4a_7c15), Mangler::new(0x2545_f491_4f6c_dd1d));
    loop {
        let (want, stop) = {
            let control = lock(control);
            (control.plugged, control.stop)
        };
        if stop || !want {
            if plugged.take().is_some() {
                let _ = std::fs::remove_file(link);
            }
            if stop {
                return;
            }
        } else if plugged.is_none() {
            plugged = Some(plug(link));
        }
        wait(&board, plugged.as_ref().map(|(host, _)| host));
        if let Some((host, _)) = &mut plugged {
            pump(host, &mut board, &mut down, control);
            pump(&mut board, host, &mut up, control);
        } else {
            // What a board says into a line that is not plugged in is lost.
            let _ = board.read(&mut [0; 4096]);
        }
    }
}

/// Until there is something to carry, or for a moment.
fn wait(board: &File, host: Option<&File>) {
    let mut ends = vec![PollFd::new(board.as_fd(), PollFlags::POLLIN)];
    ends.extend(host.map(|host| PollFd::new(host.as_fd(), PollFlags::POLLIN)));
    let _ = poll(&mut ends, PollTimeout::from(20_u8));
}

fn pump(from: &mut File, to: &mut File, mangler: &mut Mangler, control: &Mutex<Control>) {
    let mut buffer = [0; 4096];
    let Ok(n) = from.read(&mut buffer) else { return };
    for piece in mangler.take(&buffer[..n], control) {
        if piece.late {
            thread::sleep(STALL);
        }
        write_all(to, &piece.bytes);
    }
}

/// Waits for room for a second; what finds none then is lost.
fn write_all(to: &mut File, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut end = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                if !poll(&mut end, PollTimeout::from(1_000_u16)).is_ok_and(|ready| ready > 0) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

struct Piece {
    bytes: Vec<u8>,
    late: bool,
}

/// Cuts one direction into frames, and does to each what is due.
struct Mangler {
    frame: Vec<u8>,
    random: u64,
}

impl Mangler {
    fn new(seed: u64) -> Self {
        Self { frame: Vec::new(), random: seed }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn take(&mut self, bytes: &[u8], control: &Mutex<Control>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for byte in bytes {
            self.frame.push(*byte);
            if *byte == 0 {
                let frame = std::mem::take(&mut self.frame);
                self.mangle(frame, &mut pieces, control);
            }
        }
        pieces
    }

    fn mangle(&mut self, mut frame: Vec<u8>, pieces: &mut Vec<Piece>, control: &Mutex<Control>) {
        let mut control = lock(control);
        let Faults { flip, drop, duplicate, split, stall } = control.faults;
        let mut late = false;
        let dice = self.next(10_000);
        let bounds = [flip, flip + drop, flip + drop + duplicate, flip + drop + duplicate + split];
        control.damaged += u64::from(dice < bounds[3] + stall);
        if dice < bounds[0] {
            let at = self.next(frame.len() as u64) as usize;
            frame[at] ^= 1 << self.next(8);
        } else if dice < bounds[1] {
            return;
        } else if dice < bounds[2] {
            pieces.push(Piece { bytes: frame.clone(), late: false });
        } else if dice < bounds[3] {
            let rest = frame.split_off(frame.len() / 2);
            pieces.push(Piece { bytes: std::mem::replace(&mut frame, rest), late: false });
        } else {
            late = dice < bounds[3] + stall;
        }
        pieces.push(Piece { bytes: frame, late });
    }
}
