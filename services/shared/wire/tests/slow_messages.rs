//! Messages that are long on their way, or never come: a call's time runs from its headers.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use refract_domain::{Context, Error, History, Knowledge, KnowledgeSource, Pair};
use refract_wire::oracle::{Client, Question, Server};
use refract_wire::{ConformLayer, ServerInfo, Transport, client, server};
use support::{context, sample};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower::{Layer as _, Service as _, ServiceExt as _};

const CAP: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(60);

/// Answers the same each time, and remembers how long the last one to ask had left.
#[derive(Debug)]
struct Source {
    answer: Knowledge,
    left: Mutex<Option<Duration>>,
}

#[async_trait]
impl KnowledgeSource for Source {
    async fn consult(&self, _: &Pair, _: &Arc<History>, context: &Context) -> Result<Knowledge, Error> {
        let left = context.deadline.remaining(Instant::now().into_std());
        *self.left.lock().expect("no panics") = Some(left);
        Ok(self.answer.clone())
    }
}

/// A client whose messages are so long on their way to a server in the same process; `None` for ever.
fn oracle(delay: Option<Duration>) -> (Client, Arc<Source>) {
    let (transport, source) = served(delay);
    (Client::new(transport, client::Config::default()), source)
}

fn served(delay: Option<Duration>) -> (Transport, Arc<Source>) {
    let source = Arc::new(Source {
        answer: sample(support::knowledge()),
        left: Mutex::default(),
    });
    let config = server::Config {
        deadline_cap: CAP,
        ..server::Config::default()
    };
    let info = ServerInfo::new("oracle", &config.rules.limits);
    let routes = Routes::new(Server::new(source.clone(), info, config).into_service());
    let served = ConformLayer::granting(CAP).layer(routes.prepare());
    let slow = tower::service_fn(move |request: Request<Body>| {
        let served = served.clone();
        async move {
            let request = request.map(|body| delayed(body, delay));
            let answer: Response<Body> = served.oneshot(request).await?;
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    (Transport::new(slow), source)
}

fn delayed(body: Body, delay: Option<Duration>) -> Body {
    let message = async move {
        match delay {
            Some(delay) => tokio::time::sleep(delay).await,
            None => std::future::pending().await,
        }
        stream::unfold(body, |mut body| async move { Some((body.frame().await?, body)) })
    };
    Body::new(StreamBody::new(Box::pin(stream::once(message).flatten())))
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_comes_is_given_up_at_the_servers_cap() {
    let (client, _) = oracle(None);
    let begun = Instant::now();
    let outcome = client
        .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
        .await;
    assert_eq!(outcome, Err(Error::DeadlineExceeded));
    assert!(begun.elapsed() < CAP * 2, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_comes_is_given_up_at_the_callers_deadline_if_that_is_earlier() {
    let (mut transport, _) = served(None);
    // By hand, for a client of ours would give up by itself.
    let request = Request::post("/refract.oracle.v1.OracleService/Consult")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "300m")
        .body(Body::empty())
        .expect("a request");
    let begun = Instant::now();
    let answer = transport.ready().await.expect("ready").call(request).await;
    let answer = answer.expect("an answer");
    let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(!status.details().is_empty(), "as the contract has it");
    assert!(begun.elapsed() < CAP, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_message_is_on_its_way_is_the_callers() {
    let (client, source) = oracle(Some(CAP / 2));
    client
        .consult(&sample(support::pair()), &Arc::default(), &context(LONG))
        .await
        .expect("in time");
    let left = source.left.lock().expect("no panics").expect("asked");
    assert!(left <= CAP / 2, "{left:?} of {CAP:?} left");
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_ask_its_first_question_as_late_as_it_likes() {
    let (client, source) = oracle(Some(CAP * 10));
    let question = Question {
        sequence: 1,
        pair: sample(support::pair()),
        history: Arc::default(),
    };
    let mut answers = client
        .consult_stream(stream::iter([question]), &context(LONG))
        .await
        .expect("a stream");
    let answer = answers.next().await.expect("an answer").expect("a sound one");
    assert_eq!(answer.outcome, Ok(source.answer.clone()));
}
