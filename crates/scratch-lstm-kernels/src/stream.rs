//! One step of one sequence: for generation and online forecasting.

use std::sync::Arc;

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell::{self, Extra};
use crate::forward::pack_projection;
use crate::functions::Activations;
use crate::gates::COUNT;
use crate::layout::Layout;
use crate::options::{Cell, LayerNorm, Options, check_weights};
use crate::rows::{NormedInput, RowStep};
use crate::simd::InstructionSet;
use crate::tile::{
    PANEL, Packed, PackedSizes, RowProduct, Rows, load, store, sum_tile, write_product,
};

/// What a cell has besides the four gates; nothing by default. As [`Cell`], without what there is in
/// training alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamCell<'a> {
    /// The projection from what the cell shows to the hidden state, `[P, H]`.
    pub weight_hr: Option<&'a [f32]>,
    /// Weights from the cell state to its own input, forget and output gate, `[3H]`.
    pub peephole: Option<&'a [f32]>,
    /// The forget gate is 1 minus the input gate.
    pub coupled: bool,
    /// Gates are kept within ± this before their activations.
    pub clip_gates: Option<f32>,
    /// The cell state is kept within ± this.
    pub clip_cell: Option<f32>,
    /// Layer normalization of the gates and of what is shown of the cell state.
    pub layer_norm: Option<LayerNorm<'a, f32>>,
    /// How much of the old hidden state is kept at each step, 0 to 1.
    pub zoneout_hidden: Option<f32>,
    /// How much of the old cell state is kept at each step, 0 to 1.
    pub zoneout_cell: Option<f32>,
    /// Instead of σ and tanh; computed number by number.
    pub activations: Option<Activations>,
}

/// One layer that goes step by step in f32, with its weights packed and its state beside them.
/// A step allocates nothing and reads the weights once.
#[derive(Debug, Clone)]
pub struct Stream {
    set: InstructionSet,
    layout: Layout,
    d_input: usize,
    options: Arc<Options<'static, f32>>,
    /// `[W_ih, W_hh]` side by side: `D + P` rows of gates.
    weights: Packed<f32>,
    /// From what the cell shows to the hidden state.
    weight_hr: Option<Packed<f32>>,
    /// In the order of a row of gates.
    bias: Buffer<f32>,
    /// The input and the hidden state, one behind the other, as the weights want them.
    operand: Buffer<f32>,
    /// The next hidden state, until every unit has seen the one before.
    next: Buffer<f32>,
    cell: Buffer<f32>,
    /// Of cells that have something besides the four gates.
    room: Option<Room>,
}

