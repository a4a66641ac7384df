//! What kernels cost on one thread, by instruction set: products by shape and weights, attention by how keys and values are held, and what
//! passes over rows. The shapes are BART-base's.
//!
//! `cargo bench -p refract-kernel --bench kernels`, or a part of it: `… -- products/vnni/int8`, `… -- attention`, `… -- rows`.
//! `REFRACT_CPU=avx2` forces a lower instruction set on attention and rows; products are measured on all that the processor has.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use refract_kernel::{
    Activation, Element, Finish, Isa, Kernels, KeyValueRows, Matrix, MemoryShape, PAGE, Packed, Paged, Pages,
    Part, Place, Precision, Reader, Scratch,
};

/// Outputs × inputs: attention's own, keys and values with it, feed-forward there and back, head.
const SHAPES: [(usize, usize); 5] = [(768, 768), (2304, 768), (3072, 768), (768, 3072), (50_265, 768)];
/// Rows of a decode step of one, of many, and of an encoder's batch.
const ROWS: [usize; 4] = [1, 4, 32, 160];
/// Of the head nothing but a decode step's rows are multiplied.
const HEAD_ROWS_MAX: usize = 32;
/// So many bytes of copies, that a small matrix is not answered from a cache when a decode step would not be.
const COPIES_BYTES: usize = 64 << 20;

const HEADS: usize = 12;
const HEAD_DIM: usize = 64;
const WIDTH: usize = HEADS * HEAD_DIM;
const LENGTH: usize = 160;
const LAYERS: usize = 6;

/// Between -1 and 1, without a pattern that products would notice.
fn numbers(many: usize) -> Vec<f32> {
    (0..many)
        .map(|i| ((i * 7919) % 255) as f32 / 127.0 - 1.0)
        .collect()
}

fn kernels(isa: Isa) -> Kernels {
    Kernels::new(isa, 1).expect("an instruction set that the processor has")
}

fn products(c: &mut Criterion) {
    let precisions = [
        ("f32", Precision::F32),
        ("int8", Precision::Int8),
        ("int4", Precision::Int4),
    ];
    // The scalar version is the reference that the others are tested against: nobody waits for it.
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar) {
        let kernels = kernels(isa);
        for (name, precision) in precisions {
            let mut group = c.benchmark_group(format!("products/{isa}/{name}"));
            for (outputs, inputs) in SHAPES {
                product(&mut group, &kernels, precision, outputs, inputs);
            }
        }
    }
}

fn product(
    group: &mut BenchmarkGroup<'_, WallTime>,
    kernels: &Kernels,
    precision: Precision,
    outputs: usize,
    inputs: usize,
) {
    // Packing is slow, four bits search their scales: nothing is packed for what the command line leaves out.
    let mut weights: Vec<Matrix> = Vec::new();
    for rows in ROWS {
        if outputs > 10_000 && rows > HEAD_ROWS_MAX {
            continue;
        }
        // Multiply-adds, two operations each.
        group.throughput(Throughput::Elements((2 * rows * outputs * inputs) as u64));
        group.bench_function(BenchmarkId::new(format!("{outputs}x{inputs}"), rows), |bench| {
            if weights.is_empty() {
                let weight = numbers(outputs * inputs);
                let parts = [Part {
                    weight: &weight,
                    bias: None,
                }];
                let pack = || Matrix::pack(precision, inputs, &parts).expect("sound weights");
                weights.push(pack());
                let more = COPIES_BYTES / weights[0].bytes();
                weights.extend((0..more).map(|_| pack()));
            }
            let (x, mut y) = (numbers(rows * inputs), vec![0.0; rows * outputs]);
            let (mut scratch, mut turn) = (Scratch::new(), 0);
            bench.iter(|| {
                turn += 1;
                let weights = &weights[turn % weights.len()];
                kernels.multiply(black_box(&x), weights, Finish::default(), &mut y, &mut scratch);
            });
        });
    }
}

