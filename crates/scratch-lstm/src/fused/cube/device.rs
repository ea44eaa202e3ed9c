//! What a device has room for, and which rung a size takes there.

use burn::tensor::DType;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::CubeCount;

use super::persistent::Tile;
use crate::fused::{Rung, RungError};
use crate::gates::COUNT;

/// The most units of a layer whose weights are read again at each step, 4 H² numbers from the
/// caches, instead of multiplied by kernels that are launched at each step. An estimate: a mebibyte
/// passes to a multiprocessor in about the time of two launches.
const MOST_ON_GPU: usize = 256;

/// Rows of a persistent cube: it reads the weights once for all of them.
const ROWS: [usize; 4] = [8, 4, 2, 1];

/// Cubes that a GPU runs side by side, if it does not say.
const GPU: usize = 32;

/// The same of a processor that stands in for one.
const PROCESSOR: usize = 2;

/// Units of a plane of a processor, at most: the numbers of a vector.
const VECTOR: u32 = 8;

/// Threads of a cube, at most. Few in this crate's own tests, so that each computes several units of
/// a layer.
const THREADS: u32 = if cfg!(test) { 8 } else { 256 };

/// Operations of one launch, at most, of cubes one after another: some tenths of a second on a slow
/// device. Systems take one that computes for seconds for a device that hangs. Few in this crate's
/// own tests, so that their sequences take several launches.
const OPERATIONS: usize = if cfg!(test) { 12_000 } else { 2 << 30 };

/// Steps of one launch, at most: what a step takes besides its operations.
const STEPS: usize = 1 << 16;

/// The rung of a layer; `stepwise` names what it has that only that rung has.
pub(super) fn rung(
    client: &Client,
    d_hidden: usize,
    dtype: DType,
    stepwise: Option<&'static str>,
) -> Result<Rung, RungError> {
    let largest = largest(client, dtype);
    // Measured: on a processor, whose caches are near, burn's products of few rows are slower at
    // any size.
    let most = match is_software(client) {
        true => largest,
        false => MOST_ON_GPU.min(largest),
    };
    match (Rung::asked()?, stepwise) {
        (Some(Rung::Persistent), Some(found)) => Err(RungError::Cell { found }),
        (Some(Rung::Persistent), None) if d_hidden > largest => {
            Err(RungError::TooLarge { d_hidden, largest })
        }
        (Some(rung), _) => Ok(rung),
        (None, None) if d_hidden <= most => Ok(Rung::Persistent),
        (None, _) => Ok(Rung::Stepwise),
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

/// Cubes that run side by side. This crate's own tests have few rows, of which a cube is to have
/// more than one.
fn side_by_side(client: &Client) -> usize {
    if cfg!(test) {
        return 1;
    }
    let hardware = &client.properties().hardware;
    match hardware.num_streaming_multiprocessors {
        Some(count) => count as usize,
        None if is_software(client) => PROCESSOR,
        None => GPU,
    }
}

/// Whether a processor stands in for a GPU: its planes are as wide as its vectors.
fn is_software(client: &Client) -> bool {
    (1..=VECTOR).contains(&client.properties().hardware.plane_size_max)
}

/// How a persistent cube is laid out for a batch.
pub(super) fn tile(client: &Client, dtype: DType, batch: usize, d_hidden: usize) -> Tile {
    let hardware = &client.properties().hardware;
    let side_by_side = side_by_side(client);
    let room = (largest(client, dtype) / d_hidden).max(1);
    let rows = ROWS
        .into_iter()
        .find(|&rows| rows <= room && batch >= rows * side_by_side)
        .unwrap_or(1);
    let most = most_threads(client);
    let plane = hardware.plane_size_max.max(1) as usize;
    Tile {
        rows,
        d_hidden,
        threads: d_hidden.next_multiple_of(plane).min(most),
    }
}

/// Threads of a cube for one row, which add up numbers by halves: a power of two.
pub(super) fn threads_of_row(client: &Client, d_hidden: usize) -> usize {
    let most = most_threads(client);
    let power = most.next_power_of_two();
    let largest = if power > most { power / 2 } else { power };
    d_hidden.next_power_of_two().min(largest)
}

/// Threads of a cube. On a processor those of one vector: they wait for each other at no cost,
/// others at a high one.
fn most_threads(client: &Client) -> usize {
    let hardware = &client.properties().hardware;
    let most = match is_software(client) {
        true => hardware.plane_size_max,
        false => hardware.max_units_per_cube.min(hardware.max_cube_dim.0),
    };
    THREADS.min(most) as usize
}

/// So many cubes at least, in as many dimensions as it takes.
pub(super) fn cubes(client: &Client, count: usize) -> CubeCount {
    let most = match cfg!(test) {
        // So that this crate's own tests have cubes without rows.
        true => 2,
        false => client.properties().hardware.max_cube_count.0 as usize,
    };
    let rows = count.div_ceil(most);
    CubeCount::new_2d(count.div_ceil(rows) as u32, rows as u32)
}

/// Steps of one persistent launch.
pub(super) fn steps_of_launch(client: &Client, tile: Tile, cubes: usize) -> usize {
    let waves = cubes.div_ceil(side_by_side(client));
    let of_step = 8 * tile.rows * tile.d_hidden * tile.d_hidden * waves;
    (OPERATIONS / of_step).clamp(1, STEPS)
}

/// Steps of a segment whose gates fit one buffer; none, if not even one step's do.
pub(super) fn steps_of_buffer(client: &Client, numbers_of_step: usize, dtype: DType) -> usize {
    let numbers = numbers_of_buffer(client, dtype);
    usize::try_from(numbers).unwrap_or(usize::MAX) / numbers_of_step
}

/// Numbers of a buffer at most: kernels count them by 32 bits.
pub(super) fn numbers_of_buffer(client: &Client, dtype: DType) -> u64 {
    let bytes = client.properties().memory.max_page_size;
    (bytes / dtype.size() as u64).min(u64::from(u32::MAX))
}
