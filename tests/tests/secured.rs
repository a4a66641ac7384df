//! A cluster whose every connection is secured, and callers whose tenant their credential says.

#[path = "../../services/shared/net/tests/common/pki.rs"]
mod pki;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pki::Authority;
use refract_client::{ClientTls, Error, Options, Refract, Rung, Token, for_user};
use refract_tests::{Service, binary};

const USER: &str = "noir-and-heists";
const RANKER: &str = "spiffe://test/ranker";
const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "shop-token-of-this-test";

fn sha256(token: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(token))
}

/// A Redis that speaks TLS only and asks for certificates; `None`, said loudly, where none is installed.
struct SecuredRedis {
    child: Child,
    url: String,
}

impl SecuredRedis {
    fn start(folder: &Path, ours: &Authority) -> Option<Self> {
        let files = ours.issue(folder, "redis", &["localhost"]);
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let spawned = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                "0",
            ])
            .args(["--tls-port", &port.to_string(), "--tls-auth-clients", "yes"])
            .arg("--tls-cert-file")
            .arg(files.cert)
            .arg("--tls-key-file")
            .arg(files.key)
            .arg("--tls-ca-cert-file")
            .arg(folder.join("ours.pem"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!(
                "SKIPPED, LOUDLY: redis-server is not installed; this test proves nothing about Redis here"
            );
            return None;
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if child.try_wait().expect("a child").is_some() {
                eprintln!("SKIPPED, LOUDLY: this redis-server was built without TLS");
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            child,
            url: format!("rediss://localhost:{port}"),
        })
    }
}

impl Drop for SecuredRedis {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

struct Front<'a> {
    address: SocketAddr,
    ca: &'a Path,
}

