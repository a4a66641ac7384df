//! TLS 1.3 on both sides, with material that is read again when its files change.
//!
//! Nothing older is spoken. A proxy in front has to be told so where its own default is less: Envoy wants
//! `tls_maximum_protocol_version: TLSv1_3` for its upstream. A handshake that fails is counted and, once a minute, said.
//!
//! The server looks at its files every few seconds and lets new handshakes use what it finds; what cannot be used is
//! said once and left alone. The client reads its files for each connection it makes. Connections that stand stay, until
//! the server asks them to go at their age.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use refract_resilience::deadline::now;
use refract_resilience::limits::{Unfit, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, version};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tracing::{debug, info, warn};

use crate::error::Error;
use crate::expiry;

/// The only protocol spoken over TLS here.
const HTTP_2: &[u8] = b"h2";

const REFUSED: &str = "refract_net_handshakes_refused_total";

/// Who speaks the wrong protocol tries often: a listener says so this seldom.
const SAY_EVERY: Duration = Duration::from_secs(60);

pub(crate) fn describe() {
    metrics::describe_counter!(
        REFUSED,
        "TLS handshakes with callers that failed, by reason: late, left, faulty"
    );
}

/// What a listener shows its callers, and what it asks of them: TLS 1.3, and HTTP/2 by ALPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// PEM file with the server's certificate, then those of intermediate authorities.
    pub cert_file: PathBuf,
    /// PEM file with its private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that callers' certificates must come from (mTLS). Without it callers show none.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// How often the files are looked at; new handshakes use what they hold then. Default 10s.
    #[serde(with = "humantime_serde", default = "reload_every")]
    pub reload_every: Duration,
    /// Longest time for a handshake. Default 3s.
    #[serde(with = "humantime_serde", default = "handshake_max")]
    pub handshake_max: Duration,
}

/// What a caller asks of a server, and what it shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// PEM file with the authorities that the server's certificate must come from.
    pub ca_file: PathBuf,
    /// PEM file with our certificate, where the server asks for one (mTLS).
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must hold. Without it: the target's first host.
    #[serde(default)]
    pub server_name: Option<String>,
}

/// Names in a caller's certificate (DNS names and URIs of its SAN), verified by the handshake. In the extensions of each
/// of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNames(pub Arc<[String]>);

fn reload_every() -> Duration {
    Duration::from_secs(10)
}

fn handshake_max() -> Duration {
    Duration::from_secs(3)
}

