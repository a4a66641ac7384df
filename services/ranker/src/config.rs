//! The front door's configuration. Doc comments are the manual.

use std::path::PathBuf;
use std::time::Duration;

use refract_resilience::limits::{Unfit, ensure};
use refract_resilience::{admission, breaker};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The data port.
    pub listen: refract_net::ListenConfig,
    /// Who may call it, and for which tenant.
    pub callers: refract_station::callers::Config,
    /// Warm-up, admin port, drain.
    pub process: refract_chassis::process::Config,
    /// Time and width of a request.
    pub river: River,
    /// The data set: catalogue and histories, in Refract's format.
    pub data: PathBuf,
    /// The trained ranker's directory. Without one, a ranker is trained from the data set at start (seconds to minutes).
    pub model: Option<PathBuf>,
    /// Of a catalogue of 32,768 items or more, the share that is looked at for each slate, above 0 and at most 1: the items most like
    /// what the user liked. Absent: all, and slates are exact. The log says at start how many of the best are found; 0.05 finds 98 % of
    /// them among a million items that lie around tastes, in a fifteenth of the time.
    pub scanned_share: Option<f32>,
    /// Slates of a large catalogue that are ranked at a time, on threads of their own; further ones wait, no longer than
    /// `river.rank_cap`. Absent: as many as there are processors.
    pub rankings_max: Option<usize>,
    /// Another ranker, reached over gRPC, in the built-in one's place. The data set still resolves users and items.
    pub outside: Option<Peer>,
    /// The Oracle. Without one, Prisms write from the history alone.
    pub oracle: Option<Peer>,
    /// The Prism pool. Without one, explanations are templates.
    pub prism: Option<Peer>,
    /// What remembers the Oracle's knowledge.
    pub knowledge: refract_knowledge::Config,
}

/// A service behind this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// `host:port`, a comma-separated list, or `dns:name:port`.
    pub target: refract_net::Target,
    /// How to connect.
    #[serde(default)]
    pub dial: refract_net::DialConfig,
}

impl Peer {
    pub fn at(target: refract_net::Target) -> Self {
        Self {
            target,
            dial: refract_net::DialConfig::default(),
        }
    }

    /// The same, as a server that is not ours has to be reached.
    pub(crate) fn foreign(&self) -> Self {
        Self {
            target: self.target.clone(),
            dial: self.dial.clone().foreign(),
        }
    }
}

impl Config {
    /// Relations between the limits; an error names the key.
    pub fn check(&self) -> Result<(), Unfit> {
        self.listen.check().map_err(|unfit| unfit.within("listen"))?;
        self.process.check().map_err(|unfit| unfit.within("process"))?;
        self.river.check().map_err(|unfit| unfit.within("river"))?;
        for (name, peer) in [
            ("outside", &self.outside),
            ("oracle", &self.oracle),
            ("prism", &self.prism),
        ] {
            if let Some(peer) = peer {
                peer.dial
                    .check()
                    .map_err(|unfit| unfit.within("dial").within(name))?;
            }
        }
        ensure(
            self.scanned_share.is_none_or(|share| share > 0.0 && share <= 1.0),
            "scanned_share",
            "must be above 0 and at most 1",
        )?;
        ensure(
            self.rankings_max != Some(0),
            "rankings_max",
            "must be at least 1, or no slate of a large catalogue is ever ranked",
        )?;
        ensure(
            !self.data.as_os_str().is_empty(),
            "data",
            "must name a data set's directory",
        )
    }
}

/// How explanations are made (ARCHITECTURE.md, "Three modes").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The Prism writes, conditioned on the Oracle's knowledge where there is some.
    #[default]
    Conditioned,
    /// The Prism writes from history and item alone, as published; no Oracle is asked.
    Alone,
    /// The Oracle's own text is served; for comparing teacher and student.
    Oracle,
}

