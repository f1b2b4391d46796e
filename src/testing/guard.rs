//! One command that does not outlive the test process.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::error::{Attempted, Error, Result};

const SCRIPT: &str = include_str!("guard.sh");

/// How a command is run under its guard.
#[derive(Debug)]
pub(super) struct Guarded<'a> {
    /// Program, arguments, environment and working folder are taken from here.
    pub(super) command: &'a Command,
    /// User and group to run as, when we are root and the command must not be.
    pub(super) user: Option<(u32, u32)>,
    /// Output goes to this file; else to `on_line` and to the standard error that [`Guard::spawn`] returns.
    pub(super) log: Option<PathBuf>,
    /// Removed when the guard is dropped and the command has ended.
    pub(super) remove: Option<PathBuf>,
    /// What ends the command when the test process is gone: `KILL`, or `QUIT` for Postgres, which then tidies up.
    pub(super) last_signal: &'static str,
}

/// A running command. Dropping this, or the death of the test process, kills it.
#[derive(Debug)]
pub(super) struct Guard {
    pid: Pid,
    pipe: Option<ChildStdin>,
    exited: watch::Receiver<Option<i32>>,
}

impl Guard {
    /// Starts the command; each line of its standard output (when it has no log file) is given to `on_line`.
    ///
    /// Standard threads rather than runtime tasks watch it: a shared server outlives the runtime of the test that
    /// happened to start it.
    pub(super) fn spawn(
        spec: &Guarded<'_>,
        on_line: impl FnMut(String) + Send + 'static,
    ) -> Result<(Self, Option<ChildStderr>)> {
        let name = spec.command.get_program().to_string_lossy().into_owned();
        let mut shell = shell(spec);
        let mut child = shell.spawn().attempted(|| format!("start sh to run {name}"))?;
        let (pipe, stderr) = (child.stdin.take(), child.stderr.take());
        let (pid_sender, pid_receiver) = mpsc::channel();
        let (exit_sender, exited) = watch::channel(None);
        std::thread::spawn(move || read_output(child, &pid_sender, &exit_sender, on_line));
        let pid = pid_receiver
            .recv_timeout(Duration::from_secs(30))
            .attempted(|| format!("learn the process id of {name} from its guard"))?;
        Ok((Self { pid, pipe, exited }, stderr))
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// The exit status as a shell gives it (128 + n for signal n), once the command has ended.
    pub(super) fn exit_status(&self) -> Option<i32> {
        *self.exited.borrow()
    }

    /// Sends a signal, unless the command has ended.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if self.exit_status().is_some() {
            return Err(Error::new(format!("send {signal:?} to process {:?}, which has ended", self.pid)));
        }
        kill_process(self.pid, signal).attempted(|| format!("send {signal:?} to process {:?}", self.pid))
    }

    /// Resolves to the exit status when the command has ended. Does not borrow the guard.
    pub(super) fn exited(&self) -> impl Future<Output = i32> + Send + 'static {
        let mut exited = self.exited.clone();
        async move {
            // The sender goes without a status only if the guarding shell itself was killed.
            let status = exited.wait_for(Option::is_some).await.map(|status| *status);
            status.ok().flatten().unwrap_or(-1)
        }
    }

    /// Lets the guard of an ended command go without removing its folder: the next one takes over.
    pub(super) fn keep_folder(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            let _ = pipe.write_all(b"keep\n");
        }
    }
}

fn shell(spec: &Guarded<'_>) -> Command {
    let path_or_none = |path: &Option<PathBuf>| path.clone().unwrap_or_else(|| PathBuf::from("-"));
    let mut shell = Command::new("sh");
    shell.args(["-c", SCRIPT, "guard"]).arg(path_or_none(&spec.remove)).arg(path_or_none(&spec.log));
    shell.arg(spec.last_signal).arg(spec.command.get_program()).args(spec.command.get_args());
    for (name, value) in spec.command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = spec.command.get_current_dir() {
        shell.current_dir(folder);
    }
    if let Some((user, group)) = spec.user {
        shell.uid(user).gid(group);
    }
    // Its own process group: Ctrl-C in a terminal must not hit the guard before it has done its work.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
    shell.stderr(if spec.log.is_some() { Stdio::inherit() } else { Stdio::piped() });
    shell
}

fn read_output(
    mut shell: Child,
    pid: &mpsc::Sender<Pid>,
    exit: &watch::Sender<Option<i32>>,
    mut on_line: impl FnMut(String),
) {
    let Some(stdout) = shell.stdout.take() else { return };
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // The command's last line may lack its end, so the guard's word can come anywhere in a line.
        let Some((before, word)) = line.split_once('\u{1}') else {
            on_line(line.into_owned());
            continue;
        };
        if !before.is_empty() {
            on_line(before.to_owned());
        }
        match word.split_once(' ').map(|(what, number)| (what, number.trim().parse::<i32>())) {
            Some(("pid", Ok(number))) => drop(Pid::from_raw(number).map(|number| pid.send(number))),
            Some(("exit", Ok(status))) => drop(exit.send_replace(Some(status))),
            _ => on_line(line.into_owned()),
        }
    }
    let _ = shell.wait();
}

/// The process ids of the direct children of `parent`; none where there is no `/proc`.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|&pid| status_of(pid).is_some_and(|(_, its_parent)| its_parent == parent.as_raw_pid()))
        .collect()
}

/// Whether the process is gone, or a zombie that only waits to be reaped.
pub(super) fn is_gone(pid: Pid) -> bool {
    match status_of(pid) {
        Some((state, _)) => state == 'Z',
        None => rustix::process::test_kill_process(pid).is_err(),
    }
}

/// State and parent of a process, from the fields behind its name (which may itself hold blanks and brackets).
fn status_of(pid: Pid) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
