//! Redis Cluster: the map of slots, and one [`Link`] to each server that keeps some.
//!
//! Why not the library's own cluster connection: with it a node that hangs is found out only by time-outs that count for
//! all nodes together, and while it reconnects commands wait for that. Here each node has its own link, with its own
//! breaker: what a lost node kept is a miss at once, and the others' answers are as quick as before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::board::Board;
use super::dial::{Address, Dialer};
use super::link::{self, Failure, Link, Server};
use super::slots::{self, Range, SLOTS};
use crate::config::RedisConfig;
use crate::error::Error;
use crate::metrics;

pub(super) struct Cluster {
    dialer: Dialer,
    seeds: Vec<Address>,
    config: RedisConfig,
    board: Arc<Board>,
    map: watch::Sender<Map>,
    /// Told when a server says that the map is old.
    outdated: Notify,
}

/// Who keeps which slot.
#[derive(Clone, Default)]
struct Map {
    nodes: Vec<Arc<Node>>,
    /// By slot the place in `nodes`, or [`NOBODY`]; empty before the first map.
    keepers: Vec<u16>,
}

struct Node {
    address: Address,
    link: Arc<Link>,
    keeper: AbortHandle,
    /// It said that its cluster is down: cut off from the others, it does not know what they have agreed on since.
    doubted: AtomicBool,
}

const NOBODY: u16 = u16::MAX;

const CLUSTER_DOWN: &str = "CLUSTERDOWN";

/// A slot may have moved, and be on its way again; a third redirection is a cluster that does not know itself.
const REDIRECTS_MAX: usize = 2;

/// Asks for the map, adopts it, waits until there is a reason to ask again; ends when it is aborted.
pub(super) async fn keep(cluster: Arc<Cluster>) {
    loop {
        match cluster.ask().await {
            Ok(ranges) => cluster.adopt(&ranges),
            Err(reason) => cluster.board.nobody(reason),
        }
        let pause = if cluster.board.all_up() {
            cluster.config.topology_every
        } else {
            // A failover takes a while; its outcome is wanted soon.
            cluster.config.retry_max
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = cluster.outdated.notified() => {}
            () = cluster.board.until_lost() => {}
        }
        // However many callers are redirected meanwhile.
        sleep(cluster.config.retry_min).await;
    }
}

impl Cluster {
    pub(super) fn new(config: &RedisConfig, dialer: Dialer, board: Arc<Board>) -> Result<Self, Error> {
        Ok(Self {
            seeds: dialer.seeds()?,
            dialer,
            // The dialer alone needs the credentials.
            config: RedisConfig {
                url: None,
                ..config.clone()
            },
            board,
            map: watch::Sender::new(Map::default()),
            outdated: Notify::new(),
        })
    }

