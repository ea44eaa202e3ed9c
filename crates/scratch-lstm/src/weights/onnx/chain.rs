//! Stacks of LSTM nodes: which node reads another's outputs, through nodes that only rearrange.
//!
//! The output of a node is `[T, K, B, H]` (`[B, T, K, H]` with `layout` 1) and the next one reads
//! `[T, B, K*H]`, so that exporters put a Squeeze, or a Transpose and a Reshape, between the two. The
//! axes are followed by what they mean, not by their sizes.

use super::graph::{Graph, Value, attributes, is};
use super::proto;

/// What is known of a node whose outputs are followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outputs {
    /// `K`.
    pub(super) directions: usize,
    /// `H`.
    pub(super) d_hidden: usize,
    /// Whether its batch comes before its time (`layout` 1).
    pub(super) batch_first: bool,
}

/// The LSTM nodes that read the outputs of the node of that index and nothing else.
pub(super) fn readers(graph: &Graph, node: usize, outputs: Outputs) -> Vec<usize> {
    let mut found = Vec::new();
    let Some(name) = graph.nodes[node].outputs.first() else {
        return found;
    };
    let mut open = vec![(node, name, outputs.axes())];
    while let Some((maker, name, axes)) = open.pop() {
        for &(reader, place) in graph.readers(name) {
            // A file may claim an order in which nothing can be computed.
            if place != 0 || reader <= maker {
                continue;
            }
            let node = &graph.nodes[reader];
            if is(node, "LSTM") {
                if axes == expected(node) {
                    found.push(reader);
                }
            } else if let Some(axes) = through(graph, node, &axes, outputs)
                && let Some(output) = node.outputs.first()
            {
                open.push((reader, output, axes));
            }
        }
    }
    found
}

/// What an axis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Time,
    Batch,
    /// `K`, 2 of them.
    Directions,
    /// `H` of one of two directions.
    Hidden,
    /// `K*H`.
    Features,
    /// Of size 1 and no meaning.
    One,
}

/// A value of more axes than this is followed no further.
const MAX_AXES: usize = 8;

impl Outputs {
    fn axes(self) -> Vec<Axis> {
        let [directions, hidden] = match self.directions {
            1 => [Axis::One, Axis::Features],
            _ => [Axis::Directions, Axis::Hidden],
        };
        if self.batch_first {
            vec![Axis::Batch, Axis::Time, directions, hidden]
        } else {
            vec![Axis::Time, directions, Axis::Batch, hidden]
        }
    }
}

/// The axes that an LSTM node reads.
fn expected(lstm: &proto::Node) -> Vec<Axis> {
    let batch_first = attributes(lstm).is_ok_and(|all| all.get("layout") == Some(&Value::Int(1)));
    if batch_first {
        vec![Axis::Batch, Axis::Time, Axis::Features]
    } else {
        vec![Axis::Time, Axis::Batch, Axis::Features]
    }
}

/// The axes behind a node that only rearranges.
fn through(
    graph: &Graph,
    node: &proto::Node,
    axes: &[Axis],
    outputs: Outputs,
) -> Option<Vec<Axis>> {
    let own = |operator| is(node, operator);
    if own("Identity") || own("Dropout") {
        // Dropout of a model that is used does nothing.
        Some(axes.to_vec())
    } else if own("Transpose") {
        transposed(node, axes)
    } else if own("Squeeze") {
        let places = places(graph, node, axes.len())?;
        let ones = places.iter().all(|&place| axes[place] == Axis::One);
        let kept = (0..axes.len()).filter(|place| !places.contains(place));
        ones.then(|| kept.map(|place| axes[place]).collect())
    } else if own("Unsqueeze") {
        unsqueezed(graph, node, axes)
    } else if own("Reshape") {
        let by_zero = attributes(node).ok()?.get("allowzero") == Some(&Value::Int(1));
        let shape = graph.ints(node.inputs.get(1)?, MAX_AXES)?;
        reshaped(axes, &shape, by_zero, outputs)
    } else {
        None
    }
}

fn transposed(node: &proto::Node, axes: &[Axis]) -> Option<Vec<Axis>> {
    let Some(order) = attributes(node).ok()?.remove("perm") else {
        return Some(axes.iter().rev().copied().collect());
    };
    let Value::Ints(order) = order else {
        return None;
    };
    let mut left = axes.iter().copied().map(Some).collect::<Vec<_>>();
    let moved = order.iter().map(|&place| {
        let place = usize::try_from(place).ok()?;
        left.get_mut(place)?.take()
    });
    let moved = moved.collect::<Option<Vec<Axis>>>()?;
    (moved.len() == axes.len()).then_some(moved)
}

fn unsqueezed(graph: &Graph, node: &proto::Node, axes: &[Axis]) -> Option<Vec<Axis>> {
    let count = axes.len().checked_add(axes_of(graph, node)?.len())?;
    if count > MAX_AXES {
        return None;
    }
    let places = places(graph, node, count)?;
    let mut rest = axes.iter().copied();
    let all = (0..count).map(|place| match places.contains(&place) {
        true => Some(Axis::One),
        false => rest.next(),
    });
    all.collect()
}

/// The axes that Squeeze and Unsqueeze name: their second input, before version 13 an attribute.
fn axes_of(graph: &Graph, node: &proto::Node) -> Option<Vec<i64>> {
    match node.inputs.get(1) {
        Some(name) => graph.ints(name, MAX_AXES),
        None => match attributes(node).ok()?.remove("axes")? {
            Value::Ints(axes) => Some(axes),
            _ => None,
        },
    }
}

/// Those axes as places among `count`; negative ones count from the end.
fn places(graph: &Graph, node: &proto::Node, count: usize) -> Option<Vec<usize>> {
    let axes = axes_of(graph, node)?;
    if axes.len() > count {
        return None;
    }
    axes.into_iter()
        .map(|axis| {
            let count = i64::try_from(count).ok()?;
            let axis = if axis < 0 {
                axis.checked_add(count)?
            } else {
                axis
            };
            (0..count).contains(&axis).then_some(axis as usize)
        })
        .collect()
}

/// The axes after a Reshape that drops axes of size 1, or makes one of the last two, directions
/// and hidden, or both.
fn reshaped(axes: &[Axis], shape: &[i64], by_zero: bool, outputs: Outputs) -> Option<Vec<Axis>> {
    let wide = outputs.directions.checked_mul(outputs.d_hidden)?;
    let mut kept: Vec<Axis> = axes
        .iter()
        .copied()
        .filter(|&axis| axis != Axis::One)
        .collect();
    if shape.len() + 1 == kept.len() && kept.ends_with(&[Axis::Directions, Axis::Hidden]) {
        kept.truncate(shape.len());
        *kept.last_mut()? = Axis::Features;
    }
    if shape.len() != kept.len() {
        return None;
    }
    let fits = kept
        .iter()
        .zip(shape)
        .enumerate()
        .all(|(place, (axis, &size))| {
            let copied = size == 0 && !by_zero && axes.get(place) == Some(axis);
            // Of batch and time the size is not known: any may be meant.
            let named = match axis {
                Axis::Features => usize::try_from(size) == Ok(wide),
                Axis::Hidden => usize::try_from(size) == Ok(outputs.d_hidden),
                Axis::Directions => usize::try_from(size) == Ok(outputs.directions),
                _ => size > 0,
            };
            copied || named || size == -1
        });
    fits.then_some(kept)
}
