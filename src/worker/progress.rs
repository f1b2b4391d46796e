//! The watch on progress: what is waited for, for how long already, and what is done about it. Pure: whoever looks says
//! what there is to see, and carries out what follows.
//!
//! Everything that may stand still is a [`Subject`] with a mark that must move: an offset, a count of answers. While it
//! does not, time is counted, but only time in which this process ran: one that was frozen, or had no processor, must
//! not take its own absence for somebody else's.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::PartitionKey;
use crate::due::Due;

/// The most that counts between two looks.
const MOST: Duration = Duration::from_secs(1);
/// For so long a wait is remembered whose subject is not to be seen: a new client claims its partitions anew.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The longest pause between two words about the same wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// First and longest pause before a refused fetch is tried again.
const FETCH_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What may stand still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// No broker answers any question.
    Kafka,
    /// No heartbeat is written.
    Postgres,
    /// Not a member of the group.
    Join,
    /// A topic that is subscribed to, and of which nobody was given what there is.
    Unassigned(Arc<str>),
    /// Kafka refuses a topic.
    Topic(Arc<str>),
    /// Kafka refuses a partition's records.
    Fetch(PartitionKey),
    /// Kafka holds records of a partition, and none comes.
    Records(PartitionKey),
    /// Records of a partition are here, and none is applied.
    Applied(PartitionKey),
    /// A partition that is assigned, but not claimed, or not past the guard.
    Claim(PartitionKey),
    /// Nobody leads a partition.
    Leader(PartitionKey),
    /// Somebody leads a partition, and does not say how far it goes, though Kafka answers.
    Silent(PartitionKey),
    /// A producer's open transaction holds the last stable offset.
    Transaction(PartitionKey),
}

/// When what is done about a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// How long Kafka and Postgres may be silent.
    silence: Duration,
    anew: Duration,
    new_client: Duration,
    /// … where somebody has said why, so that a new client would most likely hear the same.
    new_client_though_explained: Duration,
    stuck_after: Option<Duration>,
}

/// The shortest silence of Kafka or Postgres that is one: a question is asked every three seconds, a heartbeat written
/// every second.
const SHORTEST_SILENCE: Duration = Duration::from_secs(10);
/// How long anything may stand still before it is said, and begun anew where that can be.
const ANEW: Duration = Duration::from_secs(10);
/// … and before a new client is built. After a lone broker's restart the client may have forgotten every broker, and a
/// group should not stand still for a minute because of that.
const NEW_CLIENT: Duration = Duration::from_secs(30);
const NEW_CLIENT_THOUGH_EXPLAINED: Duration = Duration::from_secs(150);
/// How long a topic may be there before anybody is given its partitions: clients look every ten seconds, and then there
/// is a rebalance, and claims.
const UNASSIGNED: Duration = Duration::from_secs(45);
/// How long a transaction may be open: some producers end theirs every half a minute.
const TRANSACTION: Duration = Duration::from_secs(30);

impl Limits {
    /// From the session time-out, and from the setting `stuck_after`: a short one leaves less time for what comes before.
    pub(super) fn new(session: Duration, stuck_after: Option<Duration>) -> Self {
        let whole = stuck_after.unwrap_or(Duration::MAX);
        Self {
            silence: session.max(SHORTEST_SILENCE),
            anew: ANEW.min(whole / 6),
            new_client: NEW_CLIENT.min(whole / 2),
            new_client_though_explained: NEW_CLIENT_THOUGH_EXPLAINED.min(whole / 2),
            stuck_after,
        }
    }

    /// When it is first said.
    fn word(&self, subject: &Subject) -> Duration {
        match subject {
            Subject::Kafka | Subject::Postgres => self.silence,
            Subject::Topic(_) | Subject::Fetch(_) => Duration::ZERO,
            Subject::Claim(_)
            | Subject::Leader(_)
            | Subject::Silent(_)
            | Subject::Join
            | Subject::Records(_)
            | Subject::Applied(_) => self.anew,
            Subject::Transaction(_) => TRANSACTION.min(self.new_client),
            Subject::Unassigned(_) => self.unassigned(),
        }
    }