/// Time and width of the river.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct River {
    pub mode: Mode,
    /// Longest that a request may take where the caller sets no deadline, and the cap on what a caller may ask for.
    #[serde(with = "humantime_serde")]
    pub request_cap: Duration,
    /// Longest that ranking may take.
    #[serde(with = "humantime_serde")]
    pub rank_cap: Duration,
    /// Longest that cache and Oracle may take for one item.
    #[serde(with = "humantime_serde")]
    pub consult_cap: Duration,
    /// Time kept back for the Prism when the Oracle is asked: consulting ends this long before the deadline.
    #[serde(with = "humantime_serde")]
    pub explain_reserve: Duration,
    /// Time kept back for writing and sending a template when no model's text arrives.
    #[serde(with = "humantime_serde")]
    pub answer_margin: Duration,
    /// Of that time, the last, kept back for sending what there is: no template is begun in it, and items that still lack
    /// a text are sent without one (`NONE_REASON_DEADLINE`). A template takes 0.1 ms, and three times that where histories
    /// are very long.
    #[serde(with = "humantime_serde")]
    pub send_margin: Duration,
    /// A request whose questions to the Oracle were given up unanswered after at least this long counts as a failure of the
    /// Oracle, unless somebody else was answered meanwhile.
    #[serde(with = "humantime_serde")]
    pub oracle_silence_max: Duration,
    /// When the Oracle, having failed or kept silent, is not asked for a while. Remembered knowledge is served all the
    /// same; other items are explained from the history alone. `consecutive_failures_max` is 3 here.
    pub oracle_breaker: breaker::Config,
    /// Bytes for items that requests described themselves before and that are found again by their bytes. Default 33554432.
    pub items_bytes_max: u64,
    /// Items of one request that are consulted and explained side by side.
    pub items_in_flight_max: usize,
    /// What may be in progress together, counted in items to explain. A request for more than is free is not explained by
    /// models: its slate comes at once, with templates that say so.
    pub admission: admission::Config,
    /// What this process may have in progress without another station's help: the items of slates for which `admission` has
    /// no room, and slates that are only ranked, one each. A request for more than is free is refused at once, with when to
    /// come back.
    pub items_by_rule_max: u64,
}

impl Default for River {
    fn default() -> Self {
        Self {
            mode: Mode::Conditioned,
            request_cap: Duration::from_secs(20),
            rank_cap: Duration::from_secs(1),
            consult_cap: Duration::from_secs(8),
            explain_reserve: Duration::from_secs(1),
            answer_margin: Duration::from_millis(20),
            send_margin: Duration::from_millis(5),
            oracle_silence_max: Duration::from_secs(2),
            oracle_breaker: breaker::Config {
                consecutive_failures_max: 3,
                ..breaker::Config::default()
            },
            items_bytes_max: refract_wire::Items::BYTES_DEFAULT,
            items_in_flight_max: 16,
            admission: admission::Config::default(),
            items_by_rule_max: 256,
        }
    }
}

impl River {
    /// Relations between the limits; an error names the key to change.
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.items_in_flight_max >= 1,
            "items_in_flight_max",
            "must be at least 1",
        )?;
        self.admission
            .check()
            .map_err(|unfit| unfit.within("admission"))?;
        self.oracle_breaker
            .check()
            .map_err(|unfit| unfit.within("oracle_breaker"))?;
        ensure(
            self.items_by_rule_max >= 1,
            "items_by_rule_max",
            "must be at least 1, or nothing is ever only ranked",
        )?;
        ensure(
            self.send_margin <= self.answer_margin,
            "send_margin",
            "must not be longer than answer_margin: it is a part of it",
        )?;
        ensure(
            self.rank_cap <= self.request_cap,
            "rank_cap",
            "must not be longer than request_cap: ranking is a part of it",
        )?;
        ensure(
            self.explain_reserve + self.answer_margin < self.request_cap,
            "explain_reserve",
            "and answer_margin together must leave time within request_cap",
        )
    }
}
