//! From a bucket of a histogram to a request that fell into it: the trace of the last one is kept beside each bucket,
//! and told to scrapers that read OpenMetrics.
//!
//! Only sampled traces are kept, so that each leads somewhere; without export there are none and recording costs one
//! look at the current context. The exporter renders Prometheus text and knows no exemplars: what it renders is rewritten
//! here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use opentelemetry::trace::TraceId;

use super::lines;

/// The last request of a bucket.
#[derive(Clone, Copy, Debug)]
struct Exemplar {
    trace: TraceId,
    value: f64,
    /// Seconds since the Unix epoch.
    at: f64,
}

/// One for each bucket of one series; the last is for what is above every bound.
#[derive(Debug)]
struct Series {
    buckets: Vec<Mutex<Option<Exemplar>>>,
    bounds: &'static [f64],
}

/// Series by name and labels, as [`name_of`] writes them. Bounded by the metrics themselves: labels are closed lists.
static SERIES: OnceLock<RwLock<BTreeMap<String, Arc<Series>>>> = OnceLock::new();

/// A recorder whose histograms keep exemplars.
pub(super) struct Exemplars<R> {
    pub(super) inner: R,
    /// The buckets' upper bounds, as the inner recorder has them.
    pub(super) bounds: &'static [f64],
}

struct Noting {
    inner: Histogram,
    series: Arc<Series>,
}

impl HistogramFn for Noting {
    fn record(&self, value: f64) {
        self.inner.record(value);
        if let Some(span) = lines::current().filter(|span| span.is_sampled()) {
            self.series.note(span.trace_id(), value);
        }
    }
}

impl Series {
    fn note(&self, trace: TraceId, value: f64) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let place = self.bounds.partition_point(|bound| *bound < value);
        // Whoever else is writing here has an exemplar as good.
        if let Ok(mut kept) = self.buckets[place].try_lock() {
            *kept = Some(Exemplar {
                trace,
                value,
                at: since_epoch.as_secs_f64(),
            });
        }
    }

    fn exemplar(&self, place: usize) -> Option<Exemplar> {
        let kept = self.buckets.get(place)?;
        *kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Recorder> Recorder for Exemplars<R> {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.inner.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let labels = key
            .labels()
            .map(|label| format!("{}=\"{}\"", label.key(), label.value()));
        let name = name_of(key.name(), labels);
        let mut all = series().write().unwrap_or_else(PoisonError::into_inner);
        let series = all.entry(name).or_insert_with(|| {
            Arc::new(Series {
                buckets: (0..=self.bounds.len()).map(|_| Mutex::new(None)).collect(),
                bounds: self.bounds,
            })
        });
        Histogram::from_arc(Arc::new(Noting {
            inner: self.inner.register_histogram(key, metadata),
            series: Arc::clone(series),
        }))
    }
}

fn series() -> &'static RwLock<BTreeMap<String, Arc<Series>>> {
    SERIES.get_or_init(RwLock::default)
}

/// `name{a="1",b="2"}`, the labels in one order whoever wrote them.
fn name_of(name: &str, labels: impl Iterator<Item = String>) -> String {
    let labels: BTreeSet<String> = labels.collect();
    let labels: Vec<String> = labels.into_iter().collect();
    format!("{name}{{{}}}", labels.join(","))
}

