//! How the memory is set up. Durations are written `250ms`, `6h`; unknown fields are refused.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;
use crate::revisions::Revisions;

/// The manual of the knowledge memory.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `memory`: this process alone, lost with it. `redis`: shared, and survives a restart.
    pub store: StoreKind,
    /// First part of every key in a shared store: what its access rules match (`~x:*`). 1 to 16 of `a-z 0-9 - _`.
    pub key_prefix: String,
    /// Seals entries and hides user ids in keys. At least 16 bytes, the same in every process that shares the store;
    /// required with `redis`, made up at start with `memory`. Changing it forgets everything.
    pub secret: Option<Secret>,
    /// A file with the secret, instead of `secret`. White space at its end is not part of it.
    pub secret_file: Option<PathBuf>,

    /// Age from which knowledge is stale: served at once, with a refresh in the background.
    #[serde(with = "duration_text")]
    pub ttl_soft: Duration,
    /// Age from which it is not served any more, not even while the Oracle is down.
    #[serde(with = "duration_text")]
    pub ttl_hard: Duration,
    /// Each entry's ages are stretched or shrunk by up to this share, so that what was written together does not
    /// expire together. 0 to 0.5.
    pub ttl_jitter: f64,
    /// How long a question that the Oracle could not answer (a model fault, an invalid field, nothing to say) is not
    /// asked again. Zero asks every time.
    #[serde(with = "duration_text")]
    pub ttl_unhelpful: Duration,
    /// Largest entry, envelope included. Larger knowledge is served but not remembered.
    pub entry_bytes_max: usize,

    /// How long an entry is served from the first level without asking the store. Zero turns the first level off.
    #[serde(with = "duration_text")]
    pub l1_ttl: Duration,
    pub l1_entries_max: u64,
    pub l1_bytes_max: u64,

    /// Bounds of the `memory` store.
    pub memory_entries_max: u64,
    pub memory_bytes_max: u64,
    pub redis: RedisConfig,

    /// Entries waiting to be written. Further ones are dropped and counted: the next miss writes them again.
    pub writes_queued_max: usize,
    /// On the way out, time for the entries that are still queued to be written. The grace period of whoever stops the
    /// process must have room for it behind the drain.
    #[serde(with = "duration_text")]
    pub flush_timeout: Duration,
    /// Refreshes at one time. Further ones are left to the next caller.
    pub refreshes_max: usize,
    /// Time for one refresh.
    #[serde(with = "duration_text")]
    pub refresh_timeout: Duration,
    /// After a refresh failed, how long its entry is served without another try.
    #[serde(with = "duration_text")]
    pub refresh_retry: Duration,
    /// Distinct questions before the Oracle at one time. Further ones are refused at once as busy.
    pub flights_max: usize,
    /// How long one process may hold a question for all that share the store, so that the Oracle is asked once. A process
    /// that dies holds it this long, and the others no longer than `lease_wait`. Zero: each process asks for itself.
    #[serde(with = "duration_text")]
    pub lease_ttl: Duration,
    /// How long a process waits for another one's answer, and at most half of its own time; then it asks anyway.
    #[serde(with = "duration_text")]
    pub lease_wait: Duration,
    /// After a user was erased, how long the process that did it keeps that in mind, so that it holds no answer to a question
    /// asked before: longer than any question already asked may take.
    #[serde(with = "duration_text")]
    pub erase_fence: Duration,

    /// The Oracle's revisions, if they are known beforehand; then remembered knowledge is found even if the Oracle has
    /// never been reached. What the Oracle says about itself overrides them. Both or neither.
    pub oracle_revision: Option<String>,
    pub template_revision: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    #[default]
    Memory,
    Redis,
}

/// What stands behind the store's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// One server, or a proxy that looks like one.
    #[default]
    Standalone,
    /// Redis Cluster: each node keeps its share of the slots, and one node's loss costs its share alone.
    Cluster,
    /// Sentinels say which server is the master now.
    Sentinel,
}

