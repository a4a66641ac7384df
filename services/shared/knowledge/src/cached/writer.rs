//! Writing behind the caller's back: a bounded queue and one task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::era::Era;
use crate::metrics;
use crate::store::Store;

#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
enum Job {
    Put(Put),
    /// Removes what this process put there, unless its time may be over and another's put in its place.
    Release {
        name: String,
        until: Instant,
    },
    Flush(oneshot::Sender<()>),
}

/// An entry on its way to the store.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) owner: Option<(String, Era)>,
    pub(super) name: String,
    pub(super) value: Vec<u8>,
    pub(super) ttl: Duration,
}

impl Writer {
    /// Must be called inside a runtime. The task ends when the last writer is gone and the queue is empty.
    pub(super) fn spawn(store: Arc<dyn Store>, writes_queued_max: usize) -> Self {
        let (jobs, queue) = mpsc::channel(writes_queued_max);
        tokio::spawn(write(store, queue));
        Self { jobs }
    }

    /// Never waits: a full queue means that the store is slower than the Oracle, and one entry less is no loss.
    pub(super) fn put(&self, put: Put) {
        if self.jobs.try_send(Job::Put(put)).is_err() {
            metrics::write("dropped");
        }
    }

    /// After everything put before has been written. If the queue is full, the name's own time has to end it.
    pub(super) fn release(&self, name: String, until: Instant) {
        let _ = self.jobs.try_send(Job::Release { name, until });
    }

    /// Returns when everything queued before has been written, or has failed to be.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            // Only fails if the runtime is stopping, and then there is nothing to wait for.
            let _ = written.await;
        }
    }
}

async fn write(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Job>) {
    // Enough to keep one connection busy over a network, few enough to hurt nobody.
    const AT_ONCE_MAX: usize = 32;
    let mut jobs = Vec::with_capacity(AT_ONCE_MAX);
    while queue.recv_many(&mut jobs, AT_ONCE_MAX).await > 0 {
        let (mut puts, mut releases, mut flushed) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs.drain(..) {
            match job {
                Job::Put(it) => puts.push(put(&*store, it)),
                Job::Release { name, until } => releases.push((name, until)),
                Job::Flush(done) => flushed.push(done),
            }
        }
        join_all(puts).await;
        join_all(
            releases
                .into_iter()
                .map(|(name, until)| release(&*store, name, until)),
        )
        .await;
        for done in flushed {
            // The one who asked may have left.
            let _ = done.send(());
        }
    }
}

async fn put(store: &dyn Store, put: Put) {
    let Put {
        owner,
        name,
        value,
        ttl,
    } = put;
    let written = match owner {
        Some((owner, era)) => store.put_for(&owner, era, &name, value, ttl).await,
        None => store.put(&name, value, ttl).await,
    };
    // The reason is counted by the store.
    metrics::write(if written.is_ok() { "ok" } else { "failed" });
}

async fn release(store: &dyn Store, name: String, until: Instant) {
    if Instant::now() < until {
        // What could not be removed ends by itself.
        let _ = store.remove(&name).await;
    }
}