fn attention(c: &mut Criterion) {
    let kernels = kernels(Isa::from_environment().expect("REFRACT_CPU names an instruction set"));
    let mut group = c.benchmark_group(format!("attention/{}", kernels.isa()));
    // A layer of an encoder: four sequences.
    let lengths = [LENGTH; 4];
    let qkv = numbers(lengths.len() * LENGTH * 3 * WIDTH);
    for (name, bytes) in [("f32", false), ("bytes", true)] {
        let how = Packed {
            heads: HEADS,
            head_dim: HEAD_DIM,
            scale: 0.125,
            lengths: &lengths,
            bias: None,
            bytes,
        };
        let mut out = vec![0.0; lengths.len() * LENGTH * WIDTH];
        group.bench_function(BenchmarkId::new("packed", name), |bench| {
            bench.iter(|| kernels.attend_packed(&how, black_box(&qkv), &mut out));
        });
    }
    // A layer of a decoder: each row reads as many positions of its own. Layers in turns, or all would stay in the cache.
    for element in [Element::F32, Element::Half, Element::Byte] {
        for rows in [1, 4, 32] {
            let each = LENGTH / PAGE;
            let pages = written(&kernels, element, rows);
            let lists: Vec<Vec<u32>> = (0..rows)
                .map(|row| (0..each).map(|page| (row * each + page) as u32).collect())
                .collect();
            let reader = |pages| Reader {
                pages,
                queries: 1,
                visible: LENGTH,
                grows: false,
            };
            let readers: Vec<Reader<'_>> = lists.iter().map(|pages| reader(&pages[..])).collect();
            let (queries, mut out) = (&qkv[..rows * WIDTH], vec![0.0; rows * WIDTH]);
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(format!("paged {element:?}"), rows), |bench| {
                bench.iter(|| {
                    turn += 1;
                    let how = Paged {
                        pages: &pages,
                        layer: turn % LAYERS,
                        scale: 0.125,
                        bias: None,
                    };
                    kernels.attend_paged(&how, &readers, black_box(queries), WIDTH, &mut out);
                });
            });
        }
    }
}

/// Memory in which every row's positions are written, in all layers.
fn written(kernels: &Kernels, element: Element, rows: usize) -> Pages {
    let mut pages = Pages::new(MemoryShape {
        layers: LAYERS,
        heads: HEADS,
        head_dim: HEAD_DIM,
        element,
    });
    let positions = rows * LENGTH;
    while pages.count() as usize * PAGE < positions {
        pages.grow();
    }
    let place = |at: usize| Place {
        page: (at / PAGE) as u32,
        slot: (at % PAGE) as u32,
    };
    let places: Vec<Place> = (0..positions).map(place).collect();
    let data = numbers(positions * 2 * WIDTH);
    for layer in 0..LAYERS {
        let rows = KeyValueRows {
            data: &data,
            stride: 2 * WIDTH,
            keys: 0,
            values: WIDTH,
        };
        pages.write(kernels, layer, &places, rows);
    }
    pages
}

fn rows(c: &mut Criterion) {
    let kernels = kernels(Isa::from_environment().expect("REFRACT_CPU names an instruction set"));
    let mut group = c.benchmark_group(format!("rows/{}", kernels.isa()));
    let (weight, bias) = (numbers(WIDTH), numbers(WIDTH));
    for rows in [1, 160] {
        let (x, wide) = (numbers(rows * WIDTH), numbers(rows * 4 * WIDTH));
        group.throughput(Throughput::Elements((rows * WIDTH) as u64));
        let mut y = x.clone();
        group.bench_function(BenchmarkId::new("layer norm", rows), |bench| {
            bench.iter(|| kernels.layer_norm(black_box(&mut y), &weight, &bias, 1e-5));
        });
        group.bench_function(BenchmarkId::new("rms norm", rows), |bench| {
            bench.iter(|| kernels.rms_norm(black_box(&x), &weight, 1e-6, &mut y));
        });
        group.bench_function(BenchmarkId::new("add", rows), |bench| {
            bench.iter(|| kernels.add(black_box(&mut y), &x));
        });
        group.throughput(Throughput::Elements(wide.len() as u64));
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Silu] {
            // Always the same numbers: applied again and again in place, they would all go to 0.
            let mut place = wide.clone();
            group.bench_function(BenchmarkId::new(format!("copy, {activation:?}"), rows), |bench| {
                bench.iter(|| {
                    place.copy_from_slice(&wide);
                    kernels.activate(activation, black_box(&mut place));
                });
            });
        }
        let mut half = vec![0.0; rows * 2 * WIDTH];
        group.bench_function(BenchmarkId::new("gate, GeluTanh", rows), |bench| {
            bench.iter(|| kernels.gate(Activation::GeluTanh, black_box(&wide), 2 * WIDTH, &mut half));
        });
    }
}

criterion_group! {
    name = all;
    // Half a second each is enough to tell a tenth, and there are many.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(20);
    targets = products, attention, rows
}
criterion_main!(all);
