//! Writing behind the caller's back: a bounded queue and one task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::metrics;
use crate::store::Store;

#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
enum Job {
    Put {
        name: String,
        value: Vec<u8>,
        ttl: Duration,
    },
    Flush(oneshot::Sender<()>),
}

impl Writer {
    /// Must be called inside a runtime. The task ends when the last writer is gone and the queue is empty.
    pub(super) fn spawn(store: Arc<dyn Store>, writes_queued_max: usize) -> Self {
        let (jobs, queue) = mpsc::channel(writes_queued_max);
        tokio::spawn(write(store, queue));
        Self { jobs }
    }

    /// Never waits: a full queue means that the store is slower than the Oracle, and one entry less is no loss.
    pub(super) fn put(&self, name: String, value: Vec<u8>, ttl: Duration) {
        if self.jobs.try_send(Job::Put { name, value, ttl }).is_err() {
            metrics::write("dropped");
        }
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
        let mut flushed = Vec::new();
        let puts = jobs.drain(..).filter_map(|job| match job {
            Job::Put { name, value, ttl } => Some((name, value, ttl)),
            Job::Flush(done) => {
                flushed.push(done);
                None
            }
        });
        let puts: Vec<_> = puts.collect();
        join_all(
            puts.into_iter()
                .map(|(name, value, ttl)| put(&*store, name, value, ttl)),
        )
        .await;
        for done in flushed {
            // The one who asked may have left.
            let _ = done.send(());
        }
    }
}

async fn put(store: &dyn Store, name: String, value: Vec<u8>, ttl: Duration) {
    let written = store.put(&name, value, ttl).await;
    // The reason is counted by the store.
    metrics::write(if written.is_ok() { "ok" } else { "failed" });
}
