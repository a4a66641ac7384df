//! The memory's metrics: every name, unit and label in one place. Labels are closed lists; no ids.

use std::time::Duration;

use ::metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const LOOKUPS: &str = "refract_knowledge_lookups_total";
const LOOKUP_SECONDS: &str = "refract_knowledge_lookup_seconds";
const CONSULT_SECONDS: &str = "refract_knowledge_consult_seconds";
const CORRUPT: &str = "refract_knowledge_corrupt_total";
const UNHELPFUL: &str = "refract_knowledge_unhelpful_total";
const REFRESHES: &str = "refract_knowledge_refreshes_total";
const FLIGHTS: &str = "refract_knowledge_flights_total";
const FLIGHTS_NOW: &str = "refract_knowledge_flights";
const WRITES: &str = "refract_knowledge_writes_total";
const EVICTIONS: &str = "refract_knowledge_evictions_total";
const STORE_UP: &str = "refract_knowledge_store_up";
const STORE_ERRORS: &str = "refract_knowledge_store_errors_total";
const STORE_SECONDS: &str = "refract_knowledge_store_seconds";
const CONNECTIONS: &str = "refract_knowledge_store_connections_total";
const LEASES: &str = "refract_knowledge_leases_total";
const REDIRECTS: &str = "refract_knowledge_store_redirects_total";
const NODES: &str = "refract_knowledge_store_nodes";

/// How a look-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Served from the first level.
    L1,
    /// Served from the store.
    Hit,
    /// Served past its soft age, from either.
    Stale,
    Miss,
    /// The store did not answer.
    Error,
    /// The store's bytes were no entry of this key.
    Corrupt,
}

/// Tells the recorder what the numbers mean. Call once, after the recorder is installed.
pub fn describe() {
    describe_counter!(
        LOOKUPS,
        "Look-ups by outcome: l1, hit, stale, miss, error, corrupt"
    );
    describe_histogram!(
        LOOKUP_SECONDS,
        Unit::Seconds,
        "Time of a look-up, the Oracle excluded, by outcome"
    );
    describe_histogram!(
        CONSULT_SECONDS,
        Unit::Seconds,
        "Time the Oracle took, by outcome: ok, failed"
    );
    describe_counter!(CORRUPT, "Stored values that were refused, by reason");
    describe_counter!(
        UNHELPFUL,
        "Questions not asked again because the Oracle had just failed on them"
    );
    describe_counter!(REFRESHES, "Background refreshes by outcome: ok, failed, refused");
    describe_counter!(
        FLIGHTS,
        "Callers before the Oracle by role: led, joined, refused, abandoned"
    );
    describe_gauge!(FLIGHTS_NOW, "Distinct questions before the Oracle now");
    describe_counter!(
        WRITES,
        "Entries written by outcome: ok, failed, dropped, too_large, erased"
    );
    describe_counter!(
        EVICTIONS,
        "Entries pushed out by newer ones, by cache: l1, memory"
    );
    describe_gauge!(STORE_UP, "1 while the store answers, else 0");
    describe_counter!(STORE_ERRORS, "Failed store commands by reason");
    describe_histogram!(
        STORE_SECONDS,
        Unit::Seconds,
        "Time of a store command, by command"
    );
    describe_counter!(
        CONNECTIONS,
        "Attempts to connect to the store by outcome: ok, failed"
    );
    describe_counter!(
        LEASES,
        "Questions before the Oracle across processes by role: led, followed, overdue, unavailable"
    );
    describe_counter!(
        REDIRECTS,
        "Commands that a cluster's node sent to another one, by kind: moved, ask"
    );
    describe_gauge!(NODES, "Servers of the store by state: up, down");
}

pub(crate) fn lookup(outcome: Lookup, took: Duration) {
    let label = match outcome {
        Lookup::L1 => "l1",
        Lookup::Hit => "hit",
        Lookup::Stale => "stale",
        Lookup::Miss => "miss",
        Lookup::Error => "error",
        Lookup::Corrupt => "corrupt",
    };
    counter!(LOOKUPS, "outcome" => label).increment(1);
    histogram!(LOOKUP_SECONDS, "outcome" => label).record(took.as_secs_f64());
}

pub(crate) fn consult(ok: bool, took: Duration) {
    histogram!(CONSULT_SECONDS, "outcome" => if ok { "ok" } else { "failed" }).record(took.as_secs_f64());
}

pub(crate) fn corrupt(reason: &'static str) {
    counter!(CORRUPT, "reason" => reason).increment(1);
}

pub(crate) fn unhelpful() {
    counter!(UNHELPFUL).increment(1);
}

pub(crate) fn refresh(outcome: &'static str) {
    counter!(REFRESHES, "outcome" => outcome).increment(1);
}

pub(crate) fn flight(role: &'static str) {
    counter!(FLIGHTS, "role" => role).increment(1);
}

pub(crate) fn flights_now(count: usize) {
    gauge!(FLIGHTS_NOW).set(count as f64);
}

pub(crate) fn write(outcome: &'static str) {
    counter!(WRITES, "outcome" => outcome).increment(1);
}

pub(crate) fn eviction(cache: &'static str) {
    counter!(EVICTIONS, "cache" => cache).increment(1);
}

pub(crate) fn store_up(up: bool) {
    gauge!(STORE_UP).set(if up { 1.0 } else { 0.0 });
}

pub(crate) fn store_error(reason: &'static str) {
    counter!(STORE_ERRORS, "reason" => reason).increment(1);
}

pub(crate) fn store_command(command: &'static str, took: Duration) {
    histogram!(STORE_SECONDS, "command" => command).record(took.as_secs_f64());
}

pub(crate) fn connection(ok: bool) {
    counter!(CONNECTIONS, "outcome" => if ok { "ok" } else { "failed" }).increment(1);
}

pub(crate) fn redirect(kind: &'static str) {
    counter!(REDIRECTS, "kind" => kind).increment(1);
}

pub(crate) fn nodes(up: usize, down: usize) {
    gauge!(NODES, "state" => "up").set(up as f64);
    gauge!(NODES, "state" => "down").set(down as f64);
}

pub(crate) fn lease(role: &'static str) {
    counter!(LEASES, "role" => role).increment(1);
}
