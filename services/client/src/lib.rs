//! Calls a Refract front door from Rust, as `examples/recommend.rs` shows in ten lines.
//!
//! A call has a deadline, an `x-request-id`, and an error from a closed list ([`Error`]). It is tried again, elsewhere if
//! there is an elsewhere, only where nothing can be done twice: the verbs of the front door read, or erase what a second
//! time finds erased, and a stream is begun again only as long as nothing of it has come.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refract_domain::{Context, Deadline, Slate, TenantId, UserId};
use refract_net::{DialConfig, dial};
use refract_resilience::RetryBudget;
use refract_wire::metadata::fresh_request_id;
use refract_wire::recommend::{CandidatesAsk, Client, ExplainOptions, Summary};
use refract_wire::{Transport, client};

pub use refract_domain::{AttributeFilter, Error, Explanation, Rung};
pub use refract_net::{ClientTls, Target};
pub use refract_resilience::retry_budget;
pub use refract_wire::ServerInfo;
pub use refract_wire::client::Token;
pub use refract_wire::convert::item::ItemRef;
pub use refract_wire::recommend::client::EventStream;
pub use refract_wire::recommend::{Event, ExplainAsk, Explained, RankAsk, RecommendAsk, Subject};
pub use refract_wire::trace::{Propagator, SharedPropagator, TraceContext};

/// How to call.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: Target,
    /// TLS to the front door. Without it calls are plaintext.
    pub tls: Option<ClientTls>,
    /// Sent as `authorization: Bearer …`. Over plaintext anybody on the way can read it.
    pub token: Option<Token>,
    /// Longest that one call may take, its further attempts included. Default 20 s.
    pub deadline: Duration,
    /// Attempts of one call, the first included. Default 2.
    pub attempts_max: u32,
    /// How many calls may be tried again: where all fail, trying again soon stops, and a front door in trouble is not asked
    /// twice as often as one that is well.
    pub retry_budget: retry_budget::Config,
    /// Joins the caller's trace. By default there is none.
    pub propagator: SharedPropagator,
}

/// A connected front door. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Refract {
    client: Client,
    deadline: Duration,
    attempts_max: u32,
    budget: Arc<RetryBudget>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Tls(#[from] refract_net::Error),
    #[error("cannot read the token {file}: {reason}")]
    Token { file: String, reason: String },
}

impl Options {
    /// Plaintext, without a credential.
    pub fn at(target: Target) -> Self {
        Self {
            target,
            tls: None,
            token: None,
            deadline: Duration::from_secs(20),
            attempts_max: 2,
            retry_budget: retry_budget::Config::default(),
            propagator: SharedPropagator::default(),
        }
    }
}

/// Reads a token from a file; white space at its end is not part of it.
pub fn token_from(file: &Path) -> Result<Token, SetupError> {
    let wrong = |reason: String| SetupError::Token {
        file: file.display().to_string(),
        reason,
    };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    Token::new(text.trim_end()).ok_or_else(|| wrong("it is empty, or not visible ASCII".to_owned()))
}

/// The best items of the whole catalogue for a known user, explained.
pub fn for_user(id: &str, limit: usize) -> RecommendAsk {
    RecommendAsk {
        rank: RankAsk {
            subject: Subject::User {
                id: UserId::new(id),
                field: "subject.user_id".to_owned(),
            },
            candidates: CandidatesAsk::Catalogue,
            filters: Vec::new(),
            limit,
            include_seen: false,
        },
        explain: ExplainOptions::default(),
    }
}

impl Refract {
    /// Connects in the background; needs a tokio runtime. Fails only when certificates cannot be read.
    pub fn connect(options: Options) -> Result<Self, SetupError> {
        if let Some(tls) = &options.tls {
            tls.verify()?;
        }
        let dialled = dial(
            &options.target,
            DialConfig {
                tls: options.tls,
                ..DialConfig::default()
            },
        );
        let config = client::Config {
            token: options.token,
            propagator: options.propagator,
            ..client::Config::default()
        };
        Ok(Self {
            client: Client::new(Transport::new(dialled), config),
            deadline: options.deadline,
            attempts_max: options.attempts_max.max(1),
            budget: Arc::new(RetryBudget::new(options.retry_budget)),
        })
    }

    /// The slate, and how long ranking took.
    pub async fn rank(&self, ask: &RankAsk) -> Result<(Slate, Duration), Error> {
        self.tried(|context| async move { self.client.rank(ask, &context).await })
            .await
    }

    pub async fn recommend(&self, ask: &RecommendAsk) -> Result<(Slate, Vec<Explained>, Summary), Error> {
        self.tried(|context| async move { self.client.recommend(ask, &context).await })
            .await
    }

