//! A screen of its own on the terminal.

use std::{
    io::{self, Stdout, Write, stdout},
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use crossterm::{
    cursor::{Hide, MoveTo, Show},
    execute, queue,
    style::Print,
    terminal::{
        BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
        EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};

use super::line::Line;

/// Whether the terminal of this process has to be restored.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// The terminal with an empty screen, whose keys come one by one. Dropped, or if anything panics, the terminal is again
/// as it was before.
#[derive(Debug)]
pub struct Screen {
    out: Stdout,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If there is none.
    pub fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore(&mut stdout());
            before(info);
        }));
        enable_raw_mode()?;
        IS_ENTERED.store(true, Ordering::SeqCst);
        let mut screen = Self { out: stdout() };
        execute!(screen.out, EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Draws the lines from the top of a terminal of this size, in columns and rows; what else was there is gone. No line
    /// may be wider, and there may be no more of them.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, lines: &[Line], size: (u16, u16), is_colored: bool) -> io::Result<()> {
        queue!(self.out, BeginSynchronizedUpdate)?;
        for (row, line) in (0..size.1).zip(lines) {
            queue!(self.out, MoveTo(0, row), Print(line.written(is_colored)))?;
            // Erased behind the text, not before it: an erased line would flicker. Behind the last column there is
            // nothing, and it would be erased itself.
            if line.width() < usize::from(size.0) {
                queue!(self.out, Clear(ClearType::UntilNewLine))?;
            }
        }
        let drawn = u16::try_from(lines.len()).unwrap_or(size.1);
        if drawn < size.1 {
            queue!(self.out, MoveTo(0, drawn), Clear(ClearType::FromCursorDown))?;
        }
        queue!(self.out, EndSynchronizedUpdate)?;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&mut self.out);
    }
}

/// Gives the terminal back, once. If it cannot be told, it is gone.
fn restore(out: &mut Stdout) {
    if IS_ENTERED.swap(false, Ordering::SeqCst) {
        let _is_told = execute!(out, EnableLineWrap, Show, LeaveAlternateScreen);
        let _is_restored = disable_raw_mode();
    }
}
