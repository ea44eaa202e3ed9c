//! `scratch generate`.

use std::path::Path;

use scratch_train::RunFolder;
use scratch_train::generate::Sampling;
use scratch_train::tasks::text::{self, GenerateRequest};
use serde::Serialize;

use super::choose_device;
use crate::args::GenerateArgs;
use crate::failure::{Failure, Phase};
use crate::output::{self, Output};

/// Writes text, as it comes.
pub fn run(args: &GenerateArgs, output: Output) -> Result<(), Failure> {
    let request = GenerateRequest {
        prompt: args.prompt.clone(),
        length: args.length,
        sampling: Sampling {
            temperature: args.temperature,
            top_k: args.top_k,
        },
        seed: args.seed,
    };
    let failed = |error| Failure::task(&error, Phase::Preparing).of_run(&args.run);
    request.validate().map_err(failed)?;
    let run = RunFolder::open(&args.run)?;
    let device = choose_device(&args.device)?;
    let mut prompt = Some(args.prompt.as_str());
    let text = text::generate(&run, &device, &request, |piece| {
        if !output.json {
            // Not before there is something to follow it.
            prompt.take().into_iter().for_each(output::text);
            output::text(piece);
        }
    })
    .map_err(failed)?;
    if output.json {
        return output.object(&Answer {
            run: run.root(),
            prompt: &args.prompt,
            text: &text,
            length: args.length,
            temperature: args.temperature,
            top_k: args.top_k,
            seed: args.seed,
        });
    }
    if !text.ends_with('\n') {
        output::text("\n");
    }
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    run: &'a Path,
    prompt: &'a str,
    /// What follows the prompt.
    text: &'a str,
    length: usize,
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    seed: u64,
}
