//! Speed of products by shape and instruction set: `cargo run --release -p refract-kernel --example products`.

use std::time::Instant;

use refract_kernel::{Finish, Isa, Kernels, Matrix, Part, Precision, Scratch};

fn main() {
    // Outputs × inputs of BART-base: attention, feed-forward, head.
    let shapes = [(768, 768), (2304, 768), (3072, 768), (768, 3072), (50_265, 768)];
    println!(
        "{:8} {:>7} {:>6} {:>5} {:>10} {:>9} {:>8}",
        "isa", "out", "in", "rows", "µs", "GOP/s", "GB/s"
    );
    let filter: Vec<String> = std::env::args().skip(1).collect();
    for isa in Isa::available().into_iter().skip(1) {
        if !filter.is_empty() && !filter.iter().any(|f| f == isa.name()) {
            continue;
        }
        let kernels = Kernels::new(isa, 1).expect("available");
        for (n, k) in shapes {
            let weight: Vec<f32> = (0..n * k).map(|i| ((i * 7919) % 255) as f32 - 127.0).collect();
            // Several copies, so that a small matrix is not answered from the cache when a decode step would not be.
            let copies = (64 << 20) / (n * k) + 1;
            let w: Vec<Matrix> = (0..copies)
                .map(|_| {
                    Matrix::pack(
                        Precision::Int8,
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
                times.sort_by(f64::total_cmp);
                let median = times[times.len() / 2];
                let operations = 2.0 * (m * n * k) as f64;
                println!(
                    "{:8} {n:>7} {k:>6} {m:>5} {:>10.1} {:>9.1} {:>8.2}",
                    isa.name(),
                    median * 1e6,
                    operations / median / 1e9,
                    (n * k) as f64 / median / 1e9
                );
            }
        }
    }
}
