//! Every metric of an engine, named and described in one place. All carry the label `engine` ([`crate::Config::name`]).

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, SharedString, counter, gauge, histogram};

const RUNNING: &str = "refract_engine_sequences_running";
const WAITING: &str = "refract_engine_sequences_waiting";
const WAITING_TOKENS: &str = "refract_engine_tokens_waiting";
const ROWS: &str = "refract_engine_rows_running";
const KV_USED: &str = "refract_engine_kv_tokens_used";
const KV_TOTAL: &str = "refract_engine_kv_tokens_total";
const KV_BYTES: &str = "refract_engine_kv_bytes";
const KV_BYTES_PEAK: &str = "refract_engine_kv_bytes_peak";
const STEPS: &str = "refract_engine_steps_total";
const PROMPT_TOKENS: &str = "refract_engine_prompt_tokens_total";
const NEW_TOKENS: &str = "refract_engine_new_tokens_total";
const DRAFTED: &str = "refract_engine_drafted_tokens_total";
const DRAFTED_RIGHT: &str = "refract_engine_drafted_tokens_right_total";
const GENERATIONS: &str = "refract_engine_generations_total";
const REFUSED: &str = "refract_engine_refused_total";
const FAULTS: &str = "refract_engine_model_faults_total";
const QUEUE_SECONDS: &str = "refract_engine_queue_seconds";
const ENCODE_SECONDS: &str = "refract_engine_encode_seconds";
const STEP_SECONDS: &str = "refract_engine_decode_step_seconds";
const GENERATION_SECONDS: &str = "refract_engine_generation_seconds";

/// Tells the installed recorder what each metric means. Once a process, after the recorder is installed.
pub fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_gauge!(RUNNING, "sequences being decoded");
    describe_gauge!(WAITING, "sequences accepted and not started");
    describe_gauge!(
        WAITING_TOKENS,
        "decode memory that accepted and not started sequences will need, in tokens"
    );
    describe_gauge!(ROWS, "rows (beams and samples) reserved by running sequences");
    describe_gauge!(KV_USED, "decode memory reserved, in tokens");
    describe_gauge!(KV_TOTAL, "decode memory there is, in tokens");
    describe_gauge!(
        KV_BYTES,
        Unit::Bytes,
        "decode memory that the runner has allocated, in use or not"
    );
    describe_gauge!(
        KV_BYTES_PEAK,
        Unit::Bytes,
        "the most decode memory that the runner has had allocated"
    );
    describe_counter!(STEPS, "decode steps");
    describe_counter!(PROMPT_TOKENS, "prompt tokens encoded, without padding");
    describe_counter!(NEW_TOKENS, "rows decoded, summed over steps");
    describe_counter!(DRAFTED, "tokens guessed ahead");
    describe_counter!(DRAFTED_RIGHT, "tokens guessed ahead and right: steps saved");
    describe_counter!(
        GENERATIONS,
        "ended generations by outcome: stop, length, cancelled, or the error"
    );
    describe_counter!(REFUSED, "requests refused before the queue, by reason");
    describe_counter!(FAULTS, "sequences that the model or the device failed on");
    describe_histogram!(
        QUEUE_SECONDS,
        Unit::Seconds,
        "from the call until the sequence was planned"
    );
    describe_histogram!(ENCODE_SECONDS, Unit::Seconds, "one encoder batch");
    describe_histogram!(STEP_SECONDS, Unit::Seconds, "one decode step, sampling included");
    describe_histogram!(
        GENERATION_SECONDS,
        Unit::Seconds,
        "from the call to the end, of finished generations"
    );
}

/// The handles of one engine. Bound to the recorder that is installed when the engine starts.
pub(crate) struct Meters {
    engine: SharedString,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) waiting_tokens: Gauge,
    pub(crate) rows: Gauge,
    pub(crate) kv_used: Gauge,
    pub(crate) kv_total: Gauge,
    pub(crate) kv_bytes: Gauge,
    pub(crate) kv_bytes_peak: Gauge,
    pub(crate) steps: Counter,
    pub(crate) prompt_tokens: Counter,
    pub(crate) new_tokens: Counter,
    pub(crate) drafted: Counter,
    pub(crate) drafted_right: Counter,
    pub(crate) faults: Counter,
    pub(crate) queue_seconds: Histogram,
    pub(crate) encode_seconds: Histogram,
    pub(crate) step_seconds: Histogram,
    generation_seconds: Histogram,
}

impl Meters {
    pub(crate) fn new(engine: &str) -> Self {
        let engine = SharedString::from(engine.to_owned());
        let e = || engine.clone();
        Self {
            running: gauge!(RUNNING, "engine" => e()),
            waiting: gauge!(WAITING, "engine" => e()),
            waiting_tokens: gauge!(WAITING_TOKENS, "engine" => e()),
            rows: gauge!(ROWS, "engine" => e()),
            kv_used: gauge!(KV_USED, "engine" => e()),
            kv_total: gauge!(KV_TOTAL, "engine" => e()),
            kv_bytes: gauge!(KV_BYTES, "engine" => e()),
            kv_bytes_peak: gauge!(KV_BYTES_PEAK, "engine" => e()),
            steps: counter!(STEPS, "engine" => e()),
            prompt_tokens: counter!(PROMPT_TOKENS, "engine" => e()),
            new_tokens: counter!(NEW_TOKENS, "engine" => e()),
            drafted: counter!(DRAFTED, "engine" => e()),
            drafted_right: counter!(DRAFTED_RIGHT, "engine" => e()),
            faults: counter!(FAULTS, "engine" => e()),
            queue_seconds: histogram!(QUEUE_SECONDS, "engine" => e()),
            encode_seconds: histogram!(ENCODE_SECONDS, "engine" => e()),
            step_seconds: histogram!(STEP_SECONDS, "engine" => e()),
            generation_seconds: histogram!(GENERATION_SECONDS, "engine" => e()),
            engine,
        }
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        counter!(REFUSED, "engine" => self.engine.clone(), "reason" => reason).increment(1);
    }

    pub(crate) fn ended(&self, outcome: &'static str, took: Duration) {
        counter!(GENERATIONS, "engine" => self.engine.clone(), "outcome" => outcome).increment(1);
        if matches!(outcome, "stop" | "length") {
            self.generation_seconds.record(took.as_secs_f64());
        }
    }
}
