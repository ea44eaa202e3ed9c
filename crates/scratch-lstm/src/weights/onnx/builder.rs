//! An ONNX model, put together node by node.

use burn::tensor::{DType, TensorData};
use prost::Message;

use super::proto::{self, element, kind};
use super::tensor;

/// The version of ONNX's operators that is written: the first with every operator and form that is
/// used is 15, and PyTorch's exporter writes 17 too.
const OPERATORS: i64 = 17;

/// The version of the file format that belongs to it.
const FORMAT: i64 = 8;

/// A model that is being put together; values go by their names.
#[derive(Debug, Default)]
pub(super) struct Builder {
    graph: proto::Graph,
}

/// The size of an axis of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    Fixed(usize),
    /// One that a call brings.
    Named(&'static str),
}

impl Builder {
    /// An input of the graph.
    pub(super) fn input(&mut self, name: &str, element: i32, axes: &[Size]) {
        self.graph.inputs.push(value(name, element, axes));
    }

    /// An output of the graph; a node has to make it.
    pub(super) fn output(&mut self, name: &str, element: i32, axes: &[Size]) {
        self.graph.outputs.push(value(name, element, axes));
    }

    /// Whole numbers in the file, one axis.
    pub(super) fn ints(&mut self, name: &str, numbers: &[i64]) {
        let tensor = tensor::of_ints(name, numbers.to_vec());
        self.graph.initializers.push(encoded(&tensor));
    }

    /// Floats in the file; the error is their type if ONNX has none for it.
    pub(super) fn floats(&mut self, name: &str, data: &TensorData) -> Result<(), DType> {
        let tensor = tensor::of_floats(name, data)?;
        self.graph.initializers.push(encoded(&tensor));
        Ok(())
    }

    /// A node; an input that is left out is an empty name.
    pub(super) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[proto::Attribute],
    ) {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        self.graph.nodes.push(encoded(&proto::Node {
            inputs: texts(inputs),
            outputs: texts(outputs),
            name: name.into(),
            operator: operator.into(),
            attributes: attributes.iter().map(encoded).collect(),
            domain: String::new(),
        }));
    }

    /// The file.
    pub(super) fn finish(mut self, name: &str) -> Vec<u8> {
        self.graph.name = name.into();
        let operators = proto::OperatorSet {
            domain: String::new(),
            version: OPERATORS,
        };
        let model = proto::Model {
            ir_version: FORMAT,
            producer_name: "scratch-lstm".into(),
            graph: Some(encoded(&self.graph)),
            operator_sets: vec![encoded(&operators)],
        };
        model.encode_to_vec()
    }
}

/// An attribute that is a whole number.
pub(super) fn int(name: &str, int: i64) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        int,
        kind: kind::INT,
        ..proto::Attribute::default()
    }
}

/// An attribute that is a list of whole numbers.
pub(super) fn ints(name: &str, ints: &[i64]) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        ints: ints.to_vec(),
        kind: kind::INTS,
        ..proto::Attribute::default()
    }
}

/// An attribute that is a float.
pub(super) fn float(name: &str, float: f32) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        float,
        kind: kind::FLOAT,
        ..proto::Attribute::default()
    }
}

/// An attribute that is a list of floats.
pub(super) fn floats(name: &str, floats: Vec<f32>) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        floats,
        kind: kind::FLOATS,
        ..proto::Attribute::default()
    }
}

/// An attribute that is a text.
pub(super) fn string(name: &str, text: &str) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        string: text.as_bytes().to_vec().into(),
        kind: kind::STRING,
        ..proto::Attribute::default()
    }
}

/// An attribute that is a list of texts.
pub(super) fn strings(name: &str, texts: Vec<String>) -> proto::Attribute {
    let bytes = texts.into_iter().map(|text| text.into_bytes().into());
    proto::Attribute {
        name: name.into(),
        strings: bytes.collect(),
        kind: kind::STRINGS,
        ..proto::Attribute::default()
    }
}

/// The element type of lengths.
pub(super) const LENGTHS: i32 = element::INT32;

fn value(name: &str, element: i32, axes: &[Size]) -> prost::bytes::Bytes {
    let axes = axes.iter().map(|size| proto::Axis {
        size: Some(match *size {
            Size::Fixed(size) => proto::Size::Fixed(size as i64),
            Size::Named(name) => proto::Size::Named(name.into()),
        }),
    });
    let shape = proto::TensorShape {
        axes: axes.collect(),
    };
    let tensor = proto::TensorType {
        element,
        shape: Some(shape),
    };
    encoded(&proto::ValueInfo {
        name: name.into(),
        of: Some(proto::ValueType {
            tensor: Some(tensor),
        }),
    })
}

fn encoded(message: &impl Message) -> prost::bytes::Bytes {
    message.encode_to_vec().into()
}
