//! One matrix a gate on the concatenation of hidden state and input, as textbooks write it:
//! `i = σ(W_i·[h; x] + b_i)` and so on.

use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::gates::{self, Gates};

use super::error::WeightsError;
use super::shapes::{check, check_cell, named};

/// Four matrices on the concatenation of the hidden state and the input, one for each gate.
#[derive(Debug, Clone)]
pub struct ConcatWeights {
    /// `[H, H+D]` each if the matrices stand on the left, `[H+D, H]` if on the right.
    pub weight: Gates<Tensor<2>>,
    /// `[H]` each.
    pub bias: Option<Gates<Tensor<1>>>,
    /// On which side of the concatenation the matrices stand.
    pub side: ConcatSide,
    /// What comes first in the concatenation.
    pub order: ConcatOrder,
}

/// On which side of the concatenation a matrix stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConcatSide {
    /// `W·[h; x] + b` with column vectors, `W [H, H+D]`.
    #[default]
    Left,
    /// `[h, x]·W + b` with row vectors, `W [H+D, H]`.
    Right,
}

/// What comes first in the concatenation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConcatOrder {
    /// `[h, x]`.
    #[default]
    HiddenFirst,
    /// `[x, h]`.
    InputFirst,
}

impl ConcatWeights {
    /// The crate's layout.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape than the input gate's matrix implies, or that has no room
    /// for an input.
    pub fn try_into_cell(self) -> Result<CellWeights, WeightsError> {
        let [first, second] = self.weight.input.dims();
        let (d_hidden, width) = match self.side {
            ConcatSide::Left => (first, second),
            ConcatSide::Right => (second, first),
        };
        let axes = match self.side {
            ConcatSide::Left => [("H", d_hidden), ("H+D", width)],
            ConcatSide::Right => [("H+D", width), ("H", d_hidden)],
        };
        for (name, weight) in named("weight", &self.weight) {
            check(&name, weight, axes)?;
        }
        if width <= d_hidden {
            return Err(WeightsError::Setting {
                name: "weight".into(),
                expected: format!("more than H={d_hidden} entries of the concatenation"),
                found: width.to_string(),
            });
        }
        if let Some(bias) = &self.bias {
            for (name, bias) in named("bias", bias) {
                check(&name, bias, [("H", d_hidden)])?;
            }
        }

        let d_input = width - d_hidden;
        let (hidden_at, input_at) = match self.order {
            ConcatOrder::HiddenFirst => (0, d_hidden),
            ConcatOrder::InputFirst => (d_input, 0),
        };
        let weight = match self.side {
            ConcatSide::Left => self.weight,
            ConcatSide::Right => self.weight.map(Tensor::transpose),
        };
        let weight = gates::join(weight, 0);
        Ok(CellWeights::new(
            weight.clone().narrow(1, input_at, d_input),
            weight.narrow(1, hidden_at, d_hidden),
            self.bias.map(|bias| gates::join(bias, 0)),
        ))
    }

