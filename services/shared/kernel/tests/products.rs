//! Products of every instruction set are the same bits, and close to those of exact arithmetic.

mod common;

use common::{Random, all, bits};
use refract_kernel::{
    Activation, Finish, GROUP, Isa, Kernels, Matrix, Packing, Part, Precision, SHARE_MAX, Scratch, Table,
    quantise_nibbles,
};

struct Case {
    m: usize,
    k: usize,
    n: usize,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Option<Vec<f32>>,
    start: Vec<f32>,
    finish: Finish,
}

fn case(random: &mut Random, m: usize, k: usize, n: usize) -> Case {
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::GeluErf,
        Activation::GeluTanh,
    ];
    Case {
        m,
        k,
        n,
        x: random.numbers(m * k),
        w: random.numbers(n * k),
        bias: (random.size(0, 1) == 1).then(|| random.numbers(n)),
        start: random.numbers(m * n),
        finish: Finish {
            activation: activations[random.size(0, 3)],
            add: random.size(0, 1) == 1,
        },
    }
}

fn product(kernels: &Kernels, c: &Case, precision: Precision, finish: Finish) -> Vec<f32> {
    let w = Matrix::pack(
        precision,
        c.k,
        &[Part {
            weight: &c.w,
            bias: c.bias.as_deref(),
        }],
    )
    .expect("sound");
    let mut y = c.start.clone();
    kernels.multiply(&c.x, &w, finish, &mut y, &mut Scratch::new());
    y
}

fn shapes(random: &mut Random) -> Vec<(usize, usize, usize)> {
    let mut shapes: Vec<_> = (1..=40)
        .map(|m| (m, random.size(1, 300), random.size(1, 130)))
        .collect();
    shapes.extend([
        (1, 64, 16),
        (4, 768, 100),
        (5, 64, 33),
        (16, 128, 32),
        (17, 65, 17),
        (33, 63, 15),
        (32, 200, 2500),
        (130, 96, 50),
    ]);
    shapes
}

#[test]
fn every_instruction_set_gives_the_bits_of_the_reference() {
    let mut random = Random::new(1);
    let kernels = all();
    for (m, k, n) in shapes(&mut random) {
        let c = case(&mut random, m, k, n);
        for precision in [Precision::Int8, Precision::Int4, Precision::F32] {
            let want = product(&kernels[0], &c, precision, c.finish);
            for other in &kernels[1..] {
                let got = product(other, &c, precision, c.finish);
                assert!(
                    bits(&got) == bits(&want),
                    "{precision:?} {m}×{k}×{n} {:?} {other:?}",
                    c.finish
                );
            }
        }
    }
}

#[test]
fn sums_of_bytes_are_exact() {
    // Integers with a row's and an output's largest at 127 are their own bytes, so the product must be exact.
    let mut random = Random::new(2);
    for (m, k, n) in shapes(&mut random) {
        let mut whole = |rows: usize| {
            let mut x: Vec<f32> = (0..rows * k)
                .map(|_| random.size(0, 254) as f32 - 127.0)
                .collect();
            for row in x.chunks_mut(k) {
                row[random.size(0, k - 1)] = 127.0;
            }
            x
        };
        let (x, w) = (whole(m), whole(n));
        let c = Case {
            m,
            k,
            n,
            x,
            w,
            bias: None,
            start: vec![0.0; m * n],
            finish: Finish::default(),
        };
        for isa in Isa::available() {
            let got = product(
                &Kernels::new(isa, 1).expect("available"),
                &c,
                Precision::Int8,
                Finish::default(),
            );
            for (i, got) in got.iter().enumerate() {
                let (row, column) = (i / n, i % n);
                let want: i64 = (0..k)
                    .map(|j| c.x[row * k + j] as i64 * c.w[column * k + j] as i64)
                    .sum();
                assert_eq!(*got, want as f32, "{isa} {m}×{k}×{n} at {row},{column}");
            }
        }
    }
}

#[test]
fn the_largest_sums_do_not_overflow() {
    let k = refract_kernel::INPUTS_MAX;
    let c = Case {
        m: 6,
        k,
        n: 2,
        x: vec![1.0; 6 * k],
        w: vec![-1.0; 2 * k],
        bias: None,
        start: vec![0.0; 12],
        finish: Finish::default(),
    };
    for isa in Isa::available() {
        for y in product(
            &Kernels::new(isa, 1).expect("available"),
            &c,
            Precision::Int8,
            Finish::default(),
        ) {
            assert!((y + k as f32).abs() < 1.0, "{isa}: {y}");
        }
    }
    assert!(Matrix::pack(Precision::Int8, k + 1, &[]).is_err());
}