/// A connection to Redis or Valkey that never costs a caller more than `get_timeout`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: RedisMode,
    /// `redis://[user:password@]host:port[/db]`; with `rediss://` over TLS. In a cluster the address is that of one node,
    /// with sentinels that of one sentinel; credentials, TLS and database are always those of the servers with the data.
    pub url: Option<Secret>,
    /// A file with the URL, instead of `url`. It and the files below are read again for each new connection.
    pub url_file: Option<PathBuf>,
    /// Further nodes of the cluster, or further sentinels: `host:port`. Asked when those before them do not answer.
    pub seeds: Vec<String>,
    /// With sentinels: the name under which they watch the master.
    pub sentinel_master: Option<String>,
    /// `[user:]password` of the sentinels themselves, where they ask for one.
    pub sentinel_credential: Option<Secret>,
    /// A file with it, instead of `sentinel_credential`.
    pub sentinel_credential_file: Option<PathBuf>,
    /// With `rediss://`: PEM file with the authorities that the server's certificate must come from. Without it: those
    /// that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// With `rediss://`: PEM file with our certificate, where the server asks for one.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// Time for one look-up, waiting for the connection included.
    #[serde(with = "duration_text")]
    pub get_timeout: Duration,
    /// Time for one write, in the background.
    #[serde(with = "duration_text")]
    pub put_timeout: Duration,
    /// Time for one attempt to connect, in the background.
    #[serde(with = "duration_text")]
    pub connect_timeout: Duration,
    /// Time-outs in a row after which the connection is given up and a fresh one is tried.
    pub timeouts_in_row_max: u32,
    /// Share of time-outs within one second (of at least 20 commands) after which the same happens. 0 to 1.
    pub timeouts_share_max: f64,
    /// Wait between attempts to connect: doubles from the first to the second.
    #[serde(with = "duration_text")]
    pub retry_min: Duration,
    #[serde(with = "duration_text")]
    pub retry_max: Duration,
    /// An idle connection is tried this often, so that its loss is known before a caller needs it.
    #[serde(with = "duration_text")]
    pub ping_every: Duration,
    /// Commands waiting for the connection's writer.
    pub commands_queued_max: usize,
    /// How often the cluster's map, or the sentinels' word about the master, is asked for while nothing seems wrong. A
    /// lost node or a redirection asks at once.
    #[serde(with = "duration_text")]
    pub topology_every: Duration,
    /// Nodes of a cluster that are connected to; slots of further ones are misses.
    pub nodes_max: usize,
    /// Entries of one user that are remembered; the first to expire make room for further ones. The index that makes
    /// erasing a user possible is no longer than this.
    pub user_entries_max: usize,
}

