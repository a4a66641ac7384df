//! What a process says about itself: logs, traces, metrics. Never a user's id, a prompt or generated text.
//!
//! ```text
//!  tracing ──▶ log lines (people on a terminal, JSON elsewhere), with the trace's id
//!     ├─────▶ OTLP traces    only when an endpoint is set; without one nothing is sampled, queued or sent
//!     └─────▶ OTLP logs      likewise, what `level` lets through
//!  metrics ──▶ Prometheus text on the admin port; OpenMetrics with exemplars to those who read it
//!     └─────▶ OTLP metrics   likewise
//! ```

mod exemplars;
mod fanout;
mod lines;
mod trace;

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use refract_resilience::limits::{Unfit, ensure};
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use exemplars::Exemplars;
use lines::Traced;
pub use trace::{adopt, inject};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which events are logged, as `info` or `info,refract_net=debug`. The variable `REFRACT_LOG` wins. Default info.
    pub level: String,
    /// How log lines look. Default auto: for people on a terminal, JSON elsewhere.
    pub format: Format,
    /// Where OTLP (gRPC) goes, such as `http://collector:4317`. Empty means nowhere, unless the variable
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` names a place. Default empty.
    pub otlp_endpoint: String,
    /// Share of the traces that begin here to keep; a caller's decision is followed. Default 1.0.
    pub trace_share: f64,
    /// Spans that wait for export; more are dropped. Default 2048.
    pub spans_queued_max: usize,
    /// How often metrics are exported. Default 15s.
    #[serde(with = "humantime_serde")]
    pub metrics_every: Duration,
    /// Longest time that one export may take. Default 3s.
    #[serde(with = "humantime_serde")]
    pub export_max: Duration,
    /// Longest time that leaving waits for the last export. Default 2s.
    #[serde(with = "humantime_serde")]
    pub flush_max: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Auto,
    Human,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Auto,
            otlp_endpoint: String::new(),
            trace_share: 1.0,
            spans_queued_max: 2048,
            metrics_every: Duration::from_secs(15),
            export_max: Duration::from_secs(3),
            flush_max: Duration::from_secs(2),
        }
    }
}

impl Config {
    pub fn check(&self) -> Result<(), Unfit> {
        ensure(
            EnvFilter::try_new(&self.level).is_ok(),
            "level",
            "is not a filter such as info,refract_net=debug",
        )?;
        ensure(
            (0.0..=1.0).contains(&self.trace_share),
            "trace_share",
            "must be from 0 to 1",
        )?;
        ensure(
            self.spans_queued_max >= 1,
            "spans_queued_max",
            "must be at least 1",
        )?;
        ensure(
            !self.metrics_every.is_zero(),
            "metrics_every",
            "must be longer than zero",
        )?;
        ensure(
            !self.export_max.is_zero(),
            "export_max",
            "must be longer than zero",
        )
    }

    fn endpoint(&self) -> Option<String> {
        let variable = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok();
        let endpoint = if self.otlp_endpoint.is_empty() {
            variable()
        } else {
            Some(self.otlp_endpoint.clone())
        };
        endpoint.filter(|endpoint| !endpoint.is_empty())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot log as {filter:?}: {reason}")]
    Filter { filter: String, reason: String },

    #[error("cannot export to {endpoint}: {reason}")]
    Export { endpoint: String, reason: String },
}

/// Sends what is still queued when it is dropped, for a bounded time. Keep it until the end of `main`.
#[derive(Debug)]
#[must_use = "dropping the guard ends the export"]
pub struct Guard {
    exporters: Option<Exporters>,
    flush_max: Duration,
}

#[derive(Debug)]
struct Exporters {
    tracer: SdkTracerProvider,
    meter: SdkMeterProvider,
    logger: SdkLoggerProvider,
}

static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();
/// One installation at a time, and one in all.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// Installs subscriber and recorder for the whole operating system's process. A second call changes nothing and gives a
/// guard that does nothing. Needs a tokio runtime when something is to be exported.
pub fn install(service: &str, config: &Config) -> Result<Guard, Error> {
    let mut installed = INSTALLED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let idle = Guard {
        exporters: None,
        flush_max: config.flush_max,
    };
    if *installed {
        return Ok(idle);
    }
    let directives = std::env::var("REFRACT_LOG").unwrap_or_else(|_| config.level.clone());
    let filter = || {
        EnvFilter::try_new(&directives).map_err(|error| Error::Filter {
            filter: directives.clone(),
            reason: error.to_string(),
        })
    };
    let exporters = match config.endpoint() {
        Some(endpoint) => Some(exporters(service, &endpoint, config)?),
        None => None,
    };

    let is_terminal = std::io::stderr().is_terminal();
    let human = match config.format {
        Format::Auto => is_terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if human {
        lines
            .with_ansi(is_terminal)
            .with_target(false)
            .map_event_format(|inner| Traced { inner, json: false })
            .with_filter(filter()?)
            .boxed()
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .map_event_format(|inner| Traced { inner, json: true })
            .with_filter(filter()?)
            .boxed()
    };
    // Only our own: what the exporter's transport says would beget more of itself. Spans do not follow `level`, which
    // is about lines; a process's own span lasts as long as it and is nobody's request.
    let ours = || filter_fn(|metadata| metadata.target().starts_with("refract"));
    let requests = || filter_fn(|metadata| metadata.name() != "process");
    let traces = exporters.as_ref().map(|exporters| {
        tracing_opentelemetry::layer()
            .with_tracer(exporters.tracer.tracer("refract"))
            .with_location(false)
            .with_threads(false)
            .with_filter(ours().and(requests()).and(LevelFilter::INFO))
    });
    let records = match &exporters {
        Some(exporters) => {
            Some(OpenTelemetryTracingBridge::new(&exporters.logger).with_filter(ours().and(filter()?)))
        }
        None => None,
    };
    // Somebody else's subscriber (a test's) is left in place.
    let _foreign = tracing_subscriber::registry()
        .with(lines)
        .with(traces)
        .with(records)
        .try_init();

    install_recorder(exporters.as_ref());
    *installed = true;
    Ok(Guard { exporters, ..idle })
}

/// What the process counted, as Prometheus reads it; empty before [`install`].
pub fn render_metrics() -> String {
    PROMETHEUS.get().map(PrometheusHandle::render).unwrap_or_default()
}

/// The same as OpenMetrics, with the trace of a request beside each bucket that has one.
pub fn render_open_metrics() -> String {
    exemplars::open_metrics(&render_metrics())
}

/// Folds histogram samples into buckets; without it they would pile up between scrapes. The admin port calls it.
pub(crate) fn metrics_upkeep() {
    if let Some(handle) = PROMETHEUS.get() {
        handle.run_upkeep();
    }
}

fn install_recorder(exporters: Option<&Exporters>) {
    let prometheus = recorder();
    let handle = prometheus.handle();
    let taken = match exporters {
        Some(exporters) => {
            let inner = fanout::Fanout::new(prometheus, &exporters.meter);
            metrics::set_global_recorder(Exemplars {
                inner,
                bounds: SECONDS,
            })
            .is_err()
        }
        // Without export no trace is sampled, and there is nothing to lead to.
        None => metrics::set_global_recorder(prometheus).is_err(),
    };
    if !taken {
        let _first = PROMETHEUS.set(handle);
    }
}

/// Upper bounds in seconds: from a cache hit to a slow explanation.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().set_buckets(SECONDS).map_or_else(
        |_| PrometheusBuilder::new().build_recorder(),
        PrometheusBuilder::build_recorder,
    )
}

fn exporters(service: &str, endpoint: &str, config: &Config) -> Result<Exporters, Error> {
    let wrong = |reason: String| Error::Export {
        endpoint: endpoint.to_owned(),
        reason,
    };
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(wrong("there is no tokio runtime here".to_owned()));
    }
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    let spans = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(config.export_max)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(config.spans_queued_max)
        .build();
    let tracer = SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(spans)
                .with_batch_config(batches)
                .build(),
        )
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            config.trace_share,
        ))))
        .with_resource(resource.clone())
        .build();
    let numbers = opentelemetry_otlp::MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(config.export_max)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let meter = SdkMeterProvider::builder()
        .with_reader(
            PeriodicReader::builder(numbers)
                .with_interval(config.metrics_every)
                .build(),
        )
        .with_resource(resource.clone())
        .build();
    let records = opentelemetry_otlp::LogExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(config.export_max)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let logger = SdkLoggerProvider::builder()
        .with_log_processor(BatchLogProcessor::builder(records).build())
        .with_resource(resource)
        .build();
    Ok(Exporters {
        tracer,
        meter,
        logger,
    })
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(Exporters {
            tracer,
            meter,
            logger,
        }) = self.exporters.take()
        else {
            return;
        };
        let wait = self.flush_max;
        // A thread of its own, because an exporter that hangs must not hold up the process.
        let (done, finished) = std::sync::mpsc::sync_channel(1);
        let flush = std::thread::Builder::new()
            .name("telemetry-flush".to_owned())
            .spawn(move || {
                let traces = tracer.shutdown_with_timeout(wait);
                let numbers = meter.shutdown();
                let records = logger.shutdown_with_timeout(wait);
                let _nobody_waits = done.send(traces.is_ok() && numbers.is_ok() && records.is_ok());
            });
        if flush.is_ok() && finished.recv_timeout(wait) != Ok(true) {
            tracing::warn!("the last traces, metrics and logs were not exported");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_installation_is_tolerated_and_metrics_are_rendered() {
        let config = Config {
            format: Format::Json,
            ..Config::default()
        };
        let first = install("one", &config).unwrap();
        let second = install("two", &config).unwrap();
        drop(second);
        metrics::counter!("chassis_test_total", "kind" => "first").increment(3);
        metrics::histogram!("chassis_test_seconds").record(0.2);
        metrics_upkeep();
        let text = render_metrics();
        assert!(text.contains("chassis_test_total{kind=\"first\"} 3"), "{text}");
        assert!(
            text.contains("chassis_test_seconds_bucket{le=\"0.25\"} 1"),
            "{text}"
        );
        drop(first);
    }

    #[test]
    fn limits_that_do_not_fit_are_named() {
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().key
        };
        assert_eq!(Config::default().check(), Ok(()));
        assert_eq!(bad(|c| c.trace_share = 1.5), "trace_share");
        assert_eq!(bad(|c| c.level = "=,=".to_owned()), "level");
        assert_eq!(bad(|c| c.spans_queued_max = 0), "spans_queued_max");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_collector_holds_up_leaving_for_a_bounded_time_only() {
        let config = Config {
            flush_max: Duration::from_millis(200),
            ..Config::default()
        };
        // Port 9 of loopback: nobody answers, or nobody in time.
        let exporters = exporters("test", "http://127.0.0.1:9", &config).unwrap();
        let guard = Guard {
            exporters: Some(exporters),
            flush_max: config.flush_max,
        };
        let dropped = tokio::task::spawn_blocking(move || drop(guard));
        tokio::time::timeout(Duration::from_secs(30), dropped)
            .await
            .unwrap()
            .unwrap();
    }
}
