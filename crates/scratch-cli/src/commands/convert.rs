//! `scratch convert`.

use std::path::Path;

use burn::tensor::Device;
use scratch_lstm::ScratchLstmConfig;
use scratch_lstm::weights::{
    Conversion, ConvertOptions, KerasOptions, MappedTensor, TargetKind, TensorSummary,
    WeightsError, WeightsFile, keras_activation,
};
use scratch_train::backend::{self, Backend};
use serde::Serialize;

use crate::args::ConvertArgs;
use crate::failure::Failure;
use crate::output::{self, Output};

/// Brings an LSTM from one kind of file to another.
pub fn run(args: &ConvertArgs, output: Output) -> Result<(), Failure> {
    let (from, to) = (&args.from, &args.to);
    let target = TargetKind::of_path(to).map_err(|error| {
        let help = "for PyTorch end the name in .safetensors, which its safetensors.torch reads";
        Failure::input(error.to_string(), help)
    })?;
    if to.exists() && !args.force && !args.dry_run {
        return Err(Failure::input(
            format!("{}: expected a new file, found one", to.display()),
            "give another name, or --force to replace it",
        ));
    }
    let file = WeightsFile::open(from).map_err(|error| failed(&error))?;
    let options = ConvertOptions {
        prefixes: args.prefixes.clone(),
        to_prefix: args.to_prefix.trim_end_matches('.').into(),
        keras: keras_options(args, &file)?,
    };
    let conversion = Conversion::new(&file, target, &options, &device()?);
    let conversion = conversion.map_err(|error| failed(&error))?;
    if !args.dry_run {
        conversion.save(to).map_err(|error| {
            let help = "check the path, its permissions and the space left";
            Failure::running(error.to_string(), help)
        })?;
    }
    let answer = Answer {
        from,
        from_layout: file.layout(),
        to,
        to_layout: target.layout(),
        written: !args.dry_run,
        prefixes: &conversion.prefixes,
        lstm: conversion.config(),
        tensors: &conversion.tensors,
        left_over: &conversion.left_over,
    };
    if output.json {
        return output.object(&answer);
    }
    output::text(&answer.text());
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    from: &'a Path,
    from_layout: &'static str,
    to: &'a Path,
    to_layout: &'static str,
    /// Whether there is a new file.
    written: bool,
    prefixes: &'a [String],
    lstm: &'a ScratchLstmConfig,
    tensors: &'a [MappedTensor],
    /// What nothing took.
    left_over: &'a [TensorSummary],
}

impl Answer<'_> {
    fn text(&self) -> String {
        let mut text = format!(
            "{} ({}) -> {} ({})\n{}\n",
            self.from.display(),
            self.from_layout,
            self.to.display(),
            self.to_layout,
            self.lstm(),
        );
        if !self.written {
            text.push('\n');
            text += &table(self.tensors);
        }
        if !self.left_over.is_empty() {
            text += &format!("\nleft over, {}:\n", count(self.left_over.len(), "tensor"));
            for tensor in self.left_over {
                text += &format!("  {}\n", describe(tensor));
            }
        }
        let tensors = count(self.tensors.len(), "tensor");
        text += &match self.written {
            true => format!("\n{tensors} written to {}\n", self.to.display()),
            false => format!("\n{tensors} to write; nothing was written\n"),
        };
        text
    }

    /// The LSTM in a line.
    fn lstm(&self) -> String {
        let lstm = self.lstm;
        let place = match self.prefixes.iter().all(String::is_empty) {
            true => "at the top".into(),
            false => format!("at {}", self.prefixes.join(", ")),
        };
        let projection = match lstm.d_proj {
            Some(d_proj) => format!(" projected to {d_proj}"),
            None => String::new(),
        };
        let bias = if lstm.bias { "a bias" } else { "no bias" };
        format!(
            "LSTM {place}: {}, {}{projection}, {}, {}, {bias}",
            count(lstm.d_input, "input"),
            count(lstm.d_hidden, "hidden unit"),
            count(lstm.num_layers, "layer"),
            count(lstm.num_directions(), "direction"),
        )
    }
}

/// What comes from where, a line for each tensor that is read.
fn table(tensors: &[MappedTensor]) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for tensor in tensors {
        let changes: Vec<&str> = tensor.changes.iter().map(|change| change.text()).collect();
        let (to, changes) = (describe(&tensor.to), changes.join(", "));
        match tensor.from.split_first() {
            None => rows.push(["nothing".into(), to, changes]),
            Some((first, rest)) => {
                rows.push([describe(first), to, changes]);
                let more = rest
                    .iter()
                    .map(|other| [describe(other), String::new(), String::new()]);
                rows.extend(more);
            }
        }
    }
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let (from_width, to_width) = (width(0), width(1));
    let line = |[from, to, changes]: &[String; 3]| {
        let arrow = if to.is_empty() { "+ " } else { "->" };
        let line = format!("{from:from_width$}  {arrow} {to:to_width$}  {changes}");
        line.trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

/// `weight_ih_l0 [44, 5] F32`
fn describe(tensor: &TensorSummary) -> String {
    format!("{} {:?} {}", tensor.name, tensor.shape, tensor.dtype)
}

/// `1 layer`, `2 layers`.
fn count(number: usize, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {what}{end}")
}

/// What the flags say of Keras's layers.
fn keras_options(args: &ConvertArgs, file: &WeightsFile) -> Result<KerasOptions, Failure> {
    let mut options = KerasOptions::default();
    for (flag, name, activation) in [
        ("--activation", &args.activation, &mut options.activation),
        (
            "--recurrent-activation",
            &args.recurrent_activation,
            &mut options.recurrent_activation,
        ),
    ] {
        let Some(name) = name else { continue };
        if file.layout() != "Keras" {
            return Err(Failure::input(
                format!(
                    "{flag}: expected weights of Keras, found those of {}",
                    file.layout()
                ),
                format!("leave out {flag}"),
            ));
        }
        *activation = keras_activation(name).map_err(|error| {
            Failure::input(
                error.to_string(),
                format!("choose one of those with {flag}"),
            )
        })?;
    }
    Ok(options)
}

/// Where weights are read to: a processor, if one can be had.
fn device() -> Result<Device, Failure> {
    let processor = [Backend::Flex, Backend::NdArray];
    let processor = processor.into_iter().find(|backend| backend.is_built_in());
    Ok(backend::choose(processor)?.device)
}

/// What to do about weights that cannot be converted.
fn failed(error: &WeightsError) -> Failure {
    let help = match error {
        WeightsError::ManyLstms { .. } => {
            "choose with --prefix; the layers of a stack in Keras take one each, from the input \
             upwards"
        }
        WeightsError::NoLstm { .. } => "choose one of those with --prefix",
        WeightsError::Missing { .. } => "name a file with a whole LSTM in it",
        WeightsError::Inexpressible { .. } => {
            "write it to a kind of file that has these, or train it without them"
        }
        WeightsError::Unsupported { .. } => "choose another LSTM with --prefix",
        WeightsError::Setting { name, .. } if name == "to_prefix" => "leave out --to-prefix",
        WeightsError::Io { .. } => "check the path and its permissions",
        WeightsError::File { .. } => {
            "name a whole file of weights: what torch.save, safetensors, Keras's save_weights or \
             an export to ONNX have written"
        }
        _ => "choose other layers with --prefix, or save the model again",
    };
    Failure::input(error.to_string(), help)
}
