//! What can be done to a running server, wherever it runs.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    container::Container,
    error::{Error, Result},
    guard::{Guard, Guarded, children, is_gone},
    wait_until,
};

/// How long a server may take to answer after its start, on a busy machine.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(180);
/// How long a server may take to end after it was told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);

/// A server of the kit.
#[derive(Debug)]
pub(super) enum Server {
    /// Not started by us: only its address is known.
    External,
    Local(Local),
    Container(Container),
}

impl Server {
    /// Starts it, again if it ran before: same port, same data. Does not wait until it answers.
    pub(super) async fn launch(&self) -> Result<()> {
        match self {
            Self::External => Err(not_ours("start")),
            Self::Local(local) => local.launch(),
            Self::Container(container) => container.launch().await,
        }
    }

    pub(super) async fn stop(&self) -> Result<()> {
        match self {
            Self::External => Err(not_ours("stop")),
            Self::Local(local) => local.stop().await,
            Self::Container(container) => container.stop().await,
        }
    }

    pub(super) async fn kill(&self) -> Result<()> {
        match self {
            Self::External => Err(not_ours("kill")),
            Self::Local(local) => local.kill().await,
            Self::Container(container) => container.kill().await,
        }
    }

    pub(super) async fn freeze(&self) -> Result<()> {
        match self {
            Self::External => Err(not_ours("freeze")),
            Self::Local(local) => local.signal_family(Signal::STOP),
            Self::Container(container) => container.freeze().await,
        }
    }

    pub(super) async fn thaw(&self) -> Result<()> {
        match self {
            Self::External => Err(not_ours("thaw")),
            Self::Local(local) => local.signal_family(Signal::CONT),
            Self::Container(container) => container.thaw().await,
        }
    }

    /// Whether it runs as far as we know: one that runs must be stopped before it is launched again.
    pub(super) async fn is_running(&self) -> bool {
        match self {
            Self::External => true,
            Self::Local(local) => local.is_running(),
            Self::Container(container) => container.is_running().await,
        }
    }

    /// The end of what it logged, for the text of an error.
    pub(super) async fn log_tail(&self) -> String {
        match self {
            Self::External => String::new(),
            Self::Local(local) => local.log_tail(),
            Self::Container(container) => container.log_tail().await,
        }
    }

    /// The process id of a local server.
    pub(super) fn pid(&self) -> Option<u32> {
        match self {
            Self::Local(local) => local.pid().and_then(|pid| u32::try_from(pid.as_raw_pid()).ok()),
            Self::External | Self::Container(_) => None,
        }
    }

    /// Calls `probe` until it succeeds: the server's own answer says that it is ready.
    ///
    /// # Errors
    /// When the server ends first or the time is over, with the end of its log.
    pub(super) async fn wait_ready(&self, what: &str, probe: impl AsyncFn() -> Result<()>) -> Result<()> {
        let answers = format!("{what} answers");
        let answered = wait_until(&answers, START_TIMEOUT, async || match probe().await {
            Ok(()) => Ok(Some(())),
            Err(error) if !self.is_running().await => Err(error),
            Err(error) => {
                tracing::trace!(?error, what, "not ready yet");
                Ok(None)
            }
        });
        match answered.await {
            Ok(()) => Ok(()),
            Err(error) => {
                Err(Error::caused(format!("start {what}; its log ends:\n{}", self.log_tail().await), error))
            }
        }
    }
}

fn not_ours(verb: &str) -> Error {
    Error::new(format!("{verb} an external server: it is not ours; a test that needs this starts its own"))
}

/// A server as a local process.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) command: Command,
    pub(super) user: Option<(u32, u32)>,
    /// Data, configuration and log; removed with the server.
    pub(super) folder: PathBuf,
    /// What asks it to end in good order.
    pub(super) stop_signal: Signal,
    /// See [`Guarded::last_signal`].
    pub(super) last_signal: &'static str,
    guard: Mutex<Option<Guard>>,
}

impl Local {
    pub(super) fn new(
        command: Command,
        user: Option<(u32, u32)>,
        folder: PathBuf,
        stop_signal: Signal,
        last_signal: &'static str,
    ) -> Self {
        Self { command, user, folder, stop_signal, last_signal, guard: Mutex::new(None) }
    }

    fn guard(&self) -> MutexGuard<'_, Option<Guard>> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn launch(&self) -> Result<()> {
        let spec = Guarded {
            command: &self.command,
            user: self.user,
            log: Some(self.log_path()),
            remove: Some(self.folder.clone()),
            last_signal: self.last_signal,
        };
        let mut current = self.guard();
        let (guard, _) = Guard::spawn(&spec, |_| {})?;
        // The new guard first, then leave of the old one: the folder is never without somebody who removes it.
        if let Some(ended) = current.replace(guard) {
            ended.keep_folder();
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.guard().as_ref().is_some_and(|guard| guard.exit_status().is_none())
    }

    fn pid(&self) -> Option<Pid> {
        self.guard().as_ref().map(Guard::pid)
    }

    async fn stop(&self) -> Result<()> {
        self.end(&[self.stop_signal]).await
    }

    /// SIGKILL for the server and, in the same moment, for the processes that it started.
    async fn kill(&self) -> Result<()> {
        // Stopped first, so that it starts no more of them while we look.
        let Some(pid) = self.pid() else { return Err(Error::new("kill a server that was never started")) };
        if self.is_running() {
            let _ = kill_process(pid, Signal::STOP);
        }
        let family = children(pid);
        self.end(&[Signal::KILL]).await?;
        for &child in &family {
            let _ = kill_process(child, Signal::KILL);
        }
        wait_until("the processes of a killed server are gone", STOP_TIMEOUT, async || {
            Ok(family.iter().all(|&child| is_gone(child)).then_some(()))
        })
        .await
    }

    async fn end(&self, signals: &[Signal]) -> Result<()> {
        let exited = {
            let current = self.guard();
            let Some(guard) = current.as_ref() else {
                return Err(Error::new("stop a server that was never started"));
            };
            if guard.exit_status().is_some() {
                return Ok(());
            }
            for &signal in signals {
                guard.signal(signal)?;
            }
            guard.exited()
        };
        match tokio::time::timeout(STOP_TIMEOUT, exited).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(format!(
                "waited {STOP_TIMEOUT:?} in vain until a server ended after {signals:?}; its log ends:\n{}",
                self.log_tail()
            ))),
        }
    }

    /// The same signal for the server and its children (the backends of Postgres).
    fn signal_family(&self, signal: Signal) -> Result<()> {
        let current = self.guard();
        let Some(guard) = current.as_ref() else {
            return Err(Error::new(format!("send {signal:?} to a server that was never started")));
        };
        guard.signal(signal)?;
        for child in children(guard.pid()) {
            let _ = kill_process(child, signal);
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
