//! A model held by several devices, a thread for each: all are told the same, in step, and one of them answers.
//!
//! A rank runs a [`ModelRunner`] over its part of the weights; what ranks add up and put together goes through a
//! [`Collective`]. All ranks hold the same residual stream and so take the same decisions; rank 0 hands out the logits.
//!
//! A rank that dies, parts with the others over an error, or does not answer within `patience` ends the runner for good: a
//! fatal error, after which a process leaves service. Nobody waits for it without a limit.

mod rank;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use refract_model::Dtype;
use refract_model::parallel::{self, InProcess};

use self::rank::{Answer, Answers, Held, Outcome, Post, Prompt, Row, Seat, Task, serve};
use super::{CrossSlot, DecodeRow, EncodeJob, Logits, Page, RowMove, RowSlot, Runner, RunnerError, Shape};
use crate::device::DeviceName;

/// What a rank that has failed leaves the others to fail as well, or to be seen waiting for it.
const PARTING: Duration = Duration::from_secs(2);

/// Where the ranks are, and how they hold their weights.
#[derive(Clone, Debug)]
pub struct ParallelOptions {
    /// One for each rank.
    pub devices: Vec<DeviceName>,
    pub dtype: Dtype,
    /// How long one step may take before a rank counts as dead. Loading has no limit.
    pub patience: Duration,
    /// Whether steps of fixed shapes are recorded and repeated. Ranks whose devices meet by the host cannot: they are told every step.
    pub record_steps: bool,
}

pub struct ParallelRunner {
    shape: Shape,
    /// Of one rank.
    page: Option<Page>,
    ranks: Vec<Rank>,
    answers: Receiver<Answer>,
    patience: Duration,
    /// Ends the waiting of ranks for one another.
    bond: Bond,
    /// Why it is no more.
    dead: Option<String>,
    /// Room for rank 0's logits, between two calls.
    spare: Answers,
}

struct Rank {
    tasks: SyncSender<Task>,
    thread: Option<JoinHandle<()>>,
    /// As of its last answer.
    held: Held,
    /// The most of its answers since that was asked.
    peak: Option<u64>,
}

impl Rank {
    fn hold(&mut self, held: Held) {
        self.peak = self.peak.max(held.peak);
        self.held = held;
    }
}

/// How ranks meet.
enum Bond {
    InProcess(parallel::Bond),
    #[cfg(feature = "nccl")]
    Nccl,
}

impl Bond {
    fn end(&self, reason: &str) {
        match self {
            Self::InProcess(bond) => bond.abort(reason),
            // A rank that waits on its device cannot be called back; its thread is left behind with the process.
            #[cfg(feature = "nccl")]
            Self::Nccl => {}
        }
    }
}

