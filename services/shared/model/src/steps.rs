//! Decode steps of a few fixed shapes, each recorded once on a GPU and replayed from then on.
//!
//! A step of BART-Base is some three hundred small kernels, and telling a GPU of them one by one takes longer than most of them
//! run. A CUDA graph tells it of all at once. It repeats the same work on the same addresses, so whatever changes from step to
//! step (tokens, ages, who reads what) lies in tensors that are written before, and shapes are rounded up: rows and own columns to
//! powers of two, source columns to at most a quarter more. What a step computes for rows that are not there, nobody reads.
//!
//! The first step of a shape runs as it is told, which also loads its kernels and measures its products; the second is recorded.
//! On a CPU there is nothing to record: the same steps run as they are told, which is how tests hold them against
//! [`Model::decode`].

use std::collections::HashMap;

use candle_core::{D, DType, Device, Result, Tensor};

use crate::error::Error;
use crate::layers::{Mode, Sharing, in_reading_order, reading_order};
use crate::likeliest::Pieces;
use crate::model::{DecodeInput, Model};
use crate::state::{CrossBatch, OwnKv, own_columns};

/// Shapes that are kept; of more, the one not used for longest is forgotten. A server of prompts of all lengths with up to 64 rows
/// meets about so many.
const SHAPES_MAX: usize = 128;

/// The recorded steps of one model.
#[derive(Debug, Default)]
pub struct Steps {
    known: HashMap<Shape, Step>,
    /// `[rows, vocab]`, f32: where every step leaves its logits.
    logits: Option<Tensor>,
    /// Counts steps, to know what was used last.
    clock: u64,
    refused: Option<String>,
}

/// What a recording is good for: sizes, and the buffers whose addresses it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    columns: usize,
    memories: usize,
    source_columns: usize,
    readers: usize,
    /// Whether row r reads memory r / readers, and nothing is put in order.
    in_order: bool,
    own_buffer: u64,
    cross_buffer: u64,
    pieces: Option<Pieces>,
}

/// What a step says, good until the next.
#[derive(Debug)]
pub struct Said {
    /// f32 `[rows, vocab]`
    pub logits: Tensor,
    /// As [`Pieces::find`] tells them, `[rows, width]`.
    pub likeliest: Option<Tensor>,
}

#[derive(Debug)]
struct Step {
    input: Input,
    recording: Recording,
    used: u64,
}

/// Where a step leaves the likeliest tokens.
#[derive(Debug)]
struct Found {
    pieces: Pieces,
    /// `[rows, 1]`
    firsts: Tensor,
    /// `[rows, width]`
    told: Tensor,
}

/// What changes from step to step, at addresses that do not.
#[derive(Debug)]
struct Input {
    /// The next three, one behind the other: written at once.
    numbers: Tensor,
    /// `[rows, 1]`
    tokens: Tensor,
    /// `[rows, 1]`: the column that each row writes.
    columns: Tensor,
    /// `[rows, 1]` or `[rows, 1, columns]`: see [`crate::model::AgeNumbers`].
    places: Tensor,
    /// `[rows, 1, 1, columns]`, for a model that masks.
    mask: Option<Tensor>,
    /// `[memories, 1, 1, source columns]`
    source_mask: Tensor,
    /// `[memories·readers]`
    row_at: Tensor,
    /// `[rows]`
    place_of: Tensor,
    /// The gathering that the last three tell of.
    version: u64,
    found: Option<Found>,
}

#[derive(Debug, Default)]
enum Recording {
    #[default]
    Never,
    /// Run once as it was told.
    #[cfg(feature = "cuda")]
    Warm,
    #[cfg(feature = "cuda")]
    Done(refract_kernel::gpu::Graph),
}