impl Stream {
    /// From `weight_ih [4H, D]`, `weight_hh [4H, P]`, `bias [4H]`, in the zero state; the sizes are
    /// `D`, `H` and `P`, which is `H` without a projection.
    ///
    /// # Panics
    ///
    /// If sizes do not fit each other, or one is 0.
    pub fn new(
        set: InstructionSet,
        [d_input, d_hidden, d_output]: [usize; 3],
        weight_ih: &[f32],
        weight_hh: &[f32],
        bias: &[f32],
        cell: StreamCell<'_>,
    ) -> Self {
        let StreamCell {
            weight_hr,
            peephole,
            layer_norm,
            ..
        } = cell;
        let sizes = [d_input, d_hidden, d_output];
        assert!(sizes.iter().all(|&size| size > 0), "no axis may be empty");
        assert_eq!(weight_ih.len(), COUNT * d_hidden * d_input, "weight_ih");
        assert_eq!(weight_hh.len(), COUNT * d_hidden * d_output, "weight_hh");
        assert_eq!(bias.len(), COUNT * d_hidden, "bias");
        assert!(
            weight_hr.is_some() || d_output == d_hidden,
            "a hidden state as wide as the cell state, or a projection"
        );
        check_weights([d_hidden, d_output], weight_hr, peephole, layer_norm);
        let layout = Layout::new(d_hidden, d_output, set.lanes::<f32>());
        let rows: Vec<f32> = (0..COUNT * d_hidden)
            .flat_map(|row| {
                let on_input = &weight_ih[row * d_input..(row + 1) * d_input];
                let on_hidden = &weight_hh[row * d_output..(row + 1) * d_output];
                on_input.iter().chain(on_hidden).copied()
            })
            .collect();
        let depth = d_input + d_output;
        let sizes = PackedSizes {
            depth,
            vectors: layout.gate_vectors(),
            widest: PANEL,
            lanes: layout.lanes,
        };
        let weights = Packed::from_columns(sizes, 1, |vector, lane| {
            let row = layout.weight_row(vector, lane)?;
            Some(&rows[row * depth..(row + 1) * depth])
        });
        let options = cell.options(bias, layout, set);
        Self {
            set,
            layout,
            d_input,
            weights,
            weight_hr: weight_hr.map(|weight| pack_projection(layout, 1, weight)),
            bias: layout.gates_of(bias),
            operand: Buffer::zeros(d_input + layout.hidden_row()),
            next: Buffer::zeros(layout.hidden_row()),
            cell: Buffer::zeros(layout.state_row()),
            room: (!options.is_plain).then(|| Room::new(layout)),
            options: Arc::new(options),
        }
    }

    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.d_input
    }

    /// `H`, the width of the cell state.
    pub fn d_hidden(&self) -> usize {
        self.layout.d_hidden
    }

    /// `P`, the width of the hidden state: `H` without a projection.
    pub fn d_output(&self) -> usize {
        self.layout.d_output
    }

    /// Bytes of the packed weights: what a step has to read.
    pub fn weight_bytes(&self) -> usize {
        let projection = self.weight_hr.as_ref().map_or(0, Packed::len);
        (self.weights.len() + projection) * size_of::<f32>()
    }

    /// The hidden state, `[P]`.
    pub fn hidden(&self) -> &[f32] {
        // SAFETY: initialized when it was made, and as long.
        unsafe {
            let hidden = self.operand.source().add(self.d_input);
            std::slice::from_raw_parts(hidden, self.layout.d_output)
        }
    }

    /// The cell state, `[H]`.
    pub fn cell(&self) -> &[f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.cell.source(), self.layout.d_hidden) }
    }

    /// Goes on from another state, `[P]` and `[H]`.
    ///
    /// # Panics
    ///
    /// If they are of another length.
    pub fn set_state(&mut self, hidden: &[f32], cell: &[f32]) {
        let Layout {
            d_hidden, d_output, ..
        } = self.layout;
        assert_eq!(hidden.len(), d_output, "hidden state");
        assert_eq!(cell.len(), d_hidden, "cell state");
        // SAFETY: room for a row of each, of which the first `P` and `H` are written.
        unsafe {
            let to = self.operand.pointer().add(self.d_input).get();
            std::ptr::copy_nonoverlapping(hidden.as_ptr(), to, d_output);
            let to = self.cell.pointer().get();
            std::ptr::copy_nonoverlapping(cell.as_ptr(), to, d_hidden);
        }
    }

    /// One step: from `input [D]` to the next hidden state `[P]`.
    ///
    /// # Panics
    ///
    /// If the input is of another length.
    pub fn step(&mut self, input: &[f32]) -> &[f32] {
        assert_eq!(input.len(), self.d_input, "input");
        let operand = self.operand.pointer();
        // SAFETY: the operand begins with room for the input.
        unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), operand.get(), input.len()) };
        let step = Step {
            layout: self.layout,
            d_input: self.d_input,
            weights: &self.weights,
            bias: self.bias.source(),
            operand: operand.get(),
            next: self.next.pointer(),
            cell: self.cell.pointer(),
        };
        match &mut self.room {
            None => self.set.run(step),
            Some(room) => self.set.run(StepOfRow {
                step,
                options: &self.options,
                weight_hr: self.weight_hr.as_ref(),
                gates: room.gates.pointer(),
                sums: room.sums.pointer(),
                scratch: room.scratch.pointer(),
                shown: room.shown.pointer(),
            }),
        }
        // SAFETY: both have room for a row of hidden states.
        unsafe {
            let to = operand.add(self.d_input).get();
            std::ptr::copy_nonoverlapping(self.next.source(), to, self.layout.hidden_row());
        }
        self.hidden()
    }
}

impl StreamCell<'_> {
    fn options(self, bias: &[f32], layout: Layout, set: InstructionSet) -> Options<'static, f32> {
        let cell = Cell {
            weight_hr: self.weight_hr,
            peephole: self.peephole,
            coupled: self.coupled,
            clip_gates: self.clip_gates,
            clip_cell: self.clip_cell,
            layer_norm: self.layer_norm,
            ..Cell::default()
        };
        Options::new(&cell, bias, layout, set).with(
            self.zoneout_hidden,
            self.zoneout_cell,
            self.activations,
        )
    }
}

/// Room for a step: rows of gates and of cell states.
#[derive(Debug, Clone)]
struct Room {
    gates: Buffer<f32>,
    sums: Buffer<f32>,
    scratch: Buffer<f32>,
    shown: Buffer<f32>,
}

impl Room {
    fn new(layout: Layout) -> Self {
        Self {
            gates: Buffer::zeros(layout.gates_row()),
            sums: Buffer::zeros(layout.gates_row()),
            scratch: Buffer::zeros(layout.state_row()),
            shown: Buffer::zeros(layout.state_row()),
        }
    }
}

