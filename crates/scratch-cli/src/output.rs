//! What goes to the standard output stream: text for people, or one JSON object.

use std::io::{self, Write};
use std::process;

use serde::Serialize;

use crate::failure::Failure;
use crate::summary::Summary;

/// Results, as the user wants them.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// One JSON object instead of text.
    pub json: bool,
}

impl Output {
    /// The result of a task.
    pub fn report(self, report: &(impl Serialize + Summary)) -> Result<(), Failure> {
        if self.json {
            self.object(report)
        } else {
            text(&report.summary());
            Ok(())
        }
    }

    /// One JSON object.
    pub fn object(self, value: &impl Serialize) -> Result<(), Failure> {
        let object = serde_json::to_string(value).map_err(|error| {
            Failure::running(
                format!("the result has no JSON form: {error}"),
                "leave out --json",
            )
        })?;
        text(&format!("{object}\n"));
        Ok(())
    }
}

/// Writes text at once. Without a reader (`| head`) the program ends here, in silence.
pub fn text(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            note(&format!("error: standard output: {error}"));
            note("help: check where the output goes, and the space left");
            process::exit(1);
        }
    }
}

/// A line for the standard error stream. What nobody reads is left out.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
