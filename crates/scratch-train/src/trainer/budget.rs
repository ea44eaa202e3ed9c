//! A run that ends by the clock.

/// A time budget: when to validate, and when to stop so that the last validation still fits.
pub(super) struct Budget {
    seconds: f64,
    validation: f64,
    next_validation: f64,
}

impl Budget {
    /// Validations are spread evenly, this many if they are short.
    const VALIDATIONS: f64 = 20.0;

    /// So many seconds in all, of which some are spent.
    pub(super) fn new(seconds: f64, spent: f64) -> Self {
        Self {
            seconds,
            validation: 0.0,
            next_validation: spent + seconds / Self::VALIDATIONS,
        }
    }

    pub(super) fn share(&self, now: f64) -> f64 {
        now / self.seconds
    }

    pub(super) fn is_spent(&self, now: f64) -> bool {
        now + self.validation >= self.seconds
    }

    pub(super) fn validation_is_due(&self, now: f64) -> bool {
        now >= self.next_validation && !self.is_spent(now)
    }

    /// The next one comes after at least nine times as long as this one took.
    pub(super) fn validated(&mut self, now: f64, took: f64) {
        self.validation = self.validation.max(took);
        self.next_validation = now + (self.seconds / Self::VALIDATIONS).max(9.0 * took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_spreads_validations_and_leaves_room_for_the_last() {
        let mut budget = Budget::new(100.0, 0.0);
        assert!(!budget.validation_is_due(4.9));
        assert!(budget.validation_is_due(5.0));
        budget.validated(5.0, 2.0);
        assert!(!budget.validation_is_due(22.9));
        assert!(budget.validation_is_due(23.0));
        assert!(!budget.is_spent(97.9));
        assert!(budget.is_spent(98.0));
        assert!(!Budget::new(100.0, 50.0).validation_is_due(54.0));
    }
}
