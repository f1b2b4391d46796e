//! Passwords, tokens and certificates of the Kafka clients while the worker runs: what is new is shown without a restart,
//! and what stays refused ends the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::mpsc;

use super::client::Words;
use super::control::Control;
use crate::consumer::access::{Cause, Change, Unread};
use crate::db::Denied;
use crate::error::{Error, ErrorKind, Result};

/// Between two looks at what may have changed.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same, at least, where a token is due; and where who gives it out did not.
const SOON: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(5);
/// A refusal that was not repeated for so long is over. The client says the same no more often than every 30 s.
const OVER_AFTER: Duration = Duration::from_secs(75);
/// How often the same trouble with reading is told.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Whatever is read must have come by then.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// What was read, and whether anything of it is not as the clients have it.
pub(super) type Read = std::result::Result<Change, Unread>;

/// When brokers have refused them, and in what words.
#[derive(Debug)]
struct Refusal {
    at: Instant,
    words: String,
    /// With why there is nothing better to show, if that is known.
    text: String,
}

/// What is known of this worker's credentials.
#[derive(Debug)]
pub(super) struct Credentials {
    due: Instant,
    /// Since when they are being read, on a thread that nobody waits for.
    looking: Option<Instant>,
    sender: mpsc::UnboundedSender<Read>,
    pub(super) inbox: mpsc::UnboundedReceiver<Read>,
    denied: Denied,
    last: Option<Refusal>,
    words: Words,
    /// Why the last reading gave nothing, and when that was told.
    unread: Option<(Instant, String)>,
    /// Kafka has let this worker in before: a refusal may pass, as where a password is rotated.
    pub(super) were_taken: bool,
}

