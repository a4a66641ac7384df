//! A store in Redis or Valkey, shared by all processes of a deployment.
//!
//! A caller never waits longer than its command's own time-out, and not at all while there is no connection:
//! connecting, reconnecting and probing happen in the background ([`link`]). Only `GET`, `SET … PX`, `UNLINK` and
//! `PING` are used, so that the access rules can be as narrow.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::io::tcp::TcpSettings;
use redis::{Client, ClientTlsConfig, Cmd, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::RedisConfig;
use crate::error::Error;
use crate::store::{Health, Store};

mod breaker;
mod link;

use link::Link;

/// The kernel gives a connection up after its data has not been acknowledged for this long.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(1);

pub struct RedisStore {
    link: Arc<Link>,
    keeper: AbortHandle,
    get_timeout: Duration,
    put_timeout: Duration,
}

impl RedisStore {
    /// Returns at once; the first connection is made in the background, and Redis may be absent.
    pub fn open(config: &RedisConfig) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let link = Arc::new(Link::new(client(config)?, config));
        let keeper = runtime.spawn(link::keep(Arc::clone(&link))).abort_handle();
        Ok(Self {
            link,
            keeper,
            get_timeout: config.get_timeout,
            put_timeout: config.put_timeout,
        })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut command = Cmd::new();
        command.arg("GET").arg(name);
        self.link.run("get", &command, self.get_timeout).await
    }

    async fn put(&self, name: &str, value: Vec<u8>, ttl: Duration) -> Result<(), Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX >> 1).max(1);
        let mut command = Cmd::new();
        command.arg("SET").arg(name).arg(value).arg("PX").arg(ttl_ms);
        self.link.run("set", &command, self.put_timeout).await
    }

    async fn remove(&self, name: &str) -> Result<(), Error> {
        let mut command = Cmd::new();
        command.arg("UNLINK").arg(name);
        let _removed: u64 = self.link.run("unlink", &command, self.put_timeout).await?;
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("health", &*self.link.health().borrow())
            .finish_non_exhaustive()
    }
}

/// The library's own message is not passed on: it may repeat the URL, which holds the password.
fn client(config: &RedisConfig) -> Result<Client, Error> {
    let url = config.read_url()?;
    let invalid = || {
        Error::config(
            "redis.url",
            "is not of the form redis://[user:password@]host:port[/db], or rediss:// for TLS",
        )
    };
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
        return Client::open(info).map_err(|_| invalid());
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
    Client::build_with_tls(info, certificates).map_err(|_| {
        Error::config(
            "redis.ca_file",
            "or redis.cert_file cannot be used: are they PEM?",
        )
    })
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

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        for url in [
            "",
            "localhost",
            "http://:hush@h:1",
            "redis://:hush@h:port",
            "rediss://:hush@h:1/#insecure",
        ] {
            let config = RedisConfig {
                url: Some(Secret::new(url)),
                ..RedisConfig::default()
            };
            let message = client(&config).unwrap_err().to_string();
            assert!(
                message.contains("redis.url") && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[tokio::test]
    async fn neither_url_nor_password_is_shown() {
        let url = "redis://ann:hush@127.0.0.1:1/0";
        let config = RedisConfig {
            url: Some(Secret::new(url)),
            ..RedisConfig::default()
        };
        let shown = format!("{config:?} {:?}", RedisStore::open(&config).unwrap());
        assert!(!shown.contains("hush") && !shown.contains("ann"), "{shown}");
    }

    #[test]
    fn a_store_outside_a_runtime_is_an_error_and_no_panic() {
        let config = RedisConfig {
            url: Some(Secret::new("redis://127.0.0.1:1")),
            ..RedisConfig::default()
        };
        assert!(matches!(RedisStore::open(&config), Err(Error::NoRuntime)));
    }
}
