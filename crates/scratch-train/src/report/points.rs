//! What all curves do with their points.

/// At most `most` points: means of neighbouring ones, each at the place of its last.
pub(super) fn averaged(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most).max(1);
    let mean = |group: &[(f64, f64)]| {
        let sum: f64 = group.iter().map(|point| point.1).sum();
        (group[group.len() - 1].0, sum / group.len() as f64)
    };
    points.chunks(size).map(mean).collect()
}

/// An axis with some air below and above.
pub(super) fn padded(low: f64, high: f64) -> (f64, f64) {
    let air = match high - low {
        0.0 => low.abs().max(1e-3) * 0.1,
        height => height * 0.06,
    };
    (low - air, high + air)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4000 points in pairs: steps 1 and 2 with losses 1 and 2 become step 2 with loss 1.5.
    #[test]
    fn long_curves_are_averaged() {
        let points: Vec<_> = (1..=4000).map(|k| (f64::from(k), f64::from(k))).collect();
        let few = averaged(&points, 2000);
        assert_eq!(few.len(), 2000);
        assert_eq!(few[0], (2.0, 1.5));
        assert_eq!(averaged(&points[..3], 3), points[..3]);
    }
}
