//! A partition's last ten minutes, and what they say.

use std::collections::VecDeque;
use std::time::Duration;

use super::words::{rate, span};
use super::{Class, Known, Options, Sample, Verdict, drain_seconds};

/// The most samples that are kept, whatever the options say.
const MOST: usize = 1_000;
/// Into so many parts a time is divided to see where its lag goes.
const PARTS: usize = 5;
/// A difference below this share of what went through is none: a hundredth for one step, twice that for all of them.
const SHARE: i128 = 100;

/// Samples of one partition, and what they say. The rules are in [the module's documentation](super).
///
/// ```
/// use highwater::health::{Class, Known, Options, Sample, Trajectory};
///
/// let mut trajectory = Trajectory::new(Options::default());
/// for second in (0..=60).step_by(10) {
///     // Produced is 100 a second, and nothing is applied.
///     trajectory.push(Sample::new(second * 1_000, 4_203, Some(4_203 + second * 100)));
/// }
/// let verdict = trajectory.judge(61_000, &Known::Nothing);
/// assert_eq!(verdict.class, Class::Stall);
/// assert_eq!(verdict.reason, "has stood at offset 4203 for 50 s, and is 6000 behind");
/// ```
#[derive(Debug, Clone)]
pub struct Trajectory {
    options: Options,
    samples: VecDeque<Sample>,
    shown: Option<Verdict>,
    /// The last sample has found something else.
    doubted: bool,
}