    /// First and longest pause before it is begun anew, where that can be.
    fn anew(&self, subject: &Subject) -> Option<(Duration, Duration)> {
        match subject {
            Subject::Fetch(_) => Some(FETCH_BACKOFF),
            Subject::Kafka | Subject::Silent(_) | Subject::Records(_) | Subject::Applied(_) => {
                Some((self.anew, LONGEST_PAUSE))
            }
            _ => None,
        }
    }

    /// When the process ends, where the judge has not its own say.
    fn exit(&self, subject: &Subject) -> Option<Duration> {
        let may_end = !matches!(
            subject,
            Subject::Fetch(_) | Subject::Topic(_) | Subject::Applied(_) | Subject::Unassigned(_)
        );
        self.stuck_after.filter(|_| may_end)
    }

    /// When a new client is built, where that may help.
    fn new_client(&self, subject: &Subject) -> Option<Duration> {
        match subject {
            Subject::Kafka | Subject::Join | Subject::Records(_) => Some(self.new_client),
            Subject::Unassigned(_) => Some(self.unassigned()),
            _ => None,
        }
    }

    fn unassigned(&self) -> Duration {
        self.stuck_after.map_or(UNASSIGNED, |whole| UNASSIGNED.min(whole / 2))
    }
}

/// Something that has not happened yet.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub(super) subject: Subject,
    /// A number that grows when the subject moves.
    pub(super) mark: i64,
    /// What is waited for, in words.
    pub(super) text: String,
    /// Whether something is to be done about it; what has a reason of its own is only told.
    pub(super) is_stuck: bool,
    /// Somebody has said why: a new client would most likely hear the same.
    pub(super) is_explained: bool,
}

/// What a look has found of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) subject: Subject,
    pub(super) text: String,
    pub(super) waited: Duration,
    pub(super) is_stuck: bool,
    /// For longer than its limit, so that it shows in the status.
    pub(super) is_told: bool,
    /// A word in the log is due.
    pub(super) word: bool,
    /// Begin it anew: fetch, or ask through new clients.
    pub(super) anew: bool,
    /// Build a new consumer client.
    pub(super) new_client: bool,
    /// End the process.
    pub(super) exit: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, coarse(self.waited))
    }
}

/// A duration that does not change every moment, so that neither does the status.
fn coarse(waited: Duration) -> String {
    const STEPS: [(u64, &str); 13] = [
        (604_800, "a week"),
        (86_400, "a day"),
        (21_600, "6 h"),
        (3_600, "1 h"),
        (1_800, "30 min"),
        (600, "10 min"),
        (300, "5 min"),
        (120, "2 min"),
        (60, "1 min"),
        (30, "30 s"),
        (20, "20 s"),
        (10, "10 s"),
        (5, "5 s"),
    ];
    let step = STEPS.iter().find(|(seconds, _)| waited.as_secs() >= *seconds);
    step.map_or_else(String::new, |(_, text)| format!(", for more than {text}"))
}

#[derive(Debug)]
struct Wait {
    /// The furthest that it came, and since when it has not come further.
    mark: i64,
    since: Duration,
    /// Where it stands. Behind its mark, if an offset went back: since when, and when it last moved on from there.
    at: i64,
    back: Option<Duration>,
    moved: Duration,
    seen: Duration,
    word: Due,
    anew: Option<Due>,
    new_client: Option<Due>,
}

impl Wait {
    fn new(limits: &Limits, subject: &Subject, mark: i64, now: Duration) -> Self {
        let (word, pause) = (limits.word(subject), limits.anew);
        Self {
            mark,
            since: now,
            at: mark,
            back: None,
            moved: now,
            seen: now,
            word: Due { at: word, pause: pause.max(word), longest: LONGEST_PAUSE },
            anew: limits.anew(subject).map(|(first, longest)| Due::after(first, longest)),
            new_client: limits.new_client(subject).map(|first| Due::after(first, LONGEST_PAUSE)),
        }
    }

