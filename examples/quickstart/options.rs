//! What the command line and the environment say.

use std::time::Duration;

pub(crate) const HELP: &str = "\
Runs Highwater's quick start: Kafka, PostgreSQL, three workers, a SIGKILL and a zombie, then the check.

Usage: quickstart [--seconds N] [--rate N] [--mock]

  --seconds N  how long payments are produced at least (30)
  --rate N     payments a second (3000, on the in-process broker 1000)
  --mock       use the Kafka client's in-process broker even if a real one could be had
  -v           show what the workers log

HIGHWATER_TEST_BACKEND=local|containers chooses where the servers come from.";

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Be a worker process instead; it is configured by the environment alone.
    pub(crate) worker: bool,
    pub(crate) help: bool,
    pub(crate) verbose: bool,
    pub(crate) mock: bool,
    pub(crate) seconds: Duration,
    /// Payments a second, if somebody said so.
    pub(crate) rate: Option<u64>,
    /// For a test: after the check, remove a row and double another, and check again.
    pub(crate) sabotage: bool,
}

impl Options {
    /// # Errors
    /// A text for standard error.
    pub(crate) fn from_env() -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let seconds = variable("HIGHWATER_TEST_QUICKSTART_SECONDS").unwrap_or_else(|| "30".to_owned());
        let mut options = Self {
            worker: false,
            help: false,
            verbose: false,
            mock: variable("HIGHWATER_TEST_QUICKSTART_MOCK").is_some(),
            seconds: Duration::from_secs(number("HIGHWATER_TEST_QUICKSTART_SECONDS", Some(seconds))?),
            rate: None,
            sabotage: variable("HIGHWATER_TEST_QUICKSTART_SABOTAGE").is_some(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "worker" => options.worker = true,
                "--help" | "-h" => options.help = true,
                "-v" | "--verbose" => options.verbose = true,
                "--mock" => options.mock = true,
                "--seconds" => options.seconds = Duration::from_secs(number(&argument, arguments.next())?),
                "--rate" => options.rate = Some(number(&argument, arguments.next())?),
                other => return Err(format!("unknown argument {other:?}\n\n{HELP}")),
            }
        }
        Ok(options)
    }
}

fn number(name: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{name} needs a number"))?;
    match value.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err(format!("{name}: {value:?} is not a number from 1 to 100000")),
    }
}
