//! Named places in a worker where a test may kill or freeze it.

use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};

/// The failpoints, in the order in which a batch passes them.
///
/// | name | where |
/// |---|---|
/// | `batch_begun` | the transaction has begun; the handler has not been called |
/// | `rows_written` | the handler has written its rows; the offsets have not been compared yet |
/// | `before_commit` | the compare-and-set has succeeded; COMMIT has not been sent |
/// | `letters_stored` | the dead letters are written as well; only batches that have some pass it |
/// | `redrive_taken` | dead letters were read, to be applied once more; nothing has begun |
/// | `letters_redriven` | their rows are written and their states changed; COMMIT has not been sent |
/// | `commit_sent` | COMMIT has been sent; its answer has not been read |
/// | `commit_answered` | COMMIT has been answered; nobody in the worker knows yet |
/// | `before_mirror` | positions are durable in Postgres and about to be copied to Kafka |
/// | `before_heartbeat` | the heartbeat is due; beside the batches, once a second |
pub const FAILPOINTS: &[&str] = &[
    "batch_begun",
    "rows_written",
    "before_commit",
    "letters_stored",
    "redrive_taken",
    "letters_redriven",
    "commit_sent",
    "commit_answered",
    "before_mirror",
    "before_heartbeat",
];

/// Runs `action` at the `nth` time (from 1) that this process passes the failpoint `name`, on the thread that
/// passes it.
///
/// Process-wide: for a worker that runs as a process of its own.
///
/// # Panics
/// If there is no such failpoint.
pub fn at_failpoint(name: &str, nth: usize, action: impl Fn() + Send + Sync + 'static) {
    assert!(FAILPOINTS.contains(&name), "there is no failpoint {name}; there are {FAILPOINTS:?}");
    let passed = std::sync::atomic::AtomicUsize::new(0);
    fail::cfg_callback(name, move || {
        if passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == nth {
            action();
        }
    })
    .expect("a callback is always accepted");
}

/// Freezes this process with SIGSTOP, and returns when it has been woken with SIGCONT.
///
/// The kernel stops a process through its main thread and lets the caller run on for a moment; this does not return
/// before the process has really stood still, for a second or more.
///
/// # Panics
/// If a process may not signal itself.
pub fn freeze_this_process() {
    // Taken before the signal: it may strike at once.
    let mut last = Instant::now();
    kill_process(getpid(), Signal::STOP).expect("a process may signal itself");
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = Instant::now();
        if now.duration_since(last) > Duration::from_secs(1) {
            return;
        }
        last = now;
    }
}
