//! A cell of eight linear layers: for each gate one on the input and one on the hidden state,
//! `i = σ(input.input(x) + hidden.input(h))` and so on.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::functional::sum_biases;
use crate::gates::{self, Gates};

use super::error::WeightsError;
use super::shapes::{check, check_cell, named};

/// Eight linear layers; those of a module of your own go in by name.
#[derive(Debug, Clone)]
pub struct EightLinears {
    /// On the input: weight `[D, H]`, bias `[H]` each.
    pub on_input: Gates<Linear>,
    /// On the hidden state: weight `[H, H]`, bias `[H]` each.
    pub on_hidden: Gates<Linear>,
}

impl EightLinears {
    /// The crate's layout. The two biases of a gate are summed; if some of the eight layers have
    /// a bias and others none, those have zeros.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape than the input gate's two weights imply.
    pub fn try_into_cell(self) -> Result<CellWeights, WeightsError> {
        let [d_input, _] = self.on_input.input.weight.dims();
        let [d_hidden, _] = self.on_hidden.input.weight.dims();
        check_linears("on_input", &self.on_input, ("D", d_input), d_hidden)?;
        check_linears("on_hidden", &self.on_hidden, ("H", d_hidden), d_hidden)?;
        let bias = sum_biases(joined_bias(&self.on_input), joined_bias(&self.on_hidden));
        Ok(CellWeights::new(
            joined_weight(self.on_input),
            joined_weight(self.on_hidden),
            bias,
        ))
    }

    /// Eight layers that compute what `weights` do: their bias on the input, zeros on the hidden
    /// state. The parameters are leaves of their own: no gradient flows on into `weights`.
    ///
    /// # Errors
    ///
    /// If the weights do not fit each other.
    pub fn try_from_cell(weights: CellWeights) -> Result<Self, WeightsError> {
        check_cell(&weights)?;
        let zeros = weights.bias.as_ref().map(Tensor::zeros_like);
        Ok(Self {
            on_input: linears(weights.weight_ih, weights.bias),
            on_hidden: linears(weights.weight_hh, zeros),
        })
    }
}

fn check_linears(
    field: &str,
    linears: &Gates<Linear>,
    columns: (&str, usize),
    d_hidden: usize,
) -> Result<(), WeightsError> {
    let rows = ("H", d_hidden);
    for (name, linear) in named(field, linears) {
        check(
            &format!("{name}.weight"),
            &linear.weight.val(),
            [columns, rows],
        )?;
        if let Some(bias) = &linear.bias {
            check(&format!("{name}.bias"), &bias.val(), [rows])?;
        }
    }
    Ok(())
}

fn joined_weight(linears: Gates<Linear>) -> Tensor<2> {
    gates::join(linears.map(|linear| linear.weight.val().transpose()), 0)
}

fn joined_bias(linears: &Gates<Linear>) -> Option<Tensor<1>> {
    let biases = linears
        .clone()
        .map(|linear| linear.bias.map(|bias| bias.val()));
    let one = biases.clone().into_order().into_iter().flatten().next()?;
    let biases = biases.map(|bias| bias.unwrap_or_else(|| one.zeros_like()));
    Some(gates::join(biases, 0))
}

