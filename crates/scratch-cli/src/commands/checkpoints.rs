//! `scratch checkpoints`.

use std::fs;
use std::path::Path;

use scratch_train::RunFolder;
use scratch_train::checkpoint::Listed;
use scratch_train::{Checkpoint, TrainError};
use serde::Serialize;

use crate::args::CheckpointsArgs;
use crate::failure::{Failure, Phase};
use crate::output::{self, Output};

/// Lists the checkpoints of a run, or pins one.
pub fn run(args: &CheckpointsArgs, output: Output) -> Result<(), Failure> {
    let run = RunFolder::open(&args.run)?;
    let checkpoints = run.checkpoints();
    let failed = |error| {
        Failure::task(&TrainError::Checkpoint(error).into(), Phase::Preparing).of_run(run.root())
    };
    for (step, pinned) in [(args.pin, true), (args.unpin, false)] {
        if let Some(step) = step {
            checkpoints.pin(step, pinned).map_err(|error| {
                let help = "choose one of the steps that scratch checkpoints lists";
                Failure::input(error.to_string(), help)
            })?;
        }
    }
    let list = checkpoints.list().map_err(failed)?;
    let mut rows: Vec<Row> = list.iter().map(Row::of).collect();
    // Each was the best up to its step; the last that says so is the best of all.
    if let Some(best) = rows.iter().rposition(|row| row.best) {
        for row in &mut rows[..best] {
            row.best = false;
        }
    }
    if output.json {
        return output.object(&Answer {
            run: run.root(),
            checkpoints: &rows,
        });
    }
    output::text(&table(&rows));
    Ok(())
}

#[derive(Serialize)]
struct Answer<'a> {
    run: &'a Path,
    checkpoints: &'a [Row],
}

#[derive(Serialize)]
struct Row {
    step: u64,
    folder: String,
    bytes: u64,
    pinned: bool,
    /// Epochs done; absent if damaged.
    epoch: Option<usize>,
    /// Loss of the last validation up to there.
    valid_loss: Option<f64>,
    /// Whether it is that of the best validation.
    best: bool,
    /// What is wrong with it, if something is.
    damage: Option<String>,
}

impl Row {
    fn of(listed: &Listed) -> Self {
        let progress = Checkpoint::open(&listed.path).and_then(|one| one.progress());
        let (progress, damage) = match progress {
            Ok(progress) => (Some(progress), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let last = progress.as_ref().and_then(|progress| progress.last.clone());
        let best = progress.as_ref().and_then(|progress| progress.best.clone());
        Self {
            step: listed.step,
            folder: listed.path.display().to_string(),
            bytes: size(&listed.path),
            pinned: listed.pinned,
            epoch: progress.map(|progress| progress.epoch),
            best: best.is_some_and(|best| best.step == listed.step),
            valid_loss: last.map(|last| last.valid.loss),
            damage,
        }
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no checkpoints yet\n".into();
    }
    let mut text = format!(
        "{:>10}{:>8}{:>12}{:>12}\n",
        "step", "epoch", "valid loss", "size"
    );
    for row in rows {
        let mut marks = Vec::new();
        if row.best {
            marks.push("best".to_string());
        }
        if row.pinned {
            marks.push("pinned".into());
        }
        if let Some(damage) = &row.damage {
            marks.push(damage.clone());
        }
        let epoch = row
            .epoch
            .map_or_else(|| "-".into(), |epoch| epoch.to_string());
        let loss = row
            .valid_loss
            .map_or_else(|| "-".into(), |loss| format!("{loss:.4}"));
        let size = size_text(row.bytes);
        let line = format!(
            "{:>10}{epoch:>8}{loss:>12}{size:>12}  {}",
            row.step,
            marks.join(", ")
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// `61.2 KiB`, `4.0 MiB`.
fn size_text(bytes: u64) -> String {
    match bytes as f64 / 1024.0 {
        kib if kib < 1024.0 => format!("{kib:.1} KiB"),
        kib => format!("{:.1} MiB", kib / 1024.0),
    }
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes.map(|meta| meta.len()).sum()
}
