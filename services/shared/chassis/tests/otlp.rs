//! Traces and metrics as a collector gets them. Alone in its file, because subscriber and recorder are one for a process.

use std::sync::{Arc, Mutex};
use std::time::Duration;

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
use refract_chassis::{drain, telemetry};
use refract_net::ListenConfig;
use tonic::{Request, Response, Status};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Keeps what it was sent.
#[derive(Clone, Default)]
struct Collector {
    /// Trace in hex and name of each span.
    spans: Arc<Mutex<Vec<(String, String)>>>,
    metrics: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for span in request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|r| r.scope_spans)
            .flat_map(|s| s.spans)
        {
            let trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
            self.spans.lock().unwrap().push((trace, span.name));
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
        let all = request.into_inner().resource_metrics;
        let names = all
            .into_iter()
            .flat_map(|r| r.scope_metrics)
            .flat_map(|s| s.metrics)
            .map(|metric| metric.name);
        self.metrics.lock().unwrap().extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_callers_trace_and_our_metrics() {
    let collector = Collector::default();
    let routes = tonic::service::Routes::new(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()));
    let (_drain, signal) = drain::pair(drain::Config::brisk());
    let (address, server) = refract_net::serve(ListenConfig::default(), routes, signal)
        .await
        .unwrap();
    tokio::spawn(server);

    let config = telemetry::Config {
        otlp_endpoint: format!("http://{address}"),
        flush_max: Duration::from_secs(20),
        ..telemetry::Config::default()
    };
    let guard = telemetry::install("oracle", &config).unwrap();

    let span = tracing::info_span!(target: "refract_test", "consult");
    telemetry::adopt(&span, &|name| (name == "traceparent").then(|| CALLER.to_owned()));
    let mut sent = String::new();
    telemetry::inject(&span, &mut |name, value| {
        if name == "traceparent" {
            value.clone_into(&mut sent);
        }
    });
    drop(span.entered());
    metrics::counter!("otlp_test_total", "rung" => "fresh").increment(2);
    metrics::gauge!("otlp_test_depth").set(4.0);
    metrics::histogram!("otlp_test_seconds").record(0.5);

    // The flush blocks, as at the end of `main`.
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    let spans = collector.spans.lock().unwrap().clone();
    assert_eq!(
        spans,
        [(
            "0af7651916cd43dd8448eb211c80319c".to_owned(),
            "consult".to_owned()
        )]
    );
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{sent}");
    let metrics = collector.metrics.lock().unwrap().clone();
    for name in ["otlp_test_total", "otlp_test_depth", "otlp_test_seconds"] {
        assert!(
            metrics.iter().any(|metric| metric == name),
            "{name} is not among {metrics:?}"
        );
    }
    let scraped = telemetry::render_metrics();
    assert!(
        scraped.contains("otlp_test_total{rung=\"fresh\"} 2") && scraped.contains("otlp_test_depth 4"),
        "{scraped}"
    );
}
