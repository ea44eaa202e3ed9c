//! All gates at once, inputs on the left: `gates = x W_x + h W_h + b`.

use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::gates::COUNT;

use super::error::WeightsError;
use super::order::GateOrder;
use super::shapes::{check, check_cell};

/// Stacked weights and one bias: Keras' `kernel`, `recurrent_kernel` and `bias`, and most LSTMs
/// written by hand with a single matmul for the four gates.
#[derive(Debug, Clone)]
pub struct StackedWeights {
    /// On the input, `[D, 4H]`.
    pub weight_x: Tensor<2>,
    /// On the hidden state, `[H, 4H]`.
    pub weight_h: Tensor<2>,
    /// `[4H]`.
    pub bias: Option<Tensor<1>>,
    /// How the gates lie side by side.
    pub order: GateOrder,
}

impl StackedWeights {
    /// The crate's layout.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape than `weight_h` and `weight_x` imply.
    pub fn try_into_cell(self) -> Result<CellWeights, WeightsError> {
        let [d_hidden, _] = self.weight_h.dims();
        let [d_input, _] = self.weight_x.dims();
        let gates = ("4H", COUNT * d_hidden);
        check("weight_h", &self.weight_h, [("H", d_hidden), gates])?;
        check("weight_x", &self.weight_x, [("D", d_input), gates])?;
        if let Some(bias) = &self.bias {
            check("bias", bias, [gates])?;
        }
        let order = self.order;
        Ok(CellWeights::new(
            order.import(self.weight_x.transpose(), 0),
            order.import(self.weight_h.transpose(), 0),
            self.bias.map(|bias| order.import(bias, 0)),
        ))
    }

    /// The layout of `weights`, with the gates in `order`.
    ///
    /// # Errors
    ///
    /// If the weights do not fit each other.
    pub fn try_from_cell(weights: CellWeights, order: GateOrder) -> Result<Self, WeightsError> {
        check_cell(&weights)?;
        Ok(Self {
            weight_x: order.export(weights.weight_ih, 0).transpose(),
            weight_h: order.export(weights.weight_hh, 0).transpose(),
            bias: weights.bias.map(|bias| order.export(bias, 0)),
            order,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LstmState;
    use crate::weights::testing::{self, B, D, H, T, assert_close, assert_same, filled};
    use burn::tensor::activation::sigmoid;

    /// The layout's own formula for the order input, output, forget, cell.
    fn run_iofg(
        weights: &StackedWeights,
        input: Tensor<3>,
        state: LstmState<2>,
    ) -> (Tensor<3>, LstmState<2>) {
        let (mut h, mut c) = (state.hidden, state.cell);
        let mut outputs = Vec::new();
        for x in input.iter_dim(0) {
            let x: Tensor<2> = x.squeeze_dim(0);
            let bias = weights.bias.clone().unwrap().unsqueeze_dim(0);
            let z = x.matmul(weights.weight_x.clone()) + h.matmul(weights.weight_h.clone()) + bias;
            let block = |k: usize| z.clone().narrow(1, k * H, H);
            let (i, o) = (sigmoid(block(0)), sigmoid(block(1)));
            let (f, g) = (sigmoid(block(2)), block(3).tanh());
            c = f * c + i * g;
            h = o * c.clone().tanh();
            outputs.push(h.clone());
        }
        (Tensor::stack(outputs, 0), LstmState { hidden: h, cell: c })
    }

    #[test]
    fn outputs_are_those_of_the_formula() {
        let theirs = StackedWeights {
            weight_x: filled([D, 4 * H], 1),
            weight_h: filled([H, 4 * H], 2),
            bias: Some(filled([4 * H], 3)),
            order: GateOrder::IOFG,
        };
        let (input, state) = (filled([T, B, D], 4), testing::state());
        let (expected, last) = run_iofg(&theirs, input.clone(), state.clone());
        let ours = theirs.try_into_cell().unwrap();
        let (output, after) = testing::run(&ours, input, state);
        assert_close(output, expected);
        assert_close(after.cell, last.cell);
    }

    #[test]
    fn round_trips_in_every_order() {
        let weights = testing::weights(D, H);
        for order in [GateOrder::IFGO, GateOrder::IOFG, GateOrder::FIGO] {
            let theirs = StackedWeights::try_from_cell(weights.clone(), order).unwrap();
            assert_eq!(theirs.weight_x.dims(), [D, 4 * H]);
            assert_same(theirs.try_into_cell().unwrap(), weights.clone());
        }
    }

    #[test]
    fn gradients_flow_through_the_conversion() {
        testing::check_gradients(|weights| {
            let theirs = StackedWeights::try_from_cell(weights, GateOrder::IOFG).unwrap();
            theirs.try_into_cell().unwrap()
        });
    }

    #[test]
    fn a_transposed_weight_is_an_error() {
        let mut theirs =
            StackedWeights::try_from_cell(testing::weights(D, H), GateOrder::IFGO).unwrap();
        theirs.weight_x = theirs.weight_x.transpose();
        let error = theirs.try_into_cell().unwrap_err();
        assert_eq!(
            error.to_string(),
            "weight_x: expected shape [D=44, 4H=44], found [44, 5]"
        );
    }
}
