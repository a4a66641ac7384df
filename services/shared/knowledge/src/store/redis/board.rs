//! What is known about all servers of the store together: its health, its log lines, its gauges.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::metrics;
use crate::store::Health;

#[derive(Debug)]
pub(super) struct Board {
    servers: Mutex<Servers>,
    health: watch::Sender<Health>,
    /// Told when a server is lost.
    lost: Notify,
}

#[derive(Debug, Default)]
struct Servers {
    by_number: HashMap<u64, Health>,
    next: u64,
}

impl Board {
    pub(super) fn new() -> Self {
        metrics::store_up(false);
        Self {
            servers: Mutex::default(),
            health: watch::Sender::new(Health::Connecting),
            lost: Notify::new(),
        }
    }

    /// A place for one more server.
    pub(super) fn enter(&self) -> u64 {
        let mut servers = self.servers();
        servers.next += 1;
        let number = servers.next;
        servers.by_number.insert(number, Health::Connecting);
        number
    }

    pub(super) fn leave(&self, number: u64) {
        let mut servers = self.servers();
        servers.by_number.remove(&number);
        self.sum_up(&servers, "its last server was taken away");
    }

    pub(super) fn tell(&self, number: u64, health: Health, reason: &'static str) {
        let mut servers = self.servers();
        // A server that has left has no say.
        let Some(known) = servers.by_number.get_mut(&number) else {
            return;
        };
        let lost = health == Health::Down && *known != Health::Down;
        *known = health;
        self.sum_up(&servers, reason);
        if lost {
            self.lost.notify_one();
        }
    }

    /// Not even the servers are known.
    pub(super) fn nobody(&self, reason: &'static str) {
        let servers = self.servers();
        if !servers.by_number.values().any(|health| *health == Health::Up) {
            self.announce(Health::Down, reason);
        }
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(super) fn all_up(&self) -> bool {
        let servers = self.servers();
        !servers.by_number.is_empty() && servers.by_number.values().all(|health| *health == Health::Up)
    }

    pub(super) async fn until_lost(&self) {
        self.lost.notified().await;
    }

    /// The store is up while one server answers: what the others kept is a miss.
    fn sum_up(&self, servers: &Servers, reason: &'static str) {
        let count = |wanted| {
            servers
                .by_number
                .values()
                .filter(|health| **health == wanted)
                .count()
        };
        let (up, down) = (count(Health::Up), count(Health::Down));
        metrics::nodes(up, down);
        let undecided = count(Health::Connecting) > 0 && *self.health.borrow() == Health::Connecting;
        if up > 0 {
            self.announce(Health::Up, reason);
        } else if !undecided {
            self.announce(Health::Down, reason);
        }
    }

    /// Once per transition.
    fn announce(&self, health: Health, reason: &'static str) {
        metrics::store_up(health == Health::Up);
        if self.health.send_replace(health) == health {
            return;
        }
        match health {
            Health::Up => tracing::info!("knowledge store is up"),
            Health::Down => tracing::warn!(reason, "knowledge store is down: consulting without it"),
            Health::Connecting => {}
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_up_while_one_server_is_and_down_when_the_last_is_lost() {
        let board = Board::new();
        let health = board.health();
        let (one, two) = (board.enter(), board.enter());
        board.tell(one, Health::Down, "lost");
        assert_eq!(*health.borrow(), Health::Connecting, "the other is still tried");
        board.tell(two, Health::Up, "");
        assert_eq!(*health.borrow(), Health::Up);
        assert!(!board.all_up());
        board.tell(one, Health::Up, "");
        assert!(board.all_up());
        board.tell(one, Health::Down, "lost");
        assert_eq!(*health.borrow(), Health::Up);
        board.leave(two);
        assert_eq!(*health.borrow(), Health::Down);
        board.tell(two, Health::Up, "");
        assert_eq!(*health.borrow(), Health::Down, "it has left");
    }
}
