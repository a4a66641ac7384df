//! The edge over a real connection: typed events, the error contract for bytes that no handler sees, reflection.

mod support;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request as HttpRequest, Response as HttpResponse};
use prost::Message as _;
use refract_domain::{Error, NoneReason, RequestId, Resource, Rung, SlateOrigin, UserId};
use refract_wire::proto::recommend::v1 as proto;
use refract_wire::proto::recommend::v1::recommend_service_server::RecommendService;
use refract_wire::recommend::{
    CandidatesAsk, Client, Event, ExplainAsk, ExplainOptions, Explained, RankAsk, RecommendAsk, Subject,
    Summary, answer, parse_erase_user, parse_explain, parse_rank, parse_recommend, parse_stream_explain,
    parse_stream_recommend, service,
};
use refract_wire::{ConformLayer, ServerInfo, Transport, client, reflection, server};
use support::{connect, context, sample, serve, soon};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use tower::{Layer as _, Service as _, ServiceExt as _};

const LONG: Duration = Duration::from_secs(30);

/// A front door that knows one user and says the same to everybody.
struct Door {
    config: server::Config,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn explained(position: u32) -> Explained {
    let mut explanation = sample(support::explanation());
    explanation.text = "Why.".into();
    explanation.grounding.rung = Rung::Fresh;
    explanation.grounding.claims.clear();
    Explained {
        position,
        explanation,
        knowledge: Some(sample(support::knowledge())),
        error: None,
    }
}

fn failed(position: u32) -> Explained {
    let mut failed = explained(position);
    failed.explanation.text.clear();
    failed.explanation.grounding.rung = Rung::None(NoneReason::Internal);
    Explained {
        knowledge: None,
        error: Some(Error::ModelFault),
        ..failed
    }
}

fn summary(request: &RequestId) -> Summary {
    let mut summary = Summary {
        request: request.clone(),
        rank_time: Duration::from_micros(1500),
        first_text_time: Some(Duration::from_millis(20)),
        total_time: Duration::from_millis(90),
        rungs: BTreeMap::new(),
        oracle_revision: refract_domain::Revision("o1".into()),
        prism_revision: refract_domain::Revision("p1".into()),
        slate_origin: Some(SlateOrigin::Personal),
    };
    summary.count(Rung::Fresh);
    summary.count(Rung::None(NoneReason::Internal));
    summary
}

fn events(request: &RequestId) -> Vec<Event> {
    vec![
        Event::Slate(sample(support::slate())),
        Event::Delta {
            position: 1,
            text: "Why.".into(),
        },
        Event::Explained(Box::new(explained(1))),
        Event::Explained(Box::new(failed(2))),
        Event::Summary(summary(request)),
    ]
}

fn only_ann(subject: &Subject) -> Result<(), Error> {
    subject
        .history(|id| (id.expose() == "ann").then(Arc::default), |_| None)
        .map(|_| ())
}

#[async_trait]
impl RecommendService for Door {
    async fn rank(
        &self,
        request: Request<proto::RankRequest>,
    ) -> Result<Response<proto::RankResponse>, Status> {
        let (call, message) = self.config.open("Rank", request)?;
        let request = call.context().request.clone();
        let work = async {
            let ask = parse_rank(message, &self.config.rules)?;
            only_ann(&ask.subject)?;
            Ok(answer::rank_response(
                &sample(support::slate()),
                &request,
                Duration::from_millis(3),
            ))
        };
        call.answer(work).await
    }

    async fn recommend(
        &self,
        request: Request<proto::RecommendRequest>,
    ) -> Result<Response<proto::RecommendResponse>, Status> {
        let (call, message) = self.config.open("Recommend", request)?;
        let request = call.context().request.clone();
        let work = async {
            only_ann(&parse_recommend(message, &self.config.rules)?.rank.subject)?;
            Ok(answer::recommend_response(
                &sample(support::slate()),
                &[explained(1)],
                &summary(&request),
            ))
        };
        call.answer(work).await
    }

    type StreamRecommendStream = Events<proto::StreamRecommendResponse>;

    async fn stream_recommend(
        &self,
        request: Request<proto::StreamRecommendRequest>,
    ) -> Result<Response<Self::StreamRecommendStream>, Status> {
        let (call, message) = self.config.open("StreamRecommend", request)?;
        parse_stream_recommend(message, &self.config.rules).map_err(|error| call.refuse(&error))?;
        let request = call.context().request.clone();
        let messages: Vec<_> = events(&request)
            .iter()
            .map(|e| Ok(answer::stream_recommend_response(e, &request)))
            .collect();
        let messages: Self::StreamRecommendStream = Box::pin(call.stream(stream::iter(messages)));
        Ok(call.dress(messages))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let (call, message) = self.config.open("Explain", request)?;
        let request = call.context().request.clone();
        let work = async {
            parse_explain(message, &self.config.rules)?;
            Ok(answer::explain_response(&[explained(1)], &summary(&request)))
        };
        call.answer(work).await
    }

