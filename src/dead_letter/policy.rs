//! Which records may become dead letters, and how many.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::store::Keep;
use super::tally::{Run, Tally};
use crate::Batch;
use crate::batch::{ClaimId, Part, PartitionKey};
use crate::config::{Config, OnRejected, TopicPattern, is_pattern};
use crate::record::RecordId;

/// By these words it is told that a partition has halted because there would be too many dead letters.
pub(crate) const LIMIT_SAID: &str = "(the limit `dead_letter_max_";

/// What becomes of a record that is rejected: its partition [halts](Self::halt), or the record is
/// [stored](Self::dead_letter) and stepped over in one transaction (EO-9), within limits.
///
/// For single routes; a worker's own policy is made of its settings. Limits count a route's records in one worker, from its
/// start on. What would be one too many halts its partition, as under `halt`, and the halt says which limit it was.
///
/// ```
/// use highwater::RejectPolicy;
///
/// let policy = RejectPolicy::dead_letter().max_in_a_row(Some(10)).max_per_minute(None);
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct RejectPolicy {
    on_rejected: OnRejected,
    in_a_row: Option<u64>,
    per_million: Option<u64>,
    per_minute: Option<u64>,
}

impl RejectPolicy {
    /// The partition halts at the record.
    pub fn halt() -> Self {
        Self { on_rejected: OnRejected::Halt, in_a_row: None, per_million: None, per_minute: None }
    }

    /// The record becomes a dead letter. The limits are those of the settings' defaults.
    pub fn dead_letter() -> Self {
        Self::of(&Config { on_rejected: OnRejected::DeadLetter, ..Config::default() })
    }

    /// As [`dead_letter`](Self::dead_letter); and later records of its key are parked behind it, in their order. They count
    /// as dead letters.
    pub fn park_key() -> Self {
        Self { on_rejected: OnRejected::ParkKey, ..Self::dead_letter() }
    }

    /// The same limits, with another outcome.
    #[cfg(feature = "cli")]
    pub(crate) fn acting(self, on_rejected: OnRejected) -> Self {
        Self { on_rejected, ..self }
    }

    /// How many of a partition in a row; as the setting `dead_letter_max_in_a_row`. `None`: no limit.
    pub fn max_in_a_row(mut self, records: Option<usize>) -> Self {
        self.in_a_row = limit(records);
        self
    }

    /// How many of the route's last million records; as the setting `dead_letter_max_per_million`. `None`: no limit.
    pub fn max_per_million(mut self, records: Option<usize>) -> Self {
        self.per_million = limit(records);
        self
    }

    /// How many of the route in 60 s; as the setting `dead_letter_max_per_minute`. `None`: no limit.
    pub fn max_per_minute(mut self, records: Option<usize>) -> Self {
        self.per_minute = limit(records);
        self
    }

    /// The worker's own.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            on_rejected: config.on_rejected,
            in_a_row: limit(config.dead_letter_max_in_a_row),
            per_million: limit(config.dead_letter_max_per_million),
            per_minute: limit(config.dead_letter_max_per_minute),
        }
    }
}

fn limit(records: Option<usize>) -> Option<u64> {
    records.map(|records| u64::try_from(records).unwrap_or(u64::MAX))
}

/// A worker's policies, by route, and what they have let through.
#[derive(Debug)]
pub(crate) struct Policies {
    /// The last one is of every topic that has no other.
    routes: Vec<Route>,
    began: Instant,
    keep: Keep,
}

#[derive(Debug)]
struct Route {
    /// A topic's name or a pattern; of the last one, the program.
    name: String,
    pattern: Option<TopicPattern>,
    policy: RejectPolicy,
    tally: Mutex<Tally>,
}

/// What is to be counted once it is durable.
#[derive(Debug)]
pub(crate) struct Counted {
    parts: Vec<(usize, PartitionKey, Run)>,
    /// By route: records, and those of them that are stored.
    routes: Vec<(usize, u64, u64)>,
}

/// One too many.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) record: RecordId,
    /// Which limit, in words.
    pub(crate) limit: String,
}

impl Policies {
    /// `routes`: names and patterns, in their order, and their policies; `rest`: of all other topics, under the program's
    /// name.
    pub(crate) fn new(routes: Vec<(String, RejectPolicy)>, program: &str, rest: RejectPolicy) -> Self {
        let route = |name: String, policy| {
            let pattern = Some(&name).filter(|name| is_pattern(name));
            let pattern = pattern.and_then(|text| TopicPattern::new(text).ok());
            Route { name, pattern, policy, tally: Mutex::default() }
        };
        let mut routes: Vec<Route> = routes.into_iter().map(|(name, policy)| route(name, policy)).collect();
        let rest = Route { name: program.to_owned(), pattern: None, policy: rest, tally: Mutex::default() };
        routes.push(rest);
        Self { routes, began: Instant::now(), keep: Keep::WHOLE }
    }