    /// The layout of `weights`, with the matrices on `side` of a concatenation in `order`.
    ///
    /// # Errors
    ///
    /// If the weights do not fit each other.
    pub fn try_from_cell(
        weights: CellWeights,
        side: ConcatSide,
        order: ConcatOrder,
    ) -> Result<Self, WeightsError> {
        check_cell(&weights)?;
        let parts = match order {
            ConcatOrder::HiddenFirst => vec![weights.weight_hh, weights.weight_ih],
            ConcatOrder::InputFirst => vec![weights.weight_ih, weights.weight_hh],
        };
        let weight = gates::split(Tensor::cat(parts, 1), 0);
        Ok(Self {
            weight: match side {
                ConcatSide::Left => weight,
                ConcatSide::Right => weight.map(Tensor::transpose),
            },
            bias: weights.bias.map(|bias| gates::split(bias, 0)),
            side,
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

    const ALL: [(ConcatSide, ConcatOrder); 4] = [
        (ConcatSide::Left, ConcatOrder::HiddenFirst),
        (ConcatSide::Left, ConcatOrder::InputFirst),
        (ConcatSide::Right, ConcatOrder::HiddenFirst),
        (ConcatSide::Right, ConcatOrder::InputFirst),
    ];

    /// The layout's own formula, with row vectors for the batch.
    fn run(weights: &ConcatWeights, input: Tensor<3>, state: LstmState<2>) -> Tensor<3> {
        let (mut h, mut c) = (state.hidden, state.cell);
        let bias = weights.bias.clone().unwrap();
        let mut outputs = Vec::new();
        for x in input.iter_dim(0) {
            let x: Tensor<2> = x.squeeze_dim(0);
            let joined = Tensor::cat(
                match weights.order {
                    ConcatOrder::HiddenFirst => vec![h, x],
                    ConcatOrder::InputFirst => vec![x, h],
                },
                1,
            );
            let gate = |weight: &Tensor<2>, bias: &Tensor<1>| {
                let product = match weights.side {
                    ConcatSide::Left => weight
                        .clone()
                        .matmul(joined.clone().transpose())
                        .transpose(),
                    ConcatSide::Right => joined.clone().matmul(weight.clone()),
                };
                product + bias.clone().unsqueeze_dim(0)
            };
            let i = sigmoid(gate(&weights.weight.input, &bias.input));
            let f = sigmoid(gate(&weights.weight.forget, &bias.forget));
            let g = gate(&weights.weight.cell, &bias.cell).tanh();
            let o = sigmoid(gate(&weights.weight.output, &bias.output));
            c = f * c + i * g;
            h = o * c.clone().tanh();
            outputs.push(h.clone());
        }
        Tensor::stack(outputs, 0)
    }

    #[test]
    fn outputs_are_those_of_the_formula() {
        for (side, order) in ALL {
            let shape = match side {
                ConcatSide::Left => [H, H + D],
                ConcatSide::Right => [H + D, H],
            };
            let theirs = ConcatWeights {
                weight: Gates::from_fn(|gate| filled(shape, gate as u64)),
                bias: Some(Gates::from_fn(|gate| filled([H], 10 + gate as u64))),
                side,
                order,
            };
            let (input, state) = (filled([T, B, D], 20), testing::state());
            let expected = run(&theirs, input.clone(), state.clone());
            let ours = theirs.try_into_cell().unwrap();
            let (output, _) = testing::run(&ours, input, state);
            assert_close(output, expected);
        }
    }

    #[test]
    fn round_trips() {
        let mut weights = testing::weights(D, H);
        for (side, order) in ALL {
            let theirs = ConcatWeights::try_from_cell(weights.clone(), side, order).unwrap();
            assert_same(theirs.try_into_cell().unwrap(), weights.clone());
            weights.bias = None;
        }
    }

    #[test]
    fn gradients_flow_through_the_conversion() {
        testing::check_gradients(|weights| {
            let (side, order) = (ConcatSide::Right, ConcatOrder::HiddenFirst);
            let theirs = ConcatWeights::try_from_cell(weights, side, order).unwrap();
            theirs.try_into_cell().unwrap()
        });
    }

    #[test]
    fn wrong_shapes_are_named() {
        let theirs = |side| {
            let order = ConcatOrder::HiddenFirst;
            ConcatWeights::try_from_cell(testing::weights(D, H), side, order).unwrap()
        };
        let mut one = theirs(ConcatSide::Left);
        one.weight.forget = one.weight.forget.transpose();
        assert_eq!(
            one.try_into_cell().unwrap_err().to_string(),
            "weight.forget: expected shape [H=11, H+D=16], found [16, 11]"
        );
        let mut other_side = theirs(ConcatSide::Left);
        other_side.side = ConcatSide::Right;
        assert_eq!(
            other_side.try_into_cell().unwrap_err().to_string(),
            "weight: expected more than H=16 entries of the concatenation, found 11"
        );
        let mut bias = theirs(ConcatSide::Right);
        bias.bias.as_mut().unwrap().output = filled([H + 1], 1);
        assert_eq!(
            bias.try_into_cell().unwrap_err().to_string(),
            "bias.output: expected shape [H=11], found [12]"
        );
    }
}
