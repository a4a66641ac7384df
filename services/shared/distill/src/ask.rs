//! One pair to be labelled, its name, and which shard it belongs to.

use std::sync::Arc;

use refract_domain::{History, Pair};
use sha2::{Digest, Sha256};

/// One pair with the history before it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub pair: Pair,
    pub history: Arc<History>,
    /// `train`, `dev`, `test`.
    pub part: String,
}

impl Ask {
    /// With the newest so many interactions alone, and what was measured of them.
    pub fn newest(&self, items_max: usize) -> Self {
        let all = self.history.interactions();
        let history = History::new(all[all.len().saturating_sub(items_max)..].to_vec());
        let mut pair = self.pair.clone();
        pair.affinities
            .retain(|affinity| history.contains(&affinity.item));
        Self {
            pair,
            history: Arc::new(history),
            part: self.part.clone(),
        }
    }

    /// Names user, item and history: the same question has the same id in every run and on every shard.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        let mut text = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        text(self.pair.user.as_ref().map_or("", |user| user.expose()));
        text(self.pair.item.id.as_str());
        for interaction in self.history.interactions() {
            text(interaction.item.id.as_str());
            text(&interaction.at.0.to_string());
            text(&format!("{:?}", interaction.signal));
        }
        hex::encode(&hash.finalize()[..12])
    }
}

/// The `index`-th of `count` disjoint parts of the work, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, count: 1 }
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match parsed {
            Some((index, count)) if index >= 1 && index <= count => Ok(Self { index, count }),
            _ => Err("expected i/n with i from 1 to n, such as 2/8".to_owned()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// `i/n` counted from 1, or `job/n` where `job` is the index, counted from 0, that an Indexed Job of Kubernetes gave this pod.
    pub fn parse(text: &str, job: Option<&str>) -> Result<Self, String> {
        let Some(count) = text.strip_prefix("job/") else {
            return text.parse();
        };
        let index: u32 = job
            .and_then(|index| index.parse().ok())
            .ok_or("job/n needs JOB_COMPLETION_INDEX, which an Indexed Job sets; elsewhere say i/n")?;
        format!("{}/{count}", u64::from(index) + 1).parse()
    }

    /// Whether the ask of this id is this shard's; every id is exactly one's.
    pub fn holds(&self, id: &str) -> bool {
        let number = id
            .get(..8)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .unwrap_or(0);
        number % self.count == self.index - 1
    }
}
