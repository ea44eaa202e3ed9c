//! One step of one sequence: for generation and online forecasting.

use pulp::{Simd, WithSimd};

use crate::buffer::{Buffer, Pointer};
use crate::cell;
use crate::gates::COUNT;
use crate::layout::Layout;
use crate::simd::InstructionSet;
use crate::tile::{PANEL, Packed, PackedSizes, load, store, sum_tile};

/// One layer that goes step by step in f32, with its weights packed and its state beside them.
/// A step allocates nothing and reads the weights once.
#[derive(Debug, Clone)]
pub struct Stream {
    set: InstructionSet,
    layout: Layout,
    d_input: usize,
    /// `[W_ih, W_hh]` side by side: `D + H` rows of gates.
    weights: Packed<f32>,
    /// In the order of a row of gates.
    bias: Buffer<f32>,
    /// The input and the hidden state, one behind the other, as the weights want them.
    operand: Buffer<f32>,
    /// The next hidden state, until every unit has seen the one before.
    next: Buffer<f32>,
    cell: Buffer<f32>,
}

impl Stream {
    /// From `weight_ih [4H, D]`, `weight_hh [4H, H]`, `bias [4H]`, in the zero state.
    ///
    /// # Panics
    ///
    /// If sizes do not fit each other, or one is 0.
    pub fn new(
        set: InstructionSet,
        [d_input, d_hidden]: [usize; 2],
        weight_ih: &[f32],
        weight_hh: &[f32],
        bias: &[f32],
    ) -> Self {
        assert!(d_input > 0 && d_hidden > 0, "no axis may be empty");
        assert_eq!(weight_ih.len(), COUNT * d_hidden * d_input, "weight_ih");
        assert_eq!(weight_hh.len(), COUNT * d_hidden * d_hidden, "weight_hh");
        assert_eq!(bias.len(), COUNT * d_hidden, "bias");
        let layout = Layout::new(d_hidden, set.lanes::<f32>());
        let rows: Vec<f32> = (0..COUNT * d_hidden)
            .flat_map(|row| {
                let on_input = &weight_ih[row * d_input..(row + 1) * d_input];
                let on_hidden = &weight_hh[row * d_hidden..(row + 1) * d_hidden];
                on_input.iter().chain(on_hidden).copied()
            })
            .collect();
        let depth = d_input + d_hidden;
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
        Self {
            set,
            layout,
            d_input,
            weights,
            bias: layout.gates_of(bias),
            operand: Buffer::zeros(d_input + layout.state_row()),
            next: Buffer::zeros(layout.state_row()),
            cell: Buffer::zeros(layout.state_row()),
        }
    }

    /// `D`, the width of the input.
    pub fn d_input(&self) -> usize {
        self.d_input
    }

    /// `H`, the width of the states.
    pub fn d_hidden(&self) -> usize {
        self.layout.d_hidden
    }

    /// Bytes of the packed weights: what a step has to read.
    pub fn weight_bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    /// The hidden state, `[H]`.
    pub fn hidden(&self) -> &[f32] {
        // SAFETY: initialized when it was made, and as long.
        unsafe {
            let hidden = self.operand.source().add(self.d_input);
            std::slice::from_raw_parts(hidden, self.layout.d_hidden)
        }
    }

    /// The cell state, `[H]`.
    pub fn cell(&self) -> &[f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.cell.source(), self.layout.d_hidden) }
    }

    /// Goes on from another state, `[H]` each.
    ///
    /// # Panics
    ///
    /// If they are of another length.
    pub fn set_state(&mut self, hidden: &[f32], cell: &[f32]) {
        let d_hidden = self.layout.d_hidden;
        assert_eq!(hidden.len(), d_hidden, "hidden state");
        assert_eq!(cell.len(), d_hidden, "cell state");
        // SAFETY: room for a row of states, of which the first `H` are written.
        unsafe {
            let to = self.operand.pointer().add(self.d_input).get();
            std::ptr::copy_nonoverlapping(hidden.as_ptr(), to, d_hidden);
            let to = self.cell.pointer().get();
            std::ptr::copy_nonoverlapping(cell.as_ptr(), to, d_hidden);
        }
    }

    /// One step: from `input [D]` to the next hidden state `[H]`.
    ///
    /// # Panics
    ///
    /// If the input is of another length.
    pub fn step(&mut self, input: &[f32]) -> &[f32] {
        assert_eq!(input.len(), self.d_input, "input");
        let operand = self.operand.pointer();
        // SAFETY: the operand begins with room for the input.
        unsafe { std::ptr::copy_nonoverlapping(input.as_ptr(), operand.get(), input.len()) };
        self.set.run(Step {
            layout: self.layout,
            weights: &self.weights,
            bias: self.bias.source(),
            operand: operand.get(),
            next: self.next.pointer(),
            cell: self.cell.pointer(),
        });
        // SAFETY: both have room for a row of states.
        unsafe {
            let to = operand.add(self.d_input).get();
            std::ptr::copy_nonoverlapping(self.next.source(), to, self.layout.state_row());
        }
        self.hidden()
    }
}

struct Step<'a> {
    layout: Layout,
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
                let step = cell::forward::<f32, S>(simd, sums, load::<f32, S>(cell));
                store::<f32, S>(cell, step.cell);
                store::<f32, S>(self.next.add(units * lanes).get(), step.hidden);
            }
        }
    }
}
