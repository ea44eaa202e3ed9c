//! burn's activation functions and this crate's.

use burn::nn::Identity;
use burn::nn::activation::{
    Activation as Theirs, Elu, HardSigmoid, LeakyRelu, Relu, Sigmoid, Softplus, Softsign, Tanh,
    ThresholdedRelu,
};

use crate::config::Activation;

/// Above this burn's softplus is the identity, which it then equals to rounding.
const SOFTPLUS_THRESHOLD: f64 = 20.0;

/// The function here that is theirs, if there is one.
pub(super) fn import(theirs: &Theirs) -> Option<Activation> {
    Some(match theirs {
        Theirs::Sigmoid(_) => Activation::Sigmoid,
        Theirs::Tanh(_) => Activation::Tanh,
        Theirs::Relu(_) => Activation::Relu,
        Theirs::Identity(_) => Activation::Identity,
        Theirs::HardSigmoid(HardSigmoid { alpha, beta }) => Activation::HardSigmoid {
            alpha: *alpha,
            beta: *beta,
        },
        Theirs::LeakyRelu(LeakyRelu { negative_slope }) => Activation::LeakyRelu {
            alpha: *negative_slope,
        },
        Theirs::Elu(Elu { alpha }) => Activation::Elu { alpha: *alpha },
        Theirs::Softsign(_) => Activation::Softsign,
        Theirs::Softplus(Softplus { beta, threshold })
            if *beta == 1.0 && *threshold >= SOFTPLUS_THRESHOLD =>
        {
            Activation::Softplus
        }
        Theirs::ThresholdedRelu(ThresholdedRelu { alpha }) => {
            Activation::ThresholdedRelu { alpha: *alpha }
        }
        _ => return None,
    })
}

/// Their function that is the one here, if there is one; the inverse of [`import`].
pub(super) fn export(ours: Activation) -> Option<Theirs> {
    Some(match ours {
        Activation::Sigmoid => Theirs::Sigmoid(Sigmoid::new()),
        Activation::Tanh => Theirs::Tanh(Tanh::new()),
        Activation::Relu => Theirs::Relu(Relu::new()),
        Activation::Identity => Theirs::Identity(Identity::new()),
        Activation::HardSigmoid { alpha, beta } => Theirs::HardSigmoid(HardSigmoid { alpha, beta }),
        Activation::LeakyRelu { alpha } => Theirs::LeakyRelu(LeakyRelu {
            negative_slope: alpha,
        }),
        Activation::Elu { alpha } => Theirs::Elu(Elu { alpha }),
        Activation::Softsign => Theirs::Softsign(Softsign::new()),
        Activation::Softplus => Theirs::Softplus(Softplus {
            beta: 1.0,
            threshold: SOFTPLUS_THRESHOLD,
        }),
        Activation::ThresholdedRelu { alpha } => Theirs::ThresholdedRelu(ThresholdedRelu { alpha }),
        Activation::ScaledTanh { .. } | Activation::Affine { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tensor;

    #[test]
    fn each_is_the_other() {
        let device = crate::testing::device();
        let points: Vec<f32> = (-40..=40).map(|k| k as f32 * 0.37).collect();
        for ours in [
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::Relu,
            Activation::Identity,
            Activation::HardSigmoid {
                alpha: 0.17,
                beta: 0.4,
            },
            Activation::LeakyRelu { alpha: 0.2 },
            Activation::Elu { alpha: 0.7 },
            Activation::Softsign,
            Activation::Softplus,
            Activation::ThresholdedRelu { alpha: 0.8 },
        ] {
            let theirs = export(ours).unwrap();
            assert_eq!(import(&theirs), Some(ours));
            let input = Tensor::<1>::from_data(&points[..], &device);
            let output: Vec<f32> = theirs.forward(input).into_data().try_to_vec().unwrap();
            for (&x, &found) in points.iter().zip(&output) {
                let expected = ours.apply(x.into()) as f32;
                assert!((found - expected).abs() < 1e-5, "{ours:?} at {x}: {found}");
            }
        }
        let affine = Activation::Affine {
            alpha: 2.0,
            beta: 0.5,
        };
        assert!(export(affine).is_none());
    }
}
