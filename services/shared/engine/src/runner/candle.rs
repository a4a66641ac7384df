//! A [`refract_model::Model`] as a runner: the only file of the engine that knows tensors.
//!
//! Rows of a step live together in one `OwnKv`. Forks, leavers and joiners only change which row is where ("places");
//! the tensors are gathered once, at the next step, and only if something changed.

use std::collections::HashMap;
use std::fmt;

use candle_core::{Storage, Tensor};
use refract_model::{Cross, CrossBatch, Likeliest, Model, OwnKv, PairRows, Pieces, Said, Steps};
use tracing::warn;

use super::{
    CrossSlot, DecodeRow, EncodeCost, EncodeJob, Layout, Logits, Page, RowMove, RowSlot, Runner, RunnerError,
    Shape,
};

pub struct ModelRunner {
    model: Model,
    crosses: HashMap<CrossSlot, Stamped>,
    /// Counts encoded prompts: tells a slot's new tenant from its old one.
    stamp: u64,
    /// Usually one. After a failed step the parts of the batch are rebuilt apart, and stay so until they end.
    groups: Vec<Group>,
    places: HashMap<RowSlot, Place>,
    /// Names the next group; names are never used again.
    next_group: u64,
    /// Whether rows that want their best tokens only are answered by the device, which spares a copy of the whole vocabulary.
    chooses: bool,
    /// Where steps of one token a row are recorded and replayed.
    steps: Option<Steps>,
    /// The last group that ended, empty: its buffers are those that the recorded steps know.
    spare: Option<Group>,
    refusal_told: bool,
    silence_told: bool,
}

struct Stamped {
    stamp: u64,
    cross: Cross,
}

/// Rows that are decoded as one batch.
struct Group {
    name: u64,
    own: OwnKv,
    cross: Option<CrossBatch>,
    /// Whose cross memory `cross` holds, by row.
    stamps: Vec<u64>,
}

/// Where a row's own memory is: a group, and the index in its `OwnKv` as of the last step. Several rows may share one.
#[derive(Clone, Copy)]
struct Place {
    group: u64,
    index: usize,
}

impl ModelRunner {
    /// On anything but a CPU, the likeliest tokens are found on the device, and steps are recorded there.
    pub fn new(model: Model) -> Self {
        let on_gpu = !model.device().is_cpu();
        Self {
            chooses: on_gpu,
            steps: on_gpu.then(Steps::default),
            spare: None,
            refusal_told: false,
            silence_told: false,
            model,
            crosses: HashMap::new(),
            stamp: 0,
            groups: Vec::new(),
            places: HashMap::new(),
            next_group: 0,
        }
    }

    /// The same, finding the likeliest tokens on the device or not.
    pub fn choosing(self, chooses: bool) -> Self {
        Self { chooses, ..self }
    }