#[test]
fn products_are_close_to_exact_arithmetic() {
    let mut random = Random::new(3);
    for (m, k, n) in shapes(&mut random) {
        let c = case(&mut random, m, k, n);
        let kernels = Kernels::new(Isa::best(), 1).expect("available");
        let add = Finish {
            add: true,
            ..Finish::default()
        };
        let bytes = product(&kernels, &c, Precision::Int8, add);
        let floats = product(&kernels, &c, Precision::F32, add);
        for row in 0..c.m {
            for column in 0..c.n {
                let (x, w) = (&c.x[row * k..][..k], &c.w[column * k..][..k]);
                let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let bias = c.bias.as_ref().map_or(0.0, |b| f64::from(b[column]));
                let want = sum + bias + f64::from(c.start[row * n + column]);
                let largest = |x: &[f32]| f64::from(x.iter().fold(0_f32, |m, x| m.max(x.abs())));
                let weight: f64 = x.iter().zip(w).map(|(x, w)| f64::from((x * w).abs())).sum();
                let at = row * n + column;
                assert!(
                    (f64::from(floats[at]) - want).abs() <= 1e-5 * (1.0 + weight),
                    "{m}×{k}×{n} {row},{column}"
                );
                // Each factor is off by at most half a unit: 1/254 of the largest of its row.
                let unit = largest(x) * largest(w) / 254.0;
                let bound = 1e-4 + unit * (2.1 * k as f64);
                assert!(
                    (f64::from(bytes[at]) - want).abs() <= bound,
                    "{m}×{k}×{n} {row},{column}"
                );
            }
        }
    }
}

#[test]
fn quantised_products_are_those_of_the_weights_that_are_read_back() {
    let mut random = Random::new(7);
    for (m, k, n) in shapes(&mut random) {
        let c = case(&mut random, m, k, n);
        for precision in [Precision::Int8, Precision::Int4] {
            let part = Part {
                weight: &c.w,
                bias: None,
            };
            let w = Matrix::pack(precision, k, &[part]).expect("sound");
            let kernels = Kernels::new(Isa::best(), 1).expect("available");
            let mut y = vec![0.0; m * n];
            kernels.multiply(&c.x, &w, Finish::default(), &mut y, &mut Scratch::new());
            let mut row = vec![0.0; k];
            for output in 0..n {
                w.read_row(output, &mut row);
                let weight: f64 = row.iter().map(|w| f64::from(w.abs())).sum();
                for (x, y) in c.x.chunks(k).zip(y.chunks(n)) {
                    let want: f64 = x
                        .iter()
                        .zip(&row)
                        .map(|(x, w)| f64::from(*x) * f64::from(*w))
                        .sum();
                    let largest = f64::from(x.iter().fold(0_f32, |m, x| m.max(x.abs())));
                    // Half a unit of each activation.
                    let bound = 1e-4 + largest / 253.0 * weight;
                    let off = (f64::from(y[output]) - want).abs();
                    assert!(off <= bound, "{precision:?} {m}×{k}×{n} output {output}: {off}");
                }
            }
        }
    }
}

#[test]
fn four_bits_are_as_near_as_groups_with_exact_scales() {
    let mut random = Random::new(8);
    for width in [32, 64, 100, 768] {
        let (mut ours, mut plain) = (0.0, 0.0);
        for _ in 0..50 {
            // About normal, as trained weights are.
            let row: Vec<f32> = (0..width)
                .map(|_| {
                    (0..6)
                        .map(|_| (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0)
                        .sum()
                })
                .collect();
            let (mut numbers, mut shares) = (vec![0; width], vec![0; width.div_ceil(GROUP)]);
            let scale = quantise_nibbles(&row, &mut numbers, &mut shares);
            let groups = row.chunks(GROUP).zip(numbers.chunks(GROUP)).zip(&shares);
            for ((group, numbers), share) in groups {
                assert!((1..=SHARE_MAX).contains(&share.abs()));
                let largest = group.iter().fold(0_f32, |m, x| m.max(x.abs()));
                for (x, number) in group.iter().zip(numbers) {
                    assert!((-8..=7).contains(number));
                    ours += (x - scale * f32::from(*share) * f32::from(*number)).powi(2);
                    plain += (x - (x / largest * 7.0).round() * largest / 7.0).powi(2);
                }
            }
        }
        println!("width {width}: {:.3} of the plain error", ours / plain);
        assert!(ours < plain, "width {width}: {ours}, not below {plain}");
    }
    for row in [[0.0; 40], [1e-30; 40], [f32::MAX; 40]] {
        let (mut numbers, mut shares) = ([1; 40], [0; 2]);
        let scale = quantise_nibbles(&row, &mut numbers, &mut shares);
        let meant = scale * f32::from(shares[0]) * f32::from(numbers[0]);
        assert!(
            (meant - row[0]).abs() <= row[0] / 8.0,
            "{} became {meant}",
            row[0]
        );
        assert!(shares.iter().all(|s| *s != 0));
    }
    let mut numbers = [1; 33];
    assert!(quantise_nibbles(&[f32::INFINITY; 33], &mut numbers, &mut [0; 2]).is_nan());
}

#[test]
fn a_row_does_not_depend_on_its_companions() {
    let mut random = Random::new(4);
    let c = case(&mut random, 70, 150, 90);
    for kernels in all() {
        for precision in [Precision::Int8, Precision::Int4, Precision::F32] {
            let together = product(&kernels, &c, precision, c.finish);
            for row in 0..c.m {
                let alone = Case {
                    m: 1,
                    x: c.x[row * c.k..][..c.k].to_vec(),
                    start: c.start[row * c.n..][..c.n].to_vec(),
                    w: c.w.clone(),
                    bias: c.bias.clone(),
                    ..c
                };
                let alone = product(&kernels, &alone, precision, c.finish);
                assert!(
                    bits(&alone) == bits(&together[row * c.n..][..c.n]),
                    "row {row} {precision:?} {kernels:?}"
                );
            }
        }
    }
}

#[test]
fn a_row_with_nan_or_infinity_is_nan_and_its_companions_are_not() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut random = Random::new(5);
        let mut c = case(&mut random, 20, 70, 40);
        c.x[3 * c.k + 69] = bad;
        for kernels in all() {
            let y = product(
                &kernels,
                &c,
                Precision::Int8,
                Finish {
                    activation: Activation::Relu,
                    add: true,
                },
            );
            for (row, y) in y.chunks(c.n).enumerate() {
                assert!(
                    y.iter().all(|y| y.is_nan() == (row == 3)),
                    "{bad} row {row} {kernels:?}"
                );
            }
        }
    }
}