/// A credential: taken in, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Config {
    /// Relations between limits, checked at start.
    pub fn check(&self) -> Result<(), Error> {
        let prefix_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if self.key_prefix.is_empty() || self.key_prefix.len() > 16 || !self.key_prefix.chars().all(prefix_ok)
        {
            return Err(Error::config(
                "key_prefix",
                "must be 1 to 16 of a-z, 0-9, - and _",
            ));
        }
        if self.ttl_soft.is_zero() || self.ttl_soft > self.ttl_hard {
            return Err(Error::config(
                "ttl_soft",
                "must be above zero and not above ttl_hard",
            ));
        }
        if self.ttl_hard > Duration::from_secs(366 * 24 * 3600) {
            return Err(Error::config("ttl_hard", "must not be above a year"));
        }
        if !(0.0..=0.5).contains(&self.ttl_jitter) {
            return Err(Error::config("ttl_jitter", "must be from 0 to 0.5"));
        }
        if !(1024..=16 << 20).contains(&self.entry_bytes_max) {
            return Err(Error::config("entry_bytes_max", "must be from 1 KiB to 16 MiB"));
        }
        if self.refresh_timeout.is_zero() {
            return Err(Error::config("refresh_timeout", "must be above zero"));
        }
        if self.erase_fence < self.refresh_timeout {
            return Err(Error::config(
                "erase_fence",
                "must not be below refresh_timeout: a refresh on its way would bring back what was erased",
            ));
        }
        if self.oracle_revision.is_some() != self.template_revision.is_some() {
            return Err(Error::config(
                "oracle_revision",
                "must be given together with template_revision, or not at all",
            ));
        }
        let at_least_one = [
            ("l1_entries_max", self.l1_entries_max),
            ("l1_bytes_max", self.l1_bytes_max),
            ("memory_entries_max", self.memory_entries_max),
            ("memory_bytes_max", self.memory_bytes_max),
            ("writes_queued_max", self.writes_queued_max as u64),
            ("refreshes_max", self.refreshes_max as u64),
            ("flights_max", self.flights_max as u64),
            ("redis.commands_queued_max", self.redis.commands_queued_max as u64),
            (
                "redis.timeouts_in_row_max",
                u64::from(self.redis.timeouts_in_row_max),
            ),
        ];
        if let Some((field, _)) = at_least_one.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(Error::config(field, "must be at least 1"));
        }
        self.redis.check()
    }

    /// The secret from the field or the file; `None` where neither is given.
    pub(crate) fn read_secret(&self) -> Result<Option<Secret>, Error> {
        let secret = one_of(&self.secret, self.secret_file.as_deref(), "secret", "secret_file")?;
        match &secret {
            Some(secret) if secret.expose().len() < 16 => {
                Err(Error::config("secret", "must be at least 16 bytes long"))
            }
            None if self.store == StoreKind::Redis => Err(Error::config(
                "secret",
                "is required with store = \"redis\" (or secret_file): it seals entries and hides user ids",
            )),
            _ => Ok(secret),
        }
    }

    pub(crate) fn revisions(&self) -> Option<Revisions> {
        let (oracle, template) = (self.oracle_revision.clone()?, self.template_revision.clone()?);
        Some(Revisions {
            oracle: refract_domain::Revision(oracle),
            template: refract_domain::Revision(template),
        })
    }
}

