//! What a collector gets from a real cluster: one trace for each request, whatever it passed through, and no word of
//! the user's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use refract_resilience::drain;
use refract_tests::{Answer, Redis, Service, recommend_as};
use refract_wire::client;
use refract_wire::trace::{Propagator, SharedPropagator, TraceContext, serving};
use tonic::{Request, Response, Status};

const USER: &str = "noir-and-heists";
const FRESH: &str = "0af7651916cd43dd8448eb211c80319c";
const CACHED: &str = "1bf7651916cd43dd8448eb211c80319d";
const CALLER: &str = "b7ad6b7169203331";

/// Longest wait for what was sent to arrive: generous, because test machines are busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    /// `service/name`.
    name: String,
}

/// Keeps all that it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Received>>);

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// Names of metrics, and of counters with their labels.
    metrics: BTreeSet<String>,
    /// Trace of each log record that has one.
    logs: BTreeSet<String>,
    /// Everything as it came.
    bytes: Vec<u8>,
}

fn service(resource: Option<&Resource>) -> String {
    let named = resource
        .into_iter()
        .flat_map(|r| &r.attributes)
        .find(|a| a.key == "service.name");
    match named.and_then(|a| a.value.clone()).and_then(|v| v.value) {
        Some(Value::StringValue(name)) => name,
        _ => panic!("a resource without a service's name"),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut received = self.0.lock().unwrap();
        received.bytes.extend(request.encode_to_vec());
        for batch in request.resource_spans {
            let service = service(batch.resource.as_ref());
            for span in batch.scope_spans.into_iter().flat_map(|s| s.spans) {
                received.spans.push(Span {
                    trace: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    name: format!("{service}/{}", span.name),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        use opentelemetry_proto::tonic::metrics::v1::metric::Data;
        let request = request.into_inner();
        let mut received = self.0.lock().unwrap();
        received.bytes.extend(request.encode_to_vec());
        for metric in request
            .resource_metrics
            .into_iter()
            .flat_map(|r| r.scope_metrics)
            .flat_map(|s| s.metrics)
        {
            if let Some(Data::Sum(sum)) = &metric.data {
                for point in &sum.data_points {
                    let mut labels: Vec<_> = point
                        .attributes
                        .iter()
                        .map(|a| match a.value.as_ref().and_then(|v| v.value.as_ref()) {
                            Some(Value::StringValue(text)) => format!("{}={text}", a.key),
                            other => panic!("an odd label: {other:?}"),
                        })
                        .collect();
                    labels.sort();
                    received
                        .metrics
                        .insert(format!("{}{{{}}}", metric.name, labels.join(",")));
                }
            }
            received.metrics.insert(metric.name);
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut received = self.0.lock().unwrap();
        received.bytes.extend(request.encode_to_vec());
        for record in request
            .resource_logs
            .into_iter()
            .flat_map(|r| r.scope_logs)
            .flat_map(|s| s.log_records)
        {
            received.logs.insert(hex::encode(record.trace_id));
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> String {
        let routes = tonic::service::Routes::new(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .add_service(LogsServiceServer::new(self.clone()));
        let (closer, signal) = drain::pair(drain::Config::brisk());
        let (address, server) = refract_net::serve(refract_net::ListenConfig::default(), routes, signal)
            .await
            .unwrap();
        tokio::spawn(async move {
            server.await;
            drop(closer);
        });
        format!("http://{address}")
    }

    /// Waits until `enough` says so of what has come.
    async fn until(&self, what: &str, enough: impl Fn(&Received) -> bool) {
        let begun = Instant::now();
        while !enough(&self.0.lock().unwrap()) {
            if begun.elapsed() > PATIENCE {
                let received = self.0.lock().unwrap();
                panic!(
                    "{what} did not come:\n{:#?}\n{:#?}",
                    received.spans, received.metrics
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// For each span of a trace: its name and those above it, up to the caller's.
    fn ways_up(&self, trace: &str) -> Vec<String> {
        let received = self.0.lock().unwrap();
        let spans: BTreeMap<&str, &Span> = received
            .spans
            .iter()
            .filter(|span| span.trace == trace)
            .map(|span| (span.id.as_str(), span))
            .collect();
        let way = |span: &Span| {
            let mut names = vec![span.name.clone()];
            let mut parent = span.parent.as_str();
            while let Some(above) = spans.get(parent) {
                names.push(above.name.clone());
                parent = &above.parent;
            }
            assert_eq!(parent, CALLER, "{names:?} does not lead to the caller");
            names.join(" < ")
        };
        spans.values().map(|span| way(span)).collect()
    }
}

/// A caller with a trace of its own.
struct Caller(&'static str);

impl Propagator for Caller {
    fn current(&self) -> TraceContext {
        TraceContext {
            traceparent: Some(format!("00-{}-{CALLER}-01", self.0)),
            tracestate: None,
        }
    }

    fn serve(&self, method: &'static str, _: &TraceContext) -> tracing::Span {
        serving(method)
    }
}

/// Latency histograms of a scrape that accepts OpenMetrics name the traces of the two requests, and no other.
fn exemplars_lead_to_these_traces(ranker: &Service, oracle: &Service) {
    let scrape = |service: &Service, role: &str| {
        let text = service.admin(
            role,
            "/metrics",
            "application/openmetrics-text;version=1.0.0,text/plain",
        );
        assert!(
            text.contains("content-type: application/openmetrics-text"),
            "{text}"
        );
        assert!(text.contains("# EOF"), "{text}");
        text
    };
    let with_exemplar = |text: &str, series: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with(series));
        let traces =
            lines.filter_map(|line| line.split_once("# {trace_id=\"")?.1.get(..32).map(str::to_owned));
        traces.collect()
    };
    let text = scrape(ranker, "ranker");
    for series in [
        "refract_wire_call_seconds_bucket{service=\"refract.recommend.v1.RecommendService\",method=\"StreamRecommend\"",
        "refract_ranker_request_seconds_bucket",
        "refract_ranker_explanation_seconds_bucket",
        "refract_knowledge_consult_seconds_bucket",
    ] {
        let traces = with_exemplar(&text, series);
        assert!(!traces.is_empty(), "no exemplar of {series} in {text}");
        assert!(
            traces
                .iter()
                .all(|trace| [FRESH, CACHED].contains(&trace.as_str())),
            "{traces:?}"
        );
    }
    let asked = with_exemplar(&scrape(oracle, "oracle"), "refract_wire_call_seconds_bucket");
    assert!(asked.contains(&FRESH.to_owned()), "{asked:?}");
    let plain = ranker.admin("ranker", "/metrics", "text/plain");
    assert!(!plain.contains("trace_id") && plain.contains("refract_ranker_request_seconds_bucket"));
}

async fn ask(ranker: &Service, trace: &'static str) -> Answer {
    let config = client::Config {
        propagator: SharedPropagator(Arc::new(Caller(trace))),
        ..client::Config::default()
    };
    recommend_as(ranker.address("ranker"), USER, 3, config)
        .await
        .expect("ranking never fails")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_trace_through_all_services_and_no_word_of_its_user_leaves_them() {
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let folder = tempfile::tempdir().unwrap();
    let log = |role: &str| File::create(folder.path().join(role)).unwrap();
    let said = [
        format!("telemetry.otlp_endpoint={endpoint}"),
        "telemetry.metrics_every=500ms".to_owned(),
        "telemetry.level=info,refract_wire=debug".to_owned(),
        "telemetry.format=json".to_owned(),
    ];
    let oracle = Service::start_saying("oracle", &said, log("oracle"));
    let prism = Service::start_saying("prism", &said, log("prism"));
    let mut settings = said.to_vec();
    settings.push(format!("ranker.oracle.target={}", oracle.address("oracle")));
    settings.push(format!("ranker.prism.target={}", prism.address("prism")));
    let redis = Redis::start();
    if let Some(redis) = &redis {
        settings.push("ranker.knowledge.store=redis".to_owned());
        settings.push(format!("ranker.knowledge.redis.url={}", redis.url));
        settings.push("ranker.knowledge.secret=sixteen bytes or more".to_owned());
    }
    let mut ranker = Service::start_saying("ranker", &settings, log("ranker"));

    let answer = ask(&ranker, FRESH).await;
    ask(&ranker, CACHED).await;
    let services = BTreeSet::from([FRESH.to_owned(), CACHED.to_owned()]);
    collector
        .until("the ranker's own spans", |received| {
            let done: BTreeSet<String> = received
                .spans
                .iter()
                .filter(|s| s.name == "refract-ranker/StreamRecommend")
                .map(|s| s.trace.clone())
                .collect();
            let decoded = received
                .spans
                .iter()
                .filter(|s| s.trace == FRESH && s.name.ends_with("/decode"))
                .count();
            done == services && decoded >= 6
        })
        .await;
    collector
        .until("metrics", |received| {
            [
                "refract_wire_calls_total{code=OK,method=StreamRecommend,service=refract.recommend.v1.RecommendService}",
                "refract_wire_calls_total{code=OK,method=Consult,service=refract.oracle.v1.OracleService}",
                "refract_wire_call_seconds",
                "refract_engine_tokens_waiting",
                "refract_ranker_rank_seconds",
            ]
            .iter()
            .all(|name| received.metrics.contains(*name))
        })
        .await;
    collector
        .until("log records of a trace", |received| received.logs.contains(FRESH))
        .await;

    let fresh = collector.ways_up(FRESH);
    let top = "refract-ranker/StreamRecommend";
    let consult = format!("refract-ranker/consult < refract-ranker/item < {top}");
    let explain = format!("refract-ranker/explain < refract-ranker/item < {top}");
    let asked = format!("refract-oracle/Consult < refract-ranker/Consult < {consult}");
    let told = format!("refract-prism/StreamExplain < refract-ranker/StreamExplain < {explain}");
    let mut expected = vec![top.to_owned(), format!("refract-ranker/rank < {top}")];
    for phase in ["queue", "encode", "decode"] {
        expected.push(format!("refract-oracle/{phase} < {asked}"));
        expected.push(format!("refract-prism/{phase} < {told}"));
    }
    for way in &expected {
        assert!(fresh.contains(way), "no span {way} among {fresh:#?}");
    }
    let cached = collector.ways_up(CACHED);
    assert!(
        !cached.iter().any(|way| way.contains("refract-oracle")),
        "what is remembered is not asked again: {cached:#?}"
    );
    if redis.is_some() {
        // The very first question does not know the Oracle's revision yet, so it is not looked up; later ones are.
        assert!(
            fresh
                .iter()
                .chain(&cached)
                .any(|way| *way == format!("refract-ranker/redis < {consult}")),
            "no look-up in Redis: {cached:#?}"
        );
    }

    exemplars_lead_to_these_traces(&ranker, &oracle);

    // The last spans and lines are sent when a process leaves in order.
    assert!(ranker.leave().success());
    let mut everything = std::mem::take(&mut collector.0.lock().unwrap().bytes);
    for role in ["ranker", "oracle", "prism"] {
        let lines = std::fs::read(folder.path().join(role)).unwrap();
        let text = String::from_utf8_lossy(&lines);
        assert!(
            text.lines()
                .any(|line| line.contains("answered") && line.contains(&format!("\"trace_id\":\"{FRESH}\""))),
            "{role} has no line with the trace's id: {text}"
        );
        everything.extend(lines);
    }
    let everything = String::from_utf8_lossy(&everything);
    let texts = answer.explanations.iter().map(|e| e.text.as_str());
    let words =
        answer
            .titles
            .iter()
            .map(String::as_str)
            .chain(texts)
            .chain([USER, "Jackie Brown", "The Big Heat"]);
    for word in words {
        assert!(!everything.contains(word), "{word:?} left the cluster");
    }
}