    /// Notes where the subject stands; `true` if it has come further than ever. One that was moved back, and goes on from
    /// there, waits for nothing meanwhile; if it comes to the place again at once, as after a new claim, it still waits.
    fn is_over(&mut self, mark: i64, now: Duration) -> bool {
        let moves = mark > std::mem::replace(&mut self.at, mark);
        if mark >= self.mark {
            self.back = None;
            self.moved = self.since;
            return mark > self.mark;
        }
        let back = *self.back.get_or_insert(now);
        if moves {
            self.moved = now;
        }
        now.saturating_sub(back) > REMEMBERED
    }
}

/// What is being waited for.
#[derive(Debug)]
pub(super) struct Progress {
    limits: Limits,
    /// Time in which this process ran.
    awake: Duration,
    looked_at: Instant,
    waits: BTreeMap<Subject, Wait>,
}

impl Progress {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, awake: Duration::ZERO, looked_at: now, waits: BTreeMap::new() }
    }

    /// What follows from what there is to see at `now`: `sights`, each subject once.
    pub(super) fn look(&mut self, now: Instant, sights: Vec<Sight>) -> Vec<Finding> {
        self.awake += now.duration_since(self.looked_at).min(MOST);
        self.looked_at = now;
        let (awake, limits) = (self.awake, self.limits);
        let findings = sights.into_iter().map(|Sight { subject, mark, text, is_stuck, is_explained }| {
            let wait = self
                .waits
                .entry(subject.clone())
                .or_insert_with(|| Wait::new(&limits, &subject, mark, awake));
            if wait.is_over(mark, awake) {
                *wait = Wait::new(&limits, &subject, mark, awake);
            }
            wait.seen = awake;
            let waited = awake.saturating_sub(wait.since.max(wait.moved));
            let due = |due: &mut Option<Due>| is_stuck && due.as_mut().is_some_and(|due| due.is(waited));
            let too_early = is_explained && waited < limits.new_client_though_explained;
            Finding {
                text,
                waited,
                is_stuck,
                is_told: waited >= limits.word(&subject),
                word: wait.word.is(waited),
                anew: due(&mut wait.anew),
                new_client: !too_early && due(&mut wait.new_client),
                exit: is_stuck && limits.exit(&subject).is_some_and(|limit| waited >= limit),
                subject,
            }
        });
        let findings = findings.collect();
        // What is not to be seen is over; but for what a new client is built of, which has to join, and to claim, first.
        self.waits.retain(|subject, wait| {
            let gone = awake.saturating_sub(wait.seen);
            let is_hidden = matches!(subject, Subject::Records(_) | Subject::Unassigned(_));
            gone.is_zero() || (is_hidden && gone <= REMEMBERED)
        });
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);
    const STUCK_AFTER: Duration = Duration::from_secs(900);

    struct Eye {
        now: Instant,
        progress: Progress,
    }

    fn key() -> PartitionKey {
        PartitionKey { topic: "t".into(), partition: 0 }
    }

    impl Eye {
        fn new(stuck_after: Option<Duration>) -> Self {
            let (now, limits) = (Instant::now(), Limits::new(Duration::from_secs(6), stuck_after));
            Self { now, progress: Progress::new(limits, now) }
        }

        fn look(&mut self, subject: &Subject, mark: i64, is_stuck: bool) -> Finding {
            self.now += TICK;
            let is_explained = *subject == Subject::Kafka;
            let sight =
                Sight { subject: subject.clone(), mark, text: "x".to_owned(), is_stuck, is_explained };
            self.progress.look(self.now, vec![sight]).remove(0)
        }

        /// When what happened, in seconds, over `secs`.
        fn watch(&mut self, subject: &Subject, secs: u64, happened: impl Fn(&Finding) -> bool) -> Vec<u64> {
            let mut when = Vec::new();
            for tick in 1..=secs * 4 {
                if happened(&self.look(subject, 7, true)) {
                    when.push(tick / 4);
                }
            }
            when
        }
    }

    #[test]
    fn records_that_do_not_come_are_fetched_anew_then_by_a_new_client_and_then_the_process_ends() {
        let subject = Subject::Records(key());
        let limit = Some(STUCK_AFTER);
        let happened = |what: fn(&Finding) -> bool| Eye::new(limit).watch(&subject, 905, what);
        assert_eq!(happened(|finding| finding.word), [10, 20, 40, 80, 160, 320, 640], "at growing intervals");
        assert_eq!(happened(|finding| finding.anew), [10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(happened(|finding| finding.new_client), [30, 60, 120, 240, 480]);
        assert_eq!(happened(|finding| finding.exit).first(), Some(&900));
        assert!(happened(|finding| finding.is_told).first() == Some(&10));
    }

    #[test]
    fn without_the_setting_nothing_ends() {
        let subject = Subject::Records(key());
        let mut eye = Eye::new(None);
        assert_eq!(eye.watch(&subject, 2_000, |finding| finding.exit), [] as [u64; 0]);
        assert_eq!(Eye::new(None).watch(&subject, 50, |finding| finding.new_client), [30]);
        let explained = Eye::new(None).watch(&Subject::Kafka, 200, |finding| finding.new_client);
        assert_eq!(explained, [150], "late, where it may not help");
    }

    #[test]
    fn what_moves_is_never_said() {
        let mut eye = Eye::new(Some(STUCK_AFTER));
        let subject = Subject::Records(key());
        for mark in 0..10_000 {
            let finding = eye.look(&subject, mark, true);
            assert!(!finding.is_told && !finding.word && !finding.anew && !finding.exit, "{finding:?}");
        }
    }

    /// Moved back by hand, or by a fail-over, while it lagged; it goes on from there.
    #[test]
    fn what_went_back_and_moves_is_not_stuck() {
        let mut eye = Eye::new(Some(STUCK_AFTER));
        let subject = Subject::Records(key());
        eye.look(&subject, 1_000_000, true);
        for mark in 0..8_000 {
            let finding = eye.look(&subject, mark, true);
            assert!(!finding.is_told && !finding.exit, "{finding:?}");
        }
    }

    /// Single refusals with a minute between them are no long one.
    #[test]
    fn what_is_over_is_not_counted_on() {
        for subject in [Subject::Fetch(key()), Subject::Topic("t".into()), Subject::Join] {
            let mut eye = Eye::new(Some(STUCK_AFTER));
            for _ in 0..100 {
                assert!(eye.look(&subject, 7, true).waited < TICK, "{subject:?}");
                eye.now += TICK;
                eye.progress.look(eye.now, Vec::new());
            }
        }
    }

    #[test]
    fn what_has_a_reason_of_its_own_is_told_and_nothing_is_done() {
        for subject in [Subject::Transaction(key()), Subject::Leader(key()), Subject::Claim(key())] {
            let mut eye = Eye::new(Some(STUCK_AFTER));
            let mut words = 0;
            for _ in 0..8_000 {
                let finding = eye.look(&subject, 7, false);
                words += u32::from(finding.word);
                assert!(!finding.anew && !finding.new_client && !finding.exit, "{finding:?}");
            }
            assert!((4..10).contains(&words), "{words} words in half an hour about {subject:?}");
        }
    }

    #[test]
    fn a_process_that_stood_still_blames_nobody() {
        let mut eye = Eye::new(Some(STUCK_AFTER));
        for subject in [Subject::Kafka, Subject::Postgres, Subject::Records(key())] {
            eye.look(&subject, 7, true);
            eye.now += Duration::from_secs(36_000);
            let finding = eye.look(&subject, 7, true);
            assert!(!finding.is_told && !finding.exit, "{finding:?}");
        }
    }

    /// A new client ends the claim and begins another, at the same offset or before it.
    #[test]
    fn a_wait_goes_on_over_a_new_client() {
        let mut eye = Eye::new(Some(STUCK_AFTER));
        let subject = Subject::Records(key());
        eye.watch(&subject, 800, |_| false);
        for _ in 0..40 {
            eye.now += TICK;
            eye.progress.look(eye.now, Vec::new());
        }
        assert!(eye.look(&subject, 5, true).waited > Duration::from_secs(800));
        assert!(eye.look(&subject, 8, true).waited < TICK, "it has moved");
        for _ in 0..300 {
            eye.now += TICK;
            eye.progress.look(eye.now, Vec::new());
        }
        assert!(eye.look(&subject, 8, true).waited < TICK, "it was over");
    }

    /// Else nobody would ever see it, and there would be a rebalance for it every minute.
    #[test]
    fn what_nobody_was_given_stays_told_and_joins_anew_ever_more_seldom() {
        let (mut eye, subject) = (Eye::new(Some(STUCK_AFTER)), Subject::Unassigned("t".into()));
        let (mut told, mut clients) = (0, Vec::new());
        for second in 0..600_u64 {
            // For five seconds after each new client it is not a member.
            if clients.last().is_some_and(|built| second - built < 5) {
                eye.now += Duration::from_secs(1);
                eye.progress.look(eye.now, Vec::new());
                continue;
            }
            eye.now += Duration::from_secs(1) - TICK;
            let finding = eye.look(&subject, 0, true);
            told += u32::from(finding.is_told);
            if finding.new_client {
                clients.push(second);
            }
        }
        assert!(told > 500, "{told} of 600 s");
        assert!((3..=5).contains(&clients.len()), "{clients:?}");
        assert!(eye.look(&subject, 1, true).waited < TICK, "one of them was given");
    }

    #[test]
    fn a_refused_fetch_is_told_at_once_and_tried_again_ever_more_slowly() {
        let subject = Subject::Fetch(key());
        assert!(Eye::new(None).look(&subject, 7, true).word);
        let tries = Eye::new(None).watch(&subject, 120, |finding| finding.anew);
        assert_eq!(tries, [0, 1, 2, 4, 8, 16, 32, 62, 92]);
    }

    /// A new client would take the other partitions with it.
    #[test]
    fn a_silent_leader_is_asked_through_new_clients_for_questions_alone() {
        let subject = Subject::Silent(key());
        let happened = |what: fn(&Finding) -> bool| Eye::new(Some(STUCK_AFTER)).watch(&subject, 905, what);
        assert_eq!(happened(|finding| finding.is_told).first(), Some(&10));
        assert_eq!(happened(|finding| finding.word), [10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(happened(|finding| finding.anew), [10, 20, 40, 80, 160, 320, 640]);
        assert_eq!(happened(|finding| finding.new_client), [] as [u64; 0]);
        assert_eq!(happened(|finding| finding.exit).first(), Some(&900));
    }

    #[test]
    fn what_kafka_refuses_is_for_the_judge_to_end() {
        for subject in [Subject::Fetch(key()), Subject::Topic("t".into())] {
            let mut eye = Eye::new(Some(Duration::from_secs(30)));
            assert_eq!(eye.watch(&subject, 400, |finding| finding.exit), [] as [u64; 0], "{subject:?}");
        }
    }

    #[test]
    fn a_short_setting_shortens_what_comes_before() {
        let of = |secs: Option<u64>| Limits::new(Duration::from_secs(60), secs.map(Duration::from_secs));
        let secs = |limits: Limits| {
            let explained = limits.new_client_though_explained;
            [limits.anew, limits.new_client, explained, limits.silence].map(|limit| limit.as_secs())
        };
        assert_eq!(secs(of(Some(900))), [10, 30, 150, 60]);
        assert_eq!(secs(of(Some(30))), [5, 15, 15, 60]);
        assert_eq!(secs(of(None)), [10, 30, 150, 60]);
        assert_eq!(Limits::new(Duration::from_secs(1), None).silence.as_secs(), 10);
    }

    #[test]
    fn an_age_is_told_in_steps() {
        for (secs, text) in [
            (0, ""),
            (4, ""),
            (5, ", for more than 5 s"),
            (59, ", for more than 30 s"),
            (7_300, ", for more than 1 h"),
        ] {
            assert_eq!(coarse(Duration::from_secs(secs)), text);
        }
    }
}
