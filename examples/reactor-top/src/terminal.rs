// SPDX-License-Identifier: MIT

//! The terminal: raw while the application runs, and as it was afterwards, whatever ends it.

use std::{
    io::{self, BufRead, BufReader, IsTerminal, PipeReader, Stdout, stdout},
    os::fd::{AsFd, OwnedFd},
    panic,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, DisableBracketedPaste, EnableBracketedPaste, Event},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use crate::{
    model::{App, Input},
    send, view,
};

/// Standard error as it was before it led to the screen.
static STDERR: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Whether the terminal is as it was. Restored twice, it would go back to where its cursor was and
/// overwrite what was printed in between, such as a panic's message.
static IS_RESTORED: AtomicBool = AtomicBool::new(true);

#[derive(Debug)]
pub struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Sends keys, and what libraries write to standard error, which would spoil the screen.
    pub fn open(sender: Sender<Input>) -> io::Result<Self> {
        restore_at_panic();
        enable_raw_mode()?;
        IS_RESTORED.store(false, Ordering::SeqCst);
        // From here on it is restored.
        let mut screen = Self(Terminal::new(CrosstermBackend::new(stdout()))?);
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste)?;
        screen.0.clear()?;
        if io::stderr().is_terminal() {
            let reader = redirect_stderr()?;
            let sender = sender.clone();
            thread::spawn(move || read_log(reader, &sender));
        }
        thread::spawn(move || read_events(&sender));
        Ok(screen)
    }

    pub fn draw(&mut self, app: &App) -> io::Result<()> {
        self.0.draw(|frame| view::draw(frame, app)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, the first time. Errors have no remedy.
fn restore() {
    if IS_RESTORED.swap(true, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let stderr = STDERR.lock().ok().and_then(|mut stderr| stderr.take());
    if let Some(stderr) = stderr {
        let _ = rustix::stdio::dup2_stderr(stderr);
    }
}

/// A panic of this thread ends the application: its message is written to the terminal as it was.
/// Another thread's is a line on the screen.
fn restore_at_panic() {
    let main = thread::current().id();
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == main {
            restore();
        }
        print(info);
    }));
}

/// Returns what reads all that is written to standard error from now on.
fn redirect_stderr() -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    let original = io::stderr().as_fd().try_clone_to_owned()?;
    if let Ok(mut stderr) = STDERR.lock() {
        *stderr = Some(original);
    }
    rustix::stdio::dup2_stderr(writer)?;
    Ok(reader)
}

fn read_log(reader: PipeReader, sender: &Sender<Input>) {
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if !line.trim().is_empty() {
            send(sender, Input::Log(line));
        }
    }
}

/// Sends keys until the terminal is gone.
fn read_events(sender: &Sender<Input>) {
    loop {
        match event::read() {
            Ok(Event::Key(key)) => send(sender, Input::Key(key)),
            Ok(Event::Paste(text)) => send(sender, Input::Paste(text)),
            Ok(Event::Resize(..)) => send(sender, Input::Resized),
            Ok(_) => {}
            Err(_) => return send(sender, Input::Leave),
        }
    }
}
