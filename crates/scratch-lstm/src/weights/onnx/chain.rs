//! Stacks of LSTM nodes: which node reads another's outputs, through nodes that only rearrange, and
//! through those that connect layers besides.
//!
//! The output of a node is `[T, K, B, H]` (`[B, T, K, H]` with `layout` 1) and the next one reads
//! `[T, B, K*H]`, so that exporters put a Squeeze, or a Transpose and a Reshape, between the two. The
//! axes are followed by what they mean, not by their sizes.

use crate::config::LayerConnection;

use super::graph::{Graph, Value as Setting, attributes, is};
use super::node::sequence_of;
use super::proto;

/// What is known of a node whose outputs are followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outputs<'a> {
    /// `K`.
    pub(super) directions: usize,
    /// `H`.
    pub(super) d_hidden: usize,
    /// Whether its batch comes before its time (`layout` 1).
    pub(super) batch_first: bool,
    /// The input of the stack; any value is taken for it if it is not known.
    pub(super) stack_input: Option<&'a str>,
}

/// Where the outputs of a node lead.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Followed {
    /// The LSTM nodes that read them and nothing else, and what came between the two.
    pub(super) readers: Vec<(usize, LayerConnection)>,
    /// Whether what the node itself reads is added to them.
    pub(super) is_added_to: bool,
}

/// Follows the outputs of the node of that index.
pub(super) fn follow(graph: &Graph, node: usize, outputs: Outputs) -> Followed {
    let mut found = Followed::default();
    let own = &graph.nodes[node];
    let Some(name) = own.outputs.first() else {
        return found;
    };
    let mut open = vec![Value {
        maker: node,
        name,
        axes: outputs.axes(),
        connection: LayerConnection::Plain,
    }];
    while let Some(value) = open.pop() {
        for &(index, place) in graph.readers(value.name) {
            let reader = &graph.nodes[index];
            // A file may claim an order in which nothing can be computed.
            if index <= value.maker {
                continue;
            }
            if is(reader, "LSTM") {
                if place == 0 && value.axes == expected(reader) {
                    found.readers.push((index, value.connection));
                }
                continue;
            }
            let connection = match value.connection {
                LayerConnection::Plain => connected(reader, place, &value, own, outputs),
                _ => None,
            };
            found.is_added_to |= connection == Some(LayerConnection::Residual);
            let axes = match connection {
                Some(_) => Some(value.axes.clone()),
                None if place == 0 => through(graph, reader, &value.axes, outputs),
                None => None,
            };
            if let (Some(axes), Some(name)) = (axes, reader.outputs.first()) {
                open.push(Value {
                    maker: index,
                    name,
                    axes,
                    connection: connection.unwrap_or(value.connection),
                });
            }
        }
    }
    found
}

/// A value on the way from a node to its readers.
struct Value<'a> {
    /// The node that makes it.
    maker: usize,
    name: &'a str,
    axes: Vec<Axis>,
    /// What came between.
    connection: LayerConnection,
}

