//! `scratch convert`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  scratch convert model.weights.h5 lstm.safetensors --dry-run   what would come from where
  scratch convert model.weights.h5 encoder.onnx --prefix encoder
  scratch convert model.pt lstm.safetensors --prefix encoder.lstm --to-prefix lstm
  scratch convert model.weights.h5 stack.safetensors --prefix layers/lstm --prefix layers/lstm_1

Reads weights of PyTorch (.pt, .safetensors), Keras (.weights.h5, .h5) and burn's own LSTM (.bpk), and
ONNX models (.onnx), whichever the content says. Writes PyTorch's names to .safetensors, which
load_state_dict takes, or an ONNX model of the LSTM alone. What else the file holds is left over, and
listed.")]
pub struct ConvertArgs {
    /// The file with the weights
    pub from: PathBuf,
    /// The file to write; its ending says what it is
    pub to: PathBuf,
    /// Which LSTM of a larger model; of Keras and burn each layer of a stack, from the input upwards
    #[arg(long = "prefix", value_name = "PREFIX")]
    pub prefixes: Vec<String>,
    /// What its names begin with in a .safetensors file
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub to_prefix: String,
    /// Keras's `activation`, which its weights do not say [default: tanh]
    #[arg(long, value_name = "NAME")]
    pub activation: Option<String>,
    /// Keras's `recurrent_activation`, which its weights do not say [default: sigmoid]
    #[arg(long, value_name = "NAME")]
    pub recurrent_activation: Option<String>,
    /// Say what would come from where, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the new file if there is one of that name
    #[arg(long)]
    pub force: bool,
}