impl ParallelRunner {
    /// Loads each rank's part of the weights in `dir`, side by side.
    pub fn load(dir: PathBuf, options: &ParallelOptions) -> Result<Self, RunnerError> {
        let count = options.devices.len();
        if count == 0 {
            return Err(RunnerError::new("devices: name at least one"));
        }
        let (bond, seats) = bind(&options.devices)?;
        // A rank owes one answer at a time, and may end with a last word.
        let (sender, answers) = sync_channel(2 * count);
        let mut ranks = Vec::with_capacity(count);
        for ((rank, device), seat) in options.devices.iter().copied().enumerate().zip(seats) {
            let (tasks, inbox) = sync_channel(1);
            let sender = sender.clone();
            let by_host = matches!(seat, Seat::InProcess(_)) && device.is_gpu();
            let post = Post {
                dir: dir.clone(),
                dtype: options.dtype,
                device,
                seat,
                records: options.record_steps && !by_host,
            };
            let thread = std::thread::Builder::new()
                .name(format!("rank {rank}"))
                .spawn(move || {
                    let work = AssertUnwindSafe(|| serve(rank, post, &inbox, &sender));
                    if let Err(panic) = catch_unwind(work) {
                        let said = Outcome::Died(format!("panic: {}", crate::engine::message(&*panic)));
                        // Nobody is there to hear it only where the runner has gone as well.
                        let held = Held::default();
                        let _ = sender.send(Answer { rank, said, held });
                    }
                })
                .map_err(|e| RunnerError::new(format!("no thread for rank {rank}: {e}")))?;
            ranks.push(Rank {
                tasks,
                thread: Some(thread),
                held: Held::default(),
                peak: None,
            });
        }
        let mut loaded = None;
        for _ in 0..count {
            let failed = match answers.recv() {
                Ok(Answer {
                    said: Outcome::Loaded(shape, page),
                    rank,
                    held,
                }) => {
                    ranks[rank].hold(held);
                    loaded = Some((*shape, page));
                    continue;
                }
                Ok(Answer {
                    said: Outcome::Failed(error),
                    ..
                }) => error,
                Ok(Answer {
                    said: Outcome::Died(reason),
                    rank,
                    ..
                }) => RunnerError::fatal(format!("rank {rank}: {reason}")),
                Ok(Answer {
                    said: Outcome::Done(_),
                    ..
                })
                | Err(_) => RunnerError::fatal("the threads of the ranks have ended"),
            };
            bond.end(&failed.reason);
            return Err(failed);
        }
        let (shape, page) = loaded.ok_or_else(|| RunnerError::fatal("no rank has loaded"))?;
        Ok(Self {
            shape,
            page,
            ranks,
            answers,
            patience: options.patience,
            bond,
            dead: None,
            spare: Answers::default(),
        })
    }

    pub fn ranks(&self) -> usize {
        self.ranks.len()
    }

    /// Tells every rank its task, and waits until all have done it; gives what rank 0 has to say.
    fn ask(&mut self, task: impl Fn(usize) -> Task) -> Result<Answers, RunnerError> {
        if let Some(reason) = &self.dead {
            return Err(RunnerError::fatal(reason));
        }
        let gone = (self.ranks.iter().enumerate()).find(|(rank, r)| r.tasks.send(task(*rank)).is_err());
        match gone.map(|(rank, _)| rank) {
            Some(rank) => Err(self.part(format!("rank {rank} has ended"))),
            None => self.hear(),
        }
    }

    /// For what cannot fail but by a dead rank, of which the next call that can fail tells.
    fn ask_or_part(&mut self, task: impl Fn(usize) -> Task) {
        if let Err(error) = self.ask(task)
            && !error.is_fatal()
        {
            self.part(error.reason);
        }
    }

    fn hear(&mut self) -> Result<Answers, RunnerError> {
        let until = Instant::now() + self.patience;
        let mut heard = vec![false; self.ranks.len()];
        let mut first = Answers::default();
        let mut failed: Option<RunnerError> = None;
        let mut failures = 0;
        while let Some(missing) = heard.iter().position(|h| !h) {
            let wait = match failed {
                Some(_) => PARTING,
                None => until.saturating_duration_since(Instant::now()),
            };
            let answer = match self.answers.recv_timeout(wait) {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.part("its threads have ended".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let reason = match failed {
                        Some(error) => format!("one rank failed and rank {missing} waits for it: {error}"),
                        None => format!("rank {missing} has not answered within {:?}", self.patience),
                    };
                    return Err(self.part(reason));
                }
            };
            heard[answer.rank] = true;
            self.ranks[answer.rank].hold(answer.held);
            match answer.said {
                Outcome::Done(logits) if answer.rank == 0 => first = logits,
                Outcome::Done(_) | Outcome::Loaded(..) => {}
                Outcome::Failed(error) => {
                    failures += 1;
                    failed.get_or_insert(error);
                }
                Outcome::Died(reason) => {
                    return Err(self.part(format!("rank {} died: {reason}", answer.rank)));
                }
            }
        }
        match failed {
            None => Ok(first),
            // All of one mind: what they were asked was impossible, and they are as sound as before.
            Some(error) if failures == self.ranks.len() && !error.is_fatal() => Err(error),
            Some(error) => Err(self.part(format!("some ranks failed and others did not: {error}"))),
        }
    }