impl Front<'_> {
    fn options(&self, token: Option<&str>) -> Options {
        Options {
            tls: Some(ClientTls {
                server_name: Some("localhost".to_owned()),
                ..ClientTls::new(self.ca)
            }),
            token: token.map(|token| Token::new(token).expect("a token")),
            deadline: Duration::from_secs(60),
            ..Options::at(self.address.into())
        }
    }

    /// The rungs of three explanations for one and the same user.
    async fn rungs(&self, token: Option<&str>) -> Result<Vec<Rung>, Error> {
        let refract = Refract::connect(self.options(token)).expect("readable certificates");
        let (_, explained, _) = refract.recommend(&for_user(USER, 3)).await?;
        Ok(explained.iter().map(|e| e.explanation.grounding.rung).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hop_is_secured_and_a_tenant_never_sees_what_is_remembered_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = ours.file(here.join("ours.pem"));
    let server = ours.issue(here, "server", &["localhost"]);
    let ranker = ours.issue(here, "ranker", &[RANKER]);
    let inner = here.join("inner.toml");
    std::fs::write(
        &inner,
        format!("[[certificate]]\nname = \"{RANKER}\"\ntenant = \"default\"\n"),
    )
    .unwrap();
    let callers = here.join("callers.toml");
    let list = |tokens: &[(&str, &str, &str)]| {
        tokens
            .iter()
            .map(|(token, tenant, more)| {
                format!(
                    "[[token]]\nsha256 = \"{}\"\ntenant = \"{tenant}\"\n{more}\n",
                    sha256(token)
                )
            })
            .collect::<String>()
    };
    let (shop, news, old) = (
        ("a-long-token-of-the-shop", "shop", ""),
        ("a-long-token-of-the-news", "news", ""),
        (
            "a-token-of-last-year",
            "shop",
            "expires = \"2020-01-01T00:00:00Z\"",
        ),
    );
    std::fs::write(&callers, list(&[shop, news, old])).unwrap();

    let secured = |role: &str| {
        vec![
            format!("{role}.listen.tls.cert_file={}", server.cert.display()),
            format!("{role}.listen.tls.key_file={}", server.key.display()),
        ]
    };
    let asks_for_certificates = |role: &str| {
        let mut settings = secured(role);
        settings.push(format!("{role}.listen.tls.client_ca_file={}", ca.display()));
        settings.push(format!("{role}.callers.file={}", inner.display()));
        settings
    };
    let oracle = Service::start("oracle", &asks_for_certificates("oracle"));
    let prism = Service::start("prism", &asks_for_certificates("prism"));
    let mut settings = secured("ranker");
    settings.push(format!("ranker.callers.file={}", callers.display()));
    settings.push("ranker.callers.reload_every=50ms".to_owned());
    for (role, address) in [
        ("oracle", oracle.address("oracle")),
        ("prism", prism.address("prism")),
    ] {
        settings.push(format!("ranker.{role}.target={address}"));
        settings.push(format!("ranker.{role}.dial.tls.ca_file={}", ca.display()));
        settings.push(format!(
            "ranker.{role}.dial.tls.cert_file={}",
            ranker.cert.display()
        ));
        settings.push(format!(
            "ranker.{role}.dial.tls.key_file={}",
            ranker.key.display()
        ));
        settings.push(format!("ranker.{role}.dial.tls.server_name=localhost"));
    }
    let redis = SecuredRedis::start(here, &ours);
    if let Some(redis) = &redis {
        settings.push("ranker.knowledge.store=redis".to_owned());
        settings.push("ranker.knowledge.secret=sixteen bytes or more".to_owned());
        settings.push(format!("ranker.knowledge.redis.url={}", redis.url));
        settings.push(format!("ranker.knowledge.redis.ca_file={}", ca.display()));
        settings.push(format!(
            "ranker.knowledge.redis.cert_file={}",
            ranker.cert.display()
        ));
        settings.push(format!(
            "ranker.knowledge.redis.key_file={}",
            ranker.key.display()
        ));
        // Without the first level in the process, so that it is Redis that remembers.
        settings.push("ranker.knowledge.l1_ttl=0s".to_owned());
    }
    let service = Service::start("ranker", &settings);
    let front = Front {
        address: service.address("ranker"),
        ca: &ca,
    };

    let fresh = front.rungs(Some(shop.0)).await.unwrap();
    assert!(fresh.contains(&Rung::Fresh), "{fresh:?}");
    // Writing to Redis happens behind the answer's back.
    let begun = Instant::now();
    loop {
        let again = front.rungs(Some(shop.0)).await.unwrap();
        if again.contains(&Rung::Cached) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is remembered: {again:?}");
    }
    let foreign = front.rungs(Some(news.0)).await.unwrap();
    assert!(
        foreign.contains(&Rung::Fresh) && !foreign.contains(&Rung::Cached),
        "the same question of another tenant is another question: {foreign:?}"
    );

    let refused = |error: Error| matches!(error, Error::Precondition { .. });
    for (case, token) in [
        ("no credential", None),
        ("a guess", Some("guessed-token")),
        ("an expired token", Some(old.0)),
    ] {
        let error = front.rungs(token).await.expect_err(case);
        assert!(refused(error), "{case}");
    }

    std::fs::write(&callers, list(&[news])).unwrap();
    let begun = Instant::now();
    while front.rungs(Some(shop.0)).await.is_ok() {
        assert!(
            begun.elapsed() < PATIENCE,
            "a token that was struck out still works"
        );
    }
    front
        .rungs(Some(news.0))
        .await
        .expect("the others are served all the while");

    let stranger = Options {
        tls: Some(ClientTls::new(theirs.file(here.join("theirs.pem")))),
        ..front.options(Some(news.0))
    };
    let stranger = Refract::connect(stranger).unwrap();
    assert!(stranger.server_info().await.is_err(), "an authority of another");

    // The inner services answer the ranker's certificate and nobody else's.
    let uninvited = ours.issue(here, "uninvited", &["spiffe://test/somebody"]);
    let certificate = ClientTls {
        cert_file: Some(uninvited.cert),
        key_file: Some(uninvited.key),
        server_name: Some("localhost".to_owned()),
        ..ClientTls::new(&ca)
    };
    let channel = refract_net::dial(
        &oracle.address("oracle").into(),
        refract_net::DialConfig {
            tls: Some(certificate),
            ..refract_net::DialConfig::default()
        },
    );
    let client = refract_wire::oracle::Client::new(
        refract_wire::Transport::new(channel),
        refract_wire::client::Config::default(),
    );
    let context = refract_domain::Context {
        tenant: refract_domain::TenantId::default(),
        request: refract_domain::RequestId("test-1".to_owned()),
        deadline: refract_domain::Deadline::after(Instant::now(), PATIENCE),
    };
    assert!(refused(
        client.server_info(&context).await.expect_err("uninvited")
    ));
}

#[test]
fn the_command_speaks_tls_and_shows_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let ours = Authority::new("ours");
    let ca = ours.file(here.join("ours.pem"));
    let server = ours.issue(here, "server", &["127.0.0.1"]);
    let (callers, token) = (here.join("callers.toml"), here.join("token"));
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    std::fs::write(
        &callers,
        format!("[[token]]\nsha256 = \"{}\"\ntenant = \"shop\"\n", sha256(TOKEN)),
    )
    .unwrap();
    let ranker = Service::start(
        "ranker",
        &[
            format!("ranker.listen.tls.cert_file={}", server.cert.display()),
            format!("ranker.listen.tls.key_file={}", server.key.display()),
            format!("ranker.callers.file={}", callers.display()),
        ],
    );
    let address = ranker.address("ranker").to_string();
    let recommend = |more: &[&str]| {
        Command::new(binary())
            .args([
                "recommend",
                "--user",
                USER,
                "--limit",
                "2",
                "--json",
                "--target",
                &address,
            ])
            .args(more)
            .output()
            .expect("refract starts")
    };
    let (ca, token) = (ca.to_str().unwrap(), token.to_str().unwrap());
    let known = recommend(&["--ca", ca, "--token-file", token]);
    assert!(
        known.status.success(),
        "{}",
        String::from_utf8_lossy(&known.stderr)
    );
    assert!(!recommend(&["--ca", ca]).status.success(), "without the token");
    assert!(
        !recommend(&["--token-file", token]).status.success(),
        "without TLS"
    );
}
