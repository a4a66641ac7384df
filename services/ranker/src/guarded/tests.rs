//! What opens it, what does not, and how it closes again.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use refract_domain::{Deadline, Freshness, Item, ItemId, RequestId, Revision, TenantId, Timestamp};
use tokio::time::timeout;

use super::*;

/// Says what it is told to, or nothing at all, and counts who asks.
#[derive(Debug)]
struct Source {
    answer: Mutex<Option<Result<Knowledge, Error>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl KnowledgeSource for Source {
    async fn consult(&self, _: &Pair, _: &Arc<History>, _: &Context) -> Result<Knowledge, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().expect("no panic").clone();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

struct Asker {
    source: Arc<Source>,
    guarded: Guarded<Arc<Source>>,
}

const SILENCE_MAX: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(8);

impl Asker {
    fn of(answer: Option<Result<Knowledge, Error>>) -> Self {
        let source = Arc::new(Source {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
        });
        Self {
            guarded: Guarded::new(source.clone(), breaker::Config::default(), SILENCE_MAX),
            source,
        }
    }

    /// `None` where the caller lost patience.
    async fn ask(&self, patience: Duration) -> Option<Result<Knowledge, Error>> {
        self.ask_for(RequestId::default(), patience).await
    }

    async fn ask_for(&self, request: RequestId, patience: Duration) -> Option<Result<Knowledge, Error>> {
        let pair = Pair {
            tenant: TenantId::default(),
            user: None,
            item: Arc::new(Item {
                id: ItemId::new("i"),
                title: "Heat".into(),
                attributes: Default::default(),
                description: String::new(),
            }),
            affinities: Vec::new(),
        };
        let context = Context {
            tenant: TenantId::default(),
            request,
            deadline: Deadline::after(now(), patience),
        };
        let history = Arc::default();
        let asking = self.guarded.consult(&pair, &history, &context);
        timeout(patience, asking).await.ok()
    }

    fn says(&self, answer: Option<Result<Knowledge, Error>>) {
        *self.source.answer.lock().expect("no panic") = answer;
    }

    fn asked(&self) -> usize {
        self.source.asked.load(Ordering::SeqCst)
    }
}

fn knowledge() -> Knowledge {
    Knowledge {
        facts: Vec::new(),
        text: "It is a crime film.".into(),
        oracle_revision: Revision::default(),
        template_revision: Revision::default(),
        created_at: Timestamp(0),
        freshness: Freshness::Fresh,
        facts_refused: 0,
        history_truncated: 0,
    }
}

const NOT_ASKED: Error = Error::Unavailable {
    reason: UnavailableReason::Unreachable,
};

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_silent_is_left_alone_and_one_question_finds_it_again() {
    let asker = Asker::of(None);
    for _ in 0..5 {
        assert_eq!(asker.ask(PATIENCE).await, None);
    }
    let began = now();
    assert_eq!(asker.ask(PATIENCE).await, Some(Err(NOT_ASKED)));
    assert_eq!(now(), began, "at once");
    assert_eq!(asker.asked(), 5);

    tokio::time::sleep(Duration::from_secs(1)).await;
    let (first, second) = tokio::join!(asker.ask(PATIENCE), asker.ask(PATIENCE));
    assert_eq!(
        (first, second),
        (None, Some(Err(NOT_ASKED))),
        "one is enough to try"
    );

    asker.says(Some(Ok(knowledge())));
    assert_eq!(
        asker.ask(PATIENCE).await,
        Some(Err(NOT_ASKED)),
        "it is left alone for longer"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        assert_eq!(asker.ask(PATIENCE).await, Some(Ok(knowledge())));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slate_given_up_at_once_is_one_silence_and_callers_less_patient_than_others_are_none() {
    let asker = Asker::of(None);
    let slate = (0..20).map(|_| asker.ask(Duration::from_secs(3)));
    assert!(
        futures_util::future::join_all(slate)
            .await
            .iter()
            .all(Option::is_none)
    );
    assert_eq!(asker.ask(PATIENCE).await, None, "it is still asked");

    let asker = Asker::of(None);
    for _ in 0..20 {
        let impatient = asker.ask(Duration::from_secs(3));
        let answered = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            asker.says(Some(Ok(knowledge())));
            let answer = asker.ask(PATIENCE).await;
            asker.says(None);
            answer
        };
        assert_eq!(tokio::join!(impatient, answered), (None, Some(Ok(knowledge()))));
    }
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_say_nothing_about_it() {
    let asker = Asker::of(None);
    for _ in 0..50 {
        assert_eq!(asker.ask(SILENCE_MAX - Duration::from_millis(1)).await, None);
    }
    assert_eq!(asker.asked(), 50);
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_source_open_it_and_faults_of_the_question_or_quick_refusals_do_not() {
    for error in [
        Error::ModelFault,
        Error::invalid("question", "is odd"),
        Error::Infeasible,
        Error::Overloaded {
            retry_after: Duration::from_secs(1),
        },
        NOT_ASKED,
    ] {
        let asker = Asker::of(Some(Err(error.clone())));
        for _ in 0..50 {
            assert_eq!(asker.ask(PATIENCE).await, Some(Err(error.clone())));
        }
        assert_eq!(asker.asked(), 50, "{error}");
    }
    let asker = Asker::of(Some(Err(Error::Internal)));
    for _ in 0..50 {
        asker.ask(PATIENCE).await;
    }
    assert_eq!(asker.asked(), 5);
}