/// What `reader` adds to a value, or puts behind it, to connect layers; `None` if it does neither.
fn connected(
    reader: &proto::Node,
    place: usize,
    value: &Value,
    own: &proto::Node,
    outputs: Outputs,
) -> Option<LayerConnection> {
    if value.axes != expected(own) || reader.inputs.len() != 2 {
        return None;
    }
    let other = reader.inputs.get(1 - place)?;
    if is(reader, "Add") && Some(other.as_str()) == sequence_of(own) {
        return Some(LayerConnection::Residual);
    }
    let is_input = outputs.stack_input.is_none_or(|input| input == other);
    let by_features = || match attributes(reader).ok()?.remove("axis")? {
        Setting::Int(axis) => Some(axis == 2 || axis == -1),
        _ => None,
    };
    let is_skip = is(reader, "Concat") && place == 0 && is_input && by_features() == Some(true);
    is_skip.then_some(LayerConnection::Skip)
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

impl Outputs<'_> {
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
    let batch_first = attributes(lstm).is_ok_and(|all| all.get("layout") == Some(&Setting::Int(1)));
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
        let by_zero = attributes(node).ok()?.get("allowzero") == Some(&Setting::Int(1));
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
    let Setting::Ints(order) = order else {
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
            Setting::Ints(axes) => Some(axes),
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

#[cfg(test)]
mod tests {
    use super::super::builder::{self, Builder};
    use super::*;

    const H: usize = 11;

    /// A node between two: its operator, its second input if that is a list of numbers, and its
    /// attributes.
    type Between<'a> = (&'a str, Option<&'a [i64]>, &'a [proto::Attribute]);

    fn between<'a>(nodes: &[Between<'a>]) -> Vec<Between<'a>> {
        nodes.to_vec()
    }

    /// The places of the LSTM nodes that read the outputs `Y` of the first, behind these nodes.
    fn readers_behind(directions: usize, nodes: &[Between]) -> Vec<usize> {
        let mut builder = Builder::default();
        builder.node("first", "LSTM", &["X", "W", "R"], &["Y"], &[]);
        let mut last = "Y".to_string();
        for (index, (operator, numbers, attributes)) in nodes.iter().enumerate() {
            let (output, list) = (format!("value{index}"), format!("list{index}"));
            let mut inputs = vec![last.as_str()];
            if let Some(numbers) = numbers {
                builder.ints(&list, numbers);
                inputs.push(&list);
            }
            builder.node("", operator, &inputs, &[&output], attributes);
            last = output;
        }
        builder.node("second", "LSTM", &[&last, "W", "R"], &["Z"], &[]);
        let graph = Graph::decode(builder.finish("test").into()).unwrap();
        let outputs = Outputs {
            directions,
            d_hidden: H,
            batch_first: false,
            stack_input: Some("X"),
        };
        let found = follow(&graph, 0, outputs).readers;
        let plain = found.into_iter().map(|(node, connection)| {
            assert_eq!(connection, LayerConnection::Plain);
            node
        });
        plain.collect()
    }

    #[test]
    fn nodes_that_rearrange_are_followed() {
        let order = |order: &[i64]| [builder::ints("perm", order)];
        let swap = order(&[1, 0, 2]);
        for (directions, nodes) in [
            (1, between(&[("Squeeze", Some(&[1]), &[])])),
            (1, between(&[("Squeeze", Some(&[-3]), &[])])),
            // As before version 13 of ONNX's operators.
            (
                1,
                between(&[("Squeeze", None, &[builder::ints("axes", &[1])])]),
            ),
            (1, between(&[("Reshape", Some(&[-1, 3, 11]), &[])])),
            (1, between(&[("Reshape", Some(&[7, 3, -1]), &[])])),
            (
                1,
                between(&[
                    ("Squeeze", Some(&[1]), &[]),
                    ("Transpose", None, &swap),
                    ("Dropout", None, &[]),
                    ("Unsqueeze", Some(&[0, -1]), &[]),
                    ("Squeeze", Some(&[4, 0]), &[]),
                    ("Transpose", None, &swap),
                    ("Identity", None, &[]),
                ]),
            ),
            (
                2,
                between(&[
                    ("Transpose", None, &order(&[0, 2, 1, 3])),
                    ("Reshape", Some(&[0, 0, -1]), &[]),
                ]),
            ),
            (
                2,
                between(&[
                    ("Transpose", None, &order(&[0, 2, 1, 3])),
                    (
                        "Reshape",
                        Some(&[0, 0, 22]),
                        &[builder::int("allowzero", 0)],
                    ),
                ]),
            ),
        ] {
            let found = readers_behind(directions, &nodes);
            assert_eq!(found, [nodes.len() + 1], "{nodes:?}");
        }
    }

    #[test]
    fn what_changes_the_meaning_of_an_axis_is_not() {
        let order = |order: &[i64]| [builder::ints("perm", order)];
        for (directions, nodes) in [
            (1, between(&[])),
            // Batch in the place of time.
            (
                1,
                between(&[
                    ("Squeeze", Some(&[1]), &[]),
                    ("Transpose", None, &order(&[1, 0, 2])),
                ]),
            ),
            (1, between(&[("Squeeze", Some(&[2]), &[])])),
            (
                1,
                between(&[("Squeeze", Some(&[1]), &[]), ("Transpose", None, &[])]),
            ),
            (1, between(&[("Reshape", Some(&[0, 0, -1]), &[])])),
            (1, between(&[("Reshape", Some(&[7, 3, 12]), &[])])),
            (1, between(&[("Reshape", Some(&[7, 33]), &[])])),
            (
                1,
                between(&[("Squeeze", Some(&[1]), &[]), ("Relu", None, &[])]),
            ),
            (1, between(&[("Squeeze", Some(&[1; 9]), &[])])),
            (1, between(&[("Unsqueeze", Some(&[0, 1, 2, 3, 4]), &[])])),
            // Directions next to batch.
            (2, between(&[("Reshape", Some(&[0, 0, -1]), &[])])),
            (2, between(&[("Reshape", Some(&[7, 3, 22]), &[])])),
            (2, between(&[("Squeeze", Some(&[1]), &[])])),
            (
                2,
                between(&[
                    ("Transpose", None, &order(&[0, 2, 1, 3])),
                    ("Reshape", Some(&[0, 0, 11]), &[]),
                ]),
            ),
            (2, between(&[("Transpose", None, &order(&[0, 2, 1, 1]))])),
        ] {
            let found = readers_behind(directions, &nodes);
            assert!(found.is_empty(), "{nodes:?}");
        }
    }

    #[test]
    fn several_readers_are_all_found_and_none_before_its_maker() {
        let mut builder = Builder::default();
        builder.ints("one", &[1]);
        builder.node("before", "LSTM", &["x", "W", "R"], &["A"], &[]);
        builder.node("first", "LSTM", &["X", "W", "R"], &["Y"], &[]);
        builder.node("join", "Squeeze", &["Y", "one"], &["x"], &[]);
        for (name, output) in [("second", "Z0"), ("third", "Z1")] {
            builder.node(name, "LSTM", &["x", "W", "R"], &[output], &[]);
        }
        // As another input than the sequence.
        builder.node("state", "LSTM", &["X", "W", "R", "", "", "x"], &["Z2"], &[]);
        let graph = Graph::decode(builder.finish("test").into()).unwrap();
        let outputs = Outputs {
            directions: 1,
            d_hidden: H,
            batch_first: false,
            stack_input: Some("X"),
        };
        let found = follow(&graph, 1, outputs);
        let plain = LayerConnection::Plain;
        assert_eq!(found.readers, [(3, plain), (4, plain)]);
    }

    #[test]
    fn what_connects_layers_besides() {
        let axis = |axis| [builder::int("axis", axis)];
        for (operator, inputs, attributes, expected) in [
            ("Add", ["X", "y"], vec![], Some(LayerConnection::Residual)),
            ("Add", ["y", "X"], vec![], Some(LayerConnection::Residual)),
            ("Add", ["y", "y"], vec![], None),
            ("Add", ["y", "W"], vec![], None),
            ("Mul", ["y", "X"], vec![], None),
            (
                "Concat",
                ["y", "I"],
                axis(2).into(),
                Some(LayerConnection::Skip),
            ),
            (
                "Concat",
                ["y", "I"],
                axis(-1).into(),
                Some(LayerConnection::Skip),
            ),
            ("Concat", ["y", "I"], axis(0).into(), None),
            ("Concat", ["y", "X"], axis(2).into(), None),
            ("Concat", ["I", "y"], axis(2).into(), None),
        ] {
            let mut builder = Builder::default();
            builder.ints("one", &[1]);
            builder.node("first", "LSTM", &["X", "W", "R"], &["Y"], &[]);
            builder.node("join", "Squeeze", &["Y", "one"], &["y"], &[]);
            builder.node("connect", operator, &inputs, &["z"], &attributes);
            builder.node("second", "LSTM", &["z", "W", "R"], &["Z"], &[]);
            let graph = Graph::decode(builder.finish("test").into()).unwrap();
            let outputs = Outputs {
                directions: 1,
                d_hidden: H,
                batch_first: false,
                stack_input: Some("I"),
            };
            let found = follow(&graph, 0, outputs);
            let readers: Vec<_> = expected
                .map(|connection| (3, connection))
                .into_iter()
                .collect();
            assert_eq!(found.readers, readers, "{operator} {inputs:?}");
            let is_added_to = expected == Some(LayerConnection::Residual);
            assert_eq!(found.is_added_to, is_added_to, "{operator} {inputs:?}");
        }
    }
}
