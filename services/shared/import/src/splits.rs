//! Train, dev and test by time, with no user in two of them.
//!
//! ```text
//!  time ──────────────── dev_from ─────── test_from ──────▶
//!  train users:  targets │
//!  dev users:            │ targets       │          (drawn among users who liked something in this window)
//!  test users:                           │ targets  (drawn among users who liked something in this window)
//! ```
//!
//! A target is a liked interaction; the sample's history is what the same user did before it. Random splits over the prefixes
//! of the same users leak (a test prefix holds training targets), and a time cut alone still lets one user's prefixes into two
//! parts; this rule does neither. Targets of training users after `dev_from` are not used at all.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::records::Records;

/// How splits are drawn. Doc comments are the manual.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Share of the interactions, the newest, whose time is the test window. Default 0.1.
    pub test_share: f64,
    /// Share of the interactions before them whose time is the dev window. Default 0.1.
    pub dev_share: f64,
    /// Share of the users with a like in a window who are held out for it. Default 0.5: the others train.
    pub held_out_share: f64,
    /// Default 42.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            test_share: 0.1,
            dev_share: 0.1,
            held_out_share: 0.5,
            seed: 42,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    Train,
    Dev,
    Test,
}

impl Part {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Train, Self::Dev, Self::Test]
            .into_iter()
            .find(|part| part.as_str() == text)
    }
}

/// In which windows a user has targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    pub dev: bool,
    pub test: bool,
}

/// The content of `splits.toml`. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// Targets from here on (and before `test_from`) are dev targets.
    pub dev_from: i64,
    /// Targets from here on are test targets.
    pub test_from: i64,
    pub held_out_share: f64,
    pub seed: u64,
}

/// Splits with every user's part: what a data set's `splits.toml` and `splits.csv` say.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    pub splits: Splits,
    pub parts: HashMap<String, Part>,
}

impl Splits {
    /// Cuts time so that the windows hold their shares of the interactions.
    pub fn at(times: impl Iterator<Item = i64>, config: &Config) -> Result<Self> {
        let sane = |share: f64| (0.0..1.0).contains(&share);
        if !(sane(config.test_share)
            && sane(config.dev_share)
            && config.test_share + config.dev_share < 1.0
            && (0.0..=1.0).contains(&config.held_out_share))
        {
            return Err(Error::Invalid {
                field: "splits",
                reason: "shares lie within 0 and 1, and dev and test together leave something to train on"
                    .to_owned(),
            });
        }
        let mut times: Vec<i64> = times.collect();
        times.sort_unstable();
        let cut = |share: f64| {
            let place = (times.len() as f64 * (1.0 - share)).floor() as usize;
            times.get(place).copied().unwrap_or(i64::MAX)
        };
        Ok(Self {
            dev_from: cut(config.test_share + config.dev_share),
            test_from: cut(config.test_share),
            held_out_share: config.held_out_share,
            seed: config.seed,
        })
    }

    /// The window that a time lies in.
    pub fn window(&self, at: i64) -> Part {
        if at >= self.test_from {
            Part::Test
        } else if at >= self.dev_from {
            Part::Dev
        } else {
            Part::Train
        }
    }

    /// Notes a target of a user.
    pub fn note(&self, at: i64, targets: &mut Targets) {
        match self.window(at) {
            Part::Train => {}
            Part::Dev => targets.dev = true,
            Part::Test => targets.test = true,
        }
    }

    /// The part of a user; depends on the id, the seed and the windows only.
    pub fn part(&self, user: &str, targets: Targets) -> Part {
        let held = |window: &str| {
            let mut hash = Sha256::new();
            hash.update(self.seed.to_le_bytes());
            hash.update(window.as_bytes());
            hash.update(user.as_bytes());
            let sum = hash.finalize();
            let number = u32::from_le_bytes([sum[0], sum[1], sum[2], sum[3]]);
            f64::from(number) / 4_294_967_296.0 < self.held_out_share
        };
        if targets.test && held("test") {
            Part::Test
        } else if targets.dev && held("dev") {
            Part::Dev
        } else {
            Part::Train
        }
    }