    /// Runs a command where `name` lies, within `limit`, redirections included.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        name: &str,
        label: &'static str,
        command: &Cmd,
        limit: Duration,
    ) -> Result<T, Error> {
        let until = Instant::now() + limit;
        let Some(mut node) = self.keeper_of(slots::slot_of(name), until).await else {
            metrics::store_error(Error::StoreUnavailable.reason());
            return Err(Error::StoreUnavailable);
        };
        let mut asking = false;
        for _ in 0..=REDIRECTS_MAX {
            let left = until.saturating_duration_since(Instant::now());
            let elsewhere = match node.link.run(label, command, asking, left).await {
                Ok(value) => {
                    node.doubted.store(false, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(Failure::Error(error)) => {
                    if matches!(&error, Error::StoreRefused { code } if code == CLUSTER_DOWN) {
                        node.doubted.store(true, Ordering::Relaxed);
                        self.outdated.notify_one();
                    }
                    return Err(error);
                }
                Err(Failure::Elsewhere(elsewhere)) => elsewhere,
            };
            node.doubted.store(false, Ordering::Relaxed);
            metrics::redirect(if elsewhere.asking { "ask" } else { "moved" });
            if !elsewhere.asking {
                self.outdated.notify_one();
            }
            let Some(mut address) = Address::parse(&elsewhere.address) else {
                break;
            };
            if address.host.is_empty() {
                address.host.clone_from(&node.address.host);
            }
            let Some(next) = self.node_at(&address) else { break };
            node = next;
            asking = elsewhere.asking;
        }
        metrics::store_error(Error::StoreUnavailable.reason());
        Err(Error::StoreUnavailable)
    }

    /// Before the first map, waiting for it is worth a part of the limit.
    async fn keeper_of(&self, slot: u16, until: Instant) -> Option<Arc<Node>> {
        if self.map.borrow().keepers.is_empty() {
            let mut map = self.map.subscribe();
            let mut health = self.board.health();
            let given_up = health.wait_for(|health| *health == crate::store::Health::Down);
            let known = map.wait_for(|map| !map.keepers.is_empty());
            // Both borrow; only that one of them is over matters.
            let _ = timeout_at(until, async {
                tokio::select! { _ = known => {}, _ = given_up => {} }
            })
            .await;
        }
        let map = self.map.borrow();
        let place = *map.keepers.get(usize::from(slot))?;
        map.nodes.get(usize::from(place)).cloned()
    }

    /// The node at that address, connected to if need be: a redirection may know it before the map does.
    fn node_at(&self, address: &Address) -> Option<Arc<Node>> {
        let known = |map: &Map| map.nodes.iter().find(|node| node.address == *address).cloned();
        if let Some(node) = known(&self.map.borrow()) {
            return Some(node);
        }
        let mut found = None;
        self.map.send_if_modified(|map| {
            found = known(map);
            if found.is_some() || map.nodes.len() >= self.config.nodes_max {
                return false;
            }
            found = Some(self.connect(address));
            map.nodes.extend(found.clone());
            found.is_some()
        });
        found
    }

    fn connect(&self, address: &Address) -> Arc<Node> {
        let link = Arc::new(Link::new(
            Server::At(Some(address.clone())),
            self.dialer.clone(),
            &self.config,
            Arc::clone(&self.board),
        ));
        let keeper = tokio::spawn(link::keep(Arc::clone(&link))).abort_handle();
        Arc::new(Node {
            address: address.clone(),
            link,
            keeper,
            doubted: AtomicBool::new(false),
        })
    }

    /// Known servers are asked first: seeds are where one starts, and may be long gone. Last of all those that are cut off
    /// from their cluster: they answer, with the map of before.
    fn candidates(&self) -> Vec<Address> {
        let map = self.map.borrow();
        let is_doubted = |node: &&Arc<Node>| node.doubted.load(Ordering::Relaxed);
        let (doubted, trusted): (Vec<_>, Vec<_>) = map.nodes.iter().partition(is_doubted);
        let (up, others): (Vec<_>, Vec<_>) = trusted.into_iter().partition(|node| node.link.is_up());
        let doubted: Vec<&Address> = doubted.iter().map(|node| &node.address).collect();
        let known = up.into_iter().chain(others).map(|node| &node.address);
        let trusted = known
            .chain(&self.seeds)
            .filter(|address| !doubted.contains(address));
        let mut candidates: Vec<Address> = Vec::new();
        for address in trusted.chain(doubted.iter().copied()) {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }

    async fn ask(&self) -> Result<Vec<Range>, &'static str> {
        let candidates = self.candidates();
        let mut question = Cmd::new();
        question.arg("CLUSTER").arg("SLOTS");
        let mut reason = "no node of the cluster answered";
        for address in &candidates {
            match self.dialer.ask(address, &question).await {
                Ok(answer) => match slots::read(&answer, address) {
                    Some(ranges) => return Ok(ranges),
                    None => reason = "it knows of no slots: is it a node of a cluster?",
                },
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    /// Nodes that keep nothing any more are let go.
    fn adopt(&self, ranges: &[Range]) {
        let mut map = Map {
            nodes: Vec::new(),
            keepers: vec![NOBODY; usize::from(SLOTS)],
        };
        let old = self.map.borrow().nodes.clone();
        let mut left_out = 0;
        for range in ranges {
            let known = map.nodes.iter().position(|node| node.address == range.keeper);
            let place = known.or_else(|| {
                if map.nodes.len() >= self.config.nodes_max {
                    return None;
                }
                let node = old.iter().find(|node| node.address == range.keeper).cloned();
                map.nodes
                    .push(node.unwrap_or_else(|| self.connect(&range.keeper)));
                Some(map.nodes.len() - 1)
            });
            let Some(place) = place.and_then(|place| u16::try_from(place).ok()) else {
                left_out += 1;
                continue;
            };
            map.keepers[usize::from(range.first)..=usize::from(range.last)].fill(place);
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                nodes_max = self.config.nodes_max,
                "the cluster has more nodes than redis.nodes_max: runs of slots left out are misses"
            );
        }
        self.map.send_replace(map);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}
