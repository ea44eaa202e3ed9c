//! Kernels for CPUs, shared by Flex and NdArray: f32 and f64, on the best instruction set the
//! processor has.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `simd.rs`, `real.rs` | instruction sets; vectors of f32 and f64 |
//! | `activation.rs`, `cell.rs` | σ and tanh; the gate arithmetic |
//! | `tile.rs` | matrix products: the micro-kernel and its packed operand |
//! | `layout.rs`, `buffer.rs` | how memory is laid out |
//! | `plan.rs`, `crew.rs` | how the work is cut, and the threads that do it |
//! | `forward.rs`, `backward.rs`, `weights.rs` | the passes over a sequence; the weights' gradients |
//! | `host.rs` | from a backend's tensors to the kernels and back |

pub(crate) mod activation;
pub(crate) mod backward;
pub(crate) mod buffer;
pub(crate) mod cell;
pub(crate) mod crew;
pub(crate) mod forward;
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) mod host;
pub(crate) mod layout;
pub(crate) mod plan;
pub(crate) mod real;
pub(crate) mod simd;
pub(crate) mod tile;
pub(crate) mod weights;
