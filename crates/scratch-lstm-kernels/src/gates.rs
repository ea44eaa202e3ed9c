//! The gate order and its offsets: the only place that knows them.
//!
//! The four gates lie side by side in the order input, forget, cell, output, as PyTorch has them
//! (`torch.nn.LSTM`'s `weight_ih_l[k]`: `W_ii|W_if|W_ig|W_io`).

/// Number of gates.
pub const COUNT: usize = 4;

/// A gate; its discriminant is its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// How much of the candidate enters the cell state.
    Input = 0,
    /// How much of the old cell state stays.
    Forget = 1,
    /// The candidate, through tanh.
    Cell = 2,
    /// How much of the cell state is shown.
    Output = 3,
}

impl Gate {
    /// All gates in their order.
    pub const ORDER: [Gate; COUNT] = [Gate::Input, Gate::Forget, Gate::Cell, Gate::Output];

    /// Where this gate's rows begin.
    pub const fn offset(self, d_hidden: usize) -> usize {
        self as usize * d_hidden
    }
}
