//! One layer and direction as it runs in one call: weights, equations, masks.

use burn::tensor::{DType, Device, Tensor};

use crate::cell::CellWeights;
use crate::config::{CellConfig, RegularizationConfig};
use crate::dropout::{kept, mask};
use crate::random::Key;

/// What a passage over a sequence computes with.
#[derive(Debug, Clone)]
pub(crate) struct Recurrence {
    /// Those that are dropped out are zeros already.
    pub(crate) weights: CellWeights,
    pub(crate) cell: CellConfig,
    pub(crate) masks: Masks,
}

/// What is dropped or held back of the states. Constants: no gradient flows into them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks {
    /// What the gates see of the hidden state, at every step alike: `[B, P]`, 0 or `1 / (1 - rate)`.
    pub(crate) hidden: Option<Tensor<2>>,
    /// The share of the old hidden state that is kept at each step, `[T, B, P]`.
    pub(crate) zoneout_hidden: Option<Tensor<3>>,
    /// The share of the old cell state, `[T, B, H]`.
    pub(crate) zoneout_cell: Option<Tensor<3>>,
}

impl Recurrence {
    /// Without masks.
    pub(crate) fn of(weights: CellWeights, cell: CellConfig) -> Self {
        Self {
            weights,
            cell,
            masks: Masks::default(),
        }
    }
}

/// Sizes of the masks of one layer and direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaskSizes {
    pub(crate) batch: usize,
    pub(crate) steps: usize,
    /// `P`
    pub(crate) d_state: usize,
    /// `H`
    pub(crate) d_hidden: usize,
}

impl Masks {
    /// The masks of one call: in training drawn from `key`; without one nothing is dropped, and
    /// every unit keeps its share by zoneout.
    pub(crate) fn draw(
        regularization: &RegularizationConfig,
        sizes: MaskSizes,
        key: Option<&Key>,
        device: &Device,
        dtype: DType,
    ) -> Self {
        let device = &device.clone().without_autodiff();
        let MaskSizes {
            batch,
            steps,
            d_state,
            d_hidden,
        } = sizes;
        let zoneout = |rate: f64, width: usize, name: &str| {
            let shape = [steps, batch, width];
            (rate > 0.0).then(|| match key {
                Some(key) => kept(shape, rate, &key.child(name), device, dtype),
                None => Tensor::<3>::full([1, 1, width], rate, (device, dtype)).expand(shape),
            })
        };
        let rate = regularization.recurrent_dropout;
        let dropped = key.filter(|_| rate > 0.0);
        Self {
            hidden: dropped.map(|key| {
                let key = key.child("recurrent");
                mask([batch, d_state], rate, &key, device, dtype)
            }),
            zoneout_hidden: zoneout(regularization.zoneout_hidden, d_state, "zoneout_hidden"),
            zoneout_cell: zoneout(regularization.zoneout_cell, d_hidden, "zoneout_cell"),
        }
    }
}
