//! Sources that count, fail and wait; a codec; a clock that follows the runtime's; a Redis of one's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use refract_domain::{
    Context, Deadline, Error, Evidence, Fact, FactKind, Freshness, History, Interaction, Item, ItemId,
    Knowledge, KnowledgeSource, Pair, RequestId, Revision, Signal, TenantId, Timestamp, UnavailableReason,
    UserId,
};
use tokio::time::Instant;

use crate::{Clock, Codec, Config, Control, Parts, Store, open_with};

pub(crate) fn item(id: &str) -> Arc<Item> {
    Arc::new(Item {
        id: ItemId::new(id),
        title: format!("The {id}"),
        attributes: [("genre".to_owned(), vec!["crime".to_owned()])].into(),
        description: String::new(),
    })
}

pub(crate) fn pair(user: &str, id: &str) -> Pair {
    Pair {
        tenant: TenantId::default(),
        user: Some(UserId::new(user)),
        item: item(id),
        affinities: Vec::new(),
    }
}

pub(crate) fn history() -> Arc<History> {
    let liked = |id, at| Interaction {
        item: item(id),
        at: Timestamp(at),
        signal: Signal::Liked,
        rating: None,
        text: None,
    };
    Arc::new(History::new(vec![liked("ronin", 1), liked("thief", 2)]))
}

pub(crate) fn context() -> Context {
    context_for(Duration::from_secs(5))
}

pub(crate) fn context_for(budget: Duration) -> Context {
    Context {
        tenant: TenantId::default(),
        request: RequestId("r".into()),
        deadline: Deadline::after(Instant::now().into_std(), budget),
    }
}

/// What its flags say, after a pause; counts what it was asked and how often it was dropped half-way.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) asked: AtomicUsize,
    pub(crate) abandoned: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    pub(crate) down: AtomicBool,
    pub(crate) revision: Mutex<String>,
    pub(crate) error: Mutex<Option<Error>>,
    pub(crate) pause: Duration,
    /// Whether it minds the deadline that it is given.
    pub(crate) punctual: bool,
    pub(crate) silent: AtomicBool,
}

impl Oracle {
    pub(crate) fn new(pause: Duration) -> Arc<Self> {
        Arc::new(Self::plain(pause))
    }

    pub(crate) fn plain(pause: Duration) -> Self {
        Self {
            asked: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            revision: Mutex::new("oracle-1".into()),
            error: Mutex::new(None),
            pause,
            punctual: false,
            silent: AtomicBool::new(false),
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

struct Abandon<'a>(&'a Oracle, bool);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl KnowledgeSource for Oracle {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        let n = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut abandon = Abandon(self, false);
        if self.punctual && Instant::now().into_std() + self.pause > context.deadline.instant() {
            tokio::time::sleep_until(Instant::from_std(context.deadline.instant())).await;
            abandon.1 = true;
            return Err(Error::DeadlineExceeded);
        }
        tokio::time::sleep(self.pause).await;
        abandon.1 = true;
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable {
                reason: UnavailableReason::Unreachable,
            });
        }
        if let Some(error) = self.error.lock().unwrap().clone() {
            return Err(error);
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        let silent = self.silent.load(Ordering::SeqCst);
        let newest = history.interactions().last().map(|i| i.item.id.clone());
        let fact = newest.map(|item| Fact {
            kind: FactKind::Statement,
            text: "it has the same mood".to_owned(),
            evidence: vec![Evidence::History { item }],
        });
        Ok(Knowledge {
            facts: fact.into_iter().filter(|_| !silent).collect(),
            text: if silent {
                String::new()
            } else {
                format!(
                    "{} for {}, answer {n}",
                    pair.item.title,
                    pair.user.as_ref().map_or("nobody", UserId::expose)
                )
            },
            oracle_revision: Revision(self.revision.lock().unwrap().clone()),
            template_revision: Revision("template-1".into()),
            created_at: Timestamp(0),
            freshness: Freshness::Fresh,
            facts_refused: 0,
            history_truncated: 0,
        })
    }
}

/// Text and revisions only, which is all that these tests look at; unit separators never occur in them.
pub(crate) fn codec() -> Codec {
    Codec {
        encode: |k| {
            format!(
                "{}\u{1f}{}\u{1f}{}",
                k.text, k.oracle_revision, k.template_revision
            )
            .into_bytes()
        },
        decode: |bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            let mut parts = text.split('\u{1f}');
            let (text, oracle, template) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Knowledge {
                facts: Vec::new(),
                text: text.to_owned(),
                oracle_revision: Revision(oracle.to_owned()),
                template_revision: Revision(template.to_owned()),
                created_at: Timestamp(0),
                freshness: Freshness::Fresh,
                facts_refused: 0,
                history_truncated: 0,
            })
        },
    }
}

/// A wall clock that stands still when the runtime's does.
pub(crate) fn paused_clock() -> Clock {
    let began = Instant::now();
    Clock::new(move || 1_700_000_000_000 + u64::try_from(began.elapsed().as_millis()).unwrap())
}

pub(crate) fn config() -> Config {
    Config {
        secret: Some(crate::Secret::new("a secret of the tests")),
        ttl_soft: Duration::from_secs(100),
        ttl_hard: Duration::from_secs(1000),
        ttl_jitter: 0.0,
        ..Config::default()
    }
}

pub(crate) fn pipeline(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &Clock,
    oracle: &Arc<Oracle>,
) -> (Arc<dyn KnowledgeSource>, Control) {
    let parts = Parts {
        codec: codec(),
        store: Arc::clone(store),
        clock: clock.clone(),
    };
    open_with(config, parts, Arc::clone(oracle) as Arc<dyn KnowledgeSource>).unwrap()
}

/// A Redis on a free loopback port, killed with its handle.
pub(crate) struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    /// `None`, loudly, where there is no redis-server to run.
    pub(crate) fn start() -> Option<Self> {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            let Some(child) = spawn(port) else {
                eprintln!(
                    "SKIPPED: redis-server is not installed, so nothing was tested against a real Redis"
                );
                return None;
            };
            let mut redis = Self { port, child };
            // Somebody else may have taken the port in between; then ours exits, and we try another.
            if redis.answers() {
                return Some(redis);
            }
        }
        panic!("redis-server did not start on any of five free ports");
    }

    pub(crate) fn url(&self) -> crate::Secret {
        crate::Secret::new(format!("redis://127.0.0.1:{}", self.port))
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        let client = redis::Client::open(self.url().expose()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port).unwrap();
        assert!(self.answers(), "redis-server did not come back");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn answers(&mut self) -> bool {
        use std::io::{Read, Write};
        for _ in 0..200 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
                let mut answer = [0; 5];
                if stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() {
                    return &answer == b"+PONG";
                }
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16) -> Option<Child> {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}