    /// The same, recording its steps or not.
    pub fn recording(self, records: bool) -> Self {
        let steps = records.then(Steps::default);
        Self { steps, ..self }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    fn cross(&self, slot: CrossSlot) -> Result<&Stamped, RunnerError> {
        self.crosses
            .get(&slot)
            .ok_or_else(|| RunnerError::new(format!("{slot:?} holds no cross memory")))
    }

    /// Good leading positions of a row, and the group that has them.
    fn held(&self, row: &DecodeRow<'_>) -> (usize, Option<u64>) {
        let Some(place) = self.places.get(&row.row) else {
            return (0, None);
        };
        let Some(group) = self.groups.iter().find(|g| g.name == place.group) else {
            return (0, None);
        };
        (group.own.lengths()[place.index].min(row.kept), Some(place.group))
    }

    /// Decodes rows that belong (or will belong) to one group, none of which lacks more than it wants.
    fn decode_group(
        &mut self,
        name: u64,
        members: &[(usize, DecodeRow<'_>)],
        first_line: &[usize],
        logits: Option<&mut Logits<'_>>,
    ) -> Result<(), RunnerError> {
        let at = self.groups.iter().position(|g| g.name == name);
        // Taken out: a failure leaves no half-written memory behind.
        let mut group = match at {
            Some(at) => self.groups.swap_remove(at),
            None => self.new_group(name),
        };
        let order = self.order(name, members);
        let old: Vec<usize> = order.iter().map_while(|(_, from)| *from).collect();
        if old.len() != group.own.rows() || old.iter().enumerate().any(|(to, from)| to != *from) {
            group.own.select(&old).map_err(RunnerError::new)?;
        }
        for _ in old.len()..order.len() {
            group.own.push_row();
        }
        let order: Vec<&(usize, DecodeRow<'_>)> = order.into_iter().map(|(member, _)| member).collect();
        self.gather_cross(&mut group, order.iter().map(|(_, row)| row.cross))?;
        let mut tokens: Vec<&[u32]> = Vec::with_capacity(order.len());
        for (i, (_, row)) in order.iter().enumerate() {
            if group.own.lengths()[i] > row.kept {
                group.own.truncate(i, row.kept);
            }
            tokens.push(&row.ids[group.own.lengths()[i]..]);
        }
        let cross = group
            .cross
            .as_ref()
            .ok_or_else(|| RunnerError::new("no cross memory"))?;
        let longest = tokens.iter().map(|t| t.len()).max().unwrap_or(0);
        let best = order.iter().map(|(_, row)| row.best);
        let takes = self.chooses && logits.as_ref().is_some_and(|l| l.takes_likeliest());
        let pieces = if takes && best.clone().all(|n| n > 0) {
            Pieces::of(self.model.spec().vocab, best.max().unwrap_or(0))
        } else {
            None
        };
        let said = match &mut self.steps {
            Some(steps) if longest == 1 => {
                let tokens: Vec<u32> = tokens.iter().map(|t| t[0]).collect();
                steps.decode(&self.model, &tokens, &mut group.own, cross, pieces)
            }
            _ => self.told(&tokens, &mut group.own, cross, pieces),
        }
        .map_err(RunnerError::new)?;
        self.tell_refusal();
        if let Some(logits) = logits {
            let vocab = logits.vocab;
            let copies = order.iter().enumerate().zip(&tokens);
            let copies = copies.flat_map(|((i, (at, row)), tokens)| {
                let from = i * longest + tokens.len() - row.wanted;
                (0..row.wanted).map(move |n| (from + n, first_line[*at] + n))
            });
            let told = match (&said.likeliest, pieces) {
                (Some(told), Some(pieces)) => read_likeliest(told, &pieces)?,
                _ => None,
            };
            match told {
                Some(mut told) => {
                    for (from, to) in copies {
                        logits.say(to, std::mem::take(&mut told[from]));
                    }
                }
                None => with_numbers(&said.logits, |numbers| {
                    for (from, to) in copies {
                        logits
                            .line_mut(to)
                            .copy_from_slice(&numbers[from * vocab..][..vocab]);
                    }
                })?,
            }
        }
        for (index, (_, row)) in order.iter().enumerate() {
            self.places.insert(row.row, Place { group: name, index });
        }
        self.groups.push(group);
        Ok(())
    }

    /// A step that is not recorded.
    fn told(
        &self,
        tokens: &[&[u32]],
        own: &mut OwnKv,
        cross: &CrossBatch,
        pieces: Option<Pieces>,
    ) -> Result<Said, refract_model::Error> {
        let logits = if tokens.iter().all(|t| t.len() == 1) {
            let tokens: Vec<u32> = tokens.iter().map(|t| t[0]).collect();
            self.model.decode(&tokens, own, cross)?
        } else {
            self.model.decode_many(tokens, own, cross)?
        };
        let likeliest = match pieces {
            Some(pieces) => Some(pieces.find(&logits)?),
            None => None,
        };
        Ok(Said { logits, likeliest })
    }

    /// The rows of a group in the order of their memory, each with the index it is copied from; new rows, without one,
    /// last. A row stays where it is whenever it can: those at the end fill the gaps that leavers have left.
    fn order<'m, 'd>(
        &self,
        name: u64,
        members: &'m [(usize, DecodeRow<'d>)],
    ) -> Vec<(&'m (usize, DecodeRow<'d>), Option<usize>)> {
        let place = |row: RowSlot| self.places.get(&row).filter(|p| p.group == name).map(|p| p.index);
        let mut new = Vec::new();
        let mut moving = Vec::new();
        let count = members.iter().filter(|(_, row)| place(row.row).is_some()).count();
        let mut staying = vec![None; count];
        for member in members {
            match place(member.1.row) {
                None => new.push((member, None)),
                Some(at) if at < count && staying[at].is_none() => staying[at] = Some((member, Some(at))),
                Some(at) => moving.push((member, Some(at))),
            }
        }
        let mut moving = moving.into_iter();
        let mut order: Vec<_> = staying
            .into_iter()
            .filter_map(|stays| stays.or_else(|| moving.next()))
            .collect();
        order.append(&mut new);
        order
    }

    /// Computes own memory from ids, all but the last `wanted` of each row: rows that came back, or whose batch failed.
    ///
    /// Rows are fed a token at a time and join late, so that all are complete together, and no logits are kept.
    fn rebuild(&mut self, name: u64, members: &[(usize, DecodeRow<'_>)]) -> Result<(), RunnerError> {
        let mut group = self.new_group(name);
        let mut order: Vec<(&DecodeRow<'_>, usize)> = members
            .iter()
            .map(|(_, row)| (row, row.ids.len() - row.wanted))
            .collect();
        order.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
        let longest = order.first().map_or(0, |(_, length)| *length);
        let mut tokens = Vec::with_capacity(order.len());
        for left in (1..=longest).rev() {
            let present = order.iter().take_while(|(_, length)| *length >= left).count();
            while group.own.rows() < present {
                group.own.push_row();
            }
            self.gather_cross(&mut group, order[..present].iter().map(|(row, _)| row.cross))?;
            tokens.clear();
            tokens.extend(
                order[..present]
                    .iter()
                    .map(|(row, length)| row.ids[length - left]),
            );
            let cross = group
                .cross
                .as_ref()
                .ok_or_else(|| RunnerError::new("no cross memory"))?;
            self.model
                .decode(&tokens, &mut group.own, cross)
                .map_err(RunnerError::new)?;
        }
        // Rows with nothing to rebuild are in the group too.
        while group.own.rows() < order.len() {
            group.own.push_row();
        }
        for (index, (row, _)) in order.iter().enumerate() {
            self.places.insert(row.row, Place { group: name, index });
        }
        self.groups.push(group);
        Ok(())
    }

    /// Cross memory by row; tensors are touched only when the rows' sequences have changed.
    fn gather_cross(
        &self,
        group: &mut Group,
        slots: impl Iterator<Item = CrossSlot>,
    ) -> Result<(), RunnerError> {
        let crosses = slots
            .map(|slot| self.cross(slot))
            .collect::<Result<Vec<_>, _>>()?;
        if group.cross.is_some() && crosses.iter().map(|c| c.stamp).eq(group.stamps.iter().copied()) {
            return Ok(());
        }
        let rows: Vec<&Cross> = crosses.iter().map(|c| &c.cross).collect();
        match &mut group.cross {
            Some(batch) => batch.regather(&rows),
            None => CrossBatch::gather(&self.model, &rows).map(|batch| group.cross = Some(batch)),
        }
        .map_err(RunnerError::new)?;
        group.stamps = crosses.iter().map(|c| c.stamp).collect();
        Ok(())
    }

    fn tell_refusal(&mut self) {
        if self.refusal_told {
            return;
        }
        if let Some(reason) = self.steps.as_ref().and_then(Steps::refusal) {
            warn!(
                reason,
                "the device does not record decode steps; they are slower, their text is the same"
            );
            self.refusal_told = true;
        }
    }

    fn new_group(&mut self, name: u64) -> Group {
        if let Some(spare) = self.spare.take() {
            return Group { name, ..spare };
        }
        Group {
            name,
            own: OwnKv::empty(&self.model),
            cross: None,
            stamps: Vec::new(),
        }
    }

    fn name_group(&mut self) -> u64 {
        self.next_group += 1;
        self.next_group
    }

    /// One decoder pass, of which nobody need read the logits: of several ranks one does.
    pub(super) fn decode_for(
        &mut self,
        rows: &[DecodeRow<'_>],
        logits: Option<&mut Logits<'_>>,
    ) -> Result<(), RunnerError> {
        let done = self.try_decode(rows, logits);
        // Own memory of rows that were not named is dropped here (their group may be whole without them), and so is
        // that of a failed group, which has not been put back.
        let groups = &self.groups;
        self.places.retain(|slot, place| {
            groups.iter().any(|g| g.name == place.group) && rows.iter().any(|row| row.row == *slot)
        });
        self.sweep();
        done
    }

    fn try_decode(
        &mut self,
        rows: &[DecodeRow<'_>],
        mut logits: Option<&mut Logits<'_>>,
    ) -> Result<(), RunnerError> {
        let mut first_line = Vec::with_capacity(rows.len());
        let mut lines = 0;
        for row in rows {
            if row.wanted == 0 || row.wanted > row.ids.len() || row.kept >= row.ids.len() {
                return Err(RunnerError::new(format!(
                    "this is a bug: {:?} asks for the impossible",
                    row.row
                )));
            }
            first_line.push(lines);
            lines += row.wanted;
        }
        if let Some(room) = logits.as_ref().map(|l| l.lines()).filter(|room| *room != lines) {
            return Err(RunnerError::new(format!(
                "this is a bug: {lines} lines wanted, room for {room}"
            )));
        }
        // By group; rows that lack more than they want are rebuilt; new ones join the first group of the step.
        let mut batches: Vec<(u64, Vec<(usize, DecodeRow<'_>)>)> = Vec::new();
        let mut lacking = Vec::new();
        let mut new = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let (held, group) = self.held(row);
            if row.ids.len() - held > row.wanted {
                lacking.push((at, *row));
            } else if let Some(name) = group {
                match batches.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, members)) => members.push((at, *row)),
                    None => batches.push((name, vec![(at, *row)])),
                }
            } else {
                new.push((at, *row));
            }
        }
        if !lacking.is_empty() {
            let name = self.name_group();
            self.rebuild(name, &lacking)?;
            batches.push((name, lacking));
        }
        if !new.is_empty() {
            match batches.iter_mut().max_by_key(|(_, members)| members.len()) {
                Some((_, members)) => members.extend(new),
                None => {
                    let name = self.name_group();
                    batches.push((name, new));
                }
            }
        }
        for (name, members) in &batches {
            self.decode_group(*name, members, &first_line, logits.as_deref_mut())?;
        }
        Ok(())
    }

    /// Groups that no row lives in hold memory for nothing.
    fn sweep(&mut self) {
        let places = &self.places;
        let ended = self.groups.extract_if(.., |group| {
            !places.values().any(|place| place.group == group.name)
        });
        let mut ended: Vec<Group> = ended.collect();
        if self.steps.is_some()
            && self.spare.is_none()
            && let Some(mut group) = ended.pop()
            && group.own.select(&[]).is_ok()
        {
            self.spare = Some(group);
        }
    }
}

impl Runner for ModelRunner {
    fn shape(&self) -> Shape {
        let spec = self.model.spec();
        Shape {
            // Products of other sizes are summed in another order.
            exact_drafts: false,
            vocab: spec.vocab,
            decoder_start: spec.decoder_start,
            prompt_positions_max: spec.positions_max,
            own_positions_max: spec.positions_max,
            pair_tables: spec.pair_tables,
            encode_cost: EncodeCost::Padded,
        }
    }

    fn encode(&mut self, jobs: &[EncodeJob<'_>]) -> Result<(), RunnerError> {
        let ids: Vec<&[u32]> = jobs.iter().map(|job| job.ids).collect();
        let pairs = self
            .model
            .spec()
            .pair_tables
            .map(|_| -> Vec<PairRows> { jobs.iter().map(|job| job.pairs.unwrap_or_default()).collect() });
        let encoded = self
            .model
            .encode(&ids, pairs.as_deref())
            .map_err(RunnerError::new)?;
        let crosses = self.model.cross(&encoded).map_err(RunnerError::new)?;
        if crosses.len() != jobs.len() {
            return Err(RunnerError::new(format!(
                "{} of {} prompts were encoded",
                crosses.len(),
                jobs.len()
            )));
        }
        for (job, cross) in jobs.iter().zip(crosses) {
            self.stamp += 1;
            self.crosses.insert(
                job.cross,
                Stamped {
                    stamp: self.stamp,
                    cross,
                },
            );
        }
        Ok(())
    }

    fn decode(&mut self, rows: &[DecodeRow<'_>], logits: &mut Logits<'_>) -> Result<(), RunnerError> {
        self.decode_for(rows, Some(logits))
    }

    fn reorder(&mut self, moves: &[RowMove]) {
        let sources: Vec<Option<Place>> = moves.iter().map(|m| self.places.get(&m.from).copied()).collect();
        for (m, source) in moves.iter().zip(sources) {
            match source {
                Some(place) => self.places.insert(m.to, place),
                None => self.places.remove(&m.to),
            };
        }
    }

    fn release_rows(&mut self, rows: &[RowSlot]) {
        for row in rows {
            self.places.remove(row);
        }
        self.sweep();
    }

    fn release_cross(&mut self, cross: CrossSlot) {
        self.crosses.remove(&cross);
    }

    fn bytes(&self) -> usize {
        let own: usize = self
            .groups
            .iter()
            .chain(&self.spare)
            .map(|g| g.own.bytes() + g.cross.as_ref().map_or(0, CrossBatch::bytes))
            .sum();
        own + self.crosses.values().map(|c| c.cross.bytes()).sum::<usize>()
    }

    fn page(&self) -> Option<Page> {
        Some(Page {
            tokens: 1,
            bytes: self.model.position_bytes(),
            spare: 0,
            layout: Layout::Rectangles,
        })
    }

    fn memory_free(&self) -> Option<u64> {
        self.model.memory_free()
    }

    fn memory_peak(&mut self) -> Option<u64> {
        let peak = self.model.memory_peak();
        if peak.is_none() && !self.model.device().is_cpu() && !self.silence_told {
            self.silence_told = true;
            warn!(
                "the device does not say how much of its memory steps work with, so none of it is set aside; lower memory_percent_max \
                 where it runs out"
            );
        }
        peak
    }
}

impl fmt::Debug for ModelRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRunner")
            .field("crosses", &self.crosses.len())
            .field("groups", &self.groups.len())
            .field("rows", &self.places.len())
            .finish_non_exhaustive()
    }
}

/// `None` where one of the lines is to be read whole.
fn read_likeliest(told: &Tensor, pieces: &Pieces) -> Result<Option<Vec<Likeliest>>, RunnerError> {
    let mut found = None;
    with_numbers(told, |numbers| {
        found = numbers
            .chunks(pieces.width())
            .map(|line| pieces.read(line))
            .collect();
    })?;
    Ok(found)
}

/// Hands out the numbers of an f32 tensor; on a CPU without a copy.
fn with_numbers(tensor: &Tensor, read: impl FnOnce(&[f32])) -> Result<(), RunnerError> {
    let tensor = tensor.contiguous().map_err(RunnerError::new)?;
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(cpu), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
            let numbers = cpu.as_slice::<f32>().map_err(RunnerError::new)?;
            read(&numbers[from..to]);
            return Ok(());
        }
    }
    let numbers = tensor
        .flatten_all()
        .and_then(|t| t.to_vec1::<f32>())
        .map_err(RunnerError::new)?;
    read(&numbers);
    Ok(())
}