    /// As it was before there were dead letters.
    pub(crate) fn halting() -> Self {
        Self::new(Vec::new(), "", RejectPolicy::halt())
    }

    /// How much of dead letters is kept.
    pub(crate) fn keeping(self, keep: Keep) -> Self {
        Self { keep, ..self }
    }

    /// How much of dead letters is kept.
    pub(crate) fn keep(&self) -> Keep {
        self.keep
    }

    /// What becomes of a rejected record of `topic`, as the setting has it.
    pub(crate) fn on_rejected(&self, topic: &str) -> &'static str {
        self.routes[self.find(topic)].policy.on_rejected.as_str()
    }

    /// Whether any record may become a dead letter.
    pub(crate) fn is_any(&self) -> bool {
        self.routes.iter().any(Route::sets_aside)
    }

    /// The routes whose records may, by their names.
    pub(crate) fn setting_aside(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().filter(|route| route.sets_aside()).map(|route| route.name.as_str())
    }

    /// Whether a record of `topic` may.
    pub(crate) fn sets_aside(&self, topic: &str) -> bool {
        self.routes[self.find(topic)].sets_aside()
    }

    /// Whether later records of a rejected one's key are parked behind it.
    pub(crate) fn parks(&self, topic: &str) -> bool {
        self.routes[self.find(topic)].policy.on_rejected == OnRejected::ParkKey
    }

    /// The route that a dead letter of `topic` names as its handler.
    pub(crate) fn handler(&self, topic: &str) -> &str {
        &self.routes[self.find(topic)].name
    }

    /// As the router finds a topic's handler.
    fn find(&self, topic: &str) -> usize {
        let (rest, named) = (self.routes.len() - 1, &self.routes[..self.routes.len() - 1]);
        let by_name = named.iter().position(|route| route.name == topic);
        let by_pattern = || {
            let fits = |route: &Route| route.pattern.as_ref().is_some_and(|pattern| pattern.matches(topic));
            named.iter().position(fits)
        };
        by_name.or_else(by_pattern).unwrap_or(rest)
    }

    /// Whether the limits let the records at these places of the batch become dead letters. `rejected`: in the order of the
    /// batch's records, of which a part's letter is the last.
    pub(crate) fn admit(&self, batch: &Batch, rejected: &[RecordId]) -> Result<Counted, Refused> {
        let now_s = self.began.elapsed().as_secs();
        let mut counted = Counted { parts: Vec::with_capacity(batch.parts.len()), routes: Vec::new() };
        for part in &batch.parts {
            let at = self.find(&part.key.topic);
            let route = &self.routes[at];
            if !route.sets_aside() || part.all() == 0 {
                continue;
            }
            let slot = counted.slot(at);
            let mut tally = route.lock();
            let mut run = tally.run(&part.key, part.claim.token, part.from.get());
            let stored = &mut counted.routes[slot].2;
            let before = [tally.in_a_minute(now_s), tally.in_a_million()];
            let marks = marks(part, rejected);
            if marks.is_empty() {
                run = 0;
            } else {
                for record in part.every() {
                    if !marks.contains(&record.offset()) {
                        run = 0;
                        continue;
                    }
                    run += 1;
                    *stored += 1;
                    if let Some(limit) = route.policy.exceeded(run, before.map(|count| count + *stored)) {
                        return Err(Refused { record: record.id(), limit });
                    }
                }
            }
            drop(tally);
            counted.routes[slot].1 += part.all() as u64;
            let ClaimId { token: claim, .. } = part.claim;
            counted.parts.push((at, part.key.clone(), Run { claim, at: part.to.get(), length: run }));
        }
        Ok(counted)
    }

    /// It is durable. Gives the names of the routes that have stored records, and how many.
    pub(crate) fn count(&self, counted: &Counted) -> Vec<(&str, u64)> {
        let now_s = self.began.elapsed().as_secs();
        for (at, records, stored) in &counted.routes {
            self.routes[*at].lock().count(*records, *stored, now_s);
        }
        for (at, key, run) in &counted.parts {
            self.routes[*at].lock().set_run(key, *run);
        }
        let stored = counted.routes.iter().filter(|(.., stored)| *stored > 0);
        stored.map(|(at, _, stored)| (self.routes[*at].name.as_str(), *stored)).collect()
    }
}

impl Counted {
    fn slot(&mut self, route: usize) -> usize {
        let known = self.routes.iter().position(|(at, ..)| *at == route);
        known.unwrap_or_else(|| {
            self.routes.push((route, 0, 0));
            self.routes.len() - 1
        })
    }
}

