//! The terminal that `top` draws on: taken for a while, and given back as it was.

use std::{
    io::{Stdout, stdout},
    thread,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        ExecutableCommand,
        cursor::Show,
        event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

use super::{
    state::{Key, Top},
    view,
};
use crate::exit::Failure;

/// Keys that wait.
const KEYS: usize = 16;

fn wrong(error: std::io::Error) -> Failure {
    Failure::usage(format!("cannot draw on this terminal: {error}"))
}

/// The whole terminal.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    pub(super) fn enter() -> Result<Self, Failure> {
        enable_raw_mode().map_err(wrong)?;
        // From here on it is given back whatever happens.
        let terminal = stdout()
            .execute(EnterAlternateScreen)
            .map_err(wrong)
            .and_then(|_| Terminal::new(CrosstermBackend::new(stdout())).map_err(wrong));
        match terminal {
            Ok(terminal) => Ok(Self(terminal)),
            Err(failure) => {
                restore();
                Err(failure)
            }
        }
    }

    pub(super) fn draw(&mut self, top: &Top) -> Result<(), Failure> {
        self.0.draw(|frame| view::draw(frame, top)).map(drop).map_err(wrong)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    let _ = disable_raw_mode();
    let _ = stdout().execute(LeaveAlternateScreen).and_then(|out| out.execute(Show).map(drop));
}

/// Keys as they are pressed. Whoever reads them is a thread that ends with the process.
pub(super) fn keys() -> mpsc::Receiver<Key> {
    let (keys, pressed) = mpsc::channel(KEYS);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Some(key) = meaning(&event) else { continue };
            if keys.blocking_send(key).is_err() {
                return;
            }
        }
    });
    pressed
}

fn meaning(event: &Event) -> Option<Key> {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Some(Key::Redraw),
        _ => return None,
    };
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
        KeyCode::Home => Key::First,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_escape_and_control_c_leave_and_nothing_else_does() {
        let press = |code, modifiers| meaning(&Event::Key(KeyEvent::new(code, modifiers)));
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(code, KeyModifiers::NONE), Some(Key::Quit));
        }
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(press(KeyCode::Down, KeyModifiers::NONE), Some(Key::Down));
        assert_eq!(meaning(&Event::Resize(80, 24)), Some(Key::Redraw));
    }
}
