//! Which endpoints are left out for a while: those whose calls fail one after another, and those much slower than the
//! others. Never more than a share of them, and the longer the more often.
//!
//! What a failure is, a [`Judge`] says, for this layer knows no status; a call that its caller gave up on unanswered
//! after long enough is one, too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// Reads the headers or trailers of an answer: whether the replica itself is at fault; nothing, if they do not say how
/// the call ended.
pub type Judge = fn(&HeaderMap) -> Option<bool>;

/// When an endpoint is left out, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EjectConfig {
    /// Failures in a row that get an endpoint left out; zero for never. Default 5.
    pub failures_in_row_max: u32,
    /// A call that got no answer and was given up after at least this long is a failure. Default 2s.
    #[serde(with = "humantime_serde")]
    pub silence_max: Duration,
    /// An endpoint is slow when its calls take this many times those of the middle one; zero for never. Default 4.
    pub slow_times: f64,
    /// And longer than this on average: below it, differences are noise. Default 200ms.
    #[serde(with = "humantime_serde")]
    pub slow_after: Duration,
    /// Calls after which an endpoint's average says something. Default 20.
    pub calls_min: u32,
    /// How long an endpoint is left out the first time; each time after that twice as long. Default 1s.
    #[serde(with = "humantime_serde")]
    pub out_first: Duration,
    /// And at most so long. Default 60s.
    #[serde(with = "humantime_serde")]
    pub out_max: Duration,
    /// Share of the ready endpoints that may be left out at once. Default 0.5.
    pub share_max: f64,
}

impl Default for EjectConfig {
    fn default() -> Self {
        Self {
            failures_in_row_max: 5,
            silence_max: Duration::from_secs(2),
            slow_times: 4.0,
            slow_after: Duration::from_millis(200),
            calls_min: 20,
            out_first: Duration::from_secs(1),
            out_max: Duration::from_secs(60),
            share_max: 0.5,
        }
    }
}

impl EjectConfig {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.slow_times == 0.0 || self.slow_times > 1.0,
            "slow_times",
            "must be above 1, or 0 for never",
        )?;
        ensure(self.calls_min >= 1, "calls_min", "must be at least 1")?;
        ensure(
            !self.out_first.is_zero(),
            "out_first",
            "must be longer than zero, or nothing is left out",
        )?;
        ensure(
            self.out_max >= self.out_first,
            "out_max",
            "must not be shorter than out_first",
        )?;
        ensure(
            (0.0..1.0).contains(&self.share_max),
            "share_max",
            "must be from 0 to below 1: somebody has to answer",
        )
    }
}

const EJECTIONS: &str = "refract_net_ejections_total";

pub(crate) fn describe() {
    metrics::describe_counter!(
        EJECTIONS,
        "Endpoints left out for a while, by reason: failures, slow"
    );
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Badly,
    /// Given up before there was any answer.
    Unanswered,
    /// Given up in the middle, which says nothing.
    Unsaid,
}

/// What is known of one endpoint's calls.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    failures_in_row: u32,
    /// Moving average of calls that ended well.
    mean: Option<Duration>,
    measured: u32,
    out_until: Option<Instant>,
    /// How long it is left out next time; zero before the first.
    out_next: Duration,
}

