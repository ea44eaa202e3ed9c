//! The axis legend and every shape check.
//!
//! | axis | meaning |
//! |---|---|
//! | `B` | batch: rows, independent sequences |
//! | `T` | time steps |
//! | `D` | `d_input`, width of the input |
//! | `H` | `d_hidden`, width of the gates and of the cell state |
//! | `P` | `d_proj`, width of the hidden state: `H` without a projection |
//! | `L` | layers |
//! | `K` | directions: 1, or 2 when bidirectional |
//! | `G` | `4H`, the four gates side by side in the order of [`gates`](crate::gates) |
//!
//! On the raw path a sequence is a list of `T` step tensors `[B, width]`; see `reference.rs` for the
//! reason.

use burn::tensor::{DType, Device, Tensor};

use crate::error::ForwardError;

/// Batch size and number of time steps of `input`: `[B, T, D]`, or `[T, B, D]` when
/// `batch_first` is false.
pub(crate) fn check_input(
    input: &Tensor<3>,
    d_input: usize,
    batch_first: bool,
) -> Result<(usize, usize), ForwardError> {
    let [first, second, width] = input.dims();
    let (batch, steps) = if batch_first {
        (first, second)
    } else {
        (second, first)
    };
    if width != d_input {
        let axes = if batch_first { "B, T" } else { "T, B" };
        return Err(ForwardError::Shape {
            what: "input",
            expected: format!("[{axes}, D={d_input}]"),
            found: vec![first, second, width],
        });
    }
    if batch == 0 || steps == 0 {
        return Err(ForwardError::Empty {
            what: "input",
            found: vec![first, second, width],
        });
    }
    Ok((batch, steps))
}

/// The shape of one tensor of a stack's state, `[L*K, B, width]`.
pub(crate) fn check_state(
    what: &'static str,
    tensor: &Tensor<3>,
    layers_times_directions: usize,
    batch: usize,
    width: usize,
) -> Result<(), ForwardError> {
    if tensor.dims() == [layers_times_directions, batch, width] {
        return Ok(());
    }
    Err(ForwardError::Shape {
        what,
        expected: format!("[L*K={layers_times_directions}, B={batch}, H={width}]"),
        found: tensor.dims().to_vec(),
    })
}

/// The shape of one step's tensor, `[B, width]`.
pub(crate) fn check_step(
    what: &'static str,
    tensor: &Tensor<2>,
    batch: usize,
    width: usize,
) -> Result<(), ForwardError> {
    if tensor.dims() == [batch, width] {
        return Ok(());
    }
    Err(ForwardError::Shape {
        what,
        expected: format!("[B={batch}, {width}]"),
        found: tensor.dims().to_vec(),
    })
}

/// One length for each row, none beyond the input's time steps.
pub(crate) fn check_lengths(
    lengths: &[usize],
    batch: usize,
    steps: usize,
) -> Result<(), ForwardError> {
    check_rows("lengths", lengths.len(), batch)?;
    match lengths.iter().position(|&length| length > steps) {
        Some(row) => Err(ForwardError::Length {
            row,
            steps,
            found: lengths[row],
        }),
        None => Ok(()),
    }
}

/// One entry for each row and step.
pub(crate) fn check_mask(found: usize, batch: usize, steps: usize) -> Result<(), ForwardError> {
    // Neither is larger than a tensor that is there.
    if found == batch * steps {
        return Ok(());
    }
    Err(ForwardError::Mask {
        batch,
        steps,
        found,
    })
}

/// One entry for each row.
pub(crate) fn check_rows(
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), ForwardError> {
    if found == expected {
        Ok(())
    } else {
        Err(ForwardError::Rows {
            what,
            expected,
            found,
        })
    }
}

/// The element type and device of the weights.
pub(crate) fn check_kind<const R: usize>(
    what: &'static str,
    tensor: &Tensor<R>,
    dtype: DType,
    device: &Device,
) -> Result<(), ForwardError> {
    if tensor.dtype() != dtype {
        return Err(ForwardError::DType {
            what,
            expected: format!("{dtype:?}"),
            found: format!("{:?}", tensor.dtype()),
        });
    }
    if tensor.device() != *device {
        return Err(ForwardError::Device {
            what,
            expected: format!("{device:?}"),
            found: format!("{:?}", tensor.device()),
        });
    }
    Ok(())
}