/// A step of the four gates alone.
#[derive(Clone, Copy)]
struct Step<'a> {
    layout: Layout,
    d_input: usize,
    weights: &'a Packed<f32>,
    bias: *const f32,
    operand: *const f32,
    next: Pointer<f32>,
    cell: Pointer<f32>,
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = self.layout.lanes;
        for units in 0..self.layout.units {
            // SAFETY: a panel of gates is the four gates of a vector of units, `depth` rows of
            // them; bias, states and operand were made for this layout.
            unsafe {
                let [sums] = sum_tile::<f32, S, 1, COUNT, 1>(
                    simd,
                    self.weights.depth(),
                    [self.operand],
                    self.weights.panel(units),
                );
                let sums = std::array::from_fn(|gate| {
                    let bias = load::<f32, S>(self.bias.add((units * COUNT + gate) * lanes));
                    simd.add_f32s(sums[gate], bias)
                });
                let cell = self.cell.add(units * lanes).get();
                let before = load::<f32, S>(cell);
                let step = cell::forward::<f32, S>(simd, sums, before, &Extra::NONE);
                store::<f32, S>(cell, step.cell);
                store::<f32, S>(self.next.add(units * lanes).get(), step.shown);
            }
        }
    }
}

/// A step of any cell.
struct StepOfRow<'a> {
    step: Step<'a>,
    options: &'a Options<'static, f32>,
    weight_hr: Option<&'a Packed<f32>>,
    gates: Pointer<f32>,
    sums: Pointer<f32>,
    scratch: Pointer<f32>,
    shown: Pointer<f32>,
}

impl WithSimd for StepOfRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Step {
            layout,
            next,
            cell,
            operand,
            d_input,
            ..
        } = self.step;
        let (options, lanes) = (self.options, layout.lanes);
        // SAFETY: all were made for this layout, of one row.
        unsafe {
            self.sum(simd);
            let row_step = RowStep {
                options,
                layout,
                time: 0,
                gates: self.gates,
                sums: self.sums,
                scales: None,
                cell_before: cell,
                cell_after: cell,
                last_cell: None,
                scratch: self.scratch,
                shown: self.shown,
            };
            row_step.row(simd, 0, 0..layout.units, true);
            let new = match self.weight_hr {
                None => self.shown,
                Some(weight_hr) => {
                    write_product(
                        simd,
                        RowProduct {
                            rows: 0..1,
                            panels: 0..weight_hr.panels().count(),
                            depth: layout.d_hidden,
                            left: Rows(self.shown.get(), layout.state_row()),
                            right: weight_hr,
                            to: next,
                            distance: layout.hidden_row(),
                            width: layout.hidden_row(),
                            times: None,
                            plus: None,
                        },
                    );
                    next
                }
            };
            for vector in 0..layout.outputs {
                let place = vector * lanes;
                let before = load::<f32, S>(operand.add(d_input + place));
                let kept = options.kept_hidden::<S, false>(simd, 0, 0, vector);
                let new = load::<f32, S>(new.add(place).get());
                let hidden = cell::keep::<f32, S>(simd, new, before, kept);
                store::<f32, S>(next.add(place).get(), hidden);
            }
        }
    }
}

impl StepOfRow<'_> {
    /// What input and bias, and what the hidden state adds to the gates; all of it with the hidden
    /// state, if nothing is normalized.
    #[inline(always)]
    unsafe fn sum<S: Simd>(&self, simd: S) {
        let Step {
            layout,
            d_input,
            weights,
            bias,
            operand,
            ..
        } = self.step;
        let normed = self.options.norm.as_ref();
        let depth = normed.map_or(0, |_| d_input);
        let vector = COUNT * layout.lanes;
        for units in 0..layout.units {
            // SAFETY: see `Step`; a panel has a row of four vectors for each number of the operand.
            unsafe {
                let panel = weights.panel(units);
                let [input] = sum_tile::<f32, S, 1, COUNT, 1>(simd, depth, [operand], panel);
                let [sums] = sum_tile::<f32, S, 1, COUNT, 1>(
                    simd,
                    weights.depth() - depth,
                    [operand.add(depth)],
                    panel.add(depth * vector),
                );
                for gate in 0..COUNT {
                    let place = units * vector + gate * layout.lanes;
                    let projected = match normed {
                        Some(_) => input[gate],
                        None => load::<f32, S>(bias.add(place)),
                    };
                    store::<f32, S>(self.gates.add(place).get(), projected);
                    store::<f32, S>(self.sums.add(place).get(), sums[gate]);
                }
            }
        }
        if let Some(norm) = normed {
            let normed = NormedInput {
                norm,
                coupled: self.options.coupled,
                layout,
                gates: self.gates,
                kept: None,
            };
            // SAFETY: the gates are one row.
            unsafe { normed.row(simd, 0) };
        }
    }
}
