//! Sums over rows and steps of what is multiplied number by number: the gradients of peepholes and
//! of layer normalization.
//!
//! Each row of the batch has sums of its own while a segment is stepped through, so that they do
//! not depend on the threads; at its end they are added up row by row.

use crate::backward::{LayerNormGradients, Wanted};
use crate::buffer::{Buffer, Pointer};
use crate::cell::PEEPHOLES;
use crate::layout::Layout;
use crate::options::Options;
use crate::real::Real;

/// Sums that grow step by step.
#[derive(Debug)]
pub(crate) struct RowSums<T> {
    layout: Layout,
    peephole: Option<Sums<T>>,
    norm: Option<Sums<T>>,
}

/// Rows of sums, and of all of them together so far.
#[derive(Debug)]
struct Sums<T> {
    rows: Buffer<T>,
    total: Vec<T>,
}

/// Where a row's sums lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSumPointers<T> {
    layout: Layout,
    peephole: Option<Pointer<T>>,
    norm: Option<Pointer<T>>,
}

/// Where a row's sums for layer normalization lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NormSumPointers<T> {
    /// As a row of gates.
    pub(crate) input: Pointer<T>,
    /// As a row of gates.
    pub(crate) hidden: Pointer<T>,
    /// As a row of cell states.
    pub(crate) cell: Pointer<T>,
    /// As a row of cell states.
    pub(crate) cell_bias: Pointer<T>,
}

impl<T: Real> RowSums<T> {
    pub(crate) fn new(
        options: &Options<'_, T>,
        layout: Layout,
        batch: usize,
        wanted: Wanted,
    ) -> Self {
        let sums = |wanted: bool, width: usize| {
            wanted.then(|| Sums {
                rows: Buffer::zeros(batch * width),
                total: vec![T::default(); width],
            })
        };
        Self {
            layout,
            peephole: sums(
                wanted.peephole && options.has_peephole(),
                PEEPHOLES * layout.state_row(),
            ),
            norm: sums(
                wanted.layer_norm && options.norm.is_some(),
                norm_width(layout),
            ),
        }
    }

    pub(crate) fn pointers(&mut self) -> RowSumPointers<T> {
        RowSumPointers {
            layout: self.layout,
            peephole: self.peephole.as_mut().map(|sums| sums.rows.pointer()),
            norm: self.norm.as_mut().map(|sums| sums.rows.pointer()),
        }
    }

    /// Adds up what the rows have, which begin anew.
    pub(crate) fn add_up(&mut self) {
        for sums in [&mut self.peephole, &mut self.norm].into_iter().flatten() {
            sums.add_up();
        }
    }

    /// The gradients of the peepholes, `[3H]`, and of layer normalization.
    pub(crate) fn finish(self) -> (Option<Vec<T>>, Option<LayerNormGradients<T>>) {
        let Layout {
            lanes, d_hidden, ..
        } = self.layout;
        let peephole = self.peephole.map(|sums| {
            let at = |place: usize| {
                let (gate, unit) = (place / d_hidden, place % d_hidden);
                sums.total[(unit / lanes * PEEPHOLES + gate) * lanes + unit % lanes]
            };
            (0..PEEPHOLES * d_hidden).map(at).collect()
        });
        let norm = self.norm.map(|sums| {
            let (gates_row, state_row) = (self.layout.gates_row(), self.layout.state_row());
            let (input, rest) = sums.total.split_at(gates_row);
            let (hidden, rest) = rest.split_at(gates_row);
            let (cell, cell_bias) = rest.split_at(state_row);
            LayerNormGradients {
                input: self.layout.numbers_of(input),
                hidden: self.layout.numbers_of(hidden),
                cell: cell[..d_hidden].to_vec(),
                cell_bias: cell_bias[..d_hidden].to_vec(),
            }
        });
        (peephole, norm)
    }
}

impl<T: Real> Sums<T> {
    fn add_up(&mut self) {
        let width = self.total.len();
        for row in 0..self.rows.len() / width {
            for (place, total) in self.total.iter_mut().enumerate() {
                // SAFETY: the rows lie one behind the other and are initialized.
                unsafe {
                    let sum = self.rows.pointer().add(row * width + place).get();
                    *total = total.plus(*sum);
                    *sum = T::default();
                }
            }
        }
    }
}

impl<T: Real> RowSumPointers<T> {
    /// The peepholes' sums of a row, as [`Options`] has the peepholes of units.
    ///
    /// # Safety
    ///
    /// The row must be there.
    #[inline(always)]
    pub(crate) unsafe fn peephole(&self, row: usize) -> Option<Pointer<T>> {
        let width = PEEPHOLES * self.layout.state_row();
        self.peephole.map(|sums| unsafe { sums.add(row * width) })
    }

    /// # Safety
    ///
    /// The row must be there.
    #[inline(always)]
    pub(crate) unsafe fn norm(&self, row: usize) -> Option<NormSumPointers<T>> {
        let (gates_row, state_row) = (self.layout.gates_row(), self.layout.state_row());
        self.norm.map(|sums| unsafe {
            let input = sums.add(row * norm_width(self.layout));
            let hidden = input.add(gates_row);
            let cell = hidden.add(gates_row);
            NormSumPointers {
                input,
                hidden,
                cell,
                cell_bias: cell.add(state_row),
            }
        })
    }
}

/// Two rows of gates and two of cell states.
fn norm_width(layout: Layout) -> usize {
    2 * layout.gates_row() + 2 * layout.state_row()
}