/// Prometheus text as OpenMetrics text 1.0, with exemplars beside the buckets.
pub(super) fn open_metrics(prometheus: &str) -> String {
    let counters: BTreeSet<&str> = prometheus
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let all = series().read().unwrap_or_else(PoisonError::into_inner);
    let mut text = String::with_capacity(prometheus.len() + 1024);
    for line in prometheus.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line
            .strip_prefix("# HELP ")
            .or_else(|| line.strip_prefix("# TYPE "))
        {
            // A counter's family is called without the suffix that its samples have.
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let family = match name.strip_suffix("_total") {
                Some(family) if counters.contains(name) => family,
                _ => name,
            };
            let _ = writeln!(text, "{} {family} {rest}", &line[..6]);
            continue;
        }
        match bucket(line) {
            Some((name, bound, before, after)) => {
                let _ = write!(text, "{before}le=\"{}\"{after}", canonical(bound));
                let place = |series: &Series| series.bounds.partition_point(|it| *it < bound);
                if let Some(exemplar) = all.get(&name).and_then(|it| it.exemplar(place(it))) {
                    let Exemplar { trace, value, at } = exemplar;
                    let _ = write!(text, " # {{trace_id=\"{trace}\"}} {value} {at:.3}");
                }
                text.push('\n');
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

/// A bucket's series and bound, and the line before and after the bound's label.
fn bucket(line: &str) -> Option<(String, f64, &str, &str)> {
    let (name, rest) = line.split_once("_bucket{")?;
    let at = line.len() - rest.len();
    let label = at + rest.rfind("le=\"")?;
    let value = label + "le=\"".len();
    let end = value + line[value..].find('"')?;
    let bound: f64 = line[value..end].parse().ok()?;
    let labels = line[at..label].split(',').filter(|label| !label.is_empty());
    let name = name_of(name, labels.map(str::to_owned));
    Some((name, bound, &line[..label], &line[end + 1..]))
}

/// As OpenMetrics wants a bound: `1.0` and not `1`.
fn canonical(bound: f64) -> String {
    if bound.is_infinite() {
        "+Inf".to_owned()
    } else {
        format!("{bound:?}")
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Label, Level};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const BOUNDS: &[f64] = &[0.1, 1.0];
    const METADATA: Metadata<'static> = Metadata::new("test", Level::INFO, None);

    #[test]
    fn a_bucket_leads_to_the_last_sampled_request_in_it_and_the_text_is_open_metrics() {
        let inner = PrometheusBuilder::new()
            .set_buckets(BOUNDS)
            .unwrap()
            .build_recorder();
        let handle = inner.handle();
        let recorder = Exemplars {
            inner,
            bounds: BOUNDS,
        };
        let labels = vec![Label::new("method", "Rank"), Label::new("code", "OK")];
        let key = Key::from_parts("exemplar_test_seconds", labels);
        let histogram = recorder.register_histogram(&key, &METADATA);
        let counter = recorder.register_counter(&Key::from_name("exemplar_test_total"), &METADATA);
        recorder.describe_counter("exemplar_test_total".into(), None, "a counter".into());
        counter.increment(2);
        recorder
            .register_gauge(&Key::from_name("exemplar_test_depth"), &METADATA)
            .set(1.5);

        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let mut traces = Vec::new();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for value in [0.5, 0.05, 0.7, 9.0] {
                let span = tracing::info_span!("serve");
                span.in_scope(|| histogram.record(value));
                use opentelemetry::trace::TraceContextExt as _;
                traces.push(span.context().span().span_context().trace_id());
            }
        });
        // Outside any trace: counted, and the exemplar stays.
        histogram.record(0.06);
        handle.run_upkeep();
        let text = open_metrics(&handle.render());

        let line = |start: &str| {
            let found = text.lines().find(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("no {start} in {text}")).to_owned()
        };
        let bucket = |le: &str| {
            let found = text
                .lines()
                .find(|line| line.contains("_bucket{") && line.contains(&format!("le=\"{le}\"")));
            found.unwrap_or_else(|| panic!("no {le} in {text}")).to_owned()
        };
        for (le, count, trace, value) in [
            ("0.1", 2, traces[1], "0.05"),
            ("1.0", 4, traces[2], "0.7"),
            ("+Inf", 5, traces[3], "9"),
        ] {
            let line = bucket(le);
            let exemplar = format!("}} {count} # {{trace_id=\"{trace}\"}} {value} ");
            assert!(line.contains(&exemplar), "{line} has no {exemplar}");
        }
        assert_eq!(line("# TYPE exemplar_test "), "# TYPE exemplar_test counter");
        assert_eq!(line("# HELP exemplar_test "), "# HELP exemplar_test a counter");
        assert_eq!(line("exemplar_test_total"), "exemplar_test_total 2");
        assert_eq!(line("exemplar_test_depth"), "exemplar_test_depth 1.5");
        assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"), "{text}");
    }

    #[test]
    fn without_a_trace_nothing_is_kept() {
        let inner = PrometheusBuilder::new()
            .set_buckets(BOUNDS)
            .unwrap()
            .build_recorder();
        let handle = inner.handle();
        let recorder = Exemplars {
            inner,
            bounds: BOUNDS,
        };
        let histogram = recorder.register_histogram(&Key::from_name("exemplar_none_seconds"), &METADATA);
        histogram.record(0.5);
        handle.run_upkeep();
        let text = open_metrics(&handle.render());
        assert!(
            text.contains("exemplar_none_seconds_bucket{le=\"1.0\"} 1\n"),
            "{text}"
        );
    }
}