#[test]
fn zero_rows_give_the_bias_and_tiny_ones_survive() {
    let c = Case {
        m: 2,
        k: 30,
        n: 3,
        x: [vec![0.0; 30], vec![1e-38; 30]].concat(),
        w: vec![1.0; 90],
        bias: Some(vec![0.5, 1.0, 2.0]),
        start: vec![0.0; 6],
        finish: Finish::default(),
    };
    for kernels in all() {
        let y = product(&kernels, &c, Precision::Int8, c.finish);
        assert_eq!(y[..3], [0.5, 1.0, 2.0]);
        assert!(y.iter().all(|y| y.is_finite()));
    }
}

#[test]
fn parts_of_a_matrix_lie_below_one_another_and_rows_can_be_read_back() {
    let mut random = Random::new(6);
    let (k, a, b) = (50, random.numbers(20 * 50), random.numbers(7 * 50));
    for precision in [Precision::F32, Precision::Int8] {
        let parts = [
            Part {
                weight: &a,
                bias: None,
            },
            Part {
                weight: &b,
                bias: Some(&[1.0; 7]),
            },
        ];
        let w = Matrix::pack(precision, k, &parts).expect("sound");
        assert_eq!((w.outputs(), w.inputs()), (27, 50));
        let table = Table::pack(precision, k, &[a.clone(), b.clone()].concat()).expect("sound");
        assert_eq!((table.rows(), table.width()), (27, 50));
        let (mut row, mut looked_up) = (vec![0.0; k], vec![0.0; k]);
        for (i, want) in a.chunks(k).chain(b.chunks(k)).enumerate() {
            w.read_row(i, &mut row);
            table.read_row(i, &mut looked_up);
            assert_eq!(row, looked_up);
            let largest = want.iter().fold(0_f32, |m, x| m.max(x.abs()));
            let close = if precision == Precision::F32 {
                0.0
            } else {
                largest / 253.0
            };
            assert!(
                row.iter()
                    .zip(want)
                    .all(|(got, want)| (got - want).abs() <= close)
            );
        }
    }
    assert!(
        Matrix::pack(
            Precision::F32,
            3,
            &[Part {
                weight: &[1.0; 4],
                bias: None
            }]
        )
        .is_err()
    );
    assert!(
        Matrix::pack(
            Precision::F32,
            2,
            &[Part {
                weight: &[1.0; 4],
                bias: Some(&[1.0])
            }]
        )
        .is_err()
    );
    assert!(Table::pack(Precision::F32, 3, &[1.0; 4]).is_err());
}

#[test]
fn instruction_sets_are_named_and_unknown_ones_are_refused() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse::<Isa>(), Ok(isa));
    }
    let error = "sse9".parse::<Isa>().expect_err("unknown").to_string();
    assert!(error.contains("sse9") && error.contains("vnni"), "{error}");
    for isa in Isa::ALL {
        assert_eq!(Kernels::new(isa, 1).is_ok(), Isa::available().contains(&isa));
    }
}

#[test]
fn what_a_matrix_takes_is_known_before_it_is_packed() {
    for precision in [Precision::F32, Precision::Int8, Precision::Int4] {
        for (inputs, outputs) in [(64, 16), (100, 33), (768, 50), (7, 1)] {
            let weight = vec![0.5; inputs * outputs];
            let part = Part {
                weight: &weight,
                bias: None,
            };
            let matrix = Matrix::pack(precision, inputs, &[part]).expect("packs");
            let said = Packing::bytes(precision, inputs, outputs);
            // Each of its parts is filled up to a cache line.
            let (held, parts) = (matrix.bytes(), 5);
            assert!(
                said <= held && held < said + parts * 64,
                "{precision:?} {outputs}×{inputs}: {held}, {said} said"
            );
        }
    }
}
