//! `f32` and `f64` as the kernels see them.

use std::fmt::Debug;

use pulp::Simd;

mod sealed {
    pub trait Sealed {}

    impl Sealed for f32 {}

    impl Sealed for f64 {}
}

/// A type of numbers the kernels compute in, and its vectors: `f32` and `f64`, and no others.
pub trait Real:
    Copy + Default + Debug + PartialEq + sealed::Sealed + Send + Sync + 'static
{
    /// A vector of `S`.
    type V<S: Simd>: Copy;

    /// Numbers in a vector of `S`.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::V<S>>() / size_of::<Self>()
    }

    /// The sum of two numbers.
    fn plus(self, other: Self) -> Self;
    /// The product of two numbers.
    fn times(self, other: Self) -> Self;
    /// The same number in f64.
    fn wide(self) -> f64;
    /// The nearest number to one in f64.
    fn narrow(x: f64) -> Self;
    /// Every lane `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// `a + b`.
    fn add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a - b`.
    fn sub<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a * b`.
    fn mul<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a / b`.
    fn div<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// The smaller one.
    fn min<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// The larger one.
    fn max<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `-a`.
    fn neg<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S>;
    /// `|a|`.
    fn abs<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S>;
    /// `|a|` with the sign of `b`.
    fn with_sign<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `x` within `±bound`; NaN stays.
    fn clamp<S: Simd>(simd: S, x: Self::V<S>, bound: Self) -> Self::V<S>;
    /// `x` where `a` is not `b`, 0 where it is; a NaN is nothing else.
    fn unless_equal<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, x: Self::V<S>) -> Self::V<S>;
    /// The sum of a vector's numbers.
    fn sum<S: Simd>(simd: S, x: Self::V<S>) -> Self;
    /// `2^n` from `n + MAGIC`, `n` a whole number.
    fn exp2<S: Simd>(simd: S, n_plus_magic: Self::V<S>) -> Self::V<S>;

    /// Adding and subtracting this rounds to a whole number.
    const MAGIC: Self;
    /// `log2(e)`.
    const LOG2_E: Self;
    /// `ln(2)` cut to so few bits that small multiples are exact.
    const LN_2_HIGH: Self;
    /// What [`LN_2_HIGH`](Self::LN_2_HIGH) lacks.
    const LN_2_LOW: Self;
    /// `1/k!` for the terms `k = 2..` of `e^r - 1`, the last first.
    const EXP_TERMS: &'static [Self];
    /// `e^±x` is far within range up to here.
    const EXP_BOUND: Self;
    /// From here on `tanh(x/2)` is 1.
    const TANH_BOUND: Self;
    /// The number 1.
    const ONE: Self;
    /// The number 2.
    const TWO: Self;
    /// The number -1.
    const MINUS_ONE: Self;
}

macro_rules! real {
    ($vector:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $div:ident,
     $mul_add:ident, $neg:ident, $abs:ident, $and:ident, $or:ident, $min:ident, $max:ident,
     $greater:ident, $equal:ident, $select:ident, $sum:ident) => {
        type V<S: Simd> = S::$vector;

        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            self + other
        }
        #[inline(always)]
        fn times(self, other: Self) -> Self {
            self * other
        }
        #[inline(always)]
        fn wide(self) -> f64 {
            f64::from(self)
        }
        #[inline(always)]
        fn narrow(x: f64) -> Self {
            x as Self
        }
        #[inline(always)]
        fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S> {
            simd.$splat(x)
        }
        #[inline(always)]
        fn add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$add(a, b)
        }
        #[inline(always)]
        fn sub<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$sub(a, b)
        }
        #[inline(always)]
        fn mul<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$mul(a, b)
        }
        #[inline(always)]
        fn div<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$div(a, b)
        }
        #[inline(always)]
        fn mul_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S> {
            simd.$mul_add(a, b, c)
        }
        #[inline(always)]
        fn min<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$min(a, b)
        }
        #[inline(always)]
        fn max<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$max(a, b)
        }
        #[inline(always)]
        fn neg<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S> {
            simd.$neg(a)
        }
        #[inline(always)]
        fn abs<S: Simd>(simd: S, a: Self::V<S>) -> Self::V<S> {
            simd.$abs(a)
        }
        #[inline(always)]
        fn with_sign<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S> {
            simd.$or(simd.$abs(a), simd.$and(b, simd.$splat(-0.0)))
        }
        #[inline(always)]
        fn clamp<S: Simd>(simd: S, x: Self::V<S>, bound: Self) -> Self::V<S> {
            let (low, high) = (simd.$splat(-bound), simd.$splat(bound));
            if S::IS_SCALAR {
                // Rust's min and max drop NaN.
                let x = simd.$select(simd.$greater(x, high), high, x);
                simd.$select(simd.$greater(low, x), low, x)
            } else {
                // x86's take the second operand where one is NaN, Arm's NaN.
                simd.$max(low, simd.$min(high, x))
            }
        }
        #[inline(always)]
        fn unless_equal<S: Simd>(
            simd: S,
            a: Self::V<S>,
            b: Self::V<S>,
            x: Self::V<S>,
        ) -> Self::V<S> {
            simd.$select(simd.$equal(a, b), simd.$splat(0.0), x)
        }
        #[inline(always)]
        fn sum<S: Simd>(simd: S, x: Self::V<S>) -> Self {
            simd.$sum(x)
        }
    };
}

impl Real for f32 {
    real!(
        f32s,
        splat_f32s,
        add_f32s,
        sub_f32s,
        mul_f32s,
        div_f32s,
        mul_add_e_f32s,
        neg_f32s,
        abs_f32s,
        and_f32s,
        or_f32s,
        min_f32s,
        max_f32s,
        greater_than_f32s,
        equal_f32s,
        select_f32s,
        reduce_sum_f32s
    );

    #[inline(always)]
    fn exp2<S: Simd>(simd: S, n_plus_magic: Self::V<S>) -> Self::V<S> {
        // The lowest bits of `n + MAGIC` are `n`; the shift throws all others out.
        let n: S::u32s = pulp::cast(n_plus_magic);
        let exponent = simd.wrapping_dyn_shl_u32s(n, simd.splat_u32s(f32::MANTISSA_DIGITS - 1));
        pulp::cast(simd.add_u32s(exponent, simd.splat_u32s(1f32.to_bits())))
    }

    const MAGIC: f32 = 12582912.0; // 1.5 * 2^23
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4; // 355/512
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // |r| <= ln(2)/2: the term left out is below 5 % of an ulp of 1.
    const EXP_TERMS: &'static [f32] = &[
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    const EXP_BOUND: f32 = 86.0;
    const TANH_BOUND: f32 = 20.0;
    const ONE: f32 = 1.0;
    const TWO: f32 = 2.0;
    const MINUS_ONE: f32 = -1.0;
}

impl Real for f64 {
    real!(
        f64s,
        splat_f64s,
        add_f64s,
        sub_f64s,
        mul_f64s,
        div_f64s,
        mul_add_e_f64s,
        neg_f64s,
        abs_f64s,
        and_f64s,
        or_f64s,
        min_f64s,
        max_f64s,
        greater_than_f64s,
        equal_f64s,
        select_f64s,
        reduce_sum_f64s
    );

    #[inline(always)]
    fn exp2<S: Simd>(simd: S, n_plus_magic: Self::V<S>) -> Self::V<S> {
        // As for f32; a shift of 64 bits is a product here.
        let n: S::u64s = pulp::cast(n_plus_magic);
        let exponent = simd.mul_u64s(n, simd.splat_u64s(1 << (f64::MANTISSA_DIGITS - 1)));
        pulp::cast(simd.add_u64s(exponent, simd.splat_u64s(1f64.to_bits())))
    }

    const MAGIC: f64 = 6755399441055744.0; // 1.5 * 2^52
    const LOG2_E: f64 = std::f64::consts::LOG2_E;
    const LN_2_HIGH: f64 = 0.693_145_751_953_125; // 45426/65536
    const LN_2_LOW: f64 = 1.428_606_820_309_417_2e-6;
    const EXP_TERMS: &'static [f64] = &[
        1.0 / 87178291200.0,
        1.0 / 6227020800.0,
        1.0 / 479001600.0,
        1.0 / 39916800.0,
        1.0 / 3628800.0,
        1.0 / 362880.0,
        1.0 / 40320.0,
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    const EXP_BOUND: f64 = 700.0;
    const TANH_BOUND: f64 = 44.0;
    const ONE: f64 = 1.0;
    const TWO: f64 = 2.0;
    const MINUS_ONE: f64 = -1.0;
}
