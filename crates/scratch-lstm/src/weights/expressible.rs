//! What the layouts of others can express of this crate's LSTMs.

use std::fmt::Debug;

use crate::config::{Activation, Activations, DirectionJoin, LayerConnection, ScratchLstmConfig};

use super::error::WeightsError;

/// What a layout has besides the plain LSTM.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    /// What it is called in messages.
    pub(super) layout: &'static str,
    /// Whether layers may be connected to more than the one below.
    pub(super) connection: bool,
    /// Whether the state in which a sequence starts may be learned.
    pub(super) learned_state: bool,
    /// Whether hidden states are projected, to fewer numbers than there are units.
    pub(super) projection: bool,
    /// Whether there are peepholes.
    pub(super) peepholes: bool,
    /// Whether gates may be coupled.
    pub(super) coupled: bool,
    /// Whether the gates' numbers before their activations may have a bound.
    pub(super) clip_gates: bool,
    /// Whether the cell state may have a bound.
    pub(super) clip_cell: bool,
    /// Which other activations there may be.
    pub(super) activations: fn(Activation) -> bool,
}

impl Abilities {
    /// A layout of the plain LSTM only.
    pub(super) const fn plain(layout: &'static str) -> Self {
        Self {
            layout,
            connection: false,
            learned_state: false,
            projection: false,
            peepholes: false,
            coupled: false,
            clip_gates: false,
            clip_cell: false,
            activations: |_| false,
        }
    }

    /// That the layout has everything that `config` asks for; an error names all that it has not.
    pub(super) fn check(self, config: &ScratchLstmConfig) -> Result<(), WeightsError> {
        let plain = ScratchLstmConfig::new(config.d_input, config.d_hidden);
        let mut settings = Vec::new();
        let mut missing = |is_missing: bool, name: &str, value: &dyn Debug| {
            if is_missing {
                settings.push(format!("{name} = {value:?}"));
            }
        };
        let apart =
            config.bidirectional && config.num_layers > 1 && config.join == DirectionJoin::AtEnd;
        missing(apart, "join", &config.join);
        let connected = config.connection != LayerConnection::Plain && !self.connection;
        missing(connected, "connection", &config.connection);
        let learned = config.learned_state && !self.learned_state;
        missing(learned, "learned_state", &config.learned_state);
        if let Some(d_proj) = config.d_proj {
            let has_it = self.projection && d_proj < config.d_hidden;
            missing(!has_it, "d_proj", &d_proj);
        }
        let cell = &config.cell;
        let peepholes = cell.peepholes && !self.peepholes;
        missing(peepholes, "cell.peepholes", &cell.peepholes);
        let coupled = cell.coupled && !self.coupled;
        missing(coupled, "cell.coupled", &cell.coupled);
        if let Some(clip) = cell.clip_gates {
            missing(!self.clip_gates, "cell.clip_gates", &clip);
        }
        if let Some(clip) = cell.clip_cell {
            missing(!self.clip_cell, "cell.clip_cell", &clip);
        }
        missing(cell.layer_norm, "cell.layer_norm", &cell.layer_norm);
        let Activations { gate, cell, hidden } = cell.activations;
        let usual = plain.cell.activations;
        for (name, found, usual) in [
            ("cell.activations.gate", gate, usual.gate),
            ("cell.activations.cell", cell, usual.cell),
            ("cell.activations.hidden", hidden, usual.hidden),
        ] {
            let has_it = found == usual || (self.activations)(found);
            missing(!has_it, name, &found);
        }
        // Outside of training, too, a step keeps this share of the old state.
        let regularization = &config.regularization;
        for (name, rate) in [
            ("zoneout_hidden", regularization.zoneout_hidden),
            ("zoneout_cell", regularization.zoneout_cell),
        ] {
            missing(rate > 0.0, &format!("regularization.{name}"), &rate);
        }
        match settings.is_empty() {
            true => Ok(()),
            false => Err(WeightsError::Inexpressible {
                layout: self.layout,
                settings,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CellConfig;

    #[test]
    fn everything_that_is_missing_is_named() {
        let plain = Abilities::plain("PyTorch");
        let base = ScratchLstmConfig::new(5, 11)
            .with_num_layers(2)
            .with_bidirectional(true);
        assert!(plain.check(&base).is_ok());
        let mut config = base
            .with_join(DirectionJoin::AtEnd)
            .with_connection(LayerConnection::Residual)
            .with_learned_state(true)
            .with_projection(4)
            .with_cell(CellConfig {
                peepholes: true,
                coupled: true,
                clip_gates: Some(3.5),
                clip_cell: Some(7.5),
                layer_norm: true,
                activations: Activations {
                    cell: Activation::Relu,
                    ..Activations::default()
                },
            });
        config.regularization.zoneout_cell = 0.1;
        let all = "PyTorch has no join = AtEnd, connection = Residual, learned_state = true, \
                   d_proj = 4, cell.peepholes = true, cell.coupled = true, cell.clip_gates = 3.5, \
                   cell.clip_cell = 7.5, cell.layer_norm = true, cell.activations.cell = Relu, \
                   regularization.zoneout_cell = 0.1";
        assert_eq!(plain.check(&config).unwrap_err().to_string(), all);
        let able = Abilities {
            projection: true,
            coupled: true,
            clip_cell: true,
            activations: |activation| activation == Activation::Relu,
            ..plain
        };
        let rest = "PyTorch has no join = AtEnd, connection = Residual, learned_state = true, \
                    cell.peepholes = true, cell.clip_gates = 3.5, cell.layer_norm = true, \
                    regularization.zoneout_cell = 0.1";
        assert_eq!(able.check(&config).unwrap_err().to_string(), rest);
    }

    #[test]
    fn projections_are_narrower_than_the_cell() {
        let able = Abilities {
            projection: true,
            ..Abilities::plain("PyTorch")
        };
        let config = |d_proj| ScratchLstmConfig::new(5, 11).with_projection(d_proj);
        assert!(able.check(&config(10)).is_ok());
        let error = able.check(&config(11)).unwrap_err().to_string();
        assert_eq!(error, "PyTorch has no d_proj = 11");
    }
}