impl Trajectory {
    /// Without samples.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let options = Options { min_samples: options.min_samples.max(2), ..options };
        Self { options, samples: VecDeque::new(), shown: None, doubted: false }
    }

    /// Takes a sample. One that is older than the last (a clock went back) begins anew.
    pub fn push(&mut self, sample: Sample) {
        let since = self.samples.back().map(|last| sample.at_ms.saturating_sub(last.at_ms));
        if since.is_some_and(|since| since < 0) {
            *self = Self::new(self.options);
        }
        match self.samples.back_mut() {
            Some(last) if since.is_some_and(|since| since < ms(self.options.interval) / 2) => {
                *last = Sample { at_ms: last.at_ms, ..sample };
                self.settle(false);
            }
            _ => {
                let oldest = sample.at_ms.saturating_sub(ms(self.options.window));
                self.samples.push_back(sample);
                while self.samples.len() > MOST || self.samples.front().is_some_and(|s| s.at_ms < oldest) {
                    self.samples.pop_front();
                }
                if self.samples.len() == 1 {
                    // Nothing is left of what was before.
                    (self.shown, self.doubted) = (None, false);
                }
                self.settle(true);
            }
        }
    }

    /// What is shown now. `now_ms`: by the samples' clock.
    #[must_use]
    pub fn judge(&self, now_ms: i64, known: &Known) -> Verdict {
        if let Some(verdict) = by_what_is_known(known) {
            return verdict;
        }
        let (Some(shown), Some(last)) = (&self.shown, self.samples.back()) else {
            return Verdict::new(Class::Ok, "not sampled yet");
        };
        let silent_ms = now_ms.saturating_sub(last.at_ms);
        let patience = ms(self.options.interval)
            .saturating_mul(i64::try_from(self.options.min_samples).unwrap_or(i64::MAX));
        match self.lag() {
            Some(lag) if lag > self.options.allowed_lag && silent_ms > patience => {
                let silent = span(silent_ms);
                Verdict::new(Class::Stop, format!("no news for {silent}, and it was {lag} behind then"))
            }
            _ => shown.clone(),
        }
    }

    /// Offsets applied per second, over the last tenth of the window or the least number of samples. What is applied again
    /// after going back counts, too. `None` before there are two samples.
    #[must_use]
    pub fn applied_per_second(&self) -> Option<f64> {
        per_second(self.recent().map(|sample| (sample.at_ms, sample.next_offset)))
    }

    /// Offsets produced per second, over the same time, markers of transactions included. `None` before there are two
    /// samples that know the end.
    #[must_use]
    pub fn produced_per_second(&self) -> Option<f64> {
        per_second(self.recent().filter_map(|sample| Some((sample.at_ms, sample.end_offset?))))
    }

    /// How long until the lag is worked off; see [`drain_seconds`].
    #[must_use]
    pub fn drain_seconds(&self) -> Option<f64> {
        drain_seconds(self.lag()?, self.applied_per_second(), self.produced_per_second())
    }

    /// The samples that count, the oldest first.
    pub fn samples(&self) -> impl Iterator<Item = Sample> + '_ {
        self.samples.iter().copied()
    }

    /// By the newest position, and the newest end that is known.
    fn lag(&self) -> Option<i64> {
        let end = self.samples.iter().rev().find_map(|sample| sample.end_offset)?;
        Some(end.saturating_sub(self.samples.back()?.next_offset).max(0))
    }

    fn recent(&self) -> impl Iterator<Item = &Sample> + Clone {
        let last = self.samples.back().map_or(i64::MAX, |last| last.at_ms);
        let since = last.saturating_sub(ms(self.options.window) / 10);
        let least = self.samples.len().saturating_sub(self.options.min_samples);
        let first = self.samples.iter().position(|sample| sample.at_ms >= since).unwrap_or(least);
        self.samples.iter().skip(first.min(least))
    }

    /// `is_new`: it is not the last sample once more.
    fn settle(&mut self, is_new: bool) {
        let found = self.find();
        let Some(shown) = &mut self.shown else {
            self.shown = Some(found);
            return;
        };
        let is_caught_up = self.options.allowed_lag;
        let shows_at_once = found.class == shown.class
            || found.class == Class::Ok
                && self.samples.back().and_then(Sample::lag).is_some_and(|lag| lag <= is_caught_up);
        if shows_at_once || is_new && self.doubted {
            *shown = found;
            self.doubted = false;
        } else if is_new {
            self.doubted = true;
        }
    }

    /// What the samples say, without hysteresis.
    fn find(&self) -> Verdict {
        let Options { allowed_lag, min_samples, .. } = self.options;
        let (Some(lag), Some(last)) = (self.lag(), self.samples.back()) else {
            return Verdict::new(Class::Ok, "the end of the log is not known yet");
        };
        if lag <= allowed_lag {
            if last.end_offset.is_none() {
                // It had come to the end that was told last; by now there may be anything behind it.
                return Verdict::new(Class::Ok, "the end of the log is not known");
            }
            let words = if allowed_lag > 0 { "not more behind than is allowed" } else { "caught up" };
            return Verdict::new(Class::Ok, words);
        }
        if let Some((from, back)) = self.went_back() {
            let (to, at) = (back.next_offset, last.next_offset);
            let ago = span(last.at_ms.saturating_sub(back.at_ms));
            let words = format!("went back from offset {from} to {to}, and is at {at} after {ago}");
            return Verdict::new(Class::Rewind, words);
        }
        if self.samples.len() < min_samples {
            return Verdict::new(Class::Ok, "behind, and sampled too seldom yet to judge");
        }
        let run = self.run();
        let stands = run.iter().rev().take_while(|sample| sample.next_offset == last.next_offset).count();
        if stands >= min_samples {
            let since = run[run.len() - stands].at_ms;
            let (at, span) = (last.next_offset, span(last.at_ms.saturating_sub(since)));
            return Verdict::new(
                Class::Stall,
                format!("has stood at offset {at} for {span}, and is {lag} behind"),
            );
        }
        self.trend(&run)
            .unwrap_or_else(|| Verdict::new(Class::Ok, "behind, and neither growing nor standing"))
    }

    /// The highest offset, if it has gone back from there and has not come there again, and the first sample below it. Burrow
    /// looks at the first step back alone.
    fn went_back(&self) -> Option<(i64, &Sample)> {
        let (mut highest, mut back) = (i64::MIN, None);
        for sample in &self.samples {
            if sample.next_offset >= highest {
                (highest, back) = (sample.next_offset, None);
            } else if back.is_none() {
                back = Some((highest, sample));
            }
        }
        back
    }

    /// The samples since it was last caught up.
    fn run(&self) -> Vec<Sample> {
        let allowed_lag = self.options.allowed_lag;
        let is_caught_up = |sample: &Sample| sample.lag().is_some_and(|lag| lag <= allowed_lag);
        let first = self.samples.iter().rposition(is_caught_up).map_or(0, |index| index + 1);
        self.samples.range(first..).copied().collect()
    }

    /// Where the lag goes, if it goes anywhere.
    fn trend(&self, run: &[Sample]) -> Option<Verdict> {
        let known: Vec<(&Sample, i64)> =
            run.iter().filter_map(|sample| Some((sample, sample.lag()?))).collect();
        let ((first, first_lag), (last, last_lag)) = (*known.first()?, *known.last()?);
        if known.len() < self.options.min_samples {
            return None;
        }
        let parts = PARTS.min(known.len());
        let lags = |part: usize| {
            let part = known.len() * part / parts..known.len() * (part + 1) / parts;
            known[part].iter().map(|(_, lag)| i128::from(*lag))
        };
        let lows: Vec<i128> = (0..parts).map(|part| lags(part).min().unwrap_or_default()).collect();
        // What is over its highest grows no more.
        let highest = (0..parts).flat_map(lags).max().unwrap_or_default();
        let last_high = lags(parts - 1).max().unwrap_or_default();
        let distance = |from: i64, to: i64| (i128::from(to) - i128::from(from)).max(0);
        let produced = distance(first.end_offset?, last.end_offset?);
        let applied = distance(first.next_offset, last.next_offset);
        let tolerance = produced.max(applied) / SHARE;
        let steps = || lows.windows(2).map(|pair| pair[1] - pair[0]);
        let whole = lows[parts - 1] - lows[0];
        let took_ms = last.at_ms.saturating_sub(first.at_ms);
        let lasts = took_ms >= ms(self.options.window) / 2 && parts == PARTS;
        let newest = &known[known.len() - self.options.min_samples..];
        let falls_now = newest.windows(2).all(|pair| pair[1].1 < pair[0].1)
            && distance(last_lag, newest[0].1) > tolerance;
        let rises = lasts
            && !falls_now
            && whole > 2 * tolerance
            && last_high >= highest - tolerance
            && steps().all(|step| step >= -tolerance);
        let falls = -whole > 2 * tolerance && steps().all(|step| step <= tolerance);
        if !rises && !falls {
            return None;
        }
        let per_second = |count: i128| rate(count as f64 / (took_ms.max(1) as f64 / 1_000.0));
        let (took, produced, applied) = (span(took_ms), per_second(produced), per_second(applied));
        Some(if rises {
            let words = format!(
                "the lag has grown from {first_lag} to {last_lag} in {took}: {produced} produced, {applied} applied"
            );
            Verdict::new(Class::Warn, words)
        } else {
            let words = format!(
                "the lag has fallen from {first_lag} to {last_lag} in {took}: {applied} applied, {produced} produced"
            );
            Verdict::new(Class::Draining, words)
        })
    }
}

fn by_what_is_known(known: &Known) -> Option<Verdict> {
    let (class, why, or_else) = match known {
        Known::Nothing => return None,
        Known::Halted(why) => (Class::Halted, why, "stopped with an error, or by a person"),
        Known::Paused(why) => (Class::Paused, why, "a person holds it"),
        Known::Fenced(why) => (Class::Fenced, why, "another process holds its claim"),
        Known::Unowned(why) => (Class::Unowned, why, "nobody holds it"),
        Known::Dead(why) => (Class::Dead, why, "its owner has stopped beating"),
    };
    Some(Verdict::new(class, if why.is_empty() { or_else } else { why.as_str() }))
}

/// The forward steps of a series, per second.
fn per_second(series: impl Iterator<Item = (i64, i64)> + Clone) -> Option<f64> {
    let (first, last) = (series.clone().next()?.0, series.clone().last()?.0);
    let steps = series.clone().zip(series.skip(1));
    let forward: i128 = steps.map(|((_, from), (_, to))| (i128::from(to) - i128::from(from)).max(0)).sum();
    let took_ms = last.saturating_sub(first);
    (took_ms > 0).then(|| forward as f64 / (took_ms as f64 / 1_000.0))
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
