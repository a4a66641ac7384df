//! The limits of an engine, and the relations between them.

use std::time::Duration;

use refract_kernel::NICE_MAX;

use crate::error::Error;
use crate::runner::Shape;

/// Every bound of the engine. *Cost* of a sequence below: prompt tokens + rows × new tokens, where rows are its beams
/// (or samples). It is reserved whole when the sequence starts and given back when it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Label of this engine in metrics and the name of its thread (`oracle`, `prism`).
    pub name: String,
    /// How far the engine's thread stands back for others that want the processor, such as those that answer the network: 0 not
    /// at all, 19 wholly, as `nice` counts.
    pub nice: u8,
    /// Sequences that may wait; the next one is refused at once.
    pub queue_sequences_max: usize,
    /// Summed cost of the sequences that may wait.
    pub queue_tokens_max: usize,
    /// Sequences decoded together.
    pub running_sequences_max: usize,
    /// Rows (beams and samples of all sequences) decoded together: the tallest matrix a decode step multiplies.
    pub running_rows_max: usize,
    /// Summed cost of the running sequences, at most: where the memory budget below holds less, that counts. Bytes: times
    /// 2 × decoder layers × heads × head width × size of a number.
    pub kv_tokens_max: usize,
    /// Bytes for decode memory and for what a step works with, beside the weights. Refused where that much is not free.
    /// Absent: `memory_percent_max` of what is free once the weights are loaded (on CPUs what the machine has available or
    /// the process's control group leaves it, on other devices what they say). Name it where several engines share memory.
    pub memory_bytes_max: Option<u64>,
    /// See `memory_bytes_max`; 1 to 100.
    pub memory_percent_max: usize,
    /// Tokens of one prompt. The model's own position limit applies as well.
    pub prompt_tokens_max: usize,
    /// Tokens one sequence may produce. The model's own position limit applies as well.
    pub new_tokens_max: usize,
    /// Beams, or samples, of one sequence.
    pub sequence_rows_max: usize,
    /// Tokens encoded between two decode steps: how long a new sequence may hold up the running ones.
    pub step_encode_tokens_max: usize,
    /// Tokens decoded in one step, over all rows. At least `running_rows_max`; what is above it is room for drafts.
    pub step_decode_tokens_max: usize,
    /// Tokens guessed ahead for a greedy sequence and verified in one step: the text is the same, in fewer steps. 0 is off.
    /// Ignored where the runner's numbers would depend on it.
    pub draft_tokens_max: usize,
    /// Tokens of one step up to which guesses are added: beyond it a step is busy enough, and guesses would cost more than
    /// they save.
    pub step_draft_tokens_max: usize,
    /// Longest that the device may take over one batch. An engine that takes longer hangs and is called unhealthy by whoever
    /// watches it ([`crate::Handle::check_pace`]); the call itself cannot be taken back.
    pub batch_max: Duration,
    /// Padding tolerated in one encoder batch, in percent of its real tokens; prompts further apart in length are
    /// encoded apart. Ignored by a runner that packs.
    pub encode_padding_percent_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "engine".to_owned(),
            queue_sequences_max: 256,
            nice: 0,
            queue_tokens_max: 262_144,
            running_sequences_max: 32,
            running_rows_max: 160,
            kv_tokens_max: 65_536,
            memory_bytes_max: None,
            memory_percent_max: 80,
            prompt_tokens_max: 1024,
            new_tokens_max: 512,
            sequence_rows_max: 16,
            step_encode_tokens_max: 4096,
            step_decode_tokens_max: 160,
            draft_tokens_max: 8,
            step_draft_tokens_max: 32,
            batch_max: Duration::from_secs(300),
            encode_padding_percent_max: 25,
        }
    }
}

impl Config {
    /// Whether the limits agree with one another and with the model.
    pub fn check(&self, shape: &Shape) -> Result<(), Error> {
        let no = |field, reason: String| Err(Error::Config { field, reason });
        for (field, value) in [
            ("queue_sequences_max", self.queue_sequences_max),
            ("queue_tokens_max", self.queue_tokens_max),
            ("running_sequences_max", self.running_sequences_max),
            ("running_rows_max", self.running_rows_max),
            ("kv_tokens_max", self.kv_tokens_max),
            ("memory_percent_max", self.memory_percent_max),
            ("prompt_tokens_max", self.prompt_tokens_max),
            ("new_tokens_max", self.new_tokens_max),
            ("sequence_rows_max", self.sequence_rows_max),
            ("step_encode_tokens_max", self.step_encode_tokens_max),
        ] {
            if value == 0 {
                return no(field, "must be at least 1".to_owned());
            }
        }
        if shape.vocab == 0 {
            return no("model", "has an empty vocabulary".to_owned());
        }
        if self.batch_max.is_zero() {
            return no("batch_max", "must be longer than zero".to_owned());
        }
        if self.nice > NICE_MAX {
            return no("nice", format!("{} is above {NICE_MAX}", self.nice));
        }
        if self.memory_percent_max > 100 {
            return no(
                "memory_percent_max",
                format!("{} is more than there is", self.memory_percent_max),
            );
        }
        if self.sequence_rows_max > self.running_rows_max {
            return no(
                "sequence_rows_max",
                format!(
                    "{} exceeds running_rows_max {}",
                    self.sequence_rows_max, self.running_rows_max
                ),
            );
        }
        let prompt = self.prompt_tokens(shape);
        if prompt > self.step_encode_tokens_max {
            return no(
                "step_encode_tokens_max",
                format!(
                    "{} cannot hold one prompt of {prompt} tokens",
                    self.step_encode_tokens_max
                ),
            );
        }
        if self.running_rows_max > self.step_decode_tokens_max {
            return no(
                "step_decode_tokens_max",
                format!(
                    "{} is less than running_rows_max {}",
                    self.step_decode_tokens_max, self.running_rows_max
                ),
            );
        }
        Ok(())
    }

    /// The longest prompt, by configuration and model.
    pub fn prompt_tokens(&self, shape: &Shape) -> usize {
        self.prompt_tokens_max
            .min(shape.prompt_positions_max.unwrap_or(usize::MAX))
    }

    /// The most tokens a sequence may produce, by configuration and model.
    pub fn new_tokens(&self, shape: &Shape) -> usize {
        self.new_tokens_max
            .min(shape.own_positions_max.unwrap_or(usize::MAX))
    }
}
