//! Speed of products by shape, weights and instruction set: `cargo run --release -p refract-kernel --example products`.
//! Arguments choose among instruction sets and weights: `vnni int4`.

use std::time::Instant;

use refract_kernel::{Finish, Isa, Kernels, Matrix, Part, Precision, Scratch};

fn main() {
    // Outputs × inputs of BART-base: attention, feed-forward, head.
    let shapes = [(768, 768), (2304, 768), (3072, 768), (768, 3072), (50_265, 768)];
    println!(
        "{:8} {:5} {:>7} {:>6} {:>5} {:>10} {:>9} {:>8}",
        "isa", "in", "out", "in", "rows", "µs", "GOP/s", "GB/s"
    );
    let filter: Vec<String> = std::env::args().skip(1).collect();
    for isa in Isa::available().into_iter().skip(1) {
        let chosen = |of: &[&str], name: &str| {
            !filter.iter().any(|f| of.contains(&f.as_str())) || filter.iter().any(|f| f == name)
        };
        if !chosen(&Isa::ALL.map(Isa::name), isa.name()) {
            continue;
        }
        let kernels = Kernels::new(isa, 1).expect("available");
        let weights = [("int8", Precision::Int8), ("int4", Precision::Int4)];
        let weights = weights
            .into_iter()
            .filter(|(name, _)| chosen(&["int8", "int4"], name));
        for ((name, precision), (n, k)) in weights.flat_map(|w| shapes.map(|s| (w, s))) {
            let weight: Vec<f32> = (0..n * k).map(|i| ((i * 7919) % 255) as f32 - 127.0).collect();
            // Several copies, so that a small matrix is not answered from the cache when a decode step would not be.
            let copies = (64 << 20) / (n * k) + 1;
            let w: Vec<Matrix> = (0..copies)
                .map(|_| {
                    Matrix::pack(
                        precision,
                        k,
                        &[Part {
                            weight: &weight,
                            bias: None,
                        }],
                    )
                    .expect("sound")
                })
                .collect();
            for m in [1, 4, 8, 16, 32, 160, 512] {
                if n > 10_000 && m > 32 {
                    continue;
                }
                let x: Vec<f32> = (0..m * k).map(|i| ((i * 31) % 101) as f32 / 50.0 - 1.0).collect();
                let mut y = vec![0.0; m * n];
                let mut scratch = Scratch::new();
                let mut times = Vec::new();
                let begin = Instant::now();
                let mut i = 0;
                while times.len() < 5 || begin.elapsed().as_millis() < 100 {
                    let start = Instant::now();
                    kernels.multiply(&x, &w[i % w.len()], Finish::default(), &mut y, &mut scratch);
                    times.push(start.elapsed().as_secs_f64());
                    i += 1;
                }
                // Whatever else a machine does only adds.
                let fastest = times.into_iter().fold(f64::INFINITY, f64::min);
                let operations = 2.0 * (m * n * k) as f64;
                println!(
                    "{:8} {name:5} {n:>7} {k:>6} {m:>5} {:>10.1} {:>9.1} {:>8.2}",
                    isa.name(),
                    fastest * 1e6,
                    operations / fastest / 1e9,
                    (n * k) as f64 / fastest / 1e9
                );
            }
        }
    }
}
