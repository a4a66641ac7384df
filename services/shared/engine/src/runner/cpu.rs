//! BART and T5 on a CPU, on packed int8 or f32 weights: the kernels of `refract-kernel` behind the runner's joint.
//!
//! Prompts of a batch are encoded packed, without padding. Keys and values live in pages: a sequence's cross memory is
//! written once and read by all its rows, and forked rows share the pages of their common past until one of them writes.

mod arena;
mod load;
mod network;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use refract_kernel::{
    Activation, BYTE_HEAD_DIM_MAX, Element, Finish, Kernels, KeyValueRows, MemoryShape, PAGE, Packed, Paged,
    Place, Reader,
};
pub use refract_kernel::{Isa, Precision};
use refract_model::{GenerationDefaults, Spec, Stored};

use self::arena::{Arena, Positions};
use self::network::{Buffers, Network, room, together};
use super::{
    CrossSlot, DecodeRow, EncodeCost, EncodeJob, Layout, Logits, Page, RowMove, RowSlot, Runner, RunnerError,
    Shape,
};

/// How a model runs on a CPU.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// With f32, attention keeps f32; otherwise it reads prompts in bytes, and a row's own past in half precision.
    pub precision: Precision,
    /// Threads in all; 0 means as many as the process may use.
    pub threads: usize,
    /// The best there is where absent, or what `REFRACT_CPU` names.
    pub isa: Option<Isa>,
    /// How far its own threads stand back for others: see [`crate::Config::nice`].
    pub nice: u8,
}

/// A model on a CPU.
pub struct CpuRunner {
    spec: Spec,
    defaults: GenerationDefaults,
    kernels: Kernels,
    network: Network,
    buffers: Buffers,
    /// What rows know of their own past.
    arena: Arena,
    /// What they know of their prompts.
    cross_arena: Arena,
    crosses: HashMap<CrossSlot, Positions>,
    rows: HashMap<RowSlot, Positions>,
    /// What both arenas may have allocated together.
    bytes_max: usize,
}

impl CpuRunner {
    /// Loads a directory in the Hugging Face layout, strictly, and packs it.
    pub fn load(dir: &Path, options: &CpuOptions) -> Result<Self, RunnerError> {
        Self::pack(&Stored::open(dir)?, options)
    }

    /// Packs what was opened.
    pub fn pack(stored: &Stored, options: &CpuOptions) -> Result<Self, RunnerError> {
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let isa = match options.isa {
            Some(isa) => isa,
            None => Isa::from_environment().map_err(RunnerError::new)?,
        };
        let kernels = Kernels::standing_back(isa, threads, options.nice).map_err(RunnerError::new)?;
        let network = load::load(stored, options.precision)?;
        let spec = stored.spec().clone();
        let shape = |element| MemoryShape {
            layers: spec.decoder_layers,
            heads: spec.heads,
            head_dim: spec.head_dim,
            element,
        };
        let in_bytes = options.precision != Precision::F32 && spec.head_dim <= BYTE_HEAD_DIM_MAX;
        let (own, cross) = match (options.precision, in_bytes) {
            (Precision::F32, _) => (Element::F32, Element::F32),
            (_, false) => (Element::Half, Element::Half),
            // What is written once and read at every step is worth the fewest bytes.
            (_, true) => (Element::Half, Element::Byte),
        };
        let (own, cross) = (Arena::new(shape(own)), Arena::new(shape(cross)));
        Ok(Self {
            defaults: stored.generation_defaults().clone(),
            spec,
            kernels,
            network,
            buffers: Buffers::default(),
            arena: own,
            cross_arena: cross,
            crosses: HashMap::new(),
            rows: HashMap::new(),
            bytes_max: usize::MAX,
        })
    }

