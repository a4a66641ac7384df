//! The best of a catalogue of vectors, on request, exactly or among a share of it: the worker of `tests/bench/run ranker`.
//!
//! ```text
//! retrieval VECTORS QUERIES WIDTH     files of f32, little-endian, row by row
//! ```
//!
//! Says one line when it is ready; then, for each line `{"k": 100}` or `{"k": 100, "share": 0.1}` it reads, one with the seconds of every query and the places of
//! its best.

use std::io::{BufRead as _, Write as _};
use std::time::Instant;

use refract_ranker::retrieval::{Linear, Lists, Matrix, Sketch};
use serde_json::{Value, json};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or_else(|| anyhow::anyhow!("{what} is missing"));
    let begun = Instant::now();
    let (vectors, queries) = (numbers(&next("VECTORS")?)?, numbers(&next("QUERIES")?)?);
    let width: usize = next("WIDTH")?.parse()?;
    let rows = Matrix::new(width, vectors);
    let sketch = Sketch::of(&rows);
    let lists = Lists::of(&rows);
    let mut out = std::io::stdout().lock();
    let load_s = begun.elapsed().as_secs_f64();
    writeln!(
        out,
        "{}",
        json!({ "ready": format!("{} rows of {width}", rows.rows()), "load_s": load_s })
    )?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let k = asked["k"].as_u64().unwrap_or(100) as usize;
        let (mut seconds, mut ids) = (Vec::new(), Vec::new());
        for query in queries.chunks_exact(width) {
            let begun = Instant::now();
            let linear = Linear {
                rows: &rows,
                query,
                boosts: &[],
                sketch: sketch.as_ref(),
            };
            let best = match (asked["share"].as_f64(), &lists) {
                (Some(share), Some(lists)) => lists.top_k(&linear, share as f32, k, |_| true),
                _ => linear.top_k(k, |_| true),
            };
            seconds.push(begun.elapsed().as_secs_f64());
            ids.push(best.iter().map(|scored| scored.item).collect::<Vec<_>>());
        }
        writeln!(out, "{}", json!({ "seconds": seconds, "ids": ids }))?;
        out.flush()?;
    }
    Ok(())
}

fn numbers(file: &str) -> anyhow::Result<Vec<f32>> {
    let bytes = std::fs::read(file)?;
    let whole = bytes.chunks_exact(4);
    Ok(whole
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect())
}
