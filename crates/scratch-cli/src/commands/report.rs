//! `scratch report`.

use std::path::{Path, PathBuf};

use scratch_train::RunFolder;
use scratch_train::report::{self, ReportError};
use serde::Serialize;

use crate::args::ReportArgs;
use crate::failure::Failure;
use crate::output::{self, Output};

/// Writes one page about a run, or about several side by side.
pub fn run(args: &ReportArgs, output: Output) -> Result<(), Failure> {
    let runs = args.runs.iter().map(RunFolder::open);
    let runs: Vec<RunFolder> = runs.collect::<Result<_, _>>()?;
    let path = match (&args.out, &runs[..]) {
        (Some(path), _) => path.clone(),
        (None, [run]) => run.root().join(NAME),
        (None, _) => NAME.into(),
    };
    let page = report::page(&runs).map_err(failed)?;
    report::save(&path, &page).map_err(failed)?;
    let answer = Answer {
        report: &path,
        runs: &args.runs,
    };
    if output.json {
        return output.object(&answer);
    }
    output::text(&format!("{}\n", path.display()));
    Ok(())
}

const NAME: &str = "report.html";

#[derive(Serialize)]
struct Answer<'a> {
    /// The page.
    report: &'a Path,
    runs: &'a [PathBuf],
}

fn failed(error: ReportError) -> Failure {
    let cause = error.to_string();
    match error {
        ReportError::Runs { .. } => Failure::input(cause, "name fewer runs"),
        ReportError::Io { .. } => Failure::running(
            cause,
            "choose another file with --out, or check the folder's permissions and the space left",
        ),
        ReportError::Nothing { .. } | ReportError::Drawing { .. } => {
            Failure::running(cause, "leave out the run that cannot be drawn")
        }
    }
}