    /// Memory that the weights will take.
    pub fn weight_bytes(stored: &Stored, precision: Precision) -> u64 {
        load::bytes(stored, precision)
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub fn generation_defaults(&self) -> &GenerationDefaults {
        &self.defaults
    }

    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    pub fn threads(&self) -> usize {
        self.kernels.threads()
    }

    /// Decode memory that a row or a prompt holds, in bytes: of [`Runner::bytes`] what is in use.
    pub fn bytes_held(&self) -> usize {
        self.arena.bytes_held() + self.cross_arena.bytes_held()
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), RunnerError> {
        match ids.iter().find(|id| **id as usize >= self.spec.vocab) {
            Some(id) => Err(RunnerError::new(format!(
                "id {id} is not below the vocabulary's {}",
                self.spec.vocab
            ))),
            None => Ok(()),
        }
    }

    fn check_positions(&self, count: usize) -> Result<(), RunnerError> {
        match self.spec.positions_max.filter(|max| count > *max) {
            Some(max) => Err(RunnerError::new(format!(
                "{count} positions; the model has {max}"
            ))),
            None => Ok(()),
        }
    }

    /// Encodes some prompts together and writes their cross memory.
    fn encode_group(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        let Self {
            kernels,
            network,
            buffers,
            ..
        } = self;
        let stack = &mut network.encoder;
        let lengths: Vec<usize> = jobs.iter().map(|job| job.ids.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if let Some(distances) = &mut stack.distances {
            distances.reach(longest);
        }
        let width = stack.width;
        let m: usize = lengths.iter().sum();
        let x = room(&mut buffers.x, m * width);
        let mut row = 0;
        for job in jobs {
            for id in job.ids {
                network.embed(*id, &mut x[row * width..][..width]);
                row += 1;
            }
        }
        if let (Some(gated), Some(tables)) = (&network.pairs, self.spec.pair_tables) {
            let mut row = 0;
            for job in jobs {
                let pairs = job.pairs.unwrap_or_default();
                if pairs.user as usize >= tables.users || pairs.item as usize >= tables.items {
                    return Err(RunnerError::new(format!(
                        "pair rows of tables of {} and {}",
                        tables.users, tables.items
                    )));
                }
                let mut both = vec![0.0; gated.users.width() + gated.items.width()];
                let (user, item) = both.split_at_mut(gated.users.width());
                gated.users.read_row(pairs.user as usize, user);
                gated.items.read_row(pairs.item as usize, item);
                let mut added = vec![0.0; width];
                let tanh = Finish {
                    activation: Activation::Tanh,
                    add: false,
                };
                kernels.multiply(&both, &gated.project, tanh, &mut added, &mut buffers.scratch);
                added.iter_mut().for_each(|a| *a *= gated.gate);
                for x in x[row * width..].chunks_mut(width).take(job.ids.len()) {
                    kernels.add(x, &added);
                }
                row += job.ids.len();
            }
        }
        let stack = &network.encoder;
        stack.enter(
            kernels,
            &mut buffers.x[..m * width],
            lengths.iter().flat_map(|n| 0..*n),
            &mut buffers.normed,
        );
        let how = Packed {
            heads: stack.heads,
            head_dim: stack.head_dim,
            scale: stack.scale,
            lengths: &lengths,
            bias: stack.distances.as_ref().and_then(|d| d.made.as_ref()),
            // The encoder's heads may be wider than the decoder's, of which the pages are.
            bytes: self.cross_arena.pages.shape().element == Element::Byte
                && stack.head_dim <= BYTE_HEAD_DIM_MAX,
        };
        for layer in &stack.layers {
            stack.attend(kernels, &layer.own, buffers, m, |qkv, mixed| {
                kernels.attend_packed(&how, qkv, mixed)
            });
            stack.feed_forward(kernels, &layer.feed_forward, buffers, m);
        }
        let Buffers {
            x,
            normed,
            qkv,
            scratch,
            ..
        } = buffers;
        let x = &mut x[..m * width];
        if let Some(norm) = &stack.exit {
            norm.in_place(kernels, x, normed);
        }
        let mut places: Vec<Place> = Vec::with_capacity(m);
        for job in jobs {
            if let Some(mut old) = self.crosses.remove(&job.cross) {
                self.cross_arena.truncate(&mut old, 0);
            }
        }
        let wanted: usize = lengths.iter().map(|n| n.div_ceil(PAGE)).sum();
        self.cross_arena
            .make_room(wanted, self.bytes_max, &mut self.arena, self.rows.values_mut());
        for job in jobs {
            let mut positions = Positions::default();
            self.cross_arena
                .extend(&mut positions, job.ids.len(), &mut places);
            self.crosses.insert(job.cross, positions);
        }
        let inner = self.spec.heads * self.spec.head_dim;
        for (layer, matrix) in network.cross.iter().enumerate() {
            let kv = room(qkv, m * 2 * inner);
            kernels.multiply(x, matrix, Finish::default(), kv, scratch);
            let rows = KeyValueRows {
                data: kv,
                stride: 2 * inner,
                keys: 0,
                values: inner,
            };
            self.cross_arena.pages.write(kernels, layer, &places, rows);
        }
        Ok(())
    }

    /// Brings own memory of each row back to what is good of it, and says how much that is.
    fn prepare(&mut self, rows: &[DecodeRow<'_>], logits: &Logits<'_>) -> Result<Vec<usize>, RunnerError> {
        let mut lines = 0;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            if row.wanted == 0 || row.wanted > row.ids.len() || row.kept >= row.ids.len() {
                return Err(RunnerError::new(format!(
                    "this is a bug: {:?} asks for the impossible",
                    row.row
                )));
            }
            if !self.crosses.contains_key(&row.cross) {
                return Err(RunnerError::new(format!("{:?} holds no cross memory", row.cross)));
            }
            self.check_ids(row.ids)?;
            self.check_positions(row.ids.len())?;
            lines += row.wanted;
            let positions = self.rows.entry(row.row).or_default();
            let good = row.kept.min(row.ids.len() - row.wanted);
            self.arena.truncate(positions, good);
            held.push(positions.len);
        }
        if lines != logits.lines() {
            return Err(RunnerError::new(format!(
                "this is a bug: {lines} lines wanted, room for {}",
                logits.lines()
            )));
        }
        Ok(held)
    }
}

impl Runner for CpuRunner {
    fn shape(&self) -> Shape {
        Shape {
            exact_drafts: true,
            vocab: self.spec.vocab,
            decoder_start: self.spec.decoder_start,
            prompt_positions_max: self.spec.positions_max,
            own_positions_max: self.spec.positions_max,
            pair_tables: self.spec.pair_tables,
            encode_cost: EncodeCost::Packed,
        }
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        for job in jobs {
            if job.ids.is_empty() {
                return Err(RunnerError::new("an empty prompt"));
            }
            self.check_ids(job.ids)?;
            self.check_positions(job.ids.len())?;
        }
        let tokens_max = together(&self.kernels).encode_tokens;
        let mut rest = jobs;
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = rest.iter().take_while(|job| {
                tokens += job.ids.len();
                tokens <= tokens_max
            });
            let (group, after) = rest.split_at(fits.count().max(1));
            self.encode_group(group)?;
            rest = after;
        }
        // What a small model decodes is not worth sharing; a large one's threads are woken by its next step.
        self.kernels.rest();
        Ok(())
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        let held = self.prepare(rows, logits)?;
        let wanted = rows.iter().zip(&held).map(|(row, held)| {
            let positions = self.rows.get(&row.row);
            positions.map_or(0, |positions| self.arena.wanted(positions, row.ids.len() - held))
        });
        let wanted: usize = wanted.sum();
        self.arena.make_room(
            wanted,
            self.bytes_max,
            &mut self.cross_arena,
            self.crosses.values_mut(),
        );
        let Self {
            kernels,
            network,
            buffers,
            arena,
            cross_arena,
            ..
        } = self;
        let width = network.decoder.width;
        let m: usize = rows
            .iter()
            .zip(&held)
            .map(|(row, held)| row.ids.len() - held)
            .sum();
        if let Some(distances) = &mut network.decoder.distances {
            distances.reach(rows.iter().map(|row| row.ids.len()).max().unwrap_or(0));
        }
        let x = room(&mut buffers.x, m * width);
        let mut places: Vec<Place> = Vec::with_capacity(m);
        let mut at = 0;
        for (row, held) in rows.iter().zip(&held) {
            for id in &row.ids[*held..] {
                network.embed(*id, &mut x[at * width..][..width]);
                at += 1;
            }
            if let Some(positions) = self.rows.get_mut(&row.row) {
                arena.extend(positions, row.ids.len() - held, &mut places);
            }
        }
        let stack = &network.decoder;
        let positions = rows
            .iter()
            .zip(&held)
            .flat_map(|(row, held)| *held..row.ids.len());
        stack.enter(
            kernels,
            &mut buffers.x[..m * width],
            positions,
            &mut buffers.normed,
        );

        let own: Vec<Reader<'_>> = rows
            .iter()
            .zip(&held)
            .map(|(row, held)| Reader {
                pages: self.rows.get(&row.row).map_or(&[], |p| &p.pages),
                queries: row.ids.len() - held,
                visible: held + 1,
                grows: true,
            })
            .collect();
        // Neighbours that read the same memory read it together.
        let mut cross: Vec<(CrossSlot, Reader<'_>)> = Vec::new();
        for (row, own) in rows.iter().zip(&own) {
            match cross.last_mut() {
                Some((slot, reader)) if *slot == row.cross => reader.queries += own.queries,
                _ => {
                    let Some(memory) = self.crosses.get(&row.cross) else {
                        return Err(RunnerError::new(format!("{:?} holds no cross memory", row.cross)));
                    };
                    let reader = Reader {
                        pages: &memory.pages,
                        queries: own.queries,
                        visible: memory.len,
                        grows: false,
                    };
                    cross.push((row.cross, reader));
                }
            }
        }
        let cross: Vec<Reader<'_>> = cross.into_iter().map(|(_, reader)| reader).collect();

        let inner = stack.inner();
        for (i, layer) in stack.layers.iter().enumerate() {
            let bias = stack.distances.as_ref().and_then(|d| d.made.as_ref());
            stack.attend(kernels, &layer.own, buffers, m, |qkv, mixed| {
                let rows = KeyValueRows {
                    data: qkv,
                    stride: 3 * inner,
                    keys: inner,
                    values: 2 * inner,
                };
                arena.pages.write(kernels, i, &places, rows);
                let how = Paged {
                    pages: &arena.pages,
                    layer: i,
                    scale: stack.scale,
                    bias,
                };
                kernels.attend_paged(&how, &own, qkv, 3 * inner, mixed);
            });
            if let Some(sublayer) = &layer.cross {
                stack.attend(kernels, sublayer, buffers, m, |q, mixed| {
                    let how = Paged {
                        pages: &cross_arena.pages,
                        layer: i,
                        scale: stack.scale,
                        bias: None,
                    };
                    kernels.attend_paged(&how, &cross, q, inner, mixed);
                });
            }
            stack.feed_forward(kernels, &layer.feed_forward, buffers, m);
        }

        // Only the lines that are wanted go through the head.
        let Buffers {
            x,
            normed,
            hidden,
            scratch,
            ..
        } = buffers;
        let wanted = room(hidden, logits.lines() * width);
        let (mut end, mut line) = (0, 0);
        for (row, own) in rows.iter().zip(&own) {
            end += own.queries;
            let first = end - row.wanted;
            wanted[line * width..][..row.wanted * width].copy_from_slice(&x[first * width..end * width]);
            line += row.wanted;
        }
        if let Some(norm) = &stack.exit {
            norm.in_place(kernels, wanted, normed);
        }
        if network.head_scale != 1.0 {
            wanted.iter_mut().for_each(|x| *x *= network.head_scale);
        }
        kernels.multiply(
            wanted,
            &network.head,
            Finish::default(),
            logits.all_mut(),
            scratch,
        );
        Ok(())
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        let sources: Vec<Option<Positions>> = moves
            .iter()
            .map(|m| self.rows.get(&m.from).map(|p| self.arena.share(p)))
            .collect();
        for (m, source) in moves.iter().zip(sources) {
            let old = match source {
                Some(positions) => self.rows.insert(m.to, positions),
                None => self.rows.remove(&m.to),
            };
            if let Some(mut old) = old {
                self.arena.truncate(&mut old, 0);
            }
        }
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        for row in rows {
            if let Some(mut positions) = self.rows.remove(row) {
                self.arena.truncate(&mut positions, 0);
            }
        }
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        if let Some(mut positions) = self.crosses.remove(&cross) {
            self.cross_arena.truncate(&mut positions, 0);
        }
    }

    fn bytes(&self) -> usize {
        self.arena.bytes() + self.cross_arena.bytes()
    }

    fn page(&self) -> Option<Page> {
        // Own and cross memory come in pages of their own sizes; whatever a token is, it has no more than this.
        let bytes = |arena: &Arena| arena.pages.shape().page_bytes();
        Some(Page {
            tokens: PAGE,
            bytes: bytes(&self.arena).max(bytes(&self.cross_arena)),
            spare: self.arena.bytes_spare() + self.cross_arena.bytes_spare(),
            layout: Layout::Pages,
        })
    }

    fn keep_within(&mut self, tokens: usize) {
        let most = self.page().map(|page| page.most(tokens));
        self.bytes_max = most.and_then(|most| most.try_into().ok()).unwrap_or(usize::MAX);
        let excess = |a: &Arena, b: &Arena| (a.bytes() + b.bytes()).saturating_sub(self.bytes_max);
        let too_much = excess(&self.arena, &self.cross_arena);
        self.cross_arena.shrink(too_much, self.crosses.values_mut());
        let too_much = excess(&self.arena, &self.cross_arena);
        self.arena.shrink(too_much, self.rows.values_mut());
    }
}

impl fmt::Debug for CpuRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuRunner")
            .field("isa", &self.kernels.isa())
            .field("threads", &self.kernels.threads())
            .field("crosses", &self.crosses.len())
            .field("rows", &self.rows.len())
            .finish_non_exhaustive()
    }
}