    /// The slate at once, then text as it is written, one end for each item, a summary. Dropping the stream cancels.
    pub async fn stream_recommend(&self, ask: &RecommendAsk) -> Result<EventStream, Error> {
        self.tried(|context| async move { self.client.stream_recommend(ask, &context).await })
            .await
    }

    /// Explains given items: your own ranker's.
    pub async fn explain(&self, ask: &ExplainAsk) -> Result<(Vec<Explained>, Summary), Error> {
        self.tried(|context| async move { self.client.explain(ask, &context).await })
            .await
    }

    pub async fn stream_explain(&self, ask: &ExplainAsk) -> Result<EventStream, Error> {
        self.tried(|context| async move { self.client.stream_explain(ask, &context).await })
            .await
    }

    /// Erases what is remembered for a user of the caller's tenant; what is not covered stands beside the method in
    /// `proto`. How many entries there were: 0 in the end, when it was tried twice.
    pub async fn erase_user(&self, user: &UserId) -> Result<u64, Error> {
        self.tried(|context| async move { self.client.erase_user(user, &context).await })
            .await
    }

    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        self.tried(|context| async move { self.client.server_info(&context).await })
            .await
    }

    /// One request id and one deadline for all attempts.
    async fn tried<T, F, A>(&self, call: F) -> Result<T, Error>
    where
        F: Fn(Context) -> A,
        A: Future<Output = Result<T, Error>>,
    {
        let context = Context {
            // The front door takes the tenant from the credential; this one is never sent.
            tenant: TenantId::default(),
            request: fresh_request_id(),
            deadline: Deadline::after(now(), self.deadline),
        };
        let mut attempt = 1;
        loop {
            let outcome = call(context.clone()).await;
            let Err(error) = &outcome else {
                self.budget.on_success();
                return outcome;
            };
            let wait = match error {
                Error::Unavailable { .. } => Duration::from_millis(20),
                Error::Overloaded { retry_after } => *retry_after,
                _ => return outcome,
            };
            self.budget.on_failure();
            // Callers that were refused together must not come back together.
            let wait = wait.mul_f64(rand::random_range(1.0..1.5));
            let is_in_time = context.deadline.remaining(now()) > wait * 2;
            if attempt >= self.attempts_max || !is_in_time || !self.budget.allows_retry() {
                return outcome;
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Says what went wrong to a person: the error, and what usually helps.
#[derive(Debug)]
pub struct Advice<'a>(pub &'a Error);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0 {
            Error::Unavailable { .. } => write!(
                f,
                ": nobody answers there; is it running, and is TLS as it wants it?"
            ),
            Error::Overloaded { .. } => write!(f, ": ask again later, or add replicas"),
            Error::DeadlineExceeded | Error::Infeasible => write!(f, ": allow more time"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use refract_domain::UnavailableReason;

    use super::*;

    const BUSY: Error = Error::Unavailable {
        reason: UnavailableReason::Busy,
    };

    async fn attempts(refract: &Refract, error: Error) -> u32 {
        let made = Cell::new(0);
        let outcome: Result<(), Error> = refract
            .tried(|_| {
                made.set(made.get() + 1);
                let error = error.clone();
                async move { Err(error) }
            })
            .await;
        assert_eq!(outcome, Err(error));
        made.get()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_another_try_may_help_is_tried_again_and_not_past_the_deadline() {
        let options = Options {
            attempts_max: 3,
            ..Options::at("127.0.0.1:1".parse().unwrap())
        };
        let overloaded = |ms| Error::Overloaded {
            retry_after: Duration::from_millis(ms),
        };
        for (error, expected) in [
            (BUSY, 3),
            (overloaded(100), 3),
            (overloaded(60_000), 1),
            (Error::invalid("limit", "is 0"), 1),
            (Error::DeadlineExceeded, 1),
            (Error::Internal, 1),
        ] {
            let refract = Refract::connect(options.clone()).unwrap();
            assert_eq!(attempts(&refract, error.clone()).await, expected, "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_every_call_fails_trying_again_stops_and_calls_that_succeed_bring_it_back() {
        let refract = Refract::connect(Options::at("127.0.0.1:1".parse().unwrap())).unwrap();
        let mut made = 0;
        for _ in 0..100 {
            made += attempts(&refract, BUSY).await;
        }
        assert_eq!(made, 102, "of ten tokens five may be spent");
        for _ in 0..70 {
            assert_eq!(refract.tried(|_| async { Ok(()) }).await, Ok(()));
        }
        assert_eq!(attempts(&refract, BUSY).await, 2);
    }
}
