//! How far it is, on one line of a terminal.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(100);
const WIDTH: usize = 30;

/// Where progress is shown; for a file or a pipe, nowhere.
pub struct Progress {
    shown: bool,
    bar: Mutex<Option<Arc<Bar>>>,
}

/// How far one phase is.
pub(super) struct Bar {
    shown: bool,
    phase: &'static str,
    total: usize,
    done: AtomicUsize,
    begun: Instant,
    next: Mutex<Instant>,
}

impl Progress {
    /// On standard error, if that is a terminal.
    pub fn on_terminal() -> Self {
        Self { shown: std::io::IsTerminal::is_terminal(&std::io::stderr()), bar: Mutex::default() }
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self { shown: false, bar: Mutex::default() }
    }

    pub(super) fn start(&self, phase: &'static str, total: usize) -> Arc<Bar> {
        self.done();
        let (done, now) = (AtomicUsize::new(0), Instant::now());
        let bar = Arc::new(Bar { shown: self.shown, phase, total, done, begun: now, next: Mutex::new(now) });
        bar.draw();
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        bar
    }

    /// The last phase is over: its line stays.
    pub(super) fn done(&self) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar.filter(|bar| bar.shown) {
            bar.draw();
            eprintln!();
        }
    }
}

impl Bar {
    /// One more is done.
    pub fn step(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if !self.shown {
            return;
        }
        // Who finds it taken leaves the line to the other one.
        if let Ok(mut next) = self.next.try_lock()
            && *next <= Instant::now()
        {
            *next = Instant::now() + EVERY;
            self.draw();
        }
    }

    fn draw(&self) {
        if self.shown {
            let line = line(self.phase, self.done.load(Ordering::Relaxed), self.total, self.begun.elapsed());
            // There is nobody to tell if a terminal is gone.
            let _ = write!(std::io::stderr(), "\r{line}");
        }
    }
}

fn line(phase: &str, done: usize, total: usize, since: Duration) -> String {
    let filled = (done.min(total) * WIDTH).checked_div(total).unwrap_or(WIDTH);
    let (filled, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
    format!("{phase:<8} [{filled}{empty}] {done}/{total}  {:.1} s ", since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let at = |done, total| line("join", done, total, Duration::from_millis(1240));
        assert_eq!(at(5, 10), format!("join     [{}{}] 5/10  1.2 s ", "#".repeat(15), "-".repeat(15)));
        assert_eq!(at(0, 0), format!("join     [{}] 0/0  1.2 s ", "#".repeat(30)));
    }
}
