//! One recorder for both readers of metrics: Prometheus, which comes for them, and OTLP, to which they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder};
use metrics::{SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::metrics::SdkMeterProvider;

pub(super) struct Fanout {
    prometheus: PrometheusRecorder,
    meter: Meter,
}

impl Fanout {
    pub(super) fn new(prometheus: PrometheusRecorder, provider: &SdkMeterProvider) -> Self {
        Self {
            prometheus,
            meter: provider.meter("refract"),
        }
    }
}

struct Both<P, O> {
    prometheus: P,
    otlp: O,
    labels: Vec<KeyValue>,
    /// What OTLP was told last: a counter's total, or the bits of a gauge. It wants increments of the one and totals of
    /// the other, whichever the caller has.
    last: AtomicU64,
}

impl<P, O> Both<P, O> {
    fn new(prometheus: P, otlp: O, key: &Key) -> Arc<Self> {
        let labels = key
            .labels()
            .map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()))
            .collect();
        Arc::new(Self {
            prometheus,
            otlp,
            labels,
            last: AtomicU64::new(0),
        })
    }
}

impl CounterFn for Both<Counter, opentelemetry::metrics::Counter<u64>> {
    fn increment(&self, value: u64) {
        self.prometheus.increment(value);
        self.last.fetch_add(value, Ordering::Relaxed);
        self.otlp.add(value, &self.labels);
    }

    fn absolute(&self, value: u64) {
        self.prometheus.absolute(value);
        let before = self.last.fetch_max(value, Ordering::Relaxed);
        if value > before {
            self.otlp.add(value - before, &self.labels);
        }
    }
}

impl Both<Gauge, opentelemetry::metrics::Gauge<f64>> {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let next = |bits| Some(change(f64::from_bits(bits)).to_bits());
        let before = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .unwrap_or_default();
        self.otlp.record(change(f64::from_bits(before)), &self.labels);
    }
}

impl GaugeFn for Both<Gauge, opentelemetry::metrics::Gauge<f64>> {
    fn increment(&self, value: f64) {
        self.prometheus.increment(value);
        self.change(|now| now + value);
    }

    fn decrement(&self, value: f64) {
        self.prometheus.decrement(value);
        self.change(|now| now - value);
    }

    fn set(&self, value: f64) {
        self.prometheus.set(value);
        self.change(|_| value);
    }
}

impl HistogramFn for Both<Histogram, opentelemetry::metrics::Histogram<f64>> {
    fn record(&self, value: f64) {
        self.prometheus.record(value);
        self.otlp.record(value, &self.labels);
    }
}

impl Recorder for Fanout {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        let otlp = self.meter.u64_counter(key.name().to_owned()).build();
        Counter::from_arc(Both::new(
            self.prometheus.register_counter(key, metadata),
            otlp,
            key,
        ))
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        let otlp = self.meter.f64_gauge(key.name().to_owned()).build();
        Gauge::from_arc(Both::new(
            self.prometheus.register_gauge(key, metadata),
            otlp,
            key,
        ))
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let otlp = self.meter.f64_histogram(key.name().to_owned()).build();
        Histogram::from_arc(Both::new(
            self.prometheus.register_histogram(key, metadata),
            otlp,
            key,
        ))
    }
}
