//! ONNX: LSTM nodes of a model as a [`ScratchLstm`](crate::ScratchLstm), and back.
//!
//! | file | what it is the home of |
//! |---|---|
//! | `proto.rs` | the messages of the format, as far as they are looked at |
//! | `graph.rs`, `tensor.rs` | a decoded graph; numbers in it |
//! | `file.rs` | [`OnnxFile`]: reading, names |
//! | `node.rs`, `activations.rs` | what an LSTM node says of itself |
//! | `chain.rs`, `stack.rs` | nodes that read each other's outputs, and their settings as one |
//! | `cells.rs`, `parts.rs` | the tensors of a node; what they are called |
//! | `export.rs`, `builder.rs` | an LSTM as a model |
//!
//! Files are not trusted: nothing is allocated because of a claim that exceeds the file, and no
//! other file is opened because this one names it.

mod activations;
mod builder;
mod cells;
mod chain;
mod export;
mod file;
mod graph;
mod node;
mod parts;
mod proto;
mod stack;
mod tensor;

pub use export::OnnxExport;
pub use file::OnnxFile;
pub use node::{OnnxDirection, OnnxLstm, OnnxState};
pub(super) use parts::layers;
pub use stack::OnnxOptions;
