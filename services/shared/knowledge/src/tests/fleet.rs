//! Several redis processes that form a cluster, or a master with a replica and a sentinel; killed with their handle.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisResult};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Secret;

/// Failovers on a busy machine take their time.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    _folder: TempDir,
}

pub(crate) struct Member {
    pub(crate) port: u16,
    bus: u16,
    child: Child,
}

impl Member {
    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("redis://127.0.0.1:{}", self.port))
    }

    pub(crate) fn seed(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn stop(&self) {
        let pid = self.child.id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status().unwrap();
        assert!(stopped.success());
    }

    /// One command, its words parted by spaces.
    pub(crate) async fn say<T: FromRedisValue>(&self, words: &str) -> RedisResult<T> {
        let client = redis::Client::open(self.url().expose()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        command.query_async(&mut connection).await
    }

    pub(crate) async fn until(&self, words: &str, holds: impl Fn(&str) -> bool) {
        let began = Instant::now();
        loop {
            let answer = self.say::<String>(words).await.unwrap_or_default();
            if holds(&answer) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{words}: still {answer}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_it_answers(&self) {
        self.until("PING", |answer| answer == "PONG").await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Fleet {
    /// Masters share the slots evenly; each has as many replicas as asked for. `None`, loudly, without redis-server.
    pub(crate) async fn cluster(masters: usize, replicas_each: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut members = Vec::new();
        // In milliseconds. A node that waits for a busy disk must not pass for a dead one, but where a replica is to take over nobody waits
        // for long.
        let dead_after = if replicas_each == 0 { "20000" } else { "3000" };
        for n in 0..masters * (1 + replicas_each) {
            let (port, bus) = (free_port(), free_port());
            let (conf, bus_text) = (format!("nodes-{n}.conf"), bus.to_string());
            let more = [
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                &conf,
                "--cluster-port",
                &bus_text,
                "--cluster-node-timeout",
                dead_after,
                "--cluster-require-full-coverage",
                "no",
            ];
            members.push(Member {
                port,
                bus,
                child: server(&folder, port, &more)?,
            });
        }
        for (n, member) in members.iter().enumerate() {
            member.until_it_answers().await;
            let epoch = format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1);
            member.say::<()>(&epoch).await.unwrap();
            if n < masters {
                let (first, last) = (n * 16_384 / masters, (n + 1) * 16_384 / masters - 1);
                let share = format!("CLUSTER ADDSLOTSRANGE {first} {last}");
                member.say::<()>(&share).await.unwrap();
            }
            let (port, bus) = (members[0].port, members[0].bus);
            let meet = format!("CLUSTER MEET 127.0.0.1 {port} {bus}");
            member.say::<()>(&meet).await.unwrap();
        }
        let all = members.len();
        for member in &members {
            let known = format!("cluster_known_nodes:{all}\r");
            member.until("CLUSTER INFO", |info| info.contains(&known)).await;
        }
        for (n, member) in members.iter().enumerate().skip(masters) {
            let master: String = members[n % masters].say("CLUSTER MYID").await.unwrap();
            let began = Instant::now();
            while member
                .say::<()>(&format!("CLUSTER REPLICATE {master}"))
                .await
                .is_err()
            {
                assert!(began.elapsed() < PATIENCE, "a replica does not know its master");
                sleep(Duration::from_millis(50)).await;
            }
        }
        for member in &members {
            member
                // A member may be content before it has heard whose all slots are, and refuses those that it takes for nobody's.
                .until("CLUSTER INFO", |info| {
                    info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
                })
                .await;
        }
        for member in &members[masters..] {
            member
                .until("INFO replication", |info| info.contains("master_link_status:up"))
                .await;
        }
        Some(Self {
            members,
            _folder: folder,
        })
    }

    /// A master named `films`, its replica, and a sentinel, in this order.
    pub(crate) async fn watched() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (master, replica, sentinel) = (free_port(), free_port(), free_port());
        let of = master.to_string();
        let mut members = vec![
            Member {
                port: master,
                bus: 0,
                child: server(&folder, master, &[])?,
            },
            Member {
                port: replica,
                bus: 0,
                child: server(&folder, replica, &["--replicaof", "127.0.0.1", &of])?,
            },
        ];
        for member in &members {
            member.until_it_answers().await;
        }
        members[1]
            .until("INFO replication", |info| info.contains("master_link_status:up"))
            .await;
        let conf = folder.path().join("sentinel.conf");
        let text = format!(
            "port {sentinel}\nbind 127.0.0.1\ndir {}\nsentinel monitor films 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds films 2000\nsentinel failover-timeout films 5000\n",
            folder.path().display()
        );
        std::fs::write(&conf, text).unwrap();
        let child = Command::new("redis-server")
            .arg(&conf)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        members.push(Member {
            port: sentinel,
            bus: 0,
            child,
        });
        members[2].until_it_answers().await;
        // A failover needs a replica that the sentinel has found.
        let began = Instant::now();
        loop {
            let known: Vec<redis::Value> = members[2].say("SENTINEL REPLICAS films").await.unwrap();
            if !known.is_empty() {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the sentinel finds no replica");
            sleep(Duration::from_millis(50)).await;
        }
        Some(Self {
            members,
            _folder: folder,
        })
    }
}

fn server(folder: &TempDir, port: u16, more: &[&str]) -> Option<Child> {
    let spawned = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "no", "--repl-diskless-sync-delay", "0"])
        .args(["--dir", &folder.path().display().to_string()])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if spawned.is_err() {
        eprintln!(
            "SKIPPED, LOUDLY: redis-server is not installed; nothing was tested against a cluster or sentinels"
        );
    }
    spawned.ok()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
