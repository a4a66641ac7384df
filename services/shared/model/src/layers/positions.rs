//! Ids as rows of a table, and who may see whom: padding, age, order.

use candle_core::{DType, Device, Result, Tensor};

/// Rows of `table` `[n, width]` for ids `[b, t]`: `[b, t, width]`.
pub(crate) fn embed(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (b, t) = ids.dims2()?;
    let ids = ids.flatten_all()?;
    let rows = if table.track_op() && table.dtype() != DType::F32 {
        // Mixed precision: a frequent id's gradient is a sum of many.
        let rows = table.to_dtype(DType::F32)?.index_select(&ids, 0)?;
        rows.to_dtype(table.dtype())?
    } else {
        table.index_select(&ids, 0)?
    };
    rows.reshape((b, t, table.dim(1)?))
}

/// Ragged ids as `[sequences, longest]`, filled with `pad`.
pub(crate) fn padded(ids: &[&[u32]], pad: u32, device: &Device) -> Result<Tensor> {
    let longest = ids.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut flat = Vec::with_capacity(ids.len() * longest);
    for sequence in ids {
        flat.extend_from_slice(sequence);
        flat.resize(flat.len() + longest - sequence.len(), pad);
    }
    Tensor::from_vec(flat, (ids.len(), longest), device)
}

/// `[b, 1, 1, longest]`: 0 where there is a token, −∞ where there is padding; nothing if all are equally long.
pub(crate) fn padding_mask(lengths: &[usize], longest: usize, device: &Device) -> Result<Option<Tensor>> {
    if lengths.iter().all(|n| *n == longest) {
        return Ok(None);
    }
    let mut mask = vec![0_f32; lengths.len() * longest];
    for (row, n) in mask.chunks_mut(longest).zip(lengths) {
        row[*n..].fill(f32::NEG_INFINITY);
    }
    Tensor::from_vec(mask, (lengths.len(), 1, 1, longest), device).map(Some)
}

/// The ages for which numbers of position are computed: one where all rows are equally old, else each row's.
pub(crate) fn planes(ages: &[usize]) -> &[usize] {
    let same = ages.windows(2).all(|pair| pair[0] == pair[1]);
    if same { &ages[..ages.len().min(1)] } else { ages }
}

/// `value(query position, column)` for each of `t` new tokens of each plane and each of `columns` columns: `[planes, t,
/// columns]`.
///
/// A row's tokens lie in columns 0.., so its column is also its position.
pub(crate) fn over_columns<T>(
    planes: &[usize],
    t: usize,
    columns: usize,
    mut value: impl FnMut(usize, usize) -> T,
) -> Vec<T> {
    let mut values = Vec::with_capacity(planes.len() * t * columns);
    for age in planes {
        for i in 0..t {
            values.extend((0..columns).map(|column| value(age + i, column)));
        }
    }
    values
}

/// `[planes, 1, t, columns]`: 0, or −∞ for columns after a query's own; nothing where no column is.
pub(crate) fn causal_mask(planes: &[usize], t: usize, columns: usize) -> Option<Vec<f32>> {
    if t == 1 && planes.iter().all(|age| age + 1 == columns) {
        return None;
    }
    Some(over_columns(planes, t, columns, |position, column| {
        if column > position { f32::NEG_INFINITY } else { 0.0 }
    }))
}
