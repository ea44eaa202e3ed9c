//! `σ` and `tanh` of a vector.
//!
//! Both come from `e^y - 1 = 2^n (e^r - 1) + (2^n - 1)` with `y = n ln 2 + r`, `|r| <= ln(2)/2`,
//! and the Taylor series of `e^r - 1`:
//!
//! ```text
//! σ(x) = 1 / (1 + e^-x)          tanh(x) = E / (E + 2),  E = e^2x - 1
//! ```
//!
//! `E` keeps its relative precision near 0, and so does `tanh`. The error is below 3 units in the
//! last place in f32 and in f64 (`bounds_hold` measures it); both functions stay within their
//! ranges, are exactly 0.5 and 0 at 0, and pass NaN on.

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
    T::div(simd, one, T::add(simd, one, exp))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<T: Real, S: Simd>(simd: S, x: T::V<S>) -> T::V<S> {
    let twice = T::clamp(simd, T::add(simd, x, x), T::TANH_BOUND);
    let (power, scaled) = exp_minus_1::<T, S>(simd, twice);
    let rest = T::sub(simd, power, T::splat(simd, T::ONE));
    let e = T::mul_add(simd, power, scaled, rest);
    T::div(simd, e, T::add(simd, e, T::splat(simd, T::TWO)))
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
        let f32s: Vec<f32> = (-200_000..=200_000).map(|n| n as f32 * 1.1e-4).collect();
        let tiny: Vec<f32> = (0..600).map(|n| 1.7e-20 * 1.08f32.powi(n)).collect();
        let f64s: Vec<f64> = (-60_000..=60_000).map(|n| f64::from(n) * 7.3e-4).collect();
        for &set in InstructionSet::available() {
            for numbers in [&f32s, &tiny] {
                for (&x, (sigmoid, tanh)) in numbers.iter().zip(set.run(Both(numbers))) {
                    let ulps = |found: f32, exact: f64| {
                        let ulp = f64::from(f32::EPSILON) * exact.abs().max(1e-37) / 2.0;
                        // The spacing of floats between powers of two is up to twice this.
                        (f64::from(found) - exact).abs() / (2.0 * ulp)
                    };
                    let x = f64::from(x);
                    assert!(
                        ulps(sigmoid, exact_sigmoid(x)) < 3.0,
                        "{set}: σ({x}) = {sigmoid}"
                    );
                    assert!(ulps(tanh, x.tanh()) < 3.0, "{set}: tanh({x}) = {tanh}");
                    assert!((0.0..=1.0).contains(&sigmoid) && (-1.0..=1.0).contains(&tanh));
                }
            }
            for (&x, (sigmoid, tanh)) in f64s.iter().zip(set.run(Both(&f64s))) {
                // The standard library's own functions are off by up to an ulp too.
                let ulps = |found: f64, exact: f64| {
                    (found - exact).abs() / (f64::EPSILON * exact.abs().max(1e-300))
                };
                assert!(
                    ulps(sigmoid, exact_sigmoid(x)) < 4.0,
                    "{set}: σ({x}) = {sigmoid}"
                );
                assert!(ulps(tanh, x.tanh()) < 4.0, "{set}: tanh({x}) = {tanh}");
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
