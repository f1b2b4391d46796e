//! A worker as a process of its own.

use std::{
    fmt,
    io::{BufRead, BufReader},
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio::sync::watch;

use super::{
    error::{Error, Result},
    guard::{Guard, Guarded},
};

/// Which of its outputs a process wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A line that a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it was written to.
    pub stream: Stream,
    /// The line without its end.
    pub text: String,
}

/// A process under test, whose lines can be waited for.
///
/// Killed when this is dropped, and when the test process dies in whatever way. When a test fails, its output is
/// shown. Standard input is empty.
#[derive(Debug)]
pub struct Child {
    name: String,
    guard: Guard,
    lines: watch::Receiver<Vec<Line>>,
    /// Its sender goes when standard error is read to its end.
    stderr_open: watch::Receiver<()>,
}

impl Child {
    /// Starts `command`; `name` stands before its lines when they are shown.
    ///
    /// Program, arguments, environment and working folder of the command count; its redirections do not.
    ///
    /// # Errors
    /// When no process can be started. A program that is not there shows as exit status 127.
    pub fn spawn(name: &str, command: &Command) -> Result<Self> {
        let (sender, lines) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let add = |stream: Stream| {
            let sender = Arc::clone(&sender);
            move |text: String| sender.send_modify(|lines| lines.push(Line { stream, text }))
        };
        let spec = Guarded { command, user: None, log: None, remove: None, last_signal: "KILL" };
        let (guard, stderr) = Guard::spawn(&spec, add(Stream::Out))?;
        let (open, stderr_open) = watch::channel(());
        if let Some(stderr) = stderr {
            let add = add(Stream::Err);
            std::thread::spawn(move || {
                let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
                lines.for_each(|line| add(String::from_utf8_lossy(&line).into_owned()));
                drop(open);
            });
        }
        Ok(Self { name: name.to_owned(), guard, lines, stderr_open })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.guard.pid().as_raw_pid().unsigned_abs()
    }

    /// Everything that it wrote so far, in the order of arrival.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.lines.borrow().clone()
    }

    /// Everything that it wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        let lines = self.lines.borrow();
        lines
            .iter()
            .filter(|line| line.stream == Stream::Out)
            .map(|line| format!("{}\n", line.text))
            .collect()
    }

    /// How many lines it wrote so far: a place to search from, see [`Child::wait_for_line_from`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.lines.borrow().len()
    }

    /// Waits for a line that fits, among all that it ever wrote.
    ///
    /// # Errors
    /// When `timeout` passes, or the process ends without such a line.
    pub async fn wait_for_line(&self, fits: impl Fn(&str) -> bool, timeout: Duration) -> Result<String> {
        self.wait_for_line_from(0, fits, timeout).await
    }

    /// Waits for a line that fits, among those after `mark` (see [`Child::mark`]).
    ///
    /// # Errors
    /// When `timeout` passes, or the process ends without such a line.
    pub async fn wait_for_line_from(
        &self,
        mark: usize,
        fits: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String> {
        let find = |lines: &[Line], from: usize| {
            lines.iter().skip(from).find(|line| fits(&line.text)).map(|line| line.text.clone())
        };
        let mut lines = self.lines.clone();
        let search = async {
            // Every line is looked at once: a process that traces writes tens of thousands, and while all of them were
            // looked at for each new one, it waited at its pipe and did nothing else.
            let mut from = mark;
            loop {
                {
                    let lines = lines.borrow_and_update();
                    if let Some(found) = find(&lines, from) {
                        return Some(found);
                    }
                    from = from.max(lines.len());
                }
                // An error means that both outputs are closed, and so all lines are known.
                if lines.changed().await.is_err() {
                    return find(&lines.borrow(), from);
                }
            }
        };
        let ended = async {
            self.guard.exited().await;
            self.drain().await;
        };
        tokio::select! {
            biased;
            found = search => found.ok_or_else(|| self.error("ended without the line that was waited for")),
            () = ended => find(&self.lines.borrow(), mark)
                .ok_or_else(|| self.error("ended without the line that was waited for")),
            () = tokio::time::sleep(timeout) => Err(self.error(&format!("did not write the line within {timeout:?}"))),
        }
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&self) -> Result<()> {
        self.guard.signal(Signal::KILL)
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn term(&self) -> Result<()> {
        self.guard.signal(Signal::TERM)
    }

    /// SIGSTOP: it does nothing more until [`Child::thaw`].
    ///
    /// # Errors
    /// When it has ended already.
    pub fn freeze(&self) -> Result<()> {
        self.guard.signal(Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn thaw(&self) -> Result<()> {
        self.guard.signal(Signal::CONT)
    }

    /// The exit status if it has ended: as a shell gives it, so 137 after [`Child::kill`] and 143 after a SIGTERM that
    /// it did not handle.
    #[must_use]
    pub fn exit_status(&self) -> Option<i32> {
        self.guard.exit_status()
    }

    /// Waits until it has ended and all its lines are in; gives the exit status as [`Child::exit_status`] does.
    ///
    /// # Errors
    /// When `timeout` passes.
    pub async fn wait(&self, timeout: Duration) -> Result<i32> {
        match tokio::time::timeout(timeout, self.guard.exited()).await {
            Ok(status) => {
                self.drain().await;
                Ok(status)
            }
            Err(_) => Err(self.error(&format!("did not end within {timeout:?}"))),
        }
    }

    /// Lets the reader of standard error catch up, which lags behind the exit by what is still in the pipe.
    async fn drain(&self) {
        let mut open = self.stderr_open.clone();
        // Bounded: a process that the child left behind may hold the pipe.
        let _ = tokio::time::timeout(Duration::from_secs(2), open.changed()).await;
    }

    fn error(&self, what: &str) -> Error {
        Error::new(format!("process {} {what}; it wrote:\n{self}", self.name))
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.borrow();
        let skipped = lines.len().saturating_sub(200);
        if skipped > 0 {
            writeln!(f, "[{}] … {skipped} lines before", self.name)?;
        }
        lines.iter().skip(skipped).try_for_each(|line| writeln!(f, "[{}] {}", self.name, line.text))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint!("{self}");
        }
    }
}
