//! PyTorch's layout: `gates = x W_ihᵀ + b_ih + h W_hhᵀ + b_hh`.

use burn::tensor::Tensor;

use crate::cell::CellWeights;
use crate::functional::sum_biases;

use super::error::WeightsError;
use super::shapes::{check, check_projected_cell};

/// The weights of one layer and direction as `torch.nn.LSTM` and `torch.nn.LSTMCell` have them,
/// gates input, forget, cell, output.
///
/// Only the sum of the biases counts, but trained apart they move twice as fast as one.
#[derive(Debug, Clone)]
pub struct TwoBiasWeights {
    /// `W_ih` on the input, `[4H, D]`.
    pub weight_ih: Tensor<2>,
    /// `W_hh` on the hidden state, `[4H, P]`, where `P = H` without a projection.
    pub weight_hh: Tensor<2>,
    /// `b_ih`, `[4H]`.
    pub bias_ih: Option<Tensor<1>>,
    /// `b_hh`, `[4H]`.
    pub bias_hh: Option<Tensor<1>>,
    /// `W_hr`, the projection of the hidden state, `[P, H]` (`proj_size`).
    pub weight_hr: Option<Tensor<2>>,
}

impl TwoBiasWeights {
    /// The crate's layout, with the biases summed.
    ///
    /// # Errors
    ///
    /// If a tensor has another shape than `weight_hh` and `weight_ih` imply.
    pub fn try_into_cell(self) -> Result<CellWeights, WeightsError> {
        let rows = [("4H", self.weight_hh.dims()[0])];
        for (name, bias) in [("bias_ih", &self.bias_ih), ("bias_hh", &self.bias_hh)] {
            if let Some(bias) = bias {
                check(name, bias, rows)?;
            }
        }
        let bias = sum_biases(self.bias_ih, self.bias_hh);
        let mut weights = CellWeights::new(self.weight_ih, self.weight_hh, bias);
        weights.weight_hr = self.weight_hr;
        check_projected_cell(&weights)?;
        Ok(weights)
    }

    /// The layout of `weights`: their bias as `b_ih`, zeros as `b_hh`.
    ///
    /// # Errors
    ///
    /// If the weights do not fit each other, or are those of a cell with peepholes or layer
    /// normalization.
    pub fn try_from_cell(weights: CellWeights) -> Result<Self, WeightsError> {
        check_projected_cell(&weights)?;
        let bias_hh = weights.bias.as_ref().map(Tensor::zeros_like);
        Ok(Self {
            weight_ih: weights.weight_ih,
            weight_hh: weights.weight_hh,
            bias_ih: weights.bias,
            bias_hh,
            weight_hr: weights.weight_hr,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functional;
    use crate::weights::testing::{self, B, D, H, T, assert_close, assert_same, filled};

    #[test]
    fn both_biases_count_and_export_keeps_the_sum() {
        let weights = testing::weights(D, H);
        let bias_hh = filled([4 * H], 7);
        let mut theirs = TwoBiasWeights::try_from_cell(weights.clone()).unwrap();
        theirs.bias_hh = Some(bias_hh.clone());
        let (input, state) = (filled([T, B, D], 8), testing::state());
        let (expected, _) = functional::lstm(
            input.clone(),
            state.clone(),
            weights.weight_ih.clone(),
            weights.weight_hh.clone(),
            weights.bias.clone(),
            Some(bias_hh.clone()),
        );

        let ours = theirs.try_into_cell().unwrap();
        let (output, _) = testing::run(&ours, input, state);
        assert_close(output, expected);
        let exported = TwoBiasWeights::try_from_cell(ours.clone()).unwrap();
        let zeros = exported.bias_hh.clone().unwrap();
        assert_eq!(zeros.abs().max().into_scalar::<f32>(), 0.0);
        assert_same(exported.try_into_cell().unwrap(), ours);
    }

    #[test]
    fn one_bias_or_none() {
        let weights = testing::weights(D, H);
        let mut theirs = TwoBiasWeights::try_from_cell(weights.clone()).unwrap();
        theirs.bias_hh = None;
        assert_same(theirs.clone().try_into_cell().unwrap(), weights);
        theirs.bias_ih = None;
        assert!(theirs.try_into_cell().unwrap().bias.is_none());
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let mut theirs = TwoBiasWeights::try_from_cell(testing::weights(D, H)).unwrap();
        theirs.bias_hh = Some(filled([3 * H], 1));
        let error = theirs.clone().try_into_cell().unwrap_err();
        assert_eq!(
            error.to_string(),
            "bias_hh: expected shape [4H=44], found [33]"
        );
        theirs.bias_hh = None;
        theirs.weight_ih = filled([3 * H, D], 1);
        let error = theirs.try_into_cell().unwrap_err();
        assert_eq!(
            error.to_string(),
            "weight_ih: expected shape [4H=44, D=5], found [33, 5]"
        );
    }
}
