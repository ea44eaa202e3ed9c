//! What an LSTM node says of itself.

use std::collections::HashMap;

use crate::config::CellConfig;
use crate::gates::COUNT;

use super::activations::{self, Listed, meant};
use super::graph::{Graph, Source, Value, attributes, is};
use super::proto;
use super::tensor::{self, Unreadable};

/// One LSTM node of an ONNX file: one layer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OnnxLstm {
    /// Its name, or that of its first output if it has none.
    pub name: String,
    /// `D`, the width of its input.
    pub d_input: usize,
    /// `H`, its `hidden_size`.
    pub d_hidden: usize,
    /// Which way it runs.
    pub direction: OnnxDirection,
    /// Whether it has an input `B`.
    pub bias: bool,
    /// Peepholes, coupled gates (`input_forget`), clipping and activation functions.
    pub cell: CellConfig,
    /// Whether batch comes before time in the node itself (`layout` 1), whatever is around it.
    pub batch_first: bool,
    /// Whether the rows of a batch have lengths (`sequence_lens`).
    pub lengths: bool,
    /// What it begins with.
    pub state: OnnxState,
}

/// Which way an LSTM node runs through time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnnxDirection {
    /// Forward.
    Forward,
    /// Backward alone.
    Reverse,
    /// Both.
    Bidirectional,
}

/// What an LSTM node begins with; of its two tensors the later in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnnxState {
    /// Zeros: it has no initial state, or one that is made of zeros.
    Zeros,
    /// Numbers in the file.
    Constant,
    /// What a call brings, or other nodes compute.
    Given,
}

impl OnnxDirection {
    /// `K`, the number of directions: 1 or 2.
    pub fn count(self) -> usize {
        match self {
            Self::Forward | Self::Reverse => 1,
            Self::Bidirectional => 2,
        }
    }
}

/// The inputs of an LSTM node by their places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input {
    Weights = 1,
    Recurrence = 2,
    Bias = 3,
    Lengths = 4,
    Hidden = 5,
    Cell = 6,
    Peepholes = 7,
}

impl Input {
    /// How many there are, with the sequence itself at 0.
    pub(super) const COUNT: usize = 8;

    /// ONNX's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Weights => "W",
            Self::Recurrence => "R",
            Self::Bias => "B",
            Self::Lengths => "sequence_lens",
            Self::Hidden => "initial_h",
            Self::Cell => "initial_c",
            Self::Peepholes => "P",
        }
    }

    /// The value that a node reads there.
    pub(super) fn of(self, node: &proto::Node) -> Option<&str> {
        let name = node.inputs.get(self as usize)?;
        (!name.is_empty()).then_some(name)
    }
}

/// The name by which a node is known: its own, or that of its first output.
pub(super) fn name_of(node: &proto::Node) -> &str {
    if node.name.is_empty() {
        node.outputs
            .iter()
            .find(|output| !output.is_empty())
            .map_or("", String::as_str)
    } else {
        &node.name
    }
}

/// The value that a node reads as its sequence.
pub(super) fn sequence_of(node: &proto::Node) -> Option<&str> {
    node.inputs.first().map(String::as_str)
}

/// What a node says of itself; the error is everything in it that cannot be.
pub(super) fn describe(graph: &Graph, node: &proto::Node) -> Result<OnnxLstm, Vec<String>> {
    let mut settings = Settings::of(node).map_err(|problem| vec![problem])?;
    let direction = settings.direction();
    let coupled = settings.flag("input_forget");
    let batch_first = settings.flag("layout");
    let clip = settings.clip();
    let listed = Listed {
        names: settings.strings("activations"),
        alphas: settings.floats("activation_alpha"),
        betas: settings.floats("activation_beta"),
    };
    let mut functions = match activations::import(&listed, direction.count()) {
        Ok(functions) => functions,
        Err(problems) => {
            settings.problems.extend(problems);
            Vec::new()
        }
    };
    functions.dedup();
    if functions.len() > 1 {
        let problem = "other activations in each direction";
        settings.problems.push(problem.into());
    }
    let stated = settings.hidden_size();
    let [d_input, d_hidden] = match sizes(graph, node) {
        Ok(sizes) => sizes,
        Err(problem) => {
            settings.problems.push(problem);
            [0, 0]
        }
    };
    if let Some(stated) = stated
        && d_hidden > 0
        && usize::try_from(stated) != Ok(d_hidden)
    {
        let problem = format!("hidden_size {stated} with weights of {d_hidden} hidden units");
        settings.problems.push(problem);
    }
    let [hidden, cell] = states(graph, node);
    let state = hidden.max(cell);
    let problems = settings.finish();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(OnnxLstm {
        name: name_of(node).into(),
        d_input,
        d_hidden,
        direction,
        bias: Input::Bias.of(node).is_some(),
        cell: CellConfig {
            peepholes: Input::Peepholes.of(node).is_some(),
            coupled,
            clip_gates: clip,
            activations: functions.first().copied().unwrap_or_default(),
            ..CellConfig::default()
        },
        batch_first,
        lengths: Input::Lengths.of(node).is_some(),
        state,
    })
}

/// What the hidden and the cell state of a node begin with.
pub(super) fn states(graph: &Graph, node: &proto::Node) -> [OnnxState; 2] {
    [Input::Hidden, Input::Cell].map(|input| match input.of(node) {
        None => OnnxState::Zeros,
        Some(name) if is_zeros(graph, name) => OnnxState::Zeros,
        Some(name) if graph.constant(name).is_some() => OnnxState::Constant,
        Some(_) => OnnxState::Given,
    })
}

/// Nodes through which zeros are followed to where they are made.
const MAX_STEPS: usize = 16;