    pub(crate) fn to_toml(&self) -> String {
        format!(
            "# Targets of dev users from dev_from on, of test users from test_from on, of train users before dev_from;\n\
             # who is which: splits.csv. Times are seconds since 1970.\n\
             dev_from = {}\ntest_from = {}\nheld_out_share = {:?}\nseed = {}\n",
            self.dev_from, self.test_from, self.held_out_share, self.seed
        )
    }
}

impl Assigned {
    /// Reads a data set's splits; `None` if it has none.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join("splits.toml");
        if !file.try_exists().map_err(Error::read(&file))? {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&file).map_err(Error::read(&file))?;
        let splits: Splits = toml::from_str(&text).map_err(|e| Error::malformed(&file, e.to_string()))?;
        let file = dir.join("splits.csv");
        let bad = |line: u64, reason: &str| Error::malformed(&file, format!("line {line}: {reason}"));
        let mut records = Records::open(&file, b',')?;
        let (mut row, mut parts) = (csv::ByteRecord::new(), HashMap::new());
        // The header.
        records.read(&mut row)?;
        while let Some(line) = records.read(&mut row)? {
            let text = |n: usize| row.get(n).and_then(|bytes| std::str::from_utf8(bytes).ok());
            let (Some(user), Some(part), 2) = (text(0), text(1).and_then(Part::parse), row.len()) else {
                return Err(bad(line, "expected user_id and train, dev or test"));
            };
            if parts.insert(user.to_owned(), part).is_some() {
                return Err(bad(line, "the user has a part already"));
            }
        }
        Ok(Some(Self { splits, parts }))
    }

    /// Draws splits for data that came without: `users` are ids with the times of their targets.
    pub fn draw<'a>(
        times: impl Iterator<Item = i64>,
        users: impl Iterator<Item = (&'a str, Vec<i64>)>,
        config: &Config,
    ) -> Result<Self> {
        let splits = Splits::at(times, config)?;
        let parts = users
            .map(|(user, times)| {
                let mut targets = Targets::default();
                times.into_iter().for_each(|at| splits.note(at, &mut targets));
                (user.to_owned(), splits.part(user, targets))
            })
            .collect();
        Ok(Self { splits, parts })
    }

    /// The part in which a target of a user is a sample, if in any.
    pub fn sample(&self, user: &str, at: i64) -> Option<Part> {
        let part = *self.parts.get(user)?;
        (self.splits.window(at) == part).then_some(part)
    }
}

pub(crate) fn write_parts(parts: &[(String, Part)], out: &mut impl Write) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(["user_id", "part"])?;
    for (user, part) in parts {
        writer.write_record([user.as_str(), part.as_str()])?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_time_and_every_user_is_in_one_part() {
        let times: Vec<i64> = (0..1_000).collect();
        let users: Vec<(String, Vec<i64>)> = (0..100)
            .map(|u| (format!("u{u}"), (0..10).map(|n| u + 100 * n).collect()))
            .collect();
        let draw = |seed| {
            Assigned::draw(
                times.iter().copied(),
                users.iter().map(|(id, times)| (id.as_str(), times.clone())),
                &Config {
                    seed,
                    ..Config::default()
                },
            )
            .unwrap()
        };
        let assigned = draw(1);
        assert_eq!((assigned.splits.dev_from, assigned.splits.test_from), (800, 900));
        let mut counts = [0; 3];
        for (user, times) in &users {
            let parts: std::collections::HashSet<Part> =
                times.iter().filter_map(|at| assigned.sample(user, *at)).collect();
            assert!(parts.len() <= 1, "{user} has samples in {parts:?}");
            for at in times {
                match assigned.sample(user, *at) {
                    Some(Part::Train) => assert!(*at < 800),
                    Some(Part::Dev) => assert!((800..900).contains(at)),
                    Some(Part::Test) => assert!(*at >= 900),
                    None => {}
                }
            }
            for part in parts {
                counts[part as usize] += 1;
            }
        }
        assert!(counts.iter().all(|n| *n > 10), "{counts:?}");
        assert_eq!(assigned, draw(1));
        assert_ne!(assigned, draw(2));
    }

    #[test]
    fn shares_that_leave_nothing_to_train_on_are_refused() {
        let config = Config {
            dev_share: 0.5,
            test_share: 0.5,
            ..Config::default()
        };
        assert!(Splits::at([1, 2, 3].into_iter(), &config).is_err());
    }
}
