//! Support for the tests of the whole: the `refract` binary, its services as real processes, a Redis, a client.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use refract_domain::{Context, Deadline, Error, Explanation, RequestId, TenantId, UserId};
use refract_wire::recommend::{
    CandidatesAsk, Client, Event, ExplainOptions, RankAsk, RecommendAsk, Subject, Summary,
};
use refract_wire::{Transport, client};

/// Longest that a service may take to become ready, or a command to end: generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the repository")
        .to_owned()
}

/// The `refract` binary of this build, built if need be.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // …/target/debug/deps/this-test → …/target/debug
        let this = std::env::current_exe().expect("this test has a path");
        let profile = this
            .parent()
            .and_then(Path::parent)
            .expect("tests run from target/PROFILE/deps");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        // Of the whole workspace, as the tests were: alone it would build candle again with other features.
        build.args([
            "build",
            "--quiet",
            "--locked",
            "--workspace",
            "--bin",
            "refract",
            "--target-dir",
        ]);
        build
            .arg(
                profile
                    .parent()
                    .expect("a profile stands in the target directory"),
            )
            .current_dir(root());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(
            build.status().expect("cargo runs").success(),
            "the refract binary does not build"
        );
        profile.join("refract")
    })
}

/// Runs `refract` with these arguments to its end.
pub fn run(args: &[&str]) -> Output {
    Command::new(binary())
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("refract starts")
}

/// Lines of JSON on standard output.
pub fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{error}")))
        .collect()
}

/// A `refract serve …` of its own; killed when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    admins: BTreeMap<String, SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Service {
    /// Starts `refract serve ROLE` on free ports with these `--set`s, and waits until it is ready.
    pub fn start(role: &str, settings: &[String]) -> Self {
        Self::start_saying(role, settings, Stdio::inherit())
    }

    /// The same, with its log lines sent to `log`.
    pub fn start_saying(role: &str, settings: &[String], log: impl Into<Stdio>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ready = folder.path().join("ready.json");
        let mut command = Command::new(binary());
        command
            .args(["serve", role, "--any-port", "--ready-file"])
            .arg(&ready);
        let settings = settings.iter().map(String::as_str);
        for setting in ["telemetry.level=warn"].into_iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut child = command
            // Spans are sent at once rather than every few seconds, for those tests that wait for them.
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("refract starts");
        let begun = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait().expect("a child") {
                panic!("refract serve {role} ended with {status} before it was ready");
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "refract serve {role} is not ready after {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(&ready).expect("the ready file");
        let places: BTreeMap<String, BTreeMap<String, SocketAddr>> =
            serde_json::from_str(&text).expect("addresses");
        let of = |port: &str| {
            let places = places.iter();
            places.map(|(name, place)| (name.clone(), place[port])).collect()
        };
        Self {
            child,
            addresses: of("address"),
            admins: of("admin"),
            _folder: folder,
        }
    }

    /// The data port of a role that this process plays.
    pub fn address(&self, role: &str) -> SocketAddr {
        self.addresses[role]
    }

    /// What a role's admin port answers to a `GET` of this path, with this `Accept`: head and body.
    pub fn admin(&self, role: &str, path: &str, accept: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.admins[role]).expect("the admin port listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )
        .expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// Asks the process to leave, as Kubernetes does, and waits until it has; says how it went.
    pub fn leave(&mut self) -> std::process::ExitStatus {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill starts");
        assert!(asked.success(), "cannot signal {}", self.child.id());
        self.child.wait().expect("reaped")
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A redis-server on a free loopback port; `None`, said loudly, where none is installed.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    pub url: String,
}

impl Redis {
    pub fn start() -> Option<Self> {
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
                &port.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            eprintln!(
                "SKIPPED, LOUDLY: redis-server is not installed; this test proves nothing about Redis here"
            );
            return None;
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self {
            child,
            url: format!("redis://127.0.0.1:{port}"),
        })
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub titles: Vec<String>,
    pub explanations: Vec<Explanation>,
    pub summary: Summary,
}

/// Streams a recommendation for a known user and checks the order of events.
pub async fn recommend(ranker: SocketAddr, user: &str, limit: usize) -> Result<Answer, Error> {
    recommend_as(ranker, user, limit, client::Config::default()).await
}

/// The same, from a caller with habits of its own.
pub async fn recommend_as(
    ranker: SocketAddr,
    user: &str,
    limit: usize,
    config: client::Config,
) -> Result<Answer, Error> {
    // Patient: what is tested is what answers say, not how busy the machine is.
    let patient = refract_net::DialConfig {
        connect_max: Duration::from_secs(20),
        ready_wait_max: Duration::from_secs(30),
        ..refract_net::DialConfig::default()
    };
    let transport = Transport::new(refract_net::dial(&ranker.into(), patient));
    let client = Client::new(transport, config);
    let context = Context {
        tenant: TenantId::default(),
        request: RequestId("test-1".to_owned()),
        deadline: Deadline::after(Instant::now(), Duration::from_secs(60)),
    };
    let rank = RankAsk {
        subject: Subject::User {
            id: UserId::new(user),
            field: "subject.user_id".to_owned(),
        },
        candidates: CandidatesAsk::Catalogue,
        filters: Vec::new(),
        limit,
        include_seen: false,
    };
    let mut events = client
        .stream_recommend(
            &RecommendAsk {
                rank,
                explain: ExplainOptions::default(),
            },
            &context,
        )
        .await?;
    let Some(Event::Slate(slate)) = events.next().await.transpose()? else {
        panic!("the slate comes first")
    };
    let mut texts: BTreeMap<u32, String> = BTreeMap::new();
    let mut explained = BTreeMap::new();
    loop {
        match events.next().await.expect("a summary ends the stream")? {
            Event::Slate(_) => panic!("one slate"),
            Event::Delta { position, text } => texts.entry(position).or_default().push_str(&text),
            Event::Explained(it) => {
                assert_eq!(
                    texts.get(&it.position).map_or("", String::as_str),
                    it.explanation.text
                );
                assert!(
                    explained.insert(it.position, it.explanation).is_none(),
                    "one end per item"
                );
            }
            Event::Summary(summary) => {
                assert_eq!(explained.len(), slate.items.len(), "every item has its end");
                assert_eq!(summary.request.0, "test-1");
                return Ok(Answer {
                    titles: slate.items.iter().map(|i| i.item.title.clone()).collect(),
                    explanations: explained.into_values().collect(),
                    summary,
                });
            }
        }
    }
}