    /// The end: whoever waits is let go, and every later call fails.
    fn part(&mut self, reason: String) -> RunnerError {
        self.bond.end(&reason);
        let reason = self.dead.get_or_insert(reason);
        RunnerError::fatal(format!("the ranks of this model have parted: {reason}"))
    }
}

/// Connects the ranks: by NCCL where every one is a GPU of its own, in the process otherwise.
fn bind(devices: &[DeviceName]) -> Result<(Bond, Vec<Seat>), RunnerError> {
    #[cfg(feature = "nccl")]
    if devices.len() > 1 && devices.iter().all(|d| matches!(d, DeviceName::Cuda(_))) {
        let seats = parallel::nccl::Seat::all(devices.len()).map_err(RunnerError::new)?;
        return Ok((Bond::Nccl, seats.into_iter().map(Seat::Nccl).collect()));
    }
    let seats = InProcess::new(devices.len());
    let bond = Bond::InProcess(seats[0].bond());
    Ok((bond, seats.into_iter().map(Seat::InProcess).collect()))
}

impl Runner for ParallelRunner {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        let prompts = jobs.iter().map(|job| Prompt {
            cross: job.cross,
            ids: job.ids.to_vec(),
            pairs: job.pairs,
        });
        let prompts = Arc::new(prompts.collect::<Vec<_>>());
        self.ask(|_| Task::Encode(prompts.clone())).map(|_| ())
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        let rows = rows.iter().map(|r| Row {
            row: r.row,
            cross: r.cross,
            ids: r.ids.to_vec(),
            kept: r.kept,
            wanted: r.wanted,
            best: r.best,
        });
        let rows = Arc::new(rows.collect::<Vec<_>>());
        let mut room = std::mem::take(&mut self.spare);
        room.lines.resize(logits.all_mut().len(), 0.0);
        room.likeliest.clear();
        if logits.takes_likeliest() {
            room.likeliest.resize(logits.lines(), None);
        }
        let room = std::cell::Cell::new(Some(room));
        let mut said =
            self.ask(|rank| Task::Decode(rows.clone(), if rank == 0 { room.take() } else { None }))?;
        if said.likeliest.is_empty() || said.likeliest.contains(&None) {
            logits.all_mut().copy_from_slice(&said.lines);
        }
        for (line, told) in said.likeliest.drain(..).enumerate() {
            if let Some(told) = told {
                logits.say(line, told);
            }
        }
        self.spare = said;
        Ok(())
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        let moves = Arc::new(moves.to_vec());
        self.ask_or_part(|_| Task::Reorder(moves.clone()));
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        let rows = Arc::new(rows.to_vec());
        self.ask_or_part(|_| Task::ReleaseRows(rows.clone()));
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        self.ask_or_part(|_| Task::ReleaseCross(cross));
    }

    /// On devices of their own each rank has as much as the others, and what one has counts; otherwise what all have.
    fn bytes(&self) -> usize {
        let each = self.ranks.iter().map(|rank| rank.held.bytes);
        if self.memory_free().is_some() {
            each.max().unwrap_or(0)
        } else {
            each.sum()
        }
    }

    fn page(&self) -> Option<Page> {
        let own = self.page?;
        let together = if self.memory_free().is_some() {
            1
        } else {
            self.ranks.len()
        };
        Some(Page {
            bytes: together * own.bytes,
            ..own
        })
    }

    /// Of the device that has least.
    fn memory_free(&self) -> Option<u64> {
        self.ranks.iter().filter_map(|rank| rank.held.free).min()
    }

    /// Of the device that has used most.
    fn memory_peak(&mut self) -> Option<u64> {
        let peak = |rank: &mut Rank| rank.peak.take().or(rank.held.peak);
        self.ranks.iter_mut().filter_map(peak).max()
    }
}

