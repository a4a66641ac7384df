//! A rank: its thread holds a part of the model, does what all are told, and answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use refract_model::parallel::{Collective, InProcess};
use refract_model::{Dtype, LoadOptions, Model, PairRows};

use crate::device::DeviceName;
use crate::runner::{
    CrossSlot, DecodeRow, EncodeJob, Likeliest, Logits, ModelRunner, Page, RowMove, RowSlot, Runner,
    RunnerError, Shape,
};

/// What all ranks are told.
#[derive(Clone)]
pub(super) enum Task {
    Encode(Arc<Vec<Prompt>>),
    /// With room for the logits where they are wanted.
    Decode(Arc<Vec<Row>>, Option<Answers>),
    Reorder(Arc<Vec<RowMove>>),
    ReleaseRows(Arc<Vec<RowSlot>>),
    ReleaseCross(CrossSlot),
    #[cfg(test)]
    Test(fn(usize)),
}

pub(super) struct Prompt {
    pub(super) cross: CrossSlot,
    pub(super) ids: Vec<u32>,
    pub(super) pairs: Option<PairRows>,
}

pub(super) struct Row {
    pub(super) row: RowSlot,
    pub(super) cross: CrossSlot,
    pub(super) ids: Vec<u32>,
    pub(super) kept: usize,
    pub(super) wanted: usize,
    pub(super) best: usize,
}

/// Room for logits, as [`Logits`] lays it out.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) lines: Vec<f32>,
    pub(super) likeliest: Vec<Option<Likeliest>>,
}

pub(super) struct Answer {
    pub(super) rank: usize,
    pub(super) said: Outcome,
    pub(super) held: Held,
}

/// A rank's memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Held {
    /// Of decode memory.
    pub(super) bytes: usize,
    /// Free on its device, if it has one of its own.
    pub(super) free: Option<u64>,
    /// The most in use there since the answer before.
    pub(super) peak: Option<u64>,
}

pub(super) enum Outcome {
    /// With the pieces that its decode memory comes in.
    Loaded(Box<Shape>, Option<Page>),
    /// With the logits, where they were wanted.
    Done(Answers),
    Failed(RunnerError),
    /// It says nothing more.
    Died(String),
}

/// A rank's own end of the bond; taken up on its thread.
pub(super) enum Seat {
    InProcess(InProcess),
    #[cfg(feature = "nccl")]
    Nccl(refract_model::parallel::nccl::Seat),
}

/// What a rank is given to begin with.
pub(super) struct Post {
    pub(super) dir: PathBuf,
    pub(super) dtype: Dtype,
    pub(super) device: DeviceName,
    pub(super) seat: Seat,
    pub(super) records: bool,
}

/// A rank's life.
pub(super) fn serve(rank: usize, post: Post, inbox: &Receiver<Task>, answers: &SyncSender<Answer>) {
    let say = |said, held| answers.send(Answer { rank, said, held }).is_ok();
    let load = || -> Result<ModelRunner, RunnerError> {
        let device = post.device.open()?;
        let collective: Arc<dyn Collective> = match post.seat {
            Seat::InProcess(own) => Arc::new(own),
            #[cfg(feature = "nccl")]
            Seat::Nccl(own) => own.take(&device).map_err(RunnerError::new)?,
        };
        let options = LoadOptions {
            dtype: post.dtype,
            device,
            collective: Some(collective),
        };
        Ok(ModelRunner::new(Model::load(&post.dir, &options)?).recording(post.records))
    };
    let mut runner = match load() {
        Ok(runner) => runner,
        Err(error) => {
            say(Outcome::Failed(error), Held::default());
            return;
        }
    };
    let held = |runner: &mut ModelRunner| Held {
        bytes: runner.bytes(),
        free: runner.memory_free(),
        peak: runner.memory_peak(),
    };
    // What loading took is over.
    let _loading = runner.memory_peak();
    let loaded = Outcome::Loaded(Box::new(runner.shape()), runner.page());
    let mut heard = say(loaded, held(&mut runner));
    while heard && let Ok(task) = inbox.recv() {
        let done = match task {
            Task::Encode(prompts) => runner.encode(&jobs(&prompts)).map(|()| Answers::default()),
            Task::Decode(rows, room) => decode(&mut runner, &rows, room),
            Task::Reorder(moves) => {
                runner.reorder(&moves);
                Ok(Answers::default())
            }
            Task::ReleaseRows(rows) => {
                runner.release_rows(&rows);
                Ok(Answers::default())
            }
            Task::ReleaseCross(cross) => {
                runner.release_cross(cross);
                Ok(Answers::default())
            }
            #[cfg(test)]
            Task::Test(work) => {
                work(rank);
                Ok(Answers::default())
            }
        };
        let said = done.map_or_else(Outcome::Failed, Outcome::Done);
        heard = say(said, held(&mut runner));
    }
}

fn jobs(prompts: &[Prompt]) -> Vec<EncodeJob<'_>> {
    prompts
        .iter()
        .map(|prompt| EncodeJob {
            cross: prompt.cross,
            ids: &prompt.ids,
            pairs: prompt.pairs,
        })
        .collect()
}

fn decode(runner: &mut ModelRunner, rows: &[Row], room: Option<Answers>) -> Result<Answers, RunnerError> {
    let rows: Vec<DecodeRow<'_>> = rows
        .iter()
        .map(|r| DecodeRow {
            row: r.row,
            cross: r.cross,
            ids: &r.ids,
            kept: r.kept,
            wanted: r.wanted,
            best: r.best,
        })
        .collect();
    let Some(mut room) = room else {
        runner.decode_for(&rows, None)?;
        return Ok(Answers::default());
    };
    let vocab = runner.shape().vocab;
    let mut logits = Logits::with_likeliest(vocab, &mut room.lines, &mut room.likeliest);
    runner.decode_for(&rows, Some(&mut logits))?;
    Ok(room)
}
