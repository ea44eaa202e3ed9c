//! Everything that an LSTM and a call of it can have, as factors with levels: what
//! [`pairwise`](crate::pairwise) combines.

use std::fmt;
use std::num::NonZeroUsize;

use scratch_lstm::config::{DirectionJoin, LayerConnection};
use scratch_lstm::{ForwardOptions, Key, Padding, PathChoice, ScratchLstmConfig};

use crate::compare::Named;
use crate::pairwise::pairwise;
use crate::probe::{Case, probe};

/// One thing that can be had in several ways.
pub struct Factor {
    /// What it is.
    pub name: &'static str,
    /// Its ways; the first one is that of a plain LSTM.
    pub levels: &'static [&'static str],
    /// Whether results depend on it, and not only time, memory, rounding or the order of axes.
    pub matters: bool,
    /// Makes a setup have the level with this number.
    set: fn(&mut Setup, usize),
}

/// All factors.
pub const FACTORS: &[Factor] = &[
    Factor {
        name: "stack",
        levels: &[
            "1 layer",
            "2 layers",
            "3 layers",
            "2 layers, residual",
            "3 layers, residual",
            "2 layers, skip",
            "3 layers, skip",
        ],
        matters: true,
        set: |setup, level| {
            let config = &mut setup.case.config;
            config.num_layers = [1, 2, 3, 2, 3, 2, 3][level];
            config.connection = match level {
                3 | 4 => LayerConnection::Residual,
                5 | 6 => LayerConnection::Skip,
                _ => LayerConnection::Plain,
            };
        },
    },
    Factor {
        name: "valid steps",
        levels: &[
            "all",
            "lengths",
            "lengths, padded left",
            "a mask with holes",
        ],
        matters: true,
        set: |setup, level| {
            let filled = [Filling::None, Filling::Right, Filling::Left, Filling::Holes];
            setup.filling = filled[level];
        },
    },
    Factor {
        name: "directions",
        levels: &["forward", "both", "both, joined at the end"],
        matters: true,
        set: |setup, level| {
            let config = &mut setup.case.config;
            config.bidirectional = level > 0;
            if level == 2 {
                config.join = DirectionJoin::AtEnd;
            }
        },
    },
    Factor {
        name: "dropout",
        levels: &["none", "of each step", "locked"],
        matters: true,
        set: |setup, level| {
            let regularization = &mut setup.case.config.regularization;
            regularization.dropout = [0.0, 0.3, 0.3][level];
            regularization.dropout_locked = level == 2;
        },
    },
    Factor {
        name: "first state",
        levels: &["given", "given, and resets", "the LSTM's own"],
        matters: true,
        set: |setup, level| {
            setup.resets = level == 1;
            setup.has_state = level != 2;
        },
    },
    Factor {
        name: "segment",
        levels: &["what suits", "1 step", "3 steps"],
        matters: false,
        set: |setup, level| setup.segment = NonZeroUsize::new([0, 1, 3][level]),
    },
    Factor {
        name: "projection",
        levels: &["none", "to 6 of 11"],
        matters: true,
        set: |setup, level| setup.case.config.d_proj = [None, Some(6)][level],
    },
    Factor {
        name: "peepholes",
        levels: &["no", "yes"],
        matters: true,
        set: |setup, level| setup.case.config.cell.peepholes = level == 1,
    },
    Factor {
        name: "coupled",
        levels: &["no", "yes"],
        matters: true,
        set: |setup, level| setup.case.config.cell.coupled = level == 1,
    },
    Factor {
        name: "clip_gates",
        levels: &["none", "0.8"],
        matters: true,
        set: |setup, level| setup.case.config.cell.clip_gates = [None, Some(0.8)][level],
    },
    Factor {
        name: "clip_cell",
        levels: &["none", "0.5"],
        matters: true,
        set: |setup, level| setup.case.config.cell.clip_cell = [None, Some(0.5)][level],
    },
    Factor {
        name: "layer_norm",
        levels: &["no", "yes"],
        matters: true,
        set: |setup, level| setup.case.config.cell.layer_norm = level == 1,
    },
    Factor {
        name: "zoneout_hidden",
        levels: &["0", "0.2"],
        matters: true,
        set: |setup, level| {
            setup.case.config.regularization.zoneout_hidden = [0.0, 0.2][level];
        },
    },
    Factor {
        name: "zoneout_cell",
        levels: &["0", "0.3"],
        matters: true,
        set: |setup, level| {
            setup.case.config.regularization.zoneout_cell = [0.0, 0.3][level];
        },
    },
    Factor {
        name: "recurrent_dropout",
        levels: &["0", "0.3"],
        matters: true,
        set: |setup, level| {
            setup.case.config.regularization.recurrent_dropout = [0.0, 0.3][level];
        },
    },
    Factor {
        name: "weight_dropout",
        levels: &["0", "0.3"],
        matters: true,
        set: |setup, level| {
            setup.case.config.regularization.weight_dropout = [0.0, 0.3][level];
        },
    },
    Factor {
        name: "bias",
        levels: &["yes", "no"],
        matters: true,
        set: |setup, level| setup.case.config.bias = level == 0,
    },
    Factor {
        name: "learned_state",
        levels: &["no", "yes"],
        // Where the first state is given, nothing depends on it.
        matters: false,
        set: |setup, level| setup.case.config.learned_state = level == 1,
    },
    Factor {
        name: "batch_first",
        levels: &["yes", "no"],
        matters: false,
        set: |setup, level| setup.case.config.batch_first = level == 0,
    },
    Factor {
        name: "gradient checkpointing",
        levels: &["no", "yes"],
        matters: false,
        set: |setup, level| setup.case.checkpointing = level == 1,
    },
];

