//! Clients and servers over a real connection: values, errors, deadlines, cancellation.

mod support;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use refract_domain::{
    AttributeFilter, Candidates, Context, Error, ExplainQuery, Explainer, Explanation, ExplanationEvent,
    ExplanationStream, History, Knowledge, KnowledgeSource, Pair, RankQuery, Ranker, Rung, Slate,
    SlateOrigin, UnavailableReason,
};
use refract_wire::oracle::{Answer, Question};
use refract_wire::{ServerInfo, Transport, client, oracle, prism, ranker, server};
use support::{connect, context, sample, serve, soon};
use tonic::service::Routes;

const LONG: Duration = Duration::from_secs(30);

/// What a scripted neighbour does when asked.
#[derive(Clone, Debug)]
enum Script {
    Fail(Error),
    Hang,
}

/// Answers what it is told to and remembers what it was asked.
#[derive(Debug, Default)]
struct Scripted<Q, A> {
    answer: Option<A>,
    script: Option<Script>,
    asked: Mutex<Vec<(Q, Context)>>,
    dropped: Arc<AtomicUsize>,
}

/// Counts when it is dropped: the work has been given up.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<Q, A: Clone> Scripted<Q, A> {
    fn answering(answer: A) -> Arc<Self> {
        Arc::new(Self {
            answer: Some(answer),
            script: None,
            asked: Mutex::default(),
            dropped: Arc::default(),
        })
    }

    fn doing(script: Script) -> Arc<Self> {
        Arc::new(Self {
            answer: None,
            script: Some(script),
            asked: Mutex::default(),
            dropped: Arc::default(),
        })
    }

    async fn ask(&self, question: Q, context: &Context) -> Result<A, Error> {
        self.asked
            .lock()
            .expect("no panics")
            .push((question, context.clone()));
        let _guard = Guard(self.dropped.clone());
        match &self.script {
            Some(Script::Fail(error)) => Err(error.clone()),
            Some(Script::Hang) => std::future::pending().await,
            None => Ok(self.answer.clone().expect("an answer")),
        }
    }

    fn count(&self) -> usize {
        self.asked.lock().expect("no panics").len()
    }

    fn last(&self) -> (Q, Context)
    where
        Q: Clone,
    {
        self.asked
            .lock()
            .expect("no panics")
            .last()
            .expect("was asked")
            .clone()
    }

    async fn until_dropped(&self, times: usize) {
        while self.dropped.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_asked(&self, times: usize) {
        while self.count() < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

type Source = Scripted<(Pair, Arc<History>), Knowledge>;

#[async_trait]
impl KnowledgeSource for Source {
    async fn consult(
        &self,
        pair: &Pair,
        history: &Arc<History>,
        context: &Context,
    ) -> Result<Knowledge, Error> {
        self.ask((pair.clone(), history.clone()), context).await
    }
}

type Orderer = Scripted<RankQuery, Slate>;

#[async_trait]
impl Ranker for Orderer {
    async fn rank(&self, query: &RankQuery, context: &Context) -> Result<Slate, Error> {
        self.ask(query.clone(), context).await
    }
}

type Events = Vec<Result<ExplanationEvent, Error>>;
type Teller = Scripted<ExplainQuery, Events>;

#[async_trait]
impl Explainer for Teller {
    async fn explain(&self, query: ExplainQuery, context: &Context) -> Result<ExplanationStream, Error> {
        if !matches!(self.script, Some(Script::Hang)) {
            return Ok(Box::pin(stream::iter(self.ask(query, context).await?)));
        }
        // Hangs in the middle of the text.
        self.asked
            .lock()
            .expect("no panics")
            .push((query, context.clone()));
        let guard = Guard(self.dropped.clone());
        let first = stream::once(async { Ok(ExplanationEvent::Delta("It ".into())) });
        let rest = stream::poll_fn(move |_| {
            let _held = &guard;
            Poll::Pending
        });
        Ok(Box::pin(first.chain(rest)))
    }
}

async fn oracle_of(source: Arc<Source>, config: server::Config) -> oracle::Client {
    let server = oracle::Server::new(source, ServerInfo::new("oracle", &config.rules.limits), config);
    oracle::Client::new(
        connect(serve(Routes::new(server.into_service())).await),
        client::Config::default(),
    )
}

async fn prism_of(teller: Arc<Teller>) -> prism::Client {
    let config = server::Config::default();
    let server = prism::Server::new(teller, ServerInfo::new("prism", &config.rules.limits), config);
    prism::Client::new(
        connect(serve(Routes::new(server.into_service())).await),
        client::Config::default(),
    )
}

fn explanation(text: &str) -> Explanation {
    let mut explanation = sample(support::explanation());
    explanation.text = text.to_owned();
    explanation.grounding.rung = Rung::Cached;
    explanation.grounding.claims.clear();
    explanation
}

fn query() -> ExplainQuery {
    ExplainQuery {
        pair: sample(support::pair()),
        history: Arc::new(sample(support::history())),
        knowledge: Some(sample(support::knowledge())),
        style: 7,
    }
}

#[tokio::test]
async fn a_consultation_arrives_whole_and_its_answer_comes_back_whole() {
    let knowledge = sample(support::knowledge());
    let source = Source::answering(knowledge.clone());
    let client = oracle_of(source.clone(), server::Config::default()).await;
    let (pair, history) = (sample(support::pair()), Arc::new(sample(support::history())));

    assert_eq!(
        client.consult(&pair, &history, &context(LONG)).await,
        Ok(knowledge)
    );

    let ((asked_pair, asked_history), asked_context) = source.last();
    assert_eq!((asked_pair, asked_history), (pair, history));
    assert_eq!(asked_context.request.0, "test-1", "the request id goes along");
}

#[tokio::test]
async fn every_error_crosses_the_network_unchanged() {
    use Error as E;
    for error in [
        E::Precondition {
            reason: "no such revision".into(),
        },
        E::Overloaded {
            retry_after: Duration::from_millis(250),
        },
        E::Unavailable {
            reason: UnavailableReason::Busy,
        },
        E::Unavailable {
            reason: UnavailableReason::Starting,
        },
        E::Unavailable {
            reason: UnavailableReason::Draining,
        },
        E::Infeasible,
        E::DeadlineExceeded,
        E::Cancelled,
        E::ModelFault,
        E::Internal,
    ] {
        let client = oracle_of(
            Source::doing(Script::Fail(error.clone())),
            server::Config::default(),
        )
        .await;
        let (pair, history) = (sample(support::pair()), Arc::default());
        assert_eq!(
            client.consult(&pair, &history, &context(LONG)).await,
            Err(error.clone())
        );

        let client = prism_of(Teller::doing(Script::Fail(error.clone()))).await;
        assert_eq!(client.explain(query(), &context(LONG)).await.err(), Some(error));
    }
}

#[tokio::test]
async fn a_deadline_shrinks_at_the_hop_and_is_capped_by_the_server() {
    let source = Source::answering(sample(support::knowledge()));
    let config = server::Config {
        deadline_cap: Duration::from_secs(60),
        ..server::Config::default()
    };
    let client = oracle_of(source.clone(), config).await;
    let (pair, history) = (sample(support::pair()), Arc::default());

    let asked = context(LONG);
    client.consult(&pair, &history, &asked).await.expect("an answer");
    let got = source.last().1.deadline.instant();
    // The server counts from the arrival; the margin taken off at the hop keeps it within the caller's deadline unless
    // the network took longer than the margin, which only makes it later by that much.
    assert!(
        got < asked.deadline.instant() + Duration::from_secs(1),
        "never much longer"
    );
    let capped = oracle_of(
        source.clone(),
        server::Config {
            deadline_cap: Duration::from_secs(1),
            ..Default::default()
        },
    );
    capped
        .await
        .consult(&pair, &history, &context(LONG))
        .await
        .expect("an answer");
    assert!(source.last().1.deadline.instant() < std::time::Instant::now() + Duration::from_secs(2));
}

#[tokio::test]
async fn a_source_that_hangs_ends_with_the_deadline_and_is_given_up() {
    let source = Source::doing(Script::Hang);
    let client = oracle_of(source.clone(), server::Config::default()).await;
    let (pair, history) = (sample(support::pair()), Arc::default());
    let outcome = soon(
        "the deadline",
        client.consult(&pair, &history, &context(Duration::from_millis(200))),
    )
    .await;
    assert_eq!(outcome, Err(Error::DeadlineExceeded));
    soon("giving up", source.until_dropped(1)).await;
}

#[tokio::test]
async fn a_hopeless_call_is_not_begun() {
    let source = Source::answering(sample(support::knowledge()));
    let client = oracle_of(source.clone(), server::Config::default()).await;
    let (pair, history) = (sample(support::pair()), Arc::default());
    let outcome = client.consult(&pair, &history, &context(Duration::ZERO)).await;
    assert_eq!(outcome, Err(Error::DeadlineExceeded));
    assert_eq!(source.count(), 0);
}

#[tokio::test]
async fn dropping_a_consultation_stops_the_servers_work() {
    let source = Source::doing(Script::Hang);
    let client = oracle_of(source.clone(), server::Config::default()).await;
    let call = tokio::spawn(async move {
        client
            .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
            .await
    });
    soon("the question", source.until_asked(1)).await;
    call.abort();
    soon("giving up", source.until_dropped(1)).await;
}

#[tokio::test]
async fn a_reader_who_leaves_no_room_for_the_answer_holds_the_work_no_longer_than_its_deadline() {
    let teller = Teller::doing(Script::Hang);
    let config = server::Config::default();
    let server = prism::Server::new(
        teller.clone(),
        ServerInfo::new("prism", &config.rules.limits),
        config,
    );
    let address = serve(Routes::new(server.into_service())).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let transport = Transport::new(endpoint.initial_stream_window_size(0).connect_lazy());
    let client = prism::Client::new(transport, client::Config::default());
    // Headers need no room: the stream has begun, and none of it can ever be sent.
    let unread = client
        .explain(query(), &context(Duration::from_millis(200)))
        .await
        .expect("a stream");
    soon("giving up", teller.until_dropped(1)).await;
    drop(unread);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port")
        .local_addr()
        .expect("bound");
    let client = oracle::Client::new(connect(nobody), client::Config::default());
    let outcome = client
        .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
        .await;
    assert_eq!(
        outcome,
        Err(Error::Unavailable {
            reason: UnavailableReason::Unreachable
        })
    );
}

#[tokio::test]
async fn a_peer_that_answers_nonsense_is_our_fault_and_not_the_callers() {
    let mut knowledge = sample(support::knowledge());
    knowledge.text = "a\0b".into();
    let client = oracle_of(Source::answering(knowledge), server::Config::default()).await;
    let outcome = client
        .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
        .await;
    assert_eq!(outcome, Err(Error::Internal));
}

#[tokio::test]
async fn an_impossible_pair_is_refused_by_its_field() {
    let source = Source::answering(sample(support::knowledge()));
    let client = oracle_of(source.clone(), server::Config::default()).await;
    let mut pair = sample(support::pair());
    Arc::make_mut(&mut pair.item).title = "a\u{7}b".into();
    let outcome = client.consult(&pair, &Arc::default(), &context(LONG)).await;
    assert_eq!(
        outcome,
        Err(Error::invalid("question.item.title", "has a control character"))
    );
    assert_eq!(source.count(), 0);
}

#[tokio::test]
async fn a_stream_of_pairs_answers_each_and_one_bad_pair_stops_nothing() {
    let knowledge = sample(support::knowledge());
    let client = oracle_of(Source::answering(knowledge.clone()), server::Config::default()).await;
    let questions = (0..50).map(|sequence| {
        let mut pair = sample(support::pair());
        if sequence == 17 {
            Arc::make_mut(&mut pair.item).title.clear();
        }
        Question {
            sequence,
            pair,
            history: Arc::default(),
        }
    });
    let questions = stream::iter(questions.collect::<Vec<_>>());
    let answers = client
        .consult_stream(questions, &context(LONG))
        .await
        .expect("a stream");
    let mut answers: Vec<Answer> =
        soon("all", answers.map(|a| a.expect("the stream goes on")).collect()).await;
    answers.sort_by_key(|answer| answer.sequence);
    assert_eq!(answers.len(), 50);
    for Answer { sequence, outcome } in answers {
        let expected = if sequence == 17 {
            Err(Error::invalid("question.item.title", "is empty"))
        } else {
            Ok(knowledge.clone())
        };
        assert_eq!(outcome, expected, "{sequence}");
    }
}

#[tokio::test]
async fn a_stream_of_pairs_has_only_so_many_open_and_dropping_it_stops_them() {
    let source = Source::doing(Script::Hang);
    let config = server::Config {
        stream_pairs_max: 3,
        deadline_cap: LONG,
        ..server::Config::default()
    };
    let client = oracle_of(source.clone(), config).await;
    let question = |sequence| Question {
        sequence,
        pair: sample(support::pair()),
        history: Arc::default(),
    };
    let questions = stream::iter((0..100).map(question).collect::<Vec<_>>());
    let mut answers = client
        .consult_stream(questions, &context(LONG))
        .await
        .expect("a stream");
    let asked = async { tokio::join!(source.until_asked(3), async { answers.next().await }) };
    let _ = tokio::time::timeout(Duration::from_millis(300), asked).await;
    assert_eq!(source.count(), 3, "the fourth waits for one of the three");
    drop(answers);
    soon("giving up", source.until_dropped(3)).await;
}

#[tokio::test]
async fn an_explanation_streams_as_it_was_told() {
    let done = explanation("It shares its director.");
    let events: Events = vec![
        Ok(ExplanationEvent::Delta("It shares ".into())),
        Ok(ExplanationEvent::Delta("its director.".into())),
        Ok(ExplanationEvent::Done(done.clone())),
    ];
    let teller = Teller::answering(events.clone());
    let client = prism_of(teller.clone()).await;
    let asked = query();
    let stream = client
        .explain(asked.clone(), &context(LONG))
        .await
        .expect("a stream");
    assert_eq!(stream.collect::<Vec<_>>().await, events);

    let (got, _) = teller.last();
    assert_eq!(
        (&got.pair, &got.history, &got.knowledge, got.style),
        (&asked.pair, &asked.history, &asked.knowledge, 7)
    );
    assert_eq!(client.explain_whole(&asked, &context(LONG)).await, Ok(done));
}

#[tokio::test]
async fn a_fault_in_the_middle_of_a_text_arrives_after_the_text() {
    let events: Events = vec![Ok(ExplanationEvent::Delta("It ".into())), Err(Error::ModelFault)];
    let client = prism_of(Teller::answering(events.clone())).await;
    let stream = client.explain(query(), &context(LONG)).await.expect("a stream");
    assert_eq!(stream.collect::<Vec<_>>().await, events);
    assert_eq!(
        client.explain_whole(&query(), &context(LONG)).await,
        Err(Error::ModelFault)
    );
}

#[tokio::test]
async fn a_prism_that_breaks_its_promise_is_caught() {
    let delta = |text: &str| Ok(ExplanationEvent::Delta(text.into()));
    for events in [
        vec![delta("It ")],
        vec![delta("It was"), Ok(ExplanationEvent::Done(explanation("It is")))],
        vec![],
    ] {
        let client = prism_of(Teller::answering(events)).await;
        let last = match client.explain(query(), &context(LONG)).await {
            Ok(stream) => stream.collect::<Vec<_>>().await.pop(),
            // One that says nothing at all never gets as far as a stream.
            Err(error) => Some(Err(error)),
        };
        assert_eq!(last, Some(Err(Error::Internal)));
    }
}

#[tokio::test]
async fn dropping_an_explanation_stops_the_prisms_work() {
    let teller = Teller::doing(Script::Hang);
    let client = prism_of(teller.clone()).await;
    let mut stream = client.explain(query(), &context(LONG)).await.expect("a stream");
    assert_eq!(
        soon("a delta", stream.next()).await,
        Some(Ok(ExplanationEvent::Delta("It ".into())))
    );
    drop(stream);
    soon("giving up", teller.until_dropped(1)).await;
}

#[tokio::test]
async fn a_stream_that_hangs_ends_with_the_deadline() {
    let teller = Teller::doing(Script::Hang);
    let client = prism_of(teller.clone()).await;
    let stream = client
        .explain(query(), &context(Duration::from_millis(300)))
        .await
        .expect("a stream");
    let events = soon("the end", stream.collect::<Vec<_>>()).await;
    assert_eq!(
        events,
        [
            Ok(ExplanationEvent::Delta("It ".into())),
            Err(Error::DeadlineExceeded)
        ]
    );
    soon("giving up", teller.until_dropped(1)).await;
}

#[tokio::test]
async fn an_outside_ranker_is_a_ranker() {
    let slate = sample(support::slate());
    let orderer = Orderer::answering(slate.clone());
    let server = ranker::Server::new(orderer.clone(), ServerInfo::default(), server::Config::default());
    let transport = connect(serve(Routes::new(server.into_service())).await);
    let client = ranker::Client::new(transport, client::Config::default());
    let mut query = RankQuery {
        history: Arc::new(sample(support::history())),
        candidates: Candidates::Among(vec![
            refract_domain::ItemId::new("a"),
            refract_domain::ItemId::new("b"),
        ]),
        filters: vec![AttributeFilter {
            attribute: "genre".into(),
            any_of: vec!["noir".into()],
        }],
        include_seen: true,
        limit: 10,
    };
    assert_eq!(client.rank(&query, &context(LONG)).await, Ok(slate.clone()));
    let (got, _) = orderer.last();
    assert_eq!(
        (got.history, got.candidates),
        (query.history.clone(), query.candidates.clone())
    );
    assert_eq!(
        (got.filters, got.include_seen, got.limit),
        (query.filters.clone(), true, 10)
    );

    let item = Arc::new(sample(support::item()));
    query.candidates = Candidates::Given(vec![item.clone()]);
    let given = client.rank(&query, &context(LONG)).await.expect("ranked already");
    assert_eq!(
        (given.origin, given.items.len(), &given.items[0].item),
        (SlateOrigin::Given, 1, &item)
    );
    assert_eq!(orderer.count(), 1, "nobody was asked");
}

#[tokio::test]
async fn every_server_says_what_it_is() {
    let client = oracle_of(Source::doing(Script::Hang), server::Config::default()).await;
    let info = client.server_info(&context(LONG)).await.expect("info");
    assert_eq!(
        (info.role.as_str(), info.limits["interactions_max"]),
        ("oracle", 200)
    );
}

/// `Client` stands where any `KnowledgeSource` can.
#[tokio::test]
async fn a_client_is_a_source_like_any_other() {
    let knowledge = sample(support::knowledge());
    let sources: Vec<Pin<Box<dyn KnowledgeSource>>> = vec![
        Box::pin(Source::answering(knowledge.clone())),
        Box::pin(oracle_of(Source::answering(knowledge.clone()), server::Config::default()).await),
    ];
    for source in sources {
        let outcome = source
            .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
            .await;
        assert_eq!(outcome, Ok(knowledge.clone()));
    }
}