    type StreamExplainStream = Events<proto::StreamExplainResponse>;

    async fn stream_explain(
        &self,
        request: Request<proto::StreamExplainRequest>,
    ) -> Result<Response<Self::StreamExplainStream>, Status> {
        let (call, message) = self.config.open("StreamExplain", request)?;
        parse_stream_explain(message, &self.config.rules).map_err(|error| call.refuse(&error))?;
        let request = call.context().request.clone();
        let messages: Vec<_> = events(&request)
            .iter()
            .filter_map(|e| answer::stream_explain_response(e, &request))
            .map(Ok)
            .collect();
        let messages: Self::StreamExplainStream = Box::pin(call.stream(stream::iter(messages)));
        Ok(call.dress(messages))
    }

    async fn erase_user(
        &self,
        request: Request<proto::EraseUserRequest>,
    ) -> Result<Response<proto::EraseUserResponse>, Status> {
        let (call, message) = self.config.open("EraseUser", request)?;
        let work = async {
            let user = parse_erase_user(message, &self.config.rules)?;
            Ok(proto::EraseUserResponse {
                entries_erased: user.expose().len() as u64,
            })
        };
        call.answer(work).await
    }

    async fn get_server_info(
        &self,
        request: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        let (call, _) = self.config.open("GetServerInfo", request)?;
        let info = ServerInfo::new("ranker", &self.config.rules.limits).to_proto();
        Ok(call.dress(proto::GetServerInfoResponse { info: Some(info) }))
    }
}

async fn door() -> Transport {
    connect(serve(routes().await).await)
}

/// The same without a network, whose client would notice some nonsense first.
async fn door_in_process() -> Transport {
    Transport::new(ConformLayer::default().layer(routes().await))
}

async fn routes() -> Routes {
    let config = server::Config::default();
    let limits = config.rules.limits.clone();
    let public = [reflection::RECOMMEND_SERVICE, reflection::HEALTH_SERVICE];
    let (v1, v1alpha) = reflection::services(&public);
    Routes::new(service(Door { config }, &limits))
        .add_service(v1)
        .add_service(v1alpha)
}

fn ann() -> RankAsk {
    RankAsk {
        subject: Subject::User {
            id: UserId::new("ann"),
            field: "subject.user_id".into(),
        },
        candidates: CandidatesAsk::Catalogue,
        filters: Vec::new(),
        limit: 5,
        include_seen: false,
    }
}

#[tokio::test]
async fn every_verb_of_the_door_answers_in_the_domains_words() {
    let client = Client::new(door().await, client::Config::default());
    let context = context(LONG);
    let id = &context.request;
    let slate = sample(support::slate());

    let ranked = client.rank(&ann(), &context).await;
    assert_eq!(ranked, Ok((slate.clone(), Duration::from_millis(3))));

    let ask = RecommendAsk {
        rank: ann(),
        explain: ExplainOptions::default(),
    };
    let recommended = client.recommend(&ask, &context).await;
    assert_eq!(recommended, Ok((slate, vec![explained(1)], summary(id))));

    let stream = client.stream_recommend(&ask, &context).await.expect("a stream");
    let streamed: Vec<_> = soon("all events", stream.collect()).await;
    assert_eq!(streamed, events(id).into_iter().map(Ok).collect::<Vec<_>>());

    let item = refract_domain::ItemId::new("i");
    let items = vec![refract_wire::convert::item::ItemRef::Named {
        id: item,
        field: "items[0]".into(),
    }];
    let ask = ExplainAsk {
        subject: ann().subject,
        items,
        explain: ExplainOptions::default(),
    };
    assert_eq!(
        client.explain(&ask, &context).await,
        Ok((vec![explained(1)], summary(id)))
    );

    let stream = client.stream_explain(&ask, &context).await.expect("a stream");
    let streamed: Vec<_> = soon("all events", stream.collect()).await;
    assert_eq!(
        streamed,
        events(id).into_iter().skip(1).map(Ok).collect::<Vec<_>>(),
        "no slate"
    );

    assert_eq!(client.server_info(&context).await.expect("info").role, "ranker");
    let erased = client.erase_user(&UserId::new("ann"), &context).await;
    assert_eq!(erased, Ok(3));
    let nobody = client.erase_user(&UserId::new(""), &context).await;
    assert!(matches!(nobody, Err(Error::Invalid { field, .. }) if field == "user_id"));
}

#[tokio::test]
async fn an_unknown_user_is_not_found_and_not_echoed() {
    let mut ask = ann();
    ask.subject = Subject::User {
        id: UserId::new("mallory"),
        field: "subject.user_id".into(),
    };
    let client = Client::new(door().await, client::Config::default());
    let expected = Error::NotFound {
        resource: Resource::User,
        field: "subject.user_id".into(),
    };
    assert_eq!(client.rank(&ask, &context(LONG)).await, Err(expected));
}

const RANK: &str = "/refract.recommend.v1.RecommendService/Rank";

/// A gRPC frame around a message.
fn frame(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

/// Sends raw bytes and gives back the HTTP answer, its gRPC status if any, and its headers.
async fn raw(
    transport: &Transport,
    request: http::request::Builder,
    body: Bytes,
) -> (HttpResponse<()>, Option<Status>) {
    let body = tonic::body::Body::new(http_body_util::Full::new(body));
    let request: HttpRequest<_> = request.body(body).expect("a request");
    let mut transport = transport.clone();
    let response = transport
        .ready()
        .await
        .expect("connected")
        .call(request)
        .await
        .expect("an answer");
    let (head, body) = response.into_parts();
    let mut status = Status::from_header_map(&head.headers);
    if status.is_none()
        && let Ok(collected) = http_body_util::BodyExt::collect(body).await
    {
        status = collected.trailers().and_then(Status::from_header_map);
    }
    (HttpResponse::from_parts(head, ()), status)
}

fn post(path: &str) -> http::request::Builder {
    HttpRequest::post(format!("http://door{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-request-id", "raw-1")
}

#[tokio::test]
async fn bytes_that_no_handler_sees_get_the_contracts_answer() {
    let door = door_in_process().await;
    let good = frame(
        0,
        &proto::RankRequest {
            subject: Some(proto::Subject {
                kind: Some(proto::subject::Kind::UserId("ann".into())),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
    );
    let with = |name: &str, value: &str| post(RANK).header(name, value);
    let head = |flag: u8, len: u32| {
        let mut bytes = BytesMut::new();
        bytes.put_u8(flag);
        bytes.put_u32(len);
        bytes.put_slice(b"abc");
        bytes.freeze()
    };
    let cases: Vec<(http::request::Builder, Bytes, Code, &str, &str)> = vec![
        (
            post("/refract.recommend.v1.RecommendService/Nope"),
            good.clone(),
            Code::Unimplemented,
            "UNKNOWN_METHOD",
            "unknown method",
        ),
        (
            post("/no.such.Service/Rank"),
            good.clone(),
            Code::Unimplemented,
            "UNKNOWN_METHOD",
            "unknown method",
        ),
        (
            with("grpc-encoding", "snappy"),
            frame(1, b"x"),
            Code::Unimplemented,
            "UNSUPPORTED_ENCODING",
            "unsupported encoding",
        ),
        (
            post(RANK),
            Bytes::new(),
            Code::Internal,
            "BAD_WIRE",
            "missing request message",
        ),
        (
            post(RANK),
            head(0, 10),
            Code::Internal,
            "BAD_WIRE",
            "truncated message",
        ),
        (
            post(RANK),
            head(0, u32::MAX),
            Code::ResourceExhausted,
            "TOO_LARGE",
            "message too large",
        ),
        (
            post(RANK),
            head(0, 256 * 1024 + 1),
            Code::ResourceExhausted,
            "TOO_LARGE",
            "message too large",
        ),
        (
            post(RANK),
            head(2, 3),
            Code::Internal,
            "BAD_WIRE",
            "invalid compression flag",
        ),
        (
            post(RANK),
            frame(1, b"x"),
            Code::Internal,
            "BAD_WIRE",
            "compressed without encoding",
        ),
        (
            post(RANK),
            frame(
                0,
                &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            ),
            Code::Internal,
            "BAD_WIRE",
            "cannot decode request",
        ),
        (
            post(RANK),
            frame(0, &[0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe]),
            Code::Internal,
            "BAD_WIRE",
            "cannot decode request",
        ),
        (
            with("grpc-timeout", "abc"),
            good.clone(),
            Code::InvalidArgument,
            "FIELD_INVALID",
            "malformed deadline",
        ),
        (
            with("grpc-timeout", "123456789m"),
            good.clone(),
            Code::InvalidArgument,
            "FIELD_INVALID",
            "malformed deadline",
        ),
        (
            with("grpc-timeout", "-5m"),
            good.clone(),
            Code::InvalidArgument,
            "FIELD_INVALID",
            "malformed deadline",
        ),
        (
            with("grpc-timeout", "0m"),
            good.clone(),
            Code::DeadlineExceeded,
            "DEADLINE",
            "deadline exceeded",
        ),
        (
            post(RANK),
            frame(0, &[]),
            Code::InvalidArgument,
            "FIELD_INVALID",
            "invalid field: subject",
        ),
    ];
    for (i, (request, body, code, reason, message)) in cases.into_iter().enumerate() {
        let (response, status) = raw(&door, request, body).await;
        let status = status.unwrap_or_else(|| panic!("case {i} has no status: {response:?}"));
        assert_eq!((status.code(), status.message()), (code, message), "case {i}");
        let info = status
            .get_details_error_info()
            .unwrap_or_else(|| panic!("case {i} has no ErrorInfo"));
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason, "refract"),
            "case {i}"
        );
        assert_eq!(response.headers()["x-request-id"], "raw-1", "case {i}");
    }
    let (response, status) = raw(&door, post(RANK), good).await;
    assert_eq!(
        (status.map(|s| s.code()), &response.headers()["x-request-id"]),
        (Some(Code::Ok), &"raw-1".parse().expect("a value"))
    );
}

#[tokio::test]
async fn http_that_is_not_grpc_is_refused_as_http() {
    let door = door().await;
    let json = HttpRequest::post(format!("http://door{RANK}")).header("content-type", "application/json");
    let none = HttpRequest::post(format!("http://door{RANK}"));
    let get = HttpRequest::get(format!("http://door{RANK}")).header("content-type", "application/grpc");
    for (request, expected) in [(json, 415), (none, 415), (get, 405)] {
        let (response, _) = raw(&door, request, Bytes::new()).await;
        assert_eq!(response.status(), expected);
    }
    let suffix =
        HttpRequest::post(format!("http://door{RANK}")).header("content-type", "application/grpc+proto");
    let (response, status) = raw(&door, suffix, Bytes::new()).await;
    assert_eq!((response.status().as_u16(), status.is_some()), (200, true));
}

#[tokio::test]
async fn an_answer_over_the_limit_is_said_to_be_too_large() {
    let mut config = server::Config::default();
    config.rules.limits.response_bytes_max = 16;
    let limits = config.rules.limits.clone();
    let door = connect(serve(Routes::new(service(Door { config }, &limits))).await);
    let subject = proto::Subject {
        kind: Some(proto::subject::Kind::UserId("ann".into())),
        ..Default::default()
    };
    let message = proto::RankRequest {
        subject: Some(subject),
        ..Default::default()
    };
    let (_, status) = raw(&door, post(RANK), frame(0, &message.encode_to_vec())).await;
    let status = status.expect("a status");
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, "message too large")
    );
    assert_eq!(
        status.get_details_error_info().expect("ErrorInfo").reason,
        "TOO_LARGE"
    );
}

#[tokio::test]
async fn a_stranger_can_ask_what_is_served_in_both_versions_of_reflection() {
    let door = door().await;
    let expected = ["grpc.health.v1.Health", "refract.recommend.v1.RecommendService"];
    macro_rules! ask {
        ($version:ident, $request:expr) => {{
            use pb::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version as pb;
            let mut client = pb::server_reflection_client::ServerReflectionClient::new(door.clone());
            let request = pb::ServerReflectionRequest {
                host: String::new(),
                message_request: Some($request),
            };
            let answers = client
                .server_reflection_info(stream::iter([request]))
                .await
                .expect("a stream");
            let answer = answers.into_inner().message().await;
            answer.map(|answer| answer.expect("one answer").message_response.expect("set"))
        }};
    }
    {
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let answer = ask!(v1, MessageRequest::ListServices(String::new()));
        let Ok(MessageResponse::ListServicesResponse(list)) = answer else {
            panic!("{answer:?}")
        };
        let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
        names.sort();
        assert_eq!(names, expected);
        let answer = ask!(
            v1,
            MessageRequest::FileContainingSymbol("refract.oracle.v1.OracleService".into())
        );
        assert_eq!(
            answer.expect_err("what is not public stays unknown").code(),
            Code::NotFound
        );
        let answer = ask!(
            v1,
            MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".into())
        );
        assert!(answer.is_ok(), "the details of errors can be read");
    }
    {
        use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
        let answer = ask!(v1alpha, MessageRequest::ListServices(String::new()));
        let Ok(MessageResponse::ListServicesResponse(list)) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(list.service.len(), 2);
    }
}