/// Whether a value is zeros of a size that is computed, as PyTorch's exporter writes the state of
/// an LSTM that was given none: `ConstantOfShape`, then nodes that rearrange.
fn is_zeros(graph: &Graph, name: &str) -> bool {
    let mut name = name;
    for _ in 0..MAX_STEPS {
        let Source::Node(node) = graph.source(name) else {
            return false;
        };
        if is(node, "ConstantOfShape") {
            return fills_with_zero(node);
        }
        let rearranges = [
            "Expand",
            "Identity",
            "Reshape",
            "Slice",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ];
        if !rearranges.iter().any(|operator| is(node, operator)) {
            return false;
        }
        match node.inputs.first() {
            Some(first) => name = first,
            None => return false,
        }
    }
    false
}

/// Zero is what ConstantOfShape makes unless it is told otherwise.
fn fills_with_zero(node: &proto::Node) -> bool {
    let Ok(attributes) = attributes(node) else {
        return false;
    };
    match attributes.get("value") {
        None => true,
        Some(Value::Tensor(value)) => {
            let numbers = tensor::floats(value).map(|data| data.iter::<f64>().collect::<Vec<_>>());
            numbers.is_ok_and(|numbers| numbers == [0.0])
        }
        Some(_) => false,
    }
}

/// `D` and `H` by the shapes of `W [K, 4H, D]` and `R [K, 4H, H]`.
fn sizes(graph: &Graph, node: &proto::Node) -> Result<[usize; 2], String> {
    let width = |input: Input| {
        let shape = constant_shape(graph, node, input)?;
        match shape[..] {
            [_, rows, width] if rows > 0 && width > 0 => Ok([rows, width]),
            _ => Err(format!("{} of shape {shape:?}", input.name())),
        }
    };
    let [_, d_input] = width(Input::Weights)?;
    let [rows, d_hidden] = width(Input::Recurrence)?;
    if d_hidden.checked_mul(COUNT) != Some(rows) {
        return Err(format!("R of {rows} rows for {d_hidden} hidden units"));
    }
    Ok([d_input, d_hidden])
}

/// The shape of an input that must be constant.
fn constant_shape(graph: &Graph, node: &proto::Node, input: Input) -> Result<Vec<usize>, String> {
    let name = input
        .of(node)
        .ok_or_else(|| format!("no {}", input.name()))?;
    match graph.source(name) {
        Source::Constant(tensor) => tensor::shape(tensor).map_err(|error| match error {
            Unreadable::Elements(found) | Unreadable::Damaged(found) => {
                format!("{} with {found}", input.name())
            }
        }),
        Source::Node(maker) => {
            let (input, operator) = (input.name(), &maker.operator);
            Err(format!("{input} that a node computes ({operator})"))
        }
        Source::Outside => Err(format!("{} that is no constant", input.name())),
    }
}

/// The attributes of a node, taken one by one, and what is wrong with them.
struct Settings {
    left: HashMap<String, Value>,
    problems: Vec<String>,
}

impl Settings {
    fn of(node: &proto::Node) -> Result<Self, String> {
        let mut left = attributes(node)?;
        // Before version 7 of ONNX's operators: which outputs are wanted.
        left.remove("output_sequence");
        Ok(Self {
            left,
            problems: Vec::new(),
        })
    }

    /// The problems, with one for each attribute that nobody asked for.
    fn finish(mut self) -> Vec<String> {
        let mut left: Vec<String> = self.left.into_keys().collect();
        left.sort();
        let unknown = left.iter().map(|name| format!("the attribute {name:?}"));
        self.problems.extend(unknown);
        self.problems
    }

    fn direction(&mut self) -> OnnxDirection {
        let value = self.left.remove("direction");
        match &value {
            None => OnnxDirection::Forward,
            Some(Value::String(name)) if name == "forward" => OnnxDirection::Forward,
            Some(Value::String(name)) if name == "reverse" => OnnxDirection::Reverse,
            Some(Value::String(name)) if name == "bidirectional" => OnnxDirection::Bidirectional,
            Some(other) => {
                self.wrong("direction", other);
                OnnxDirection::Forward
            }
        }
    }

    /// An attribute that is 0 or 1, 0 by default.
    fn flag(&mut self, name: &str) -> bool {
        match self.left.remove(name) {
            None | Some(Value::Int(0)) => false,
            Some(Value::Int(1)) => true,
            Some(other) => {
                self.wrong(name, &other);
                false
            }
        }
    }

    fn clip(&mut self) -> Option<f64> {
        match self.left.remove("clip")? {
            Value::Float(bound) if bound > 0.0 && bound.is_finite() => Some(meant(bound)),
            other => {
                self.wrong("clip", &other);
                None
            }
        }
    }

    fn hidden_size(&mut self) -> Option<i64> {
        match self.left.remove("hidden_size")? {
            Value::Int(size) => Some(size),
            other => {
                self.wrong("hidden_size", &other);
                None
            }
        }
    }

    fn strings(&mut self, name: &str) -> Vec<String> {
        match self.left.remove(name) {
            None => Vec::new(),
            Some(Value::Strings(strings)) => strings,
            Some(other) => {
                self.wrong(name, &other);
                Vec::new()
            }
        }
    }

    fn floats(&mut self, name: &str) -> Vec<f32> {
        match self.left.remove(name) {
            None => Vec::new(),
            Some(Value::Floats(floats)) => floats,
            Some(other) => {
                self.wrong(name, &other);
                Vec::new()
            }
        }
    }

    fn wrong(&mut self, name: &str, value: &Value) {
        self.problems.push(format!("{name} {value}"));
    }
}