fn linears(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Gates<Linear> {
    let mut biases = bias.map(|bias| gates::split(bias, 0).into_order().into_iter());
    gates::split(weight, 0).map(|weight| Linear {
        weight: Param::from_tensor(weight.detach().transpose()),
        bias: biases
            .as_mut()
            .and_then(Iterator::next)
            .map(|bias| Param::from_tensor(bias.detach())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::Gate;
    use crate::state::LstmState;
    use crate::weights::testing::{self, B, D, H, T, assert_close, assert_same, filled, filled_on};
    use burn::tensor::{Device, activation::sigmoid};

    fn linear(columns: usize, bias: bool, seed: u64, device: &Device) -> Linear {
        Linear {
            weight: Param::from_tensor(filled_on([columns, H], seed, device)),
            bias: bias.then(|| Param::from_tensor(filled_on([H], seed + 50, device))),
        }
    }

    /// Eight layers; the one of `gate` on the hidden state has no bias.
    fn eight(without: Option<Gate>, device: &Device) -> EightLinears {
        EightLinears {
            on_input: Gates::from_fn(|gate| linear(D, true, gate as u64, device)),
            on_hidden: Gates::from_fn(|gate| {
                linear(H, Some(gate) != without, 10 + gate as u64, device)
            }),
        }
    }

    /// The layout's own formula.
    fn run(cell: &EightLinears, input: Tensor<3>, state: LstmState<2>) -> Tensor<3> {
        let (mut h, mut c) = (state.hidden, state.cell);
        let mut outputs = Vec::new();
        for x in input.iter_dim(0) {
            let x: Tensor<2> = x.squeeze_dim(0);
            let gate = |on_input: &Linear, on_hidden: &Linear| {
                on_input.forward(x.clone()) + on_hidden.forward(h.clone())
            };
            let i = sigmoid(gate(&cell.on_input.input, &cell.on_hidden.input));
            let f = sigmoid(gate(&cell.on_input.forget, &cell.on_hidden.forget));
            let g = gate(&cell.on_input.cell, &cell.on_hidden.cell).tanh();
            let o = sigmoid(gate(&cell.on_input.output, &cell.on_hidden.output));
            c = f * c + i * g;
            h = o * c.clone().tanh();
            outputs.push(h.clone());
        }
        Tensor::stack(outputs, 0)
    }

    #[test]
    fn outputs_are_those_of_the_formula() {
        for without in [None, Some(Gate::Cell)] {
            let theirs = eight(without, &crate::testing::device());
            let (input, state) = (filled([T, B, D], 20), testing::state());
            let expected = run(&theirs, input.clone(), state.clone());
            let ours = theirs.try_into_cell().unwrap();
            let (output, _) = testing::run(&ours, input, state);
            assert_close(output, expected);
        }
    }

    #[test]
    fn round_trips_with_and_without_bias() {
        let mut weights = testing::weights(D, H);
        for bias in [true, false] {
            let theirs = EightLinears::try_from_cell(weights.clone()).unwrap();
            assert_eq!(theirs.on_hidden.output.bias.is_some(), bias);
            assert_same(theirs.try_into_cell().unwrap(), weights.clone());
            weights.bias = None;
        }
    }

    #[test]
    fn gradients_reach_the_linears() {
        let device = crate::testing::device().autodiff();
        let gradients = |run: &dyn Fn(&EightLinears, Tensor<3>) -> Tensor<3>| {
            let cell = eight(None, &device);
            let input = filled_on([T, B, D], 20, &device);
            let output = run(&cell, input) * filled_on([T, B, H], 21, &device);
            let gradients = output.sum().backward();
            let linears = cell.on_input.into_order().into_iter();
            let linears = linears.chain(cell.on_hidden.into_order());
            linears
                .map(|linear| {
                    let bias = linear.bias.unwrap().grad(&gradients).unwrap();
                    (linear.weight.grad(&gradients).unwrap(), bias)
                })
                .collect::<Vec<_>>()
        };
        let state = || LstmState::zeros([B, H], &device);
        let expected = gradients(&|cell, input| run(cell, input, state()));
        let found = gradients(&|cell, input| {
            let ours = cell.clone().try_into_cell().unwrap();
            testing::run(&ours, input, state()).0
        });
        for ((weight, bias), (expected_weight, expected_bias)) in found.into_iter().zip(expected) {
            assert_close(weight, expected_weight);
            assert_close(bias, expected_bias);
        }
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let device = crate::testing::device();
        let mut theirs = eight(None, &device);
        theirs.on_hidden.cell = linear(D, true, 1, &device);
        assert_eq!(
            theirs.try_into_cell().unwrap_err().to_string(),
            "on_hidden.cell.weight: expected shape [H=11, H=11], found [5, 11]"
        );
    }
}