impl Steps {
    /// As [`Model::decode`]: one token a row; appends to `own`. Also finds the likeliest tokens of each row, where `pieces` asks.
    ///
    /// A device that refuses to record is told every step from then on, and [`Steps::refusal`] says why.
    pub fn decode(
        &mut self,
        model: &Model,
        tokens: &[u32],
        own: &mut OwnKv,
        cross: &CrossBatch,
        pieces: Option<Pieces>,
    ) -> std::result::Result<Said, Error> {
        let split: Vec<&[u32]> = tokens.chunks(1).collect();
        model.check_step(&split, own, cross)?;
        let rows = tokens.len().next_power_of_two();
        let longest = own.lengths().iter().max().copied().unwrap_or(0) + 1;
        let columns = own_columns(longest);
        own.begin_fixed(rows, columns)?;
        let (memories, source_columns, readers) = cross.fixed_shape();
        let shape = Shape {
            rows,
            columns,
            memories,
            source_columns,
            readers,
            in_order: rows == memories * readers && in_reading_order(cross.memory_of(), readers),
            own_buffer: own.buffer(),
            cross_buffer: cross.buffer(),
            pieces,
        };
        let logits = self.logits(model, rows)?;
        self.clock += 1;
        if !self.known.contains_key(&shape) {
            self.forget_one_of(SHAPES_MAX);
            self.known.insert(shape, Step::new(model, &shape)?);
        }
        let Some(step) = self.known.get_mut(&shape) else {
            return Err(Error::input("steps", "this is a bug: a step was not kept"));
        };
        step.used = self.clock;
        step.input.write(model, &shape, tokens, own, cross)?;
        let told = || step.input.run(model, &shape, own, cross, &logits);
        let refused = if self.refused.is_some() {
            told()?;
            None
        } else {
            replay(model.device(), &mut step.recording, told)?.err()
        };
        own.finish(tokens.iter().map(|_| 1));
        let likeliest = match &step.input.found {
            Some(found) => Some(found.told.narrow(0, 0, tokens.len())?),
            None => None,
        };
        if refused.is_some() {
            // What was recorded before is of no use any more.
            self.known.clear();
            self.refused = refused;
        }
        Ok(Said {
            logits: logits.narrow(0, 0, tokens.len())?,
            likeliest,
        })
    }

    /// Why the device does not record.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Room for the logits of so many rows. Growing forgets all recordings, which write to the old.
    fn logits(&mut self, model: &Model, rows: usize) -> Result<Tensor> {
        let room = match self.logits.take() {
            Some(room) if room.dim(0)? >= rows => room,
            _ => {
                self.known.clear();
                Tensor::zeros((rows, model.spec().vocab), DType::F32, model.device())?
            }
        };
        let logits = room.narrow(0, 0, rows)?;
        self.logits = Some(room);
        Ok(logits)
    }

    fn forget_one_of(&mut self, max: usize) {
        if self.known.len() < max {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, step)| step.used);
        if let Some(shape) = oldest.map(|(shape, _)| *shape) {
            self.known.remove(&shape);
        }
    }
}

impl Step {
    fn new(model: &Model, shape: &Shape) -> Result<Self> {
        let device = model.device();
        let numbers = |n: usize| Tensor::zeros(n, DType::U32, device);
        let ages = model.age_numbers(&vec![0; shape.rows], 1, shape.columns)?;
        let places: usize = ages.places_shape.iter().product();
        let all = numbers(2 * shape.rows + places)?;
        let part = |first: usize, count: usize| all.narrow(0, first, count);
        let found = shape.pieces.map(|pieces| -> Result<Found> {
            Ok(Found {
                pieces,
                firsts: pieces.firsts(shape.rows, device)?,
                told: Tensor::zeros((shape.rows, pieces.width()), DType::F32, device)?,
            })
        });
        let mask = ages
            .mask
            .map(|_| Tensor::zeros((shape.rows, 1, 1, shape.columns), DType::F32, device));
        Ok(Self {
            input: Input {
                tokens: part(0, shape.rows)?.unsqueeze(1)?,
                columns: part(shape.rows, shape.rows)?.unsqueeze(1)?,
                places: part(2 * shape.rows, places)?.reshape(ages.places_shape)?,
                numbers: all,
                mask: mask.transpose()?,
                source_mask: Tensor::zeros((shape.memories, 1, 1, shape.source_columns), DType::F32, device)?,
                row_at: numbers(shape.memories * shape.readers)?,
                place_of: numbers(shape.rows)?,
                version: 0,
                found: found.transpose()?,
            },
            recording: Recording::default(),
            used: 0,
        })
    }
}