impl RedisConfig {
    fn check(&self) -> Result<(), Error> {
        let above_zero = [
            ("redis.get_timeout", self.get_timeout),
            ("redis.put_timeout", self.put_timeout),
            ("redis.connect_timeout", self.connect_timeout),
            ("redis.retry_min", self.retry_min),
            ("redis.ping_every", self.ping_every),
            ("redis.topology_every", self.topology_every),
        ];
        if let Some((field, _)) = above_zero.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(Error::config(field, "must be above zero"));
        }
        if self.retry_min > self.retry_max {
            return Err(Error::config(
                "redis.retry_min",
                "must not be above redis.retry_max",
            ));
        }
        if self.cert_file.is_some() != self.key_file.is_some() {
            return Err(Error::config(
                "redis.cert_file",
                "and redis.key_file belong together",
            ));
        }
        if !(0.0..=1.0).contains(&self.timeouts_share_max) {
            return Err(Error::config("redis.timeouts_share_max", "must be from 0 to 1"));
        }
        self.check_mode()
    }

    fn check_mode(&self) -> Result<(), Error> {
        if self.mode == RedisMode::Standalone && !self.seeds.is_empty() {
            return Err(Error::config(
                "redis.seeds",
                "are for redis.mode = \"cluster\" or \"sentinel\"",
            ));
        }
        let sentinel = self.mode == RedisMode::Sentinel;
        if sentinel && self.sentinel_master.as_deref().is_none_or(str::is_empty) {
            return Err(Error::config(
                "redis.sentinel_master",
                "is required with redis.mode = \"sentinel\": the name under which the sentinels watch the master",
            ));
        }
        let theirs = self.sentinel_master.is_some()
            || self.sentinel_credential.is_some()
            || self.sentinel_credential_file.is_some();
        if !sentinel && theirs {
            return Err(Error::config(
                "redis.sentinel_master",
                "and sentinel_credential are for redis.mode = \"sentinel\"",
            ));
        }
        if self.nodes_max == 0 {
            return Err(Error::config("redis.nodes_max", "must be at least 1"));
        }
        if self.user_entries_max == 0 {
            return Err(Error::config("redis.user_entries_max", "must be at least 1"));
        }
        Ok(())
    }

    /// Whether anything that a connection needs is in a file, which may change.
    pub(crate) fn has_files(&self) -> bool {
        [
            &self.url_file,
            &self.sentinel_credential_file,
            &self.ca_file,
            &self.cert_file,
            &self.key_file,
        ]
        .into_iter()
        .any(Option::is_some)
    }

    pub(crate) fn read_sentinel_credential(&self) -> Result<Option<Secret>, Error> {
        one_of(
            &self.sentinel_credential,
            self.sentinel_credential_file.as_deref(),
            "redis.sentinel_credential",
            "redis.sentinel_credential_file",
        )
    }

    pub(crate) fn read_url(&self) -> Result<Secret, Error> {
        one_of(&self.url, self.url_file.as_deref(), "redis.url", "redis.url_file")?.ok_or_else(|| {
            Error::config(
                "redis.url",
                "is required with store = \"redis\" (or redis.url_file)",
            )
        })
    }
}

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The credential itself. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: StoreKind::Memory,
            key_prefix: "x".to_owned(),
            secret: None,
            secret_file: None,
            ttl_soft: Duration::from_secs(6 * 3600),
            ttl_hard: Duration::from_secs(24 * 3600),
            ttl_jitter: 0.1,
            ttl_unhelpful: Duration::from_secs(30),
            entry_bytes_max: 64 << 10,
            l1_ttl: Duration::from_secs(10),
            l1_entries_max: 10_000,
            l1_bytes_max: 16 << 20,
            memory_entries_max: 100_000,
            memory_bytes_max: 64 << 20,
            redis: RedisConfig::default(),
            writes_queued_max: 1024,
            flush_timeout: Duration::from_secs(2),
            refreshes_max: 16,
            refresh_timeout: Duration::from_secs(10),
            refresh_retry: Duration::from_secs(5),
            flights_max: 1024,
            lease_ttl: Duration::from_secs(10),
            lease_wait: Duration::from_secs(2),
            erase_fence: Duration::from_secs(60),
            oracle_revision: None,
            template_revision: None,
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            mode: RedisMode::Standalone,
            url: None,
            url_file: None,
            seeds: Vec::new(),
            sentinel_master: None,
            sentinel_credential: None,
            sentinel_credential_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            get_timeout: Duration::from_millis(15),
            put_timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_millis(500),
            timeouts_in_row_max: 5,
            timeouts_share_max: 0.2,
            retry_min: Duration::from_millis(100),
            retry_max: Duration::from_secs(1),
            ping_every: Duration::from_secs(1),
            commands_queued_max: 1024,
            topology_every: Duration::from_secs(30),
            nodes_max: 256,
            user_entries_max: 4096,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

fn one_of(
    value: &Option<Secret>,
    file: Option<&Path>,
    field: &'static str,
    file_field: &'static str,
) -> Result<Option<Secret>, Error> {
    match (value, file) {
        (Some(_), Some(_)) => Err(Error::config(field, format!("give it or {file_field}, not both"))),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(Secret::new(text.trim_end()))),
            Err(source) => Err(Error::File {
                field: file_field,
                path: path.to_owned(),
                source,
            }),
        },
        (None, None) => Ok(None),
    }
}

