//! Speed of attention by how keys and values are held: `cargo run --release -p refract-kernel --example attention [ISA]`.
//!
//! `packed` is a layer of an encoder, four sequences of 160 tokens; `paged` a layer of a decoder, so many rows that each read
//! 160 positions of their own, in as many copies as do not fit a cache.

use std::time::Instant;

use refract_kernel::{
    Element, Isa, Kernels, KeyValueRows, MemoryShape, PAGE, Packed, Paged, Pages, Place, Reader,
};

const HEADS: usize = 12;
const DIM: usize = 64;
const INNER: usize = HEADS * DIM;
const LENGTH: usize = 160;

fn main() {
    let isa = std::env::args()
        .nth(1)
        .map_or_else(Isa::best, |name| name.parse().expect("an instruction set"));
    let kernels = Kernels::new(isa, 1).expect("available");
    let numbers =
        |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 255) as f32 / 127.0 - 1.0).collect() };
    let lengths = [LENGTH; 4];
    let qkv = numbers(lengths.len() * LENGTH * 3 * INNER);
    let mut out = vec![0.0; lengths.len() * LENGTH * INNER];
    for bytes in [false, true] {
        let how = Packed {
            heads: HEADS,
            head_dim: DIM,
            scale: 0.125,
            lengths: &lengths,
            bias: None,
            bytes,
        };
        let time = fastest(|_| kernels.attend_packed(&how, &qkv, &mut out));
        println!(
            "{isa} packed {:6} {:9.1} µs",
            if bytes { "bytes" } else { "f32" },
            time * 1e6
        );
    }
    for element in [Element::F32, Element::Half, Element::Byte] {
        let layers = 8;
        let mut pages = Pages::new(MemoryShape {
            layers,
            heads: HEADS,
            head_dim: DIM,
            element,
        });
        for rows in [1, 4, 32] {
            let each = LENGTH / PAGE;
            while (pages.count() as usize) < rows * each {
                pages.grow();
            }
            let places: Vec<Place> = (0..rows * LENGTH)
                .map(|i| Place {
                    page: (i / PAGE) as u32,
                    slot: (i % PAGE) as u32,
                })
                .collect();
            let data = numbers(rows * LENGTH * 2 * INNER);
            let begin = Instant::now();
            for layer in 0..layers {
                let rows = KeyValueRows {
                    data: &data,
                    stride: 2 * INNER,
                    keys: 0,
                    values: INNER,
                };
                pages.write(&kernels, layer, &places, rows);
            }
            let written = begin.elapsed().as_secs_f64() / layers as f64;
            let lists: Vec<Vec<u32>> = (0..rows)
                .map(|r| (0..each).map(|p| (r * each + p) as u32).collect())
                .collect();
            let readers: Vec<Reader<'_>> = lists
                .iter()
                .map(|pages| Reader {
                    pages,
                    queries: 1,
                    visible: LENGTH,
                    grows: false,
                })
                .collect();
            let mut out = vec![0.0; rows * INNER];
            let time = fastest(|i| {
                let how = Paged {
                    pages: &pages,
                    layer: i % layers,
                    scale: 0.125,
                    bias: None,
                };
                kernels.attend_paged(&how, &readers, &qkv[..rows * INNER], INNER, &mut out);
            });
            println!(
                "{isa} paged  {:6} {rows:3} rows {:9.1} µs, written in {:9.1} µs",
                format!("{element:?}"),
                time * 1e6,
                written * 1e6
            );
        }
    }
}

/// The fastest of many: whatever else a machine does only adds.
fn fastest(mut job: impl FnMut(usize)) -> f64 {
    let (mut times, begin) = (Vec::new(), Instant::now());
    while times.len() < 9 || begin.elapsed().as_millis() < 200 {
        let start = Instant::now();
        job(times.len());
        times.push(start.elapsed().as_secs_f64());
    }
    times.into_iter().fold(f64::INFINITY, f64::min)
}