impl Input {
    /// Rows that are not there have the padding token and no age; what they read, and so what they say, nobody looks at.
    fn write(
        &mut self,
        model: &Model,
        shape: &Shape,
        tokens: &[u32],
        own: &OwnKv,
        cross: &CrossBatch,
    ) -> Result<()> {
        let mut tokens = tokens.to_vec();
        tokens.resize(shape.rows, model.spec().pad);
        let mut ages = own.lengths().to_vec();
        ages.resize(shape.rows, 0);
        let numbers = model.age_numbers(&ages, 1, shape.columns)?;
        let mut all = tokens;
        all.extend(ages.iter().map(|age| *age as u32));
        all.extend(numbers.places);
        put(&self.numbers, all)?;
        if let Some(mask) = &self.mask {
            // Where no column is ahead of any row there are no numbers, and the last step's must go.
            put(mask, numbers.mask.unwrap_or_else(|| vec![0.0; mask.elem_count()]))?;
        }
        if self.version == cross.version() {
            return Ok(());
        }
        let mut mask = vec![0_f32; shape.memories * shape.source_columns];
        for (line, length) in mask.chunks_mut(shape.source_columns).zip(cross.source_lengths()) {
            line[length..].fill(f32::NEG_INFINITY);
        }
        put(&self.source_mask, mask)?;
        if !shape.in_order {
            let (row_at, mut place_of) = reading_order(cross.memory_of(), shape.memories, shape.readers);
            place_of.resize(shape.rows, 0);
            put(&self.row_at, row_at)?;
            put(&self.place_of, place_of)?;
        }
        self.version = cross.version();
        Ok(())
    }

    /// The step itself: reads nothing but tensors whose addresses stay, leaves its logits in `[rows, vocab]`.
    fn run(
        &self,
        model: &Model,
        shape: &Shape,
        own: &OwnKv,
        cross: &CrossBatch,
        logits: &Tensor,
    ) -> Result<()> {
        let append = own.fixed(&self.columns, shape.columns)?;
        let sharing = if shape.in_order {
            Sharing::in_order(shape.memories, shape.readers)
        } else {
            let (row_at, place_of) = (self.row_at.clone(), self.place_of.clone());
            Sharing::ordered(shape.memories, shape.readers, row_at, place_of)
        };
        // Once for all layers.
        let source_mask = Mode::Serve.added(Some(&self.source_mask), model.geometry().dtype)?;
        let input = DecodeInput {
            tokens: self.tokens.clone(),
            places: self.places.clone(),
            mask: self.mask.clone(),
            own: &|layer, new| own.append(&append, layer, new),
            cross: &|layer| {
                cross.read(
                    layer,
                    shape.memories,
                    shape.source_columns,
                    source_mask.clone(),
                    &sharing,
                )
            },
        };
        let hidden = model.run_decoder(&input, Mode::Serve)?; // [rows, 1, width]
        let new = model.logits(&hidden)?.squeeze(D::Minus2)?; // [rows, vocab]
        logits.slice_set(&new.contiguous()?, 0, 0)?;
        if let Some(found) = &self.found {
            let told = found.pieces.find_from(logits, &found.firsts)?;
            found.told.slice_set(&told, 0, 0)?;
        }
        Ok(())
    }
}

/// Overwrites a whole tensor.
fn put<T: candle_core::WithDType>(to: &Tensor, numbers: Vec<T>) -> Result<()> {
    to.slice_set(&Tensor::from_vec(numbers, to.shape(), to.device())?, 0, 0)
}

/// Runs a step, by its recording if there is one. The inner error says why the device does not record; the step has run then, too.
#[cfg(feature = "cuda")]
fn replay(
    device: &Device,
    recording: &mut Recording,
    told: impl Fn() -> Result<()>,
) -> Result<std::result::Result<(), String>> {
    let Device::Cuda(cuda) = device else {
        return told().map(Ok);
    };
    match recording {
        Recording::Never => {
            refract_kernel::gpu::warm(cuda, &told)?;
            *recording = Recording::Warm;
        }
        Recording::Warm => match refract_kernel::gpu::Graph::record(cuda, &told) {
            Ok(mut graph) => {
                graph.launch()?;
                *recording = Recording::Done(graph);
            }
            Err(error) => {
                told()?;
                return Ok(Err(error.to_string()));
            }
        },
        Recording::Done(graph) => graph.launch()?,
    }
    Ok(Ok(()))
}

#[cfg(not(feature = "cuda"))]
fn replay(
    _: &Device,
    _: &mut Recording,
    told: impl Fn() -> Result<()>,
) -> Result<std::result::Result<(), String>> {
    told().map(Ok)
}