/// `250ms`, `6h`.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| de::Error::custom(format!("{text:?} is no duration: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_survives_its_text_and_shows_no_credential() {
        let config: Config = toml::from_str(
            "store = \"redis\"\nsecret = \"sixteen bytes or more\"\nttl_soft = \"90m\"\n[redis]\nget_timeout = \"20ms\"\nurl = \"redis://:hush@h\"",
        )
        .unwrap();
        assert_eq!(config.store, StoreKind::Redis);
        assert_eq!(config.ttl_soft, Duration::from_secs(5400));
        assert_eq!(config.redis.get_timeout, Duration::from_millis(20));
        assert_eq!(config.redis.put_timeout, Duration::from_millis(50));
        config.check().unwrap();
        let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("sixteen") && !shown.contains("hush"));
        assert!(shown.contains("1h 30m"));
        let again: Config = toml::from_str(&toml::to_string(&Config::default()).unwrap()).unwrap();
        assert_eq!(again.ttl_hard, Config::default().ttl_hard);
    }

    #[test]
    fn unknown_fields_and_odd_durations_are_refused() {
        assert!(toml::from_str::<Config>("ttl = \"1h\"").is_err());
        assert!(
            toml::from_str::<Config>("ttl_soft = \"soon\"")
                .unwrap_err()
                .to_string()
                .contains("soon")
        );
        assert!(toml::from_str::<Config>("[redis]\nhost = \"h\"").is_err());
    }

    #[test]
    fn contradicting_limits_are_refused_by_name() {
        type Change = fn(&mut Config);
        let cases: [(&str, Change); 15] = [
            ("key_prefix", |c| c.key_prefix = "a:b".into()),
            ("ttl_soft", |c| c.ttl_soft = c.ttl_hard * 2),
            ("ttl_hard", |c| c.ttl_hard = Duration::MAX),
            ("ttl_jitter", |c| c.ttl_jitter = f64::NAN),
            ("entry_bytes_max", |c| c.entry_bytes_max = 10),
            ("flights_max", |c| c.flights_max = 0),
            ("oracle_revision", |c| c.oracle_revision = Some("o".into())),
            ("redis.retry_min", |c| c.redis.retry_min = Duration::from_secs(60)),
            ("redis.get_timeout", |c| c.redis.get_timeout = Duration::ZERO),
            ("redis.seeds", |c| c.redis.seeds = vec!["h:1".into()]),
            ("redis.sentinel_master", |c| c.redis.mode = RedisMode::Sentinel),
            ("redis.sentinel_master", |c| {
                c.redis.sentinel_master = Some("m".into())
            }),
            ("redis.nodes_max", |c| c.redis.nodes_max = 0),
            ("redis.user_entries_max", |c| c.redis.user_entries_max = 0),
            ("erase_fence", |c| c.erase_fence = Duration::from_secs(1)),
        ];
        for (field, change) in cases {
            let mut config = Config::default();
            config.check().unwrap();
            change(&mut config);
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn credentials_come_from_the_field_or_the_file_and_redis_needs_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a secret in a file\n").unwrap();
        let mut config = Config {
            secret_file: Some(file.path().to_owned()),
            ..Config::default()
        };
        assert_eq!(
            config.read_secret().unwrap().unwrap().expose(),
            "a secret in a file"
        );
        config.secret = Some(Secret::new("another one in the field"));
        assert!(config.read_secret().is_err());
        config.secret_file = None;
        assert!(config.read_secret().is_ok());
        config.secret = Some(Secret::new("short"));
        assert!(config.read_secret().is_err());
        config.secret = None;
        assert!(config.read_secret().unwrap().is_none());
        config.store = StoreKind::Redis;
        assert!(config.read_secret().is_err());
        assert!(config.redis.read_url().is_err());
        config.redis.url_file = Some("/nowhere/at/all".into());
        assert!(
            config
                .redis
                .read_url()
                .unwrap_err()
                .to_string()
                .contains("/nowhere/at/all")
        );
    }
}
