//! How a server of the store is reached: credentials, TLS and database of one URL, the address alone may differ.
//!
//! Files with credentials and certificates are read again for each new connection, so that whoever rotates them restarts
//! nothing. One that cannot be used at that moment (half written, not there) is taken as it last was.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates,
};
use tokio::time::timeout;

use super::link::reason;
use crate::config::{RedisConfig, RedisMode};
use crate::error::Error;

/// The kernel gives a connection up after its data has not been acknowledged for this long.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(1);

/// Makes connections. Holds credentials, and shows none.
#[derive(Clone)]
pub(super) struct Dialer {
    config: Arc<RedisConfig>,
    whom: Whom,
    /// How they were last reached, or could have been.
    last: Arc<Mutex<ConnectionInfo>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// The servers with the data.
    Servers,
    Sentinels,
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// `host:port`, with an IPv6 host in brackets or not. An empty host is the caller's business.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: port.parse().ok()?,
        })
    }
}

impl Dialer {
    /// To the servers with the data.
    pub(super) fn of(config: &RedisConfig) -> Result<Self, Error> {
        Self::to(Whom::Servers, Arc::new(config.clone()))
    }

    /// To the sentinels: with their own credential, over TLS if the servers are.
    pub(super) fn to_sentinels(&self) -> Result<Self, Error> {
        Self::to(Whom::Sentinels, Arc::clone(&self.config))
    }

    fn to(whom: Whom, config: Arc<RedisConfig>) -> Result<Self, Error> {
        let info = info_of(whom, &config)?;
        Ok(Self {
            config,
            whom,
            last: Arc::new(Mutex::new(info)),
        })
    }

    /// The URL's own address, then the seeds.
    pub(super) fn seeds(&self) -> Result<Vec<Address>, Error> {
        let first = match self.last().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Address {
                host: host.clone(),
                port: *port,
            },
            _ => {
                return Err(Error::config(
                    "redis.url",
                    "a cluster and sentinels are reached by host and port",
                ));
            }
        };
        let mut seeds = vec![first];
        for seed in &self.config.seeds {
            match Address::parse(seed).filter(|address| !address.host.is_empty()) {
                Some(address) => seeds.push(address),
                None => return Err(Error::config("redis.seeds", "each is of the form host:port")),
            }
        }
        Ok(seeds)
    }

    /// To `address`, or to where the URL says; within `connect_timeout`, credentials included.
    pub(super) async fn connect(
        &self,
        address: Option<&Address>,
    ) -> Result<MultiplexedConnection, &'static str> {
        let info = self.info().await;
        let client = client_to(info, address)?;
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            // Every command has a limit of its own; a second one underneath would only blur the reasons.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.config.commands_queued_max);
        let handshake = client.get_multiplexed_async_connection_with_config(&settings);
        match timeout(self.config.connect_timeout, handshake).await {
            Err(_) => Err("connecting timed out"),
            Ok(Err(error)) => Err(reason(&error)),
            Ok(Ok(connection)) => Ok(connection),
        }
    }

    /// Credentials and certificates as their files have them now, else as they last were.
    async fn info(&self) -> ConnectionInfo {
        if self.config.has_files() {
            let (whom, config) = (self.whom, Arc::clone(&self.config));
            let read = tokio::task::spawn_blocking(move || info_of(whom, &config));
            match timeout(self.config.connect_timeout, read).await {
                Ok(Ok(Ok(info))) => *self.last() = info,
                Ok(Ok(Err(error))) => {
                    tracing::warn!(%error, "connecting to the store with the credentials and certificates of before");
                }
                Ok(Err(_)) | Err(_) => {
                    tracing::warn!(
                        "credentials and certificates of the store could not be read in time: connecting with those of before"
                    );
                }
            }
        }
        self.last().clone()
    }

    fn last(&self) -> MutexGuard<'_, ConnectionInfo> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One question on a connection of its own, in the background.
    pub(super) async fn ask(&self, address: &Address, question: &Cmd) -> Result<redis::Value, &'static str> {
        let mut connection = self.connect(Some(address)).await?;
        match timeout(self.config.connect_timeout, question.query_async(&mut connection)).await {
            Err(_) => Err("the answer timed out"),
            Ok(Err(error)) => Err(reason(&error)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer(…)")
    }
}

/// The library's own message is not passed on: it may repeat the URL, which holds the password.
fn invalid() -> Error {
    Error::config(
        "redis.url",
        "is not of the form redis://[user:password@]host:port[/db], or rediss:// for TLS",
    )
}

fn info_of(whom: Whom, config: &RedisConfig) -> Result<ConnectionInfo, Error> {
    let info = connection_info(config)?;
    match whom {
        Whom::Servers if config.mode == RedisMode::Cluster && info.redis_settings().db() != 0 => {
            Err(Error::config("redis.url", "a cluster has database 0 alone"))
        }
        Whom::Servers => Ok(info),
        Whom::Sentinels => Ok(info.set_redis_settings(sentinel_settings(config)?)),
    }
}

