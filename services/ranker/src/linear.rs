//! The little dense algebra that the ranker needs: a row-major matrix, dot products, and solving for one factor.

use std::sync::LazyLock;

use rayon::prelude::*;

/// Row-major, contiguous: `rows × columns` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub(crate) columns: usize,
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    /// `values` are whole rows.
    pub fn new(columns: usize, values: Vec<f32>) -> Self {
        assert!(
            columns > 0 && values.len().is_multiple_of(columns),
            "a whole number of rows"
        );
        Self { columns, values }
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Sum over rows of `row · rowᵀ`, square and symmetric. Partial sums go over fixed blocks and are added in order, so
    /// the result does not depend on the number of threads.
    pub(crate) fn gram(&self) -> Self {
        const BLOCK_ROWS: usize = 1024;
        let d = self.columns;
        let partial = |block: &[f32]| {
            let mut sum = vec![0.0f64; d * d];
            for row in block.chunks_exact(d) {
                for (a, &x) in row.iter().enumerate() {
                    for (s, &y) in sum[a * d..(a + 1) * d].iter_mut().zip(row) {
                        *s += f64::from(x) * f64::from(y);
                    }
                }
            }
            sum
        };
        let partials: Vec<Vec<f64>> = self.values.par_chunks(BLOCK_ROWS * d).map(partial).collect();
        let mut sum = vec![0.0f64; d * d];
        for partial in partials {
            sum.iter_mut().zip(partial).for_each(|(s, p)| *s += p);
        }
        Self {
            columns: d,
            values: sum.into_iter().map(|v| v as f32).collect(),
        }
    }
}

/// Compiles what is inlined into `work` for the widest instructions at hand, chosen at run time. Sums keep their order, so numbers
/// are the same on every processor.
#[inline(always)]
pub(crate) fn wide<R>(work: impl FnOnce() -> R) -> R {
    static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);
    ARCH.dispatch(work)
}

/// Sixteen sums side by side, so that the compiler can keep them in vector registers.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// The regularised normal equations of one factor: `(base + Σ w·y·yᵀ + ridge·I) x = Σ t·y`.
#[derive(Debug)]
pub(crate) struct Normal {
    d: usize,
    /// The lower triangle is what counts.
    left: Vec<f64>,
    right: Vec<f64>,
}

impl Normal {
    pub(crate) fn new(d: usize) -> Self {
        Self {
            d,
            left: vec![0.0; d * d],
            right: vec![0.0; d],
        }
    }

    /// Starts over from `scale · base`.
    pub(crate) fn reset(&mut self, base: &Matrix, scale: f32) {
        for (l, &b) in self.left.iter_mut().zip(&base.values) {
            *l = f64::from(scale) * f64::from(b);
        }
        self.right.fill(0.0);
    }

    /// Adds an observation of factor `y` with this weight and this target.
    pub(crate) fn observe(&mut self, y: &[f32], weight: f32, target: f32) {
        let d = self.d;
        for a in 0..d {
            let scaled = f64::from(weight) * f64::from(y[a]);
            for (l, &v) in self.left[a * d..=a * d + a].iter_mut().zip(y) {
                *l += scaled * f64::from(v);
            }
            self.right[a] += f64::from(weight * target) * f64::from(y[a]);
        }
    }

    /// Solves by Cholesky, in place, into `x`. `ridge` must be positive: then the matrix is positive definite.
    pub(crate) fn solve(&mut self, ridge: f32, x: &mut [f32]) {
        let (d, l) = (self.d, &mut self.left);
        for a in 0..d {
            l[a * d + a] += f64::from(ridge);
        }
        for column in 0..d {
            for row in column..d {
                let (above, below) = l.split_at_mut(row * d);
                let own = &mut below[..d];
                let pivot_row = if row == column {
                    None
                } else {
                    Some(&above[column * d..column * d + column])
                };
                let sum: f64 = match pivot_row {
                    Some(pivot) => own[..column].iter().zip(pivot).map(|(a, b)| a * b).sum(),
                    None => own[..column].iter().map(|a| a * a).sum(),
                };
                let value = own[column] - sum;
                // Rounding may push a pivot below the ridge that bounds it in exact arithmetic.
                own[column] = match pivot_row {
                    None => value.max(f64::from(ridge) * 1e-6).sqrt(),
                    Some(_) => value / above[column * d + column],
                };
            }
        }
        let b = &mut self.right;
        for row in 0..d {
            let sum: f64 = l[row * d..row * d + row]
                .iter()
                .zip(b.iter())
                .map(|(a, b)| a * b)
                .sum();
            b[row] = (b[row] - sum) / l[row * d + row];
        }
        for row in (0..d).rev() {
            let sum: f64 = (row + 1..d).map(|k| l[k * d + row] * b[k]).sum();
            b[row] = (b[row] - sum) / l[row * d + row];
            x[row] = b[row] as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_solution_satisfies_its_equations(
            rows in prop::collection::vec(prop::collection::vec(-2.0f32..2.0, 5), 1..12), ridge in 0.01f32..2.0,
        ) {
            let d = 5;
            let base = Matrix::new(d, rows.concat()).gram();
            let mut normal = Normal::new(d);
            normal.reset(&base, 0.5);
            normal.observe(&rows[0], 0.7, 1.0);
            let mut x = vec![0.0; d];
            normal.solve(ridge, &mut x);
            for a in 0..d {
                let left: f64 = (0..d).map(|b| {
                    let entry = 0.5 * f64::from(base.row(a)[b]) + 0.7 * f64::from(rows[0][a]) * f64::from(rows[0][b]);
                    (entry + if a == b { f64::from(ridge) } else { 0.0 }) * f64::from(x[b])
                }).sum();
                prop_assert!((left - 0.7 * f64::from(rows[0][a])).abs() < 1e-3, "{left}");
            }
        }

        #[test]
        fn a_dot_product_does_not_depend_on_its_length(a in prop::collection::vec(-1.0f32..1.0, 0..70)) {
            let plain: f32 = a.iter().map(|x| x * x).sum();
            prop_assert!((dot(&a, &a) - plain).abs() < 1e-4);
        }
    }
}
