//! What a device has room for, and which rung a size takes there.

use burn::tensor::DType;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::CubeCount;

use super::persistent::Tile;
use crate::fused::{Rung, RungError};
use crate::gates::COUNT;

/// The most units of a layer whose weights are read again at each step, 4 H² numbers from the
/// caches, instead of multiplied by kernels that are launched at each step. On a GPU an estimate: a
/// mebibyte passes to a multiprocessor in about the time of two launches. On a processor measured.
const MOST_ON_GPU: usize = 256;
const MOST_ON_PROCESSOR: usize = 128;

/// Rows of a persistent cube: it reads the weights once for all of them.
const ROWS: [usize; 4] = [8, 4, 2, 1];

/// Cubes that a GPU runs side by side, if it does not say.
const GPU: usize = 32;

/// The same of a processor that stands in for one.
const PROCESSOR: usize = 2;

/// Units of a plane of a processor, at most: the numbers of a vector.
const VECTOR: u32 = 8;

/// Units of a cube, at most.
const UNITS: u32 = 256;

/// Operations of a cube in one launch, at most: some tenths of a second on a slow device. Systems
/// take one that computes for seconds for a device that hangs. Few in this crate's own tests, so
/// that their sequences take several launches.
const OPERATIONS: usize = if cfg!(test) { 6000 } else { 2 << 30 };

/// The rung of a layer.
pub(super) fn rung(client: &Client, d_hidden: usize, dtype: DType) -> Result<Rung, RungError> {
    let largest = largest(client, dtype);
    let most = match is_processor(client) {
        true => MOST_ON_PROCESSOR,
        false => MOST_ON_GPU,
    };
    match Rung::asked()? {
        Some(Rung::Persistent) if d_hidden > largest => {
            Err(RungError::TooLarge { d_hidden, largest })
        }
        Some(rung) => Ok(rung),
        None if d_hidden <= most.min(largest) => Ok(Rung::Persistent),
        None => Ok(Rung::Stepwise),
    }
}

/// The type of sums, and of what is carried from step to step.
pub(super) fn sums(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Units of which a persistent cube has room for a row: the gradients of their gates.
fn largest(client: &Client, dtype: DType) -> usize {
    let shared = client.properties().hardware.max_shared_memory_size;
    shared / (COUNT * sums(dtype).size())
}

/// Cubes that run side by side.
fn side_by_side(client: &Client) -> usize {
    let hardware = &client.properties().hardware;
    match hardware.num_streaming_multiprocessors {
        Some(count) => count as usize,
        None if is_processor(client) => PROCESSOR,
        None => GPU,
    }
}

/// Whether a processor stands in for a GPU.
fn is_processor(client: &Client) -> bool {
    client.properties().hardware.plane_size_max <= VECTOR
}

/// How a persistent cube is laid out for a batch.
pub(super) fn tile(
    client: &Client,
    dtype: DType,
    batch: usize,
    d_hidden: usize,
    reverse: bool,
) -> Tile {
    let hardware = &client.properties().hardware;
    let side_by_side = side_by_side(client);
    let room = (largest(client, dtype) / d_hidden).max(1);
    let rows = ROWS
        .into_iter()
        .find(|&rows| rows <= room && batch >= rows * side_by_side)
        .unwrap_or(1);
    let most = UNITS
        .min(hardware.max_units_per_cube)
        .min(hardware.max_cube_dim.0) as usize;
    let plane = hardware.plane_size_max.max(1) as usize;
    Tile {
        rows,
        d_hidden,
        reverse,
        units: d_hidden.next_multiple_of(plane).min(most),
    }
}

/// So many cubes at least, in as many dimensions as it takes.
pub(super) fn cubes(client: &Client, count: usize) -> CubeCount {
    let most = client.properties().hardware.max_cube_count.0 as usize;
    let rows = count.div_ceil(most);
    CubeCount::new_2d(count.div_ceil(rows) as u32, rows as u32)
}

/// Steps of one persistent launch.
pub(super) fn steps_of_launch(tile: Tile) -> usize {
    let of_step = 8 * tile.rows * tile.d_hidden * tile.d_hidden;
    (OPERATIONS / of_step).max(1)
}

/// Steps of a segment whose gates fit one buffer, if one step does; each number has `bytes`.
pub(super) fn steps_of_buffer(client: &Client, numbers_of_step: usize, bytes: usize) -> usize {
    let memory = &client.properties().memory;
    // Kernels count numbers by 32 bits.
    let numbers = (memory.max_page_size / bytes as u64).min(u64::from(u32::MAX));
    usize::try_from(numbers).unwrap_or(usize::MAX) / numbers_of_step
}
