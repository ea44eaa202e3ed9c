//! `σ` and `tanh` of a vector.
//!
//! Both come from `e^y - 1 = 2^n (e^r - 1) + (2^n - 1)` with `y = n ln 2 + r`, `|r| <= ln(2)/2`,
//! and the Taylor series of `e^r - 1`:
//!
//! ```text
//! σ(x) = 1 / (1 + e^-x)          tanh(x) = E / (E + 2),  E = e^2x - 1
//! ```
//!
//! `E` keeps its relative precision near 0, and so does `tanh`. Division by a rounded sum would
//! double the error, so what rounding took from the sum is put right afterwards. The relative error
//! is below `1.5 * 2^-23` in f32 for `|x| <= 80`, and below `2.5 * 2^-52` in f64 for `|x| <= 600`
//! (`bounds_hold` measures it); further out σ stands still instead of becoming smaller than numbers
//! that can be trusted. Both functions stay within their ranges, are exactly 0.5 and 0 at 0, and
//! pass NaN on.

use pulp::Simd;

use crate::real::Real;

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<T: Real, S: Simd>(simd: S, x: T::V<S>) -> T::V<S> {
    let minus_x = T::mul(
        simd,
        T::splat(simd, T::MINUS_ONE),
        T::clamp(simd, x, T::EXP_BOUND),
    );
    let (power, scaled) = exp_minus_1::<T, S>(simd, minus_x);
    let one = T::splat(simd, T::ONE);
    let exp = T::mul_add(simd, power, scaled, power);
    // What the sum lacks, for `1 / (sum + lack) = 1/sum - lack/sum² + …`. It is exact where
    // `exp <= 1`, and of no weight where it is larger.
    let sum = T::add(simd, one, exp);
    let lack = T::sub(simd, exp, T::sub(simd, sum, one));
    let inverse = T::div(simd, one, sum);
    let correction = T::mul(simd, lack, inverse);
    T::mul_add(simd, T::neg(simd, correction), inverse, inverse)
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<T: Real, S: Simd>(simd: S, x: T::V<S>) -> T::V<S> {
    let one = T::splat(simd, T::ONE);
    // On the side where an error of `E` counts for less.
    let magnitude = T::abs(simd, x);
    let twice = T::clamp(simd, T::add(simd, magnitude, magnitude), T::TANH_BOUND);
    let (power, scaled) = exp_minus_1::<T, S>(simd, twice);
    let e = T::mul_add(simd, power, scaled, T::sub(simd, power, one));
    let two = T::splat(simd, T::TWO);
    let (larger, smaller) = (T::max(simd, two, e), T::min(simd, two, e));
    let sum = T::add(simd, larger, smaller);
    let lack = T::sub(simd, smaller, T::sub(simd, sum, larger));
    let inverse = T::div(simd, one, sum);
    let quotient = T::mul(simd, e, inverse);
    let rest = T::mul_add(simd, T::neg(simd, quotient), sum, e);
    let rest = T::mul_add(simd, T::neg(simd, quotient), lack, rest);
    let quotient = T::mul_add(simd, rest, inverse, quotient);
    T::with_sign(simd, quotient, x)
}

/// `2^n` and `e^r - 1`, where `y = n ln 2 + r`.
#[inline(always)]
fn exp_minus_1<T: Real, S: Simd>(simd: S, y: T::V<S>) -> (T::V<S>, T::V<S>) {
    let magic = T::splat(simd, T::MAGIC);
    let n_plus_magic = T::mul_add(simd, y, T::splat(simd, T::LOG2_E), magic);
    let minus_n = T::sub(simd, magic, n_plus_magic);
    let r = T::mul_add(simd, minus_n, T::splat(simd, T::LN_2_HIGH), y);
    let r = T::mul_add(simd, minus_n, T::splat(simd, T::LN_2_LOW), r);
    let mut series = T::splat(simd, T::EXP_TERMS[0]);
    for &term in &T::EXP_TERMS[1..] {
        series = T::mul_add(simd, series, r, T::splat(simd, term));
    }
    let square = T::mul(simd, r, r);
    (
        T::exp2(simd, n_plus_magic),
        T::mul_add(simd, series, square, r),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use pulp::WithSimd;

    /// σ and tanh of numbers, one after the other.
    struct Both<'a, T>(&'a [T]);

    impl<T: Real> WithSimd for Both<'_, T> {
        type Output = Vec<(T, T)>;

        fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
            let first = |vector: T::V<S>| {
                let mut number = T::default();
                // SAFETY: a vector begins with its first number.
                unsafe {
                    std::ptr::copy_nonoverlapping((&raw const vector).cast(), &mut number, 1)
                };
                number
            };
            let both = |&x: &T| {
                let x = T::splat(simd, x);
                (
                    first(sigmoid::<T, S>(simd, x)),
                    first(tanh::<T, S>(simd, x)),
                )
            };
            self.0.iter().map(both).collect()
        }
    }

    /// `-x` for `σ(x)` computed without cancellation.
    fn exact_sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn bounds_hold() {
        let f32s: Vec<f32> = (-200_000..=200_000).map(|n| n as f32 * 4e-4).collect();
        let tiny: Vec<f32> = (0..600).map(|n| 1.7e-20 * 1.08f32.powi(n)).collect();
        let f64s: Vec<f64> = (-60_000..=60_000).map(|n| f64::from(n) * 0.01).collect();
        for &set in InstructionSet::available() {
            for numbers in [&f32s, &tiny] {
                for (&x, (sigmoid, tanh)) in numbers.iter().zip(set.run(Both(numbers))) {
                    let epsilons = |found: f32, exact: f64| {
                        let difference = (f64::from(found) - exact).abs();
                        difference / (f64::from(f32::EPSILON) * exact.abs())
                    };
                    let x = f64::from(x);
                    assert!((0.0..=1.0).contains(&sigmoid) && (-1.0..=1.0).contains(&tanh));
                    let error = epsilons(sigmoid, exact_sigmoid(x));
                    assert!(error < 1.5, "{set}: σ({x}) = {sigmoid}, {error} epsilon");
                    let error = if x == 0.0 {
                        0.0
                    } else {
                        epsilons(tanh, x.tanh())
                    };
                    assert!(error < 1.5, "{set}: tanh({x}) = {tanh}, {error} epsilon");
                }
            }
            for (&x, (sigmoid, tanh)) in f64s.iter().zip(set.run(Both(&f64s))) {
                // The standard library's own functions are off by up to an ulp too.
                let epsilons = |found: f64, exact: f64| {
                    (found - exact).abs() / (f64::EPSILON * exact.abs()).max(f64::MIN_POSITIVE)
                };
                let error = epsilons(sigmoid, exact_sigmoid(x));
                assert!(error < 2.5, "{set}: σ({x}) = {sigmoid}, {error} epsilon");
                let error = epsilons(tanh, x.tanh());
                assert!(error < 2.5, "{set}: tanh({x}) = {tanh}, {error} epsilon");
            }
        }
    }

    #[test]
    fn ends_and_nan() {
        for &set in InstructionSet::available() {
            let ends = [
                0.0,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::MAX,
                f32::MIN,
                f32::NAN,
            ];
            let found = set.run(Both(&ends));
            assert_eq!(found[0], (0.5, 0.0));
            for (index, sign) in [(1, 1.0), (2, -1.0), (3, 1.0), (4, -1.0)] {
                let (sigmoid, tanh) = found[index];
                assert_eq!(tanh, sign, "{set}");
                assert!(
                    (sigmoid - (sign + 1.0) / 2.0).abs() < 1e-37,
                    "{set}: {sigmoid}"
                );
            }
            assert!(found[5].0.is_nan() && found[5].1.is_nan(), "{set}");
            let (sigmoid, tanh) = set.run(Both(&[f64::NAN]))[0];
            assert!(sigmoid.is_nan() && tanh.is_nan(), "{set}");
        }
    }
}
