//! Notices of an exec on stderr while it waits: nothing at first, then what it waits for, then from time to time what
//! is known.

use crate::terminal::say;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::why_paused;

/// Between lines: a guest takes minutes to boot.
const BETWEEN: Duration = Duration::from_secs(30);

/// The lines come until this is dropped.
pub struct Notice {
    over: Arc<(Mutex<bool>, Condvar)>,
}

impl Notice {
    /// Prints `first` after `time`, and the result of `more` from then on.
    pub fn after(time: Duration, first: String, more: impl Fn() -> String + Send + 'static) -> Self {
        Self::every(BETWEEN, time, first, more, |line| say(format!("{line}{}", why_paused())))
    }

    fn every(
        between: Duration,
        time: Duration,
        first: String,
        more: impl Fn() -> String + Send + 'static,
        say: impl Fn(String) + Send + 'static,
    ) -> Self {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&over);
        thread::spawn(move || {
            let (over, changed) = &*theirs;
            let (mut time, mut first) = (time, Some(first));
            loop {
                let Ok(is_over) = over.lock() else { return };
                match changed.wait_timeout_while(is_over, time, |over| !*over) {
                    Ok((is_over, _)) if !*is_over => {}
                    _ => return,
                }
                // Finding out what is known takes time, during which the waiting thread is not blocked.
                let line = first.take().unwrap_or_else(&more);
                match over.lock() {
                    Ok(is_over) if !*is_over => say(line),
                    _ => return,
                }
                time = between;
            }
        });
        Self { over }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        if let Ok(mut over) = self.over.0.lock() {
            *over = true;
        }
        self.over.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn lines_until_the_wait_is_over() {
        let (sender, lines) = channel();
        let say = move |line| drop(sender.send(line));
        let brief = Duration::from_millis(1);
        let notice = Notice::every(brief, brief, "first".into(), || "more".into(), say.clone());
        let patience = Duration::from_secs(60);
        for want in ["first", "more", "more"] {
            assert_eq!(lines.recv_timeout(patience).as_deref(), Ok(want));
        }
        drop(notice);
        while lines.try_recv().is_ok() {}
        let unsaid = Notice::every(brief, patience, "never".into(), || "never".into(), say);
        drop(unsaid);
        // All senders are gone when both threads have ended, and nothing has been printed since.
        assert!(lines.recv_timeout(patience).is_err());
    }
}