impl Record {
    pub(crate) fn note(&self, config: &EjectConfig, ended: Ended, took: Duration, now: Instant) {
        let mut seen = self.seen();
        let is_silent = ended == Ended::Unanswered && took >= config.silence_max;
        match ended {
            // Calls from before it was left out say nothing new.
            _ if seen.out_until.is_some_and(|until| now < until) => {}
            Ended::Well => {
                seen.failures_in_row = 0;
                seen.measured = seen.measured.saturating_add(1);
                // The average of the last ten or so.
                seen.mean = Some(seen.mean.map_or(took, |mean| (mean * 7 + took) / 8));
                // Long enough back among the others: what was is forgotten.
                if seen.measured >= config.calls_min {
                    seen.out_next = Duration::ZERO;
                }
            }
            _ if ended == Ended::Badly || is_silent => {
                seen.failures_in_row += 1;
                let limit = config.failures_in_row_max;
                if limit > 0 && seen.failures_in_row >= limit {
                    seen.leave_out("failures", config, now);
                    // When it is back, one more is enough.
                    seen.failures_in_row = limit - 1;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn is_out(&self, now: Instant) -> bool {
        let mut seen = self.seen();
        match seen.out_until {
            Some(until) if now < until => true,
            Some(_) => {
                // Its times are measured anew.
                seen.out_until = None;
                (seen.mean, seen.measured) = (None, 0);
                false
            }
            None => false,
        }
    }

    fn mean(&self, config: &EjectConfig) -> Option<Duration> {
        let seen = self.seen();
        seen.mean.filter(|_| seen.measured >= config.calls_min)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn leave_out(&mut self, reason: &'static str, config: &EjectConfig, now: Instant) {
        metrics::counter!(EJECTIONS, "reason" => reason).increment(1);
        let out = if self.out_next.is_zero() {
            config.out_first
        } else {
            self.out_next
        };
        self.out_until = Some(now + out);
        self.out_next = (out * 2).min(config.out_max);
    }
}

/// Of the ready endpoints those that may be picked: at least one, if there is one.
pub(crate) fn able<'a, T>(
    ready: &'a [T],
    record: impl Fn(&T) -> &Record,
    name: impl Fn(&T) -> String,
    config: &EjectConfig,
    now: Instant,
) -> Vec<&'a T> {
    let out_max = (ready.len() as f64 * config.share_max) as usize;
    let (mut out, mut able): (Vec<&T>, Vec<&T>) = ready.iter().partition(|it| record(it).is_out(now));
    if config.slow_times > 0.0 && out.len() < out_max {
        let mut means: Vec<_> = able.iter().filter_map(|it| record(it).mean(config)).collect();
        means.sort_unstable();
        // The lower of two in the middle: of two endpoints one may be the slow one.
        if let Some(middle) = means
            .get(means.len().saturating_sub(1) / 2)
            .filter(|_| means.len() > 1)
        {
            let limit = middle.mul_f64(config.slow_times).max(config.slow_after);
            able.retain(|it| {
                let is_slow = record(it).mean(config).is_some_and(|mean| mean > limit);
                if is_slow && out.len() < out_max {
                    record(it).seen().leave_out("slow", config, now);
                    warn!(
                        endpoint = name(it),
                        "much slower than the others: left out for a while"
                    );
                    out.push(it);
                    return false;
                }
                true
            });
        }
    }
    // More failed than may be left out: then it is not the endpoints. The first to come back are taken.
    if out.len() > out_max {
        out.sort_by_key(|it| record(it).seen().out_until);
        able.extend(out.drain(..out.len() - out_max));
    }
    able
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_millis(900);

    fn picked(records: &[Record], now: Instant) -> Vec<usize> {
        let numbered: Vec<(usize, &Record)> = records.iter().enumerate().collect();
        let able = able(
            &numbered,
            |it| it.1,
            |it| it.0.to_string(),
            &EjectConfig::default(),
            now,
        );
        let mut able: Vec<usize> = able.iter().map(|it| it.0).collect();
        able.sort_unstable();
        able
    }

    fn note(record: &Record, times: usize, ended: Ended, took: Duration, now: Instant) {
        for _ in 0..times {
            record.note(&EjectConfig::default(), ended, took, now);
        }
    }

    #[test]
    fn failures_in_a_row_leave_an_endpoint_out_longer_each_time_and_a_success_between_does_not() {
        let records = [0; 4].map(|_| Record::default());
        let began = Instant::now();
        note(&records[2], 4, Ended::Badly, QUICK, began);
        note(&records[2], 1, Ended::Well, QUICK, began);
        note(&records[2], 4, Ended::Badly, QUICK, began);
        assert_eq!(picked(&records, began), [0, 1, 2, 3]);
        note(&records[2], 1, Ended::Badly, QUICK, began);
        assert_eq!(picked(&records, began), [0, 1, 3]);
        let back = began + Duration::from_millis(1_001);
        assert_eq!(picked(&records, back), [0, 1, 2, 3]);
        note(&records[2], 1, Ended::Badly, QUICK, back);
        assert_eq!(picked(&records, back + Duration::from_millis(1_500)), [0, 1, 3]);
        let again = back + Duration::from_millis(2_001);
        assert_eq!(picked(&records, again), [0, 1, 2, 3]);
        note(&records[2], 30, Ended::Well, QUICK, again);
        note(&records[2], 5, Ended::Badly, QUICK, again);
        let forgiven = again + Duration::from_millis(1_001);
        assert_eq!(
            picked(&records, forgiven),
            [0, 1, 2, 3],
            "a second again, not four"
        );
    }

    #[test]
    fn silence_is_a_failure_and_an_early_leave_is_none() {
        let records = [0; 2].map(|_| Record::default());
        let now = Instant::now();
        note(&records[0], 50, Ended::Unanswered, QUICK, now);
        note(&records[0], 50, Ended::Unsaid, SLOW * 10, now);
        assert_eq!(picked(&records, now), [0, 1]);
        note(&records[0], 5, Ended::Unanswered, SLOW * 3, now);
        assert_eq!(picked(&records, now), [1]);
    }

    #[test]
    fn the_slow_one_is_left_out_and_all_slow_ones_are_not() {
        let records = [0; 4].map(|_| Record::default());
        let now = Instant::now();
        for (n, record) in records.iter().enumerate() {
            note(record, 30, Ended::Well, if n == 1 { SLOW } else { QUICK }, now);
        }
        assert_eq!(picked(&records, now), [0, 2, 3]);
        let records = [0; 4].map(|_| Record::default());
        records
            .iter()
            .for_each(|record| note(record, 30, Ended::Well, SLOW, now));
        assert_eq!(picked(&records, now), [0, 1, 2, 3]);
    }

    #[test]
    fn no_more_than_the_share_is_left_out_and_an_only_one_never_is() {
        let now = Instant::now();
        for (count, left) in [(1, 1), (2, 1), (3, 2), (5, 3)] {
            let records: Vec<Record> = (0..count).map(|_| Record::default()).collect();
            for record in &records {
                note(record, 9, Ended::Badly, QUICK, now);
            }
            assert_eq!(picked(&records, now).len(), left, "of {count}");
        }
    }
}