impl Route {
    fn sets_aside(&self) -> bool {
        self.policy.on_rejected != OnRejected::Halt
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RejectPolicy {
    /// Which limit so many in a row, in a minute and in a million records exceed.
    fn exceeded(&self, run: u64, [minute, million]: [u64; 2]) -> Option<String> {
        let over = |count: u64, limit: Option<u64>, what: &str, setting: &str| {
            limit.filter(|limit| count > *limit).map(|limit| {
                format!("it would be more than {limit} dead letters {what} (the limit `{setting}`)")
            })
        };
        over(run, self.in_a_row, "in a row", "dead_letter_max_in_a_row")
            .or_else(|| over(minute, self.per_minute, "a minute", "dead_letter_max_per_minute"))
            .or_else(|| {
                over(million, self.per_million, "in a million records", "dead_letter_max_per_million")
            })
    }
}

/// The offsets of a part's records that become dead letters: those that were rejected, and those that are parked.
fn marks(part: &Part, rejected: &[RecordId]) -> HashSet<i64> {
    let by_handler = rejected.iter().filter(|id| part.is_of(id)).map(|id| id.offset);
    let parked = part.parked().map(|(record, _)| record.offset());
    let before = parked.chain(part.rejected().map(|(record, _)| record.offset()));
    by_handler.chain(before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rehearsal::{self, KeyValue};

    fn batch(records: usize) -> Batch {
        let record: KeyValue<'_> = (None, Some("v"));
        rehearsal::batch(("t", 3), (100, 0), &vec![record; records])
    }

    fn ids(offsets: impl IntoIterator<Item = i64>) -> Vec<RecordId> {
        let id = |offset| RecordId { topic: "t".into(), partition: 3, offset };
        offsets.into_iter().map(id).collect()
    }

    fn policies(policy: RejectPolicy) -> Policies {
        Policies::new(vec![("^t.*".to_owned(), policy)], "program", RejectPolicy::halt())
    }

    #[test]
    fn a_topics_policy_is_that_of_its_route() {
        let policies = policies(RejectPolicy::dead_letter());
        assert!(policies.is_any() && policies.sets_aside("ta") && !policies.sets_aside("a"));
        assert_eq!((policies.handler("ta"), policies.handler("a")), ("^t.*", "program"));
        assert_eq!((policies.on_rejected("ta"), policies.on_rejected("a")), ("dead_letter", "halt"));
        assert!(!Policies::halting().is_any());
    }

    #[test]
    fn a_route_may_park_beside_one_that_does_not() {
        let routes =
            vec![("a".to_owned(), RejectPolicy::park_key()), ("b".to_owned(), RejectPolicy::dead_letter())];
        let policies = Policies::new(routes, "program", RejectPolicy::halt());
        assert_eq!(["a", "b", "c"].map(|topic| policies.parks(topic)), [true, false, false]);
        assert_eq!(["a", "b", "c"].map(|topic| policies.sets_aside(topic)), [true, true, false]);
        assert_eq!(policies.on_rejected("a"), "park_key");
    }

    #[test]
    fn so_many_in_a_row_and_not_one_more() {
        let policies = policies(RejectPolicy::dead_letter().max_in_a_row(Some(3)));
        let batch = batch(10);
        // With a good one between them there may be more.
        assert!(policies.admit(&batch, &ids([100, 101, 102, 104, 105, 106])).is_ok());
        let refused = policies.admit(&batch, &ids(101..=109)).unwrap_err();
        assert_eq!(refused.record.offset, 104);
        assert!(refused.limit.contains("3 dead letters in a row"), "{}", refused.limit);
        assert!(refused.limit.contains(LIMIT_SAID), "the exporter knows it by that");
        // Nothing was counted, for nothing was durable; from here on it is.
        let counted = policies.admit(&batch, &ids(107..=109)).unwrap();
        assert_eq!(policies.count(&counted), [("^t.*", 3)]);
        let record: KeyValue<'_> = (None, Some("v"));
        let next = rehearsal::batch(("t", 3), (110, 0), &[record; 2]);
        assert_eq!(policies.admit(&next, &ids([110])).unwrap_err().record.offset, 110);
        assert!(policies.admit(&next, &ids([111])).is_ok(), "a good one is between them");
    }

    #[test]
    fn a_minute_and_a_million_have_limits() {
        let lenient = RejectPolicy::dead_letter().max_in_a_row(None);
        let policies = |policy| {
            let policies = policies(policy);
            let counted = policies.admit(&batch(10), &ids(100..=104)).unwrap();
            policies.count(&counted);
            policies
        };
        let minute = policies(lenient.max_per_minute(Some(6)));
        let refused = minute.admit(&batch(10), &ids([100, 102, 104])).unwrap_err();
        assert!(refused.record.offset == 102 && refused.limit.contains("a minute"), "{refused:?}");
        let million = policies(lenient.max_per_minute(None).max_per_million(Some(7)));
        let refused = million.admit(&batch(10), &ids([100, 102, 104])).unwrap_err();
        assert!(refused.record.offset == 104 && refused.limit.contains("a million"), "{refused:?}");
    }
}