/// A combination of the factors' levels: B=3, T=7, D=5, H=11.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The LSTM.
    pub case: Case,
    /// Where rows are filled up.
    pub filling: Filling,
    /// Whether some rows start anew.
    pub resets: bool,
    /// Whether the first state is given.
    pub has_state: bool,
    /// Steps whose inputs are projected at once.
    pub segment: Option<NonZeroUsize>,
    levels: Vec<usize>,
}

/// Where rows are filled up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filling {
    /// Nowhere.
    None,
    /// Behind their lengths.
    Right,
    /// Before their last steps.
    Left,
    /// Here and there.
    Holes,
}

impl Setup {
    /// The combination with these levels, one of each factor.
    pub fn new(levels: &[usize]) -> Self {
        assert_eq!(levels.len(), FACTORS.len(), "a level of each factor");
        let mut setup = Self {
            case: Case::new(ScratchLstmConfig::new(5, 11)),
            filling: Filling::None,
            resets: false,
            has_state: true,
            segment: None,
            levels: levels.to_vec(),
        };
        for (factor, &level) in FACTORS.iter().zip(levels) {
            (factor.set)(&mut setup, level);
        }
        setup
    }

    /// Combinations in which each two levels of different factors are together.
    pub fn pairs() -> Vec<Self> {
        let counts: Vec<_> = FACTORS.iter().map(|factor| factor.levels.len()).collect();
        pairwise(&counts).iter().map(|row| Self::new(row)).collect()
    }

    /// Two layers with nothing besides.
    pub fn plain() -> Self {
        let mut levels = vec![0; FACTORS.len()];
        levels[0] = 1;
        Self::new(&levels)
    }

    /// Each level of each factor by itself, in two layers where it is not about layers.
    pub fn alone() -> Vec<(&'static Factor, Self)> {
        let plain = Self::plain();
        let factors = FACTORS.iter().enumerate();
        let setups = factors.flat_map(|(place, factor)| {
            let plain = &plain;
            let levels = (0..factor.levels.len()).filter(move |&to| to != plain.levels[place]);
            levels.map(move |level| {
                let mut levels = plain.levels.clone();
                levels[place] = level;
                (factor, Self::new(&levels))
            })
        });
        setups.collect()
    }

    /// Fewer units, for central differences: D=3, H=5, and P=4 if there is a projection.
    pub fn small(mut self) -> Self {
        let config = &mut self.case.config;
        (config.d_input, config.d_hidden) = (3, 5);
        config.d_proj = config.d_proj.map(|_| 4);
        self
    }

    /// Calls `with` with the options of its call, but for the state.
    pub fn with_options<R>(&self, with: impl FnOnce(ForwardOptions<'_>) -> R) -> R {
        let Case { batch, steps, .. } = self.case;
        let key = Key::new(7);
        // Any order, 0 and all steps among them.
        let lengths: Vec<_> = (0..batch).map(|row| (row * 4 + 4) % (steps + 1)).collect();
        let [first, second] = match self.case.config.batch_first {
            true => [batch, steps],
            false => [steps, batch],
        };
        let places = (0..first).flat_map(|a| (0..second).map(move |b| (a, b)));
        let mask: Vec<_> = places.map(|(a, b)| (3 * a + 5 * b) % 4 != 0).collect();
        let resets: Vec<_> = (0..batch).map(|row| row % 2 == 1).collect();
        let options = ForwardOptions::new()
            .with_key(&key)
            .with_segment(self.segment)
            .with_resets(self.resets.then_some(&resets[..]));
        with(match self.filling {
            Filling::None => options,
            Filling::Right => options.with_lengths(&lengths[..]),
            Filling::Left => options
                .with_lengths(&lengths[..])
                .with_padding(Padding::Left),
            Filling::Holes => options.with_mask(&mask[..]),
        })
    }

    /// Everything that it computes by a path, which is the one that is taken.
    pub fn run(&self, path: PathChoice) -> Named {
        let mut case = self.case.clone();
        case.config.path = path;
        let lstm = case.lstm();
        let taken = lstm
            .path()
            .unwrap_or_else(|error| panic!("{self}: {error}"));
        assert_eq!(taken.is_fused(), path == PathChoice::Fused, "{self}");
        let mut sequence = case.sequence();
        sequence.state = sequence.state.filter(|_| self.has_state);
        self.with_options(|options| probe(&lstm, &sequence, &case.cotangents(), options))
    }
}

impl fmt::Display for Setup {
    /// The levels that are not those of a plain LSTM.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, seed {}", self.case.dtype, self.case.seed)?;
        for (factor, &level) in FACTORS.iter().zip(&self.levels) {
            if level > 0 {
                write!(f, "; {}: {}", factor.name, factor.levels[level])?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