impl ServerTls {
    /// Without asking callers for certificates.
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> Self {
        Self {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            client_ca_file: None,
            reload_every: reload_every(),
            handshake_max: handshake_max(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Unfit> {
        ensure(
            !self.reload_every.is_zero(),
            "reload_every",
            "must be longer than zero",
        )?;
        ensure(
            !self.handshake_max.is_zero(),
            "handshake_max",
            "must be longer than zero",
        )
    }
}

impl ClientTls {
    /// Without a certificate of our own.
    pub fn new(ca_file: impl Into<PathBuf>) -> Self {
        Self {
            ca_file: ca_file.into(),
            cert_file: None,
            key_file: None,
            server_name: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Unfit> {
        ensure(
            self.cert_file.is_some() == self.key_file.is_some(),
            "cert_file",
            "and key_file belong together",
        )
    }

    /// Reads the files once: what is wrong with them is better said at start than by every call.
    pub fn verify(&self) -> Result<(), Error> {
        self.load().map(|_| ())
    }

    fn load(&self) -> Result<rustls::ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |error| Error::tls(&self.ca_file, error);
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(wrong)?
            .with_root_certificates(Arc::new(authorities(&self.ca_file)?));
        let mut config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let chain = chain(cert)?;
                expiry::client(&chain);
                builder
                    .with_client_auth_cert(chain, private_key(key)?)
                    .map_err(|error| Error::tls(cert, error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![HTTP_2.to_vec()];
        Ok(config)
    }

    /// Makes a secure connection of a plain one to `host`.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let config = self.load().map_err(io::Error::other)?;
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        is_http_2(stream.get_ref().1.alpn_protocol())?;
        Ok(stream)
    }
}

/// Material in force, and the task that renews it.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    config: ServerTls,
    current: Arc<RwLock<Arc<rustls::ServerConfig>>>,
    /// When a refused handshake was last said.
    said: Arc<Mutex<Option<Instant>>>,
}

impl Acceptor {
    pub(crate) fn new(config: ServerTls) -> Result<Self, Error> {
        let current = Arc::new(RwLock::new(load(&config)?));
        Ok(Self {
            config,
            current,
            said: Arc::default(),
        })
    }

    pub(crate) fn handshake_max(&self) -> Duration {
        self.config.handshake_max
    }

    /// Looks at the files for ever, and takes what has changed if it can be used.
    pub(crate) async fn keep_current(self, address: SocketAddr) {
        let mut seen = Seen::of(&self.config);
        self.say_expiry(address);
        loop {
            tokio::time::sleep(self.config.reload_every).await;
            let now = Seen::of(&self.config);
            if now == seen {
                continue;
            }
            seen = now;
            match load(&self.config) {
                Ok(fresh) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    info!(%address, "new certificates are in force");
                    self.say_expiry(address);
                }
                Err(error) => warn!(%address, %error, "new certificates cannot be used, the old ones stay"),
            }
        }
    }

    fn say_expiry(&self, address: SocketAddr) {
        // What cannot be read is said by those who have to use it.
        if let Ok(chain) = chain(&self.config.cert_file) {
            expiry::server(&chain, address.port());
        }
    }

    /// Notes a handshake that came to nothing.
    pub(crate) fn refused(&self, peer: SocketAddr, error: &io::Error) {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => "late",
            // Whoever only looks whether the port is open.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "left",
            _ => "faulty",
        };
        metrics::counter!(REFUSED, "reason" => reason).increment(1);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        if reason != "left" && said.is_none_or(|said| now - said >= SAY_EVERY) {
            *said = Some(now);
            warn!(
                %peer, %error,
                "handshake refused; callers must speak TLS 1.3 with ALPN h2 and trust our authority, and show a certificate where client_ca_file is set"
            );
        } else {
            debug!(%peer, %error, "handshake refused");
        }
    }

    /// The handshake; what the caller proved to be called, where it was asked.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, Option<PeerNames>)> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, connection) = stream.get_ref();
        is_http_2(connection.alpn_protocol())?;
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        let names = leaf.map(names).transpose()?;
        Ok((stream, names))
    }
}

/// The files' bytes: a changed time is no proof of another content, and neither is the same time of the same one.
#[derive(PartialEq, Eq)]
struct Seen(Vec<Option<Vec<u8>>>);

impl Seen {
    fn of(config: &ServerTls) -> Self {
        let files = [
            Some(&config.cert_file),
            Some(&config.key_file),
            config.client_ca_file.as_ref(),
        ];
        Self(
            files
                .into_iter()
                .flatten()
                .map(|file| std::fs::read(file).ok())
                .collect(),
        )
    }
}

fn load(config: &ServerTls) -> Result<Arc<rustls::ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| Error::tls(&config.cert_file, error))?;
    let builder = match &config.client_ca_file {
        Some(file) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(file)?), provider)
                    .build()
                    .map_err(|error| Error::tls(file, error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut made = builder
        .with_single_cert(chain(&config.cert_file)?, private_key(&config.key_file)?)
        .map_err(|error| Error::tls(&config.cert_file, error))?;
    made.alpn_protocols = vec![HTTP_2.to_vec()];
    Ok(Arc::new(made))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(certificates) if certificates.is_empty() => Err(Error::tls(file, "holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Error::tls(file, error)),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| Error::tls(file, error))
}

fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in chain(file)? {
        store.add(certificate).map_err(|error| Error::tls(file, error))?;
    }
    Ok(store)
}

fn names(leaf: &CertificateDer<'_>) -> io::Result<PeerNames> {
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(io::Error::other)?;
    let names = parsed.valid_dns_names().chain(parsed.valid_uri_names());
    Ok(PeerNames(names.map(str::to_owned).collect()))
}

fn is_http_2(protocol: Option<&[u8]>) -> io::Result<()> {
    if protocol == Some(HTTP_2) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer does not speak HTTP/2 over TLS",
        ))
    }
}
