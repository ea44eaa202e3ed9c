//! The orders in which others lay the four gates side by side.

use burn::tensor::Tensor;

use crate::gates::{self, COUNT, Gate, Gates};

use super::error::WeightsError;

/// An order of the four gates, named by its letters: `i` input, `f` forget, `g` cell (the
/// candidate; others write `c`, `j`, `a` or `z`), `o` output.
///
/// ```
/// use scratch_lstm::gates::Gate;
/// use scratch_lstm::weights::GateOrder;
///
/// let order = [Gate::Forget, Gate::Input, Gate::Cell, Gate::Output];
/// assert_eq!(GateOrder::try_new(order).unwrap(), GateOrder::FIGO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateOrder([Gate; COUNT]);

impl GateOrder {
    /// Input, forget, cell, output: PyTorch, Keras (where it is written `i, f, c, o`), cuDNN; the
    /// order inside this crate.
    pub const IFGO: Self = Self([Gate::Input, Gate::Forget, Gate::Cell, Gate::Output]);
    /// Input, output, forget, cell: ONNX (`iofc`).
    pub const IOFG: Self = Self([Gate::Input, Gate::Output, Gate::Forget, Gate::Cell]);
    /// Input, cell, forget, output: TensorFlow 1 (`i, j, f, o`), Haiku, haste.
    pub const IGFO: Self = Self([Gate::Input, Gate::Cell, Gate::Forget, Gate::Output]);
    /// Input, forget, output, cell: the three sigmoids side by side.
    pub const IFOG: Self = Self([Gate::Input, Gate::Forget, Gate::Output, Gate::Cell]);
    /// Forget, input, cell, output: the order in which many texts introduce them.
    pub const FIGO: Self = Self([Gate::Forget, Gate::Input, Gate::Cell, Gate::Output]);

    /// Any order.
    ///
    /// # Errors
    ///
    /// If a gate occurs twice.
    pub fn try_new(order: [Gate; COUNT]) -> Result<Self, WeightsError> {
        if Gate::ORDER.iter().all(|gate| order.contains(gate)) {
            Ok(Self(order))
        } else {
            Err(WeightsError::Setting {
                name: "gate order".into(),
                expected: "each gate once".into(),
                found: format!("{order:?}"),
            })
        }
    }

    /// The gates in this order.
    pub fn gates(self) -> [Gate; COUNT] {
        self.0
    }

    /// Brings gates side by side along `dim` (`[.., 4H, ..]`) from this order into the crate's.
    ///
    /// # Panics
    ///
    /// If the tensor has no axis `dim`.
    pub fn import<const R: usize>(self, joined: Tensor<R>, dim: usize) -> Tensor<R> {
        if self == Self::IFGO {
            return joined;
        }
        let d_hidden = joined.dims()[dim] / COUNT;
        let gates = Gates::from_fn(|gate| {
            let place = self.place(gate);
            joined.clone().narrow(dim, place * d_hidden, d_hidden)
        });
        gates::join(gates, dim)
    }

    /// Brings gates side by side along `dim` (`[.., 4H, ..]`) from the crate's order into this
    /// one; the inverse of [`import`](Self::import).
    ///
    /// # Panics
    ///
    /// If the tensor has no axis `dim`.
    pub fn export<const R: usize>(self, joined: Tensor<R>, dim: usize) -> Tensor<R> {
        if self == Self::IFGO {
            return joined;
        }
        let d_hidden = joined.dims()[dim] / COUNT;
        let gates = self
            .0
            .map(|gate| joined.clone().narrow(dim, gate.offset(d_hidden), d_hidden));
        Tensor::cat(gates.to_vec(), dim)
    }

    fn place(self, gate: Gate) -> usize {
        self.0
            .iter()
            .position(|&other| other == gate)
            .expect("every order has every gate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_lays_the_gates_in_the_order_and_import_takes_them_back() {
        let device = crate::testing::device();
        // Rows of gate k hold 10k and 10k + 1.
        let ours = Tensor::<1>::from_data([0., 1., 10., 11., 20., 21., 30., 31.], &device);
        let expected = [
            (GateOrder::IFGO, [0., 1., 10., 11., 20., 21., 30., 31.]),
            (GateOrder::IOFG, [0., 1., 30., 31., 10., 11., 20., 21.]),
            (GateOrder::IGFO, [0., 1., 20., 21., 10., 11., 30., 31.]),
            (GateOrder::IFOG, [0., 1., 10., 11., 30., 31., 20., 21.]),
            (GateOrder::FIGO, [10., 11., 0., 1., 20., 21., 30., 31.]),
        ];
        for (order, theirs) in expected {
            let theirs = Tensor::<1>::from_data(theirs, &device);
            let exported = order.export(ours.clone(), 0);
            exported.to_data().assert_eq(&theirs.to_data(), true);
            let imported = order.import(theirs, 0);
            imported.to_data().assert_eq(&ours.to_data(), true);
        }
    }

    #[test]
    fn an_order_has_each_gate_once() {
        let twice = [Gate::Input, Gate::Input, Gate::Cell, Gate::Output];
        let error = GateOrder::try_new(twice).unwrap_err().to_string();
        assert!(error.contains("each gate once"), "{error}");
        let order = GateOrder::try_new(GateOrder::IOFG.gates()).unwrap();
        assert_eq!(order, GateOrder::IOFG);
    }
}
