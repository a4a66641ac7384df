//! Weights in bytes or in four bits, as they are stored: a quarter or an eighth of the file, and nothing left to do at load but
//! to lay them out.
//!
//! A directory in the Hugging Face layout whose one `model.safetensors` holds, for each quantised tensor `W` of shape
//! `[rows, width]`, `W` itself as `I8`, −127 to 127, and `W_scale` of shape `[rows]` as `F32`, above 0: the number that is
//! meant is byte × scale of its row. All other tensors are as they were. The file's metadata says
//! `"quantisation": "int8-rows-1"`. Loading is as strict as ever: names, shapes, and the file's length to the byte.
//!
//! With four bits, metadata `"int4-groups-1"`, matrices of attention and feed-forward layers and the head are narrower: `W` is
//! `U8` of shape `[rows, width / 2]`, each half of a byte (the lower first) a number of −8 to 7 plus 8; `W_share`, `I8` of shape
//! `[rows, width / 32]` rounded up, holds for each group of 32 numbers a whole number of −15 to 15, not 0; what is meant is
//! number × share × scale of the row. Tables that are only looked up, and matrices of odd width, stay in bytes.
//!
//! Quantised are the matrices of attention and feed-forward layers, the embeddings and the head. Positions, norms, biases,
//! the gate of the pair tables, and T5's `wo`, whose inputs have outliers that one scale a row does not survive, are not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use candle_core::DType;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::Error;
use crate::stored::Stored;

/// Ends the name of the tensor that holds the scales of another.
pub(crate) const SCALE: &str = "_scale";
/// Ends the name of the tensor that holds the shares of another's groups.
pub(crate) const SHARE: &str = "_share";
/// Numbers that have a share together.
pub(crate) const GROUP: usize = 32;
/// Key of the file's metadata.
const METADATA: &str = "quantisation";

/// Fills a row's numbers and the shares of its groups, and returns its scale.
pub type QuantiseNibbles = fn(&[f32], &mut [i8], &mut [i8]) -> f32;

/// How matrices are made smaller. Each function fills a row and returns its scale.
#[derive(Clone, Copy, Debug)]
pub struct Quantisers {
    pub bytes: fn(&[f32], &mut [i8]) -> f32,
    /// For matrices that get four bits; where absent, they get bytes.
    pub nibbles: Option<QuantiseNibbles>,
}

/// How a tensor is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    AsItWas,
    Bytes,
    Nibbles,
}

/// Whether a tensor of this name is held in bytes where weights are.
pub fn is_quantised(name: &str) -> bool {
    let kept = [
        "embed_positions.weight",
        "relative_attention_bias.weight",
        "layernorm_embedding.weight",
        ".wo.weight",
    ];
    name.ends_with(".weight")
        && !name.ends_with("layer_norm.weight")
        && !name.contains("user_item_proj")
        && !kept.iter().any(|end| name.ends_with(end))
}

/// Whether a tensor that [`is_quantised`] is one that is multiplied by: not a table that is only looked up.
pub fn is_matrix(name: &str, own_head: bool) -> bool {
    let shared = name == "shared.weight" || name == "model.shared.weight";
    let table = name.ends_with("_whole_embeddings.weight");
    is_quantised(name) && !table && !(shared && own_head)
}

/// Two numbers of −8..=7 in a byte, the first in the lower half.
pub(crate) fn join(pair: &[i8]) -> u8 {
    let half = |n: i8| (n + 8).cast_unsigned() & 15;
    half(pair[0]) | half(pair[1]) << 4
}

/// The two numbers of a byte.
pub(crate) fn part(byte: u8) -> [i8; 2] {
    [byte & 15, byte >> 4].map(|half| half.cast_signed() - 8)
}