impl Drop for ParallelRunner {
    fn drop(&mut self) {
        let dead = self.dead.is_some();
        for rank in self.ranks.drain(..) {
            drop(rank.tasks);
            // A rank that may hang is not waited for.
            if let Some(thread) = rank.thread.filter(|t| !dead || t.is_finished()) {
                // A panic of its thread was reported when it happened.
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for ParallelRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelRunner")
            .field("ranks", &self.ranks.len())
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(ranks: usize, patience: Duration) -> Result<ParallelRunner, RunnerError> {
        let dir = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../model/tests/fixtures/t5-gated-untied"
        );
        let options = ParallelOptions {
            devices: vec![DeviceName::Cpu; ranks],
            dtype: Dtype::F32,
            patience,
            record_steps: false,
        };
        ParallelRunner::load(dir.into(), &options)
    }

    fn encode(runner: &mut ParallelRunner, ids: &[u32]) -> Result<(), RunnerError> {
        runner.encode(&[EncodeJob {
            cross: CrossSlot(0),
            ids,
            pairs: None,
        }])
    }

    #[test]
    fn a_rank_that_dies_ends_the_runner_at_once_and_for_good() {
        let mut runner = load(4, Duration::from_secs(600)).unwrap();
        encode(&mut runner, &[5, 6, 1]).unwrap();
        let died =
            runner.ask(|_| Task::Test(|rank| assert_ne!(rank, 2, "the rank's device fell off the bus")));
        let error = died.unwrap_err();
        assert!(
            error.is_fatal() && error.reason.contains("rank 2 died"),
            "{error}"
        );
        let error = encode(&mut runner, &[5, 6, 1]).unwrap_err();
        assert!(
            error.is_fatal() && error.reason.contains("fell off the bus"),
            "{error}"
        );
    }

    #[test]
    fn a_rank_that_waits_for_a_dead_one_is_let_go() {
        let mut runner = load(2, Duration::from_secs(600)).unwrap();
        // Rank 1 dies in the middle of a step: rank 0 waits for its summand.
        let broken = Arc::new(vec![Prompt {
            cross: CrossSlot(0),
            ids: vec![5, 1],
            pairs: None,
        }]);
        let error = runner
            .ask(|rank| match rank {
                0 => Task::Encode(broken.clone()),
                _ => Task::Test(|_| panic!("gone")),
            })
            .unwrap_err();
        assert!(error.is_fatal(), "{error}");
        // Dropping joins no thread that may hang; this one has been let go.
        let thread = runner.ranks[0].thread.take().unwrap();
        drop(runner);
        thread.join().unwrap();
    }

    #[test]
    fn a_rank_that_does_not_answer_is_not_waited_for_without_a_limit() {
        let mut runner = load(2, Duration::from_millis(50)).unwrap();
        let slow = |rank| {
            if rank == 1 {
                std::thread::sleep(Duration::from_millis(400));
            }
        };
        let error = runner.ask(|_| Task::Test(slow)).unwrap_err();
        assert!(
            error.is_fatal() && error.reason.contains("rank 1 has not answered"),
            "{error}"
        );
    }

    #[test]
    fn what_no_rank_can_do_is_refused_and_nothing_else_is_lost() {
        let mut runner = load(2, Duration::from_secs(600)).unwrap();
        let error = encode(&mut runner, &[95, 96]).unwrap_err();
        assert!(!error.is_fatal() && error.reason.contains("id 96"), "{error}");
        encode(&mut runner, &[95, 1]).unwrap();
        assert!(runner.bytes() > 0);
        runner.release_cross(CrossSlot(0));
        assert_eq!(runner.bytes(), 0);
    }

    #[test]
    fn a_split_that_leaves_a_rest_is_refused_with_those_that_do_not() {
        let error = load(3, Duration::from_secs(600)).unwrap_err().to_string();
        assert!(error.contains("1, 2, 4 would"), "{error}");
    }
}
