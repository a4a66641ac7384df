//! Weights in bytes, as they are stored: half or a quarter of the file, and nothing left to do at load but to lay them out.
//!
//! A directory in the Hugging Face layout whose one `model.safetensors` holds, for each quantised tensor `W` of shape
//! `[rows, width]`, `W` itself as `I8`, −127 to 127, and `W_scale` of shape `[rows]` as `F32`, above 0: the number that is
//! meant is byte × scale of its row. All other tensors are as they were. The file's metadata says
//! `"quantisation": "int8-rows-1"`. Loading is as strict as ever: names, shapes, and the file's length to the byte.
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
/// Key and value of the file's metadata.
const METADATA: (&str, &str) = ("quantisation", "int8-rows-1");

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

/// Writes the weights of `stored` to the new file `to`. `quantise` fills a row of bytes and returns its scale. Returns how
/// many tensors are held in bytes. Of the weights, little more than a megabyte is held at a time.
pub fn write(
    stored: &Stored,
    to: &Path,
    mut quantise: impl FnMut(&[f32], &mut [i8]) -> f32,
) -> Result<usize, Error> {
    let failed = |source| Error::Write {
        file: to.to_owned(),
        source,
    };
    let checkpoint = stored.checkpoint();
    let (plan, metadata) = plan(stored)?;
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
        let Some(scales_at) = tensor.scales_at else {
            at(&mut file, tensor.at, &checkpoint.raw(&tensor.name)?)?;
            continue;
        };
        quantised += 1;
        let (mut bytes_at, mut scales_at) = (tensor.at, scales_at);
        let mut bytes: Vec<i8> = Vec::new();
        stored.rows(&tensor.name, |rows| {
            let mut floats = Vec::new();
            rows.push_to(&mut floats);
            bytes.resize(floats.len(), 0);
            let width = tensor.width.max(1);
            let mut scales = Vec::with_capacity(floats.len() / width * 4);
            for (row, bytes) in floats.chunks_exact(width).zip(bytes.chunks_exact_mut(width)) {
                let scale = quantise(row, bytes);
                if !scale.is_finite() {
                    return Err(Error::Input {
                        field: "weights",
                        reason: format!("tensor {} holds NaN or infinity", tensor.name),
                    });
                }
                scales.extend(scale.to_le_bytes());
            }
            let unsigned: Vec<u8> = bytes.iter().map(|b| b.cast_unsigned()).collect();
            at(&mut file, bytes_at, &unsigned)?;
            at(&mut file, scales_at, &scales)?;
            bytes_at += unsigned.len();
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
    /// Bytes from the start of the data.
    at: usize,
    scales_at: Option<usize>,
}

/// Lays tensors out: those of four bytes first, so that all are aligned.
fn plan(stored: &Stored) -> Result<(Vec<Planned>, Metadata), Error> {
    let mut infos: Vec<(String, Dtype, Vec<usize>)> = Vec::new();
    let mut plan: Vec<Planned> = Vec::new();
    for (name, shape, dtype) in stored.checkpoint().tensors() {
        let bytes = is_quantised(name) && shape.len() == 2;
        let dtype = match dtype {
            _ if bytes => Dtype::I8,
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
        if bytes {
            infos.push((format!("{name}{SCALE}"), Dtype::F32, vec![shape[0]]));
        }
        plan.push(Planned {
            name: name.to_owned(),
            width: shape.last().copied().unwrap_or(1),
            at: 0,
            scales_at: bytes.then_some(0),
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
    for tensor in &mut plan {
        tensor.at = offsets[&tensor.name];
        if let Some(at) = &mut tensor.scales_at {
            *at = offsets[&format!("{}{SCALE}", tensor.name)];
        }
    }
    let about = [("format", "pt"), METADATA].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let metadata = Metadata::new(Some(about.into()), infos).map_err(|e| Error::Input {
        field: "weights",
        reason: e.to_string(),
    })?;
    Ok((plan, metadata))
}