/// Writes the weights of `stored` to the new file `to`. Returns how many tensors are quantised. Of the weights, little more than
/// a megabyte is held at a time.
pub fn write(stored: &Stored, to: &Path, how: &Quantisers) -> Result<usize, Error> {
    let failed = |source| Error::Write {
        file: to.to_owned(),
        source,
    };
    let checkpoint = stored.checkpoint();
    let (plan, metadata) = plan(stored, how.nibbles.is_some())?;
    let mut header = serde_json::to_vec(&metadata).map_err(|e| failed(e.into()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let data_begin = 8 + header.len() as u64;
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(to).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| file.write_all(&header))
        .map_err(failed)?;
    let at = |file: &mut BufWriter<File>, offset: usize, bytes: &[u8]| {
        file.seek(SeekFrom::Start(data_begin + offset as u64))
            .and_then(|_| file.write_all(bytes))
            .map_err(failed)
    };
    let mut quantised = 0;
    for tensor in plan {
        if tensor.held == Held::AsItWas {
            at(&mut file, tensor.at, &checkpoint.raw(&tensor.name)?)?;
            continue;
        }
        quantised += 1;
        let (mut rows_at, mut shares_at, mut scales_at) = (tensor.at, tensor.shares_at, tensor.scales_at);
        let (width, groups) = (tensor.width.max(1), tensor.width.div_ceil(GROUP).max(1));
        let (mut numbers, mut shares): (Vec<i8>, Vec<i8>) = (Vec::new(), Vec::new());
        stored.rows(&tensor.name, |rows| {
            let mut floats = Vec::new();
            rows.push_to(&mut floats);
            numbers.resize(floats.len(), 0);
            shares.resize(floats.len() / width * groups, 0);
            let mut scales = Vec::with_capacity(floats.len() / width * 4);
            for (i, row) in floats.chunks_exact(width).enumerate() {
                let numbers = &mut numbers[i * width..][..width];
                let scale = match how.nibbles.filter(|_| tensor.held == Held::Nibbles) {
                    Some(quantise) => quantise(row, numbers, &mut shares[i * groups..][..groups]),
                    None => (how.bytes)(row, numbers),
                };
                if !scale.is_finite() {
                    return Err(Error::Input {
                        field: "weights",
                        reason: format!("tensor {} holds NaN or infinity", tensor.name),
                    });
                }
                scales.extend(scale.to_le_bytes());
            }
            let unsigned = |from: &[i8]| from.iter().map(|b| b.cast_unsigned()).collect::<Vec<u8>>();
            let rows = if tensor.held == Held::Nibbles {
                at(&mut file, shares_at, &unsigned(&shares))?;
                shares_at += shares.len();
                numbers.chunks_exact(2).map(join).collect()
            } else {
                unsigned(&numbers)
            };
            at(&mut file, rows_at, &rows)?;
            at(&mut file, scales_at, &scales)?;
            rows_at += rows.len();
            scales_at += scales.len();
            Ok(())
        })?;
    }
    let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(quantised)
}

struct Planned {
    name: String,
    width: usize,
    held: Held,
    /// Bytes from the start of the data.
    at: usize,
    shares_at: usize,
    scales_at: usize,
}

/// Lays tensors out: those of four bytes first, so that all are aligned.
fn plan(stored: &Stored, nibbles: bool) -> Result<(Vec<Planned>, Metadata), Error> {
    let mut infos: Vec<(String, Dtype, Vec<usize>)> = Vec::new();
    let mut plan: Vec<Planned> = Vec::new();
    for (name, shape, dtype) in stored.checkpoint().tensors() {
        let held = match shape {
            [_, width] if nibbles && is_matrix(name, stored.own_head()) && width % 2 == 0 => Held::Nibbles,
            [_, _] if is_quantised(name) => Held::Bytes,
            _ => Held::AsItWas,
        };
        let (rows, width) = (
            shape.first().copied().unwrap_or(1),
            shape.last().copied().unwrap_or(1),
        );
        match held {
            Held::AsItWas => {
                let dtype = match dtype {
                    Some(DType::F64) => Dtype::F64,
                    Some(DType::F32) => Dtype::F32,
                    Some(DType::F16) => Dtype::F16,
                    Some(DType::BF16) => Dtype::BF16,
                    other => {
                        return Err(Error::Input {
                            field: "weights",
                            reason: format!("tensor {name} is stored as {other:?}, which is not quantised"),
                        });
                    }
                };
                infos.push((name.to_owned(), dtype, shape.to_vec()));
            }
            Held::Bytes => infos.push((name.to_owned(), Dtype::I8, shape.to_vec())),
            Held::Nibbles => {
                infos.push((name.to_owned(), Dtype::U8, vec![rows, width / 2]));
                infos.push((
                    format!("{name}{SHARE}"),
                    Dtype::I8,
                    vec![rows, width.div_ceil(GROUP)],
                ));
            }
        }
        if held != Held::AsItWas {
            infos.push((format!("{name}{SCALE}"), Dtype::F32, vec![rows]));
        }
        plan.push(Planned {
            name: name.to_owned(),
            width,
            held,
            at: 0,
            shares_at: 0,
            scales_at: 0,
        });
    }
    // Stable: equals stay in the order of names.
    infos.sort_by_key(|(_, dtype, _)| std::cmp::Reverse(dtype.bitsize()));
    let mut begin = 0;
    let mut offsets = HashMap::with_capacity(infos.len());
    let infos = infos
        .into_iter()
        .map(|(name, dtype, shape)| {
            let end = begin + shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let info = TensorInfo {
                dtype,
                shape,
                data_offsets: (begin, end),
            };
            offsets.insert(name.clone(), begin);
            begin = end;
            (name, info)
        })
        .collect();
    let offset = |name: &str, end: &str| offsets.get(&format!("{name}{end}")).copied().unwrap_or(0);
    for tensor in &mut plan {
        tensor.at = offsets[&tensor.name];
        tensor.shares_at = offset(&tensor.name, SHARE);
        tensor.scales_at = offset(&tensor.name, SCALE);
    }
    let format = if nibbles { "int4-groups-1" } else { "int8-rows-1" };
    let about = [("format", "pt"), (METADATA, format)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let metadata = Metadata::new(Some(about.into()), infos).map_err(|e| Error::Input {
        field: "weights",
        reason: e.to_string(),
    })?;
    Ok((plan, metadata))
}