impl Credentials {
    /// `due_in`: when a token that there is will be due.
    pub(super) fn new(now: Instant, due_in: Option<Duration>) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        Self {
            due: now + until(due_in, SOON),
            looking: None,
            sender,
            inbox,
            denied: Denied::default(),
            last: None,
            words: Words::default(),
            unread: None,
            were_taken: false,
        }
    }

    /// A member: they are taken, by the coordinator at least. That another broker has refused them shows for a while.
    pub(super) fn taken(&mut self) {
        self.were_taken = true;
        self.denied.interrupted();
    }

    /// In what words a broker has refused them lately.
    pub(super) fn refusal(&self, now: Instant) -> Option<&str> {
        let last = self.last.as_ref()?;
        (now.duration_since(last.at) < OVER_AFTER).then_some(last.text.as_str())
    }

    /// Brokers have refused what could not be renewed in time: they are not to blame for that, nor are the credentials.
    fn outlived(&mut self, now: Instant, words: &str) {
        self.note(now, words);
        self.denied.interrupted();
    }

    fn note(&mut self, now: Instant, words: &str) -> String {
        let text = match &self.unread {
            Some((_, why)) => format!("{words}; {why}"),
            None => words.to_owned(),
        };
        self.due = now;
        self.last = Some(Refusal { at: now, words: words.to_owned(), text: text.clone() });
        text
    }

    /// Notes why there is nothing new, and says whether to tell it.
    fn is_to_be_told(&mut self, now: Instant, why: &str) -> bool {
        match &self.unread {
            Some((at, before)) if before == why && now.duration_since(*at) < TOLD_AGAIN => false,
            _ => {
                self.unread = Some((now, why.to_owned()));
                true
            }
        }
    }

    /// Brokers have refused them.
    ///
    /// # Errors
    /// Once that has lasted for `limit`.
    fn refused(&mut self, now: Instant, words: &str, limit: Option<Duration>) -> Result<()> {
        if self.refusal(now).is_none() {
            self.denied.interrupted();
        }
        let text = self.note(now, words);
        self.denied.refused(now, text);
        match (self.denied.since(), limit) {
            (Some((lasted, why)), Some(limit)) if lasted >= limit => Err(Error::new(
                ErrorKind::Authentication,
                format!(
                    "Kafka has not let this worker in for {lasted:?} (`access_denied_after`): {why}; correct the \
                     credentials, or what the brokers accept, and start again"
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// How long until the next look.
fn until(due_in: Option<Duration>, soonest: Duration) -> Duration {
    INTERVAL.min(due_in.unwrap_or(INTERVAL).max(soonest))
}

impl Control {
    /// Looks now and then at what the clients show, off the loop and off the runtime: a command may take its time.
    pub(super) fn look_at_credentials(&mut self) {
        let (now, credentials) = (Instant::now(), &mut self.credentials);
        if let Some(since) = credentials.looking {
            if now.duration_since(since) > LOOK_LIMIT && now >= credentials.due {
                credentials.due = now + LOOK_LIMIT;
                tracing::warn!(
                    "the Kafka clients' secrets and files are still being read: is a file system away?"
                );
            }
            return;
        }
        if now < credentials.due || !self.access.may_change() {
            return;
        }
        let soon = if credentials.unread.is_some() { AGAIN } else { SOON };
        credentials.due = now + until(self.access.due_in(), soon);
        let refused = credentials.refusal(now).is_some() || self.obtain.guard.catalog().refusal().is_some();
        let (access, sender) = (Arc::clone(&self.access), credentials.sender.clone());
        let reader = std::thread::Builder::new().name("highwater-access".to_owned()).spawn(move || {
            let _ = sender.send(access.refresh(refused));
        });
        match reader {
            Ok(_) => credentials.looking = Some(now),
            Err(error) => tracing::warn!(%error, "could not look at the Kafka clients' secrets"),
        }
    }

    /// New passwords and tokens go to the clients that there are; new certificates take new clients. Those that only ask
    /// are made first: if they cannot be, as where a certificate came without its key yet, the others stay as they are, and
    /// the next look tries again.
    ///
    /// # Errors
    /// Once there was neither a token that brokers take nor a new one for too long.
    pub(super) fn on_credentials(&mut self, read: Read) -> Result<()> {
        self.credentials.looking = None;
        let change = match read {
            Ok(change) => change,
            Err(unread) => return self.on_unread(&unread),
        };
        self.credentials.unread = None;
        if !change.any() {
            return Ok(());
        }
        if let Some(poller) = self.poller.as_ref().filter(|_| change.credentials) {
            self.access.show(poller.client());
        }
        if let Err(error) = self.obtain.guard.catalog().renew() {
            let why = crate::config::refusal(&error);
            tracing::warn!(
                why,
                "no client can be made of the new credentials (yet): going on with those before"
            );
            return Ok(());
        }
        self.access.is_used();
        if change.credentials {
            tracing::info!("the Kafka clients' password or token has changed");
        }
        // Where there is no client just now, the next one is made of what there is then.
        if change.files && self.poller.is_some() {
            tracing::info!("certificates or keys of the Kafka clients have changed: building a new client");
            self.replace_client(Duration::ZERO);
        }
        Ok(())
    }

    /// Nothing new could be read. Where brokers refuse what there is, and so does who gives out tokens, that counts.
    fn on_unread(&mut self, unread: &Unread) -> Result<()> {
        let (now, credentials) = (Instant::now(), &mut self.credentials);
        if credentials.is_to_be_told(now, &unread.why) {
            tracing::warn!(why = unread.why, "the Kafka clients go on with the credentials before");
        }
        if unread.cause == Cause::Denied && credentials.refusal(now).is_some() {
            let words = credentials.last.as_ref().map(|last| last.words.clone()).unwrap_or_default();
            let counted = credentials.refused(now, &words, self.config.access_denied_after);
            credentials.due = now + AGAIN;
            return counted;
        }
        Ok(())
    }

    /// A broker does not let the client in. At the start nothing will change that; later something may.
    pub(super) fn on_refused_credentials(&mut self, code: RDKafkaErrorCode, text: &str) -> Result<()> {
        let now = Instant::now();
        if self.access.is_waiting() {
            self.credentials.outlived(now, text);
            if self.credentials.words.are_due(code, now) {
                tracing::warn!(
                    ?code,
                    "Kafka does not let this worker in, and there is no new token yet: {text}"
                );
            }
            return Ok(());
        }
        let limit = if self.credentials.were_taken || code == RDKafkaErrorCode::SSL {
            self.config.access_denied_after
        } else {
            Some(Duration::ZERO)
        };
        self.credentials.refused(now, text, limit)?;
        if self.credentials.words.are_due(code, now) {
            tracing::warn!(?code, "Kafka does not let this worker in: {text}; trying again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_refused_ends_the_process_and_what_passes_does_not() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut credentials = Credentials::new(began, None);
        let limit = Some(Duration::from_secs(300));
        assert!(credentials.refused(at(0), "no", Some(Duration::ZERO)).is_err(), "at the start");
        credentials.taken();
        for seconds in [10, 40, 100, 160, 220, 290] {
            assert!(credentials.refused(at(seconds), "no", limit).is_ok());
        }
        assert_eq!(credentials.refusal(at(300)), Some("no"));
        credentials.taken();
        assert_eq!(
            credentials.refusal(at(300)),
            Some("no"),
            "another broker may refuse what the coordinator takes"
        );
        assert!(credentials.refused(at(320), "no", limit).is_ok(), "it was over");
        assert_eq!(credentials.refusal(at(400)), None);
        assert!(credentials.refused(at(90_000), "no", limit).is_ok(), "one a day is no long one");
        for seconds in (90_030..90_300).step_by(30) {
            assert!(credentials.refused(at(seconds), "no", limit).is_ok(), "{seconds}");
            assert!(credentials.refused(at(seconds), "no", None).is_ok(), "switched off");
        }
        // Nobody gives out a new token: that is no refusal, and what was counted before is over.
        credentials.outlived(at(90_299), "expired");
        assert_eq!(credentials.refusal(at(90_299)), Some("expired"));
        assert!(credentials.refused(at(90_300), "no", limit).is_ok());
        for seconds in (90_330..90_600).step_by(30) {
            assert!(credentials.refused(at(seconds), "no", limit).is_ok(), "{seconds}");
        }
        assert!(credentials.is_to_be_told(at(90_590), "the file is empty"));
        assert!(!credentials.is_to_be_told(at(90_591), "the file is empty"));
        let error = credentials.refused(at(90_600), "wrong password", limit).unwrap_err();
        assert_eq!(error.exit_code(), 5);
        assert!(error.to_string().contains("wrong password; the file is empty"), "{error}");
    }
}
