//! PyTorch's names for the tensors of an LSTM: `weight_ih_l0`, `bias_hh_l1_reverse`.

use crate::config::ScratchLstmConfig;

/// One layer and direction. The order is that of the state, `L*K`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) layer: usize,
    pub(super) reverse: bool,
}

/// The place that every LSTM has.
pub(super) const FIRST: Place = Place {
    layer: 0,
    reverse: false,
};

/// One tensor of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    WeightIh,
    WeightHh,
    BiasIh,
    BiasHh,
    /// The projection of `proj_size`.
    WeightHr,
}

impl Part {
    const ALL: [Part; 5] = [
        Part::WeightIh,
        Part::WeightHh,
        Part::BiasIh,
        Part::BiasHh,
        Part::WeightHr,
    ];

    /// Those of an LSTM with or without bias and projections.
    pub(super) fn of(bias: bool, projection: bool) -> impl Iterator<Item = Part> {
        let has = move |part: &Part| match part {
            Part::WeightIh | Part::WeightHh => true,
            Part::BiasIh | Part::BiasHh => bias,
            Part::WeightHr => projection,
        };
        Self::ALL.into_iter().filter(has)
    }

    pub(super) fn is_bias(self) -> bool {
        matches!(self, Part::BiasIh | Part::BiasHh)
    }

    /// How its name begins.
    fn stem(self) -> &'static str {
        match self {
            Part::WeightIh => "weight_ih_l",
            Part::WeightHh => "weight_hh_l",
            Part::BiasIh => "bias_ih_l",
            Part::BiasHh => "bias_hh_l",
            Part::WeightHr => "weight_hr_l",
        }
    }
}

impl Place {
    /// PyTorch's name of a tensor: `weight_ih_l0_reverse`.
    pub(super) fn name(self, part: Part) -> String {
        let direction = if self.reverse { "_reverse" } else { "" };
        format!("{}{}{direction}", part.stem(), self.layer)
    }
}

/// The inverse of [`Place::name`].
pub(super) fn parse(name: &str) -> Option<(Place, Part)> {
    let (part, rest) = Part::ALL
        .iter()
        .find_map(|part| Some((*part, name.strip_prefix(part.stem())?)))?;
    let (layer, reverse) = match rest.strip_suffix("_reverse") {
        Some(layer) => (layer, true),
        None => (rest, false),
    };
    let layer = layer.parse().ok()?;
    let place = Place { layer, reverse };
    // `+1` and `01` are numbers too.
    (place.name(part) == name).then_some((place, part))
}

/// What follows `prefix` and its dot in `name`.
pub(super) fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        Some(name)
    } else {
        name.strip_prefix(prefix)?.strip_prefix('.')
    }
}

/// All places of an LSTM.
pub(super) fn places(config: &ScratchLstmConfig) -> impl Iterator<Item = Place> {
    all_places(config.num_layers, config.bidirectional)
}

/// [`places`] of any number of layers.
pub(super) fn all_places(num_layers: usize, bidirectional: bool) -> impl Iterator<Item = Place> {
    (0..num_layers).flat_map(move |layer| {
        let directions: &[bool] = if bidirectional {
            &[false, true]
        } else {
            &[false]
        };
        directions
            .iter()
            .map(move |&reverse| Place { layer, reverse })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_as_they_are_made() {
        for place in all_places(12, true) {
            for part in Part::ALL {
                assert_eq!(parse(&place.name(part)), Some((place, part)));
            }
        }
        let place = Place {
            layer: 1,
            reverse: true,
        };
        assert_eq!(place.name(Part::BiasHh), "bias_hh_l1_reverse");
        for other in [
            "weight_ih",
            "weight_ih_l",
            "weight_ih_l01",
            "weight_ih_l0_backward",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
