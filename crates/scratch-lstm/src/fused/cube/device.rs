//! What a device has room for, and which rung a size takes there.

use burn_cubecl::cubecl::client::Client;

use super::persistent::Tile;
use crate::fused::{Rung, RungError};

/// The most units of a layer whose weights are read again at each step rather than multiplied by a
/// kernel of their own: 4 H² numbers from the caches against two launches, measured.
const PERSISTENT: usize = 256;

/// Rows of a persistent cube: each reads the weights for all of its rows.
const ROWS: [usize; 3] = [4, 2, 1];

/// Cubes that a device runs side by side, if it does not say.
const SIDE_BY_SIDE: usize = 16;

/// Units of a cube, at most.
const UNITS: u32 = 256;

/// Operations of a cube in one launch, at most: some tenths of a second on a slow device. Systems
/// take one that computes for seconds for a device that hangs.
const OPERATIONS: usize = 2 << 30;

/// The rung of a layer.
pub(super) fn rung(client: &Client, d_hidden: usize) -> Result<Rung, RungError> {
    let largest = largest(client);
    match Rung::asked()? {
        Some(Rung::Persistent) if d_hidden > largest => {
            Err(RungError::TooLarge { d_hidden, largest })
        }
        Some(rung) => Ok(rung),
        None if d_hidden <= PERSISTENT.min(largest) => Ok(Rung::Persistent),
        None => Ok(Rung::Stepwise),
    }
}

/// Units of which a persistent cube has room for a row.
fn largest(client: &Client) -> usize {
    let shared = client.properties().hardware.max_shared_memory_size;
    shared / bytes_of_unit()
}

/// Shared memory for a unit of a row: the gradients of four gates, twice, in the widest type.
fn bytes_of_unit() -> usize {
    2 * 4 * size_of::<f64>()
}

/// How a persistent cube is laid out for a batch.
pub(super) fn tile(client: &Client, batch: usize, d_hidden: usize, reverse: bool) -> Tile {
    let hardware = &client.properties().hardware;
    let side_by_side = hardware
        .num_streaming_multiprocessors
        .map_or(SIDE_BY_SIDE, |count| count as usize);
    let room = (largest(client) / d_hidden).max(1);
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
