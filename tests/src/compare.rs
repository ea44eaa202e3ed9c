//! Comparing numbers: the tolerances, and messages that name the tensor, the place and both values.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};

use crate::backend::is_gpu;

/// The numbers of a tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Row by row.
    pub values: Vec<f64>,
}

/// Tensors by name: `output`, `h_n`, `grad.layers.0.forward.weight_ih`.
pub type Named = BTreeMap<String, Values>;

/// How far two numbers may lie apart: `absolute + relative * |expected|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    /// Near 0.
    pub absolute: f64,
    /// As a share of the expected number.
    pub relative: f64,
}

impl Tolerance {
    /// The only table: two ways to compute the same numbers in `dtype`.
    pub fn of(dtype: DType) -> Self {
        let (absolute, relative) = match (dtype, is_gpu()) {
            (DType::F64, _) => (1e-12, 1e-11),
            (DType::F32, false) => (1e-5, 1e-5),
            // Other orders of summation, other sigmoid and tanh.
            (DType::F32, true) => (5e-5, 1e-4),
            // Computed in f32 and rounded: half an ulp, and what it makes of sums over the steps.
            (DType::F16, _) => (2e-3, 2e-3),
            (DType::BF16, _) => (1.6e-2, 1.6e-2),
            (other, _) => unreachable!("no test runs in {other:?}"),
        };
        Self { absolute, relative }
    }

    /// Looser, for a long chain of steps.
    pub fn times(self, factor: f64) -> Self {
        Self {
            absolute: factor * self.absolute,
            relative: factor * self.relative,
        }
    }

    /// Whether `found` is near enough; NaN never is.
    pub fn allows(self, found: f64, expected: f64) -> bool {
        (found - expected).abs() <= self.absolute + self.relative * expected.abs()
    }
}

impl Values {
    /// Numbers with a shape.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f64>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{shape:?}");
        Self { shape, values }
    }

    /// The axes and position of entry `index`: `[2, 0, 5]`.
    fn place(&self, index: usize) -> Vec<usize> {
        let mut rest = index;
        let mut place: Vec<usize> = self
            .shape
            .iter()
            .rev()
            .map(|&size| {
                let at = rest % size;
                rest /= size;
                at
            })
            .collect();
        place.reverse();
        place
    }
}

impl From<TensorData> for Values {
    fn from(data: TensorData) -> Self {
        Self::new(data.shape().to_vec(), data.iter::<f64>().collect())
    }
}

impl<const R: usize> From<Tensor<R>> for Values {
    fn from(tensor: Tensor<R>) -> Self {
        tensor.into_data().into()
    }
}

/// That two tensors are near each other.
#[track_caller]
pub fn assert_close(
    what: &str,
    found: impl Into<Values>,
    expected: impl Into<Values>,
    tolerance: Tolerance,
) {
    if let Some(difference) = difference(&found.into(), &expected.into(), tolerance) {
        panic!("{what}: {difference}");
    }
}

/// That the same tensors are there, each near its counterpart. The message names all that are not.
#[track_caller]
pub fn assert_all_close(what: &str, found: &Named, expected: &Named, tolerance: Tolerance) {
    compare(what, found, expected, |found, expected| {
        difference(found, expected, tolerance)
    });
}

/// That the same tensors are there, bit for bit.
#[track_caller]
pub fn assert_all_same(what: &str, found: &Named, expected: &Named) {
    let exact = Tolerance {
        absolute: 0.0,
        relative: 0.0,
    };
    compare(what, found, expected, |found, expected| {
        let bits = |values: &Values| -> Vec<u64> {
            values.values.iter().map(|value| value.to_bits()).collect()
        };
        if found.shape == expected.shape && bits(found) == bits(expected) {
            return None;
        }
        // What is left for `None` here is a sign of zero or a NaN's payload.
        Some(difference(found, expected, exact).unwrap_or_else(|| "other bits".into()))
    });
}

#[track_caller]
fn compare(
    what: &str,
    found: &Named,
    expected: &Named,
    differ: impl Fn(&Values, &Values) -> Option<String>,
) {
    let names = |named: &Named| named.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}: names");
    let differences: Vec<String> = found
        .iter()
        .filter_map(|(name, found)| {
            let difference = differ(found, &expected[name])?;
            Some(format!("\n  {name}: {difference}"))
        })
        .collect();
    assert!(differences.is_empty(), "{what}:{}", differences.concat());
}

/// Says where two tensors lie furthest apart, if that is too far.
fn difference(found: &Values, expected: &Values, tolerance: Tolerance) -> Option<String> {
    if found.shape != expected.shape {
        return Some(format!(
            "expected shape {:?}, found {:?}",
            expected.shape, found.shape
        ));
    }
    let pairs = || found.values.iter().zip(&expected.values).enumerate();
    let too_far = pairs()
        .filter(|(_, (found, expected))| !tolerance.allows(**found, **expected))
        .count();
    if too_far == 0 {
        return None;
    }
    let distance = |found: f64, expected: f64| {
        let distance = (found - expected).abs();
        if distance.is_nan() {
            f64::INFINITY
        } else {
            distance
        }
    };
    let (index, (found_value, expected_value)) = pairs()
        .max_by(|(_, a), (_, b)| distance(*a.0, *a.1).total_cmp(&distance(*b.0, *b.1)))
        .expect("some lie too far apart");
    Some(format!(
        "{too_far} of {} entries differ, most at {:?}: expected {expected_value:e}, found \
         {found_value:e} ({:e} apart)",
        found.values.len(),
        found.place(index),
        distance(*found_value, *expected_value),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance = Tolerance {
        absolute: 1e-3,
        relative: 0.0,
    };

    #[test]
    fn a_difference_names_the_place_and_both_values() {
        let expected = Values::new([2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut found = expected.clone();
        assert_eq!(difference(&found, &expected, TOLERANCE), None);
        found.values[1] = 1.5;
        found.values[5] = 7.0;
        let difference = difference(&found, &expected, TOLERANCE).unwrap();
        assert_eq!(
            difference,
            "2 of 6 entries differ, most at [1, 2]: expected 5e0, found 7e0 (2e0 apart)"
        );
    }

    #[test]
    fn nan_and_another_shape_are_differences() {
        let expected = Values::new([2], vec![0.0, 1.0]);
        let nan = Values::new([2], vec![0.0, f64::NAN]);
        assert!(difference(&nan, &expected, TOLERANCE).is_some());
        assert!(difference(&expected, &nan, TOLERANCE).is_some());
        let column = Values::new([2, 1], vec![0.0, 1.0]);
        let difference = difference(&column, &expected, TOLERANCE).unwrap();
        assert_eq!(difference, "expected shape [2], found [2, 1]");
    }

    #[test]
    #[should_panic(expected = "names")]
    fn a_missing_tensor_is_a_difference() {
        let named = Named::from([("a".into(), Values::new([1], vec![0.0]))]);
        assert_all_close("case", &Named::new(), &named, TOLERANCE);
    }
}
