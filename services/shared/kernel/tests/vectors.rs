//! Norms and activation functions against f64, bit for bit the same on every instruction set.

mod common;

use common::{Random, all, bits};
use refract_kernel::{Activation, Isa, Kernels};

/// The error function: Taylor near 0, the continued fraction of its complement beyond (Abramowitz and Stegun 7.1.5, 7.1.14).
fn erf(x: f64) -> f64 {
    let z = x.abs();
    let value = if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let mut fraction = z;
        for n in (1..60).rev() {
            fraction = z + f64::from(n) / 2.0 / fraction;
        }
        1.0 - (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

fn exact(how: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match how {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2_f64.sqrt())),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        }
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::GeluQuick,
    Activation::Silu,
    Activation::Tanh,
];

#[test]
fn activations_are_within_a_millionth_and_the_same_everywhere() {
    let x: Vec<f32> = (-120_000..=120_000).map(|i| i as f32 / 6000.0).collect();
    for how in ACTIVATIONS {
        let mut first: Option<Vec<f32>> = None;
        for kernels in all() {
            let mut y = x.clone();
            kernels.activate(how, &mut y);
            match &first {
                Some(want) => assert!(bits(&y) == bits(want), "{how:?} {kernels:?}"),
                None => first = Some(y),
            }
        }
        let mut worst = 0_f64;
        for (x, y) in x.iter().zip(first.expect("the reference ran")) {
            let want = exact(how, f64::from(*x));
            worst = worst.max((f64::from(y) - want).abs() / (1.0_f64).max(want.abs()));
        }
        println!("{how:?}: largest error {worst:.2e}");
        assert!(worst <= 1e-6, "{how:?}: {worst}");
    }
}

#[test]
fn activations_keep_nan() {
    for how in ACTIVATIONS {
        for kernels in all() {
            let mut y = [1.0, f32::NAN, -1.0];
            kernels.activate(how, &mut y);
            assert!(
                y[1].is_nan() && y[0].is_finite() && y[2].is_finite(),
                "{how:?} {kernels:?}"
            );
        }
    }
}

#[test]
fn norms_are_close_to_f64_and_the_same_everywhere() {
    let mut random = Random::new(21);
    for n in [1, 5, 16, 32, 33, 100, 768] {
        let (m, weight, bias) = (7, random.numbers(n), random.numbers(n));
        let x: Vec<f32> = random.numbers(m * n).iter().map(|x| x * 3.0 + 0.7).collect();
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        for kernels in all() {
            let (mut layer, mut rms) = (x.clone(), vec![0.0; m * n]);
            kernels.layer_norm(&mut layer, &weight, &bias, 1e-5);
            kernels.rms_norm(&x, &weight, 1e-6, &mut rms);
            match &first {
                Some((l, r)) => assert!(
                    bits(&layer) == bits(l) && bits(&rms) == bits(r),
                    "{n} {kernels:?}"
                ),
                None => first = Some((layer, rms)),
            }
        }
        let (layer, rms) = first.expect("the reference ran");
        for (row, x) in x.chunks(n).enumerate() {
            let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let mean = x.iter().sum::<f64>() / n as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let square = x.iter().map(|x| x * x).sum::<f64>() / n as f64;
            for i in 0..n {
                let (w, b) = (f64::from(weight[i]), f64::from(bias[i]));
                let want = (x[i] - mean) / (variance + 1e-5).sqrt() * w + b;
                // A single number has no variance: what is left of it is rounding, magnified by 1/√eps.
                let tolerance = if n == 1 { 1e-4 } else { 2e-5 };
                assert!(
                    (f64::from(layer[row * n + i]) - want).abs() < tolerance * (1.0 + want.abs()),
                    "{n}"
                );
                let want = x[i] / (square + 1e-6).sqrt() * w;
                assert!(
                    (f64::from(rms[row * n + i]) - want).abs() < 2e-5 * (1.0 + want.abs()),
                    "{n}"
                );
            }
        }
    }
}

#[test]
fn gates_multiply_the_activated_half_by_the_other() {
    let mut random = Random::new(22);
    let (m, width) = (5, 37);
    let x = random.numbers(m * 2 * width);
    for kernels in all() {
        let mut y = vec![0.0; m * width];
        kernels.gate(Activation::GeluTanh, &x, width, &mut y);
        for row in 0..m {
            for i in 0..width {
                let (gate, linear) = (x[row * 2 * width + i], x[row * 2 * width + width + i]);
                let want = exact(Activation::GeluTanh, f64::from(gate)) * f64::from(linear);
                assert!((f64::from(y[row * width + i]) - want).abs() < 1e-5);
            }
        }
    }
    let kernels = Kernels::new(Isa::best(), 1).expect("available");
    let (mut a, b) = (random.numbers(50), random.numbers(50));
    let want: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    kernels.add(&mut a, &b);
    assert_eq!(a, want);
}
