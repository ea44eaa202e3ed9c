//! A whole-sequence LSTM and its backward pass for CPUs, on plain slices of f32 or f64.
//!
//! [`forward`] runs one layer and one direction over a sequence and keeps what [`backward`] needs
//! to walk back through time; [`Stream`] goes step by step with nothing allocated. They know of no
//! framework: `scratch-lstm` makes one burn operation of them.
//!
//! One binary has every instruction set ([`InstructionSet`]); the best one that the processor has
//! is taken at run time. Threads are those of rayon's current pool, and results do not depend on
//! how many there are, to the bit.
//!
//! A cell may have more than the four gates ([`Cell`]). The plain one has kernels of its own, in
//! which the gates follow the recurrent product while its sums are still in registers; all others
//! share the product and the arithmetic with it, and go over its sums row by row.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `gates.rs` | the gate order |
//! | `layout.rs`, `buffer.rs` | what is read and how memory is laid out |
//! | `simd.rs`, `real.rs` | instruction sets; vectors of f32 and f64 |
//! | `activation.rs`, `cell.rs`, `norm.rs` | σ and tanh; the gate arithmetic; layer normalization |
//! | `functions.rs` | activation functions by name |
//! | `options.rs` | what a cell may have besides the four gates |
//! | `tile.rs` | matrix products: the micro-kernel and its packed operand |
//! | `plan.rs`, `crew.rs` | how the work is cut, and the threads that do it |
//! | `forward.rs`, `backward.rs` | the passes over a sequence; the plain cell's steps |
//! | `rows.rs` | the steps of all other cells |
//! | `weights.rs`, `sums.rs` | gradients of weights; of what enters number by number |
//! | `direct.rs` | a few steps of a few rows, without packing |
//! | `stream.rs` | one step of one sequence |
//!
//! Letters: `B` batch, `T` time, `D` width of the input, `H` width of the cell state, `P` width of
//! the hidden state, which is `H` without a projection.

mod activation;
mod backward;
mod buffer;
mod cell;
mod crew;
mod direct;
mod forward;
mod functions;
pub mod gates;
mod layout;
mod norm;
mod options;
mod plan;
mod real;
mod rows;
mod simd;
mod stream;
mod sums;
mod tile;
mod weights;

pub use backward::{Cotangents, Gradients, LayerNormGradients, Wanted, backward};
pub use buffer::release_memory;
pub use forward::{Inputs, Outputs, Saved, forward};
pub use functions::{Activation, Activations};
pub use layout::{Series, Sizes, Valid, Walk};
pub use options::{Cell, LayerNorm};
pub use plan::{Keep, Plan};
pub use real::Real;
pub use simd::{InstructionSet, InstructionSetError};
pub use stream::{Stream, StreamCell};

#[cfg(test)]
mod tests;