fn sentinel_settings(config: &RedisConfig) -> Result<RedisConnectionInfo, Error> {
    let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let Some(credential) = config.read_sentinel_credential()? else {
        return Ok(settings);
    };
    Ok(match credential.expose().split_once(':') {
        Some((user, password)) => settings.set_username(user).set_password(password),
        None => settings.set_password(credential.expose()),
    })
}

fn client_to(info: ConnectionInfo, address: Option<&Address>) -> Result<Client, &'static str> {
    let info = match address.cloned() {
        None => info,
        Some(Address { host, port }) => {
            let addr = match info.addr() {
                ConnectionAddr::TcpTls {
                    insecure, tls_params, ..
                } => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: *insecure,
                    tls_params: tls_params.clone(),
                },
                _ => ConnectionAddr::Tcp(host, port),
            };
            info.set_addr(addr)
        }
    };
    Client::open(info).map_err(|_| "its address cannot be used")
}

fn connection_info(config: &RedisConfig) -> Result<ConnectionInfo, Error> {
    let url = config.read_url()?;
    let info = url.expose().into_connection_info().map_err(|_| invalid())?;
    let secured = match info.addr() {
        ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(..) => false,
        // `#insecure` would accept anybody's certificate.
        ConnectionAddr::TcpTls { insecure: false, .. } => true,
        _ => return Err(invalid()),
    };
    let files = [&config.ca_file, &config.cert_file, &config.key_file];
    if !secured && files.iter().any(|file| file.is_some()) {
        return Err(Error::config(
            "redis.ca_file",
            "certificates are for rediss://, and redis.url is not",
        ));
    }
    // The library's introduction (CLIENT SETINFO) would need a right that a cache does not.
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let tcp = tcp.set_user_timeout(UNACKNOWLEDGED_MAX);
    let info = info.set_redis_settings(settings).set_tcp_settings(tcp);
    if !secured {
        // Whether it can be opened is found out here, not at the first connection.
        return Ok(Client::open(info)
            .map_err(|_| invalid())?
            .get_connection_info()
            .clone());
    }
    let client_tls = match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read("redis.cert_file", cert)?,
            client_key: read("redis.key_file", key)?,
        }),
        _ => None,
    };
    let ca_file = config.ca_file.as_deref();
    let root_cert = ca_file.map(|file| read("redis.ca_file", file)).transpose()?;
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    let client = Client::build_with_tls(info, certificates).map_err(|_| {
        Error::config(
            "redis.ca_file",
            "or redis.cert_file cannot be used: are they PEM?",
        )
    })?;
    Ok(client.get_connection_info().clone())
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File {
        field,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn dialer(url: &str) -> Result<Dialer, Error> {
        Dialer::of(&RedisConfig {
            url: Some(Secret::new(url)),
            ..RedisConfig::default()
        })
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        for url in [
            "",
            "localhost",
            "http://:hush@h:1",
            "redis://:hush@h:port",
            "rediss://:hush@h:1/#insecure",
        ] {
            let message = dialer(url).unwrap_err().to_string();
            assert!(
                message.contains("redis.url") && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[test]
    fn every_server_is_reached_with_the_urls_credentials_and_tls() {
        let dialer = dialer("rediss://ann:hush@first:7000").unwrap();
        let address = Address::parse("[::1]:7001").unwrap();
        let other = client_to(dialer.last().clone(), Some(&address)).unwrap();
        let info = other.get_connection_info();
        assert!(
            matches!(info.addr(), ConnectionAddr::TcpTls { host, port: 7001, insecure: false, .. } if host == "::1")
        );
        assert_eq!(info.redis_settings().username(), Some("ann"));
        assert_eq!(info.redis_settings().password(), Some("hush"));

        let config = RedisConfig {
            url: Some(Secret::new("rediss://ann:hush@first:7000")),
            sentinel_credential: Some(Secret::new("watch:another")),
            ..RedisConfig::default()
        };
        let sentinels = Dialer::of(&config).unwrap().to_sentinels().unwrap();
        let info = sentinels.last().clone();
        let settings = info.redis_settings();
        assert_eq!(
            (settings.username(), settings.password()),
            (Some("watch"), Some("another"))
        );
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
        assert!(!format!("{dialer:?}{sentinels:?}").contains("hush"));
    }

    #[test]
    fn seeds_follow_the_urls_own_address_and_odd_ones_are_refused() {
        let config = RedisConfig {
            mode: RedisMode::Cluster,
            url: Some(Secret::new("redis://first:7000")),
            seeds: vec!["second:7001".into()],
            ..RedisConfig::default()
        };
        let seeds = Dialer::of(&config).unwrap().seeds().unwrap();
        let seeds: Vec<_> = seeds.iter().map(|a| (a.host.as_str(), a.port)).collect();
        assert_eq!(seeds, [("first", 7000), ("second", 7001)]);
        for odd in ["", "second", ":7001", "second:port"] {
            let config = RedisConfig {
                seeds: vec![odd.into()],
                ..config.clone()
            };
            let refused = Dialer::of(&config).unwrap().seeds();
            assert!(refused.is_err(), "{odd:?}");
        }
        let third = RedisConfig {
            url: Some(Secret::new("redis://first:7000/3")),
            ..config
        };
        assert!(Dialer::of(&third).unwrap_err().to_string().contains("database 0"));
    }
}
