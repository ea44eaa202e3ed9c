//! The program as its users run it: what it prints, what it leaves in the run folder, and that the
//! commands fit together. What it says to bad input is in `bad_input.rs`.

mod support;

use std::io::Read;
use std::process::Stdio;

use support::{Scratch, number, prose, wave};

/// Settings under which a training takes about a second.
const SMALL: &str = "--d-hidden 4 --window 12";

#[test]
fn forecasting_without_data() {
    let scratch = Scratch::new();
    let line = format!("train forecast {SMALL} --epochs 2 --batch-size 64");
    let report = scratch.json(&line);
    for path in ["test.rmse", "test.mae", "test.mase", "valid.rmse"] {
        assert!(number(&report, path) > 0.0, "{path}");
    }
    // The last value of 564 months, one step ahead.
    let persistence = number(&report, "baselines.persistence.rmse");
    assert!((persistence - 20.09).abs() < 0.005, "{persistence}");
    assert!(number(&report, "baselines.seasonal_naive.rmse") > 0.0);
    assert!(number(&report, "test.rmse") < 1.5 * persistence);
    assert_eq!(report["run"], "runs/forecast-1");

    let run = "runs/forecast-1";
    for file in [
        "config.toml",
        "timing.csv",
        "plots/forecast.svg",
        "plots/loss.svg",
        "steps.csv",
        "log.jsonl",
        "system.json",
    ] {
        assert!(!scratch.read(&format!("{run}/{file}")).is_empty(), "{file}");
    }
    let metrics = scratch.read(&format!("{run}/metrics.csv"));
    let lines: Vec<_> = metrics.lines().collect();
    assert_eq!(lines[0], "step,epoch,train_loss,valid_loss");
    assert_eq!(lines.len(), 3);

    // The same weights give the same scores, from any folder.
    let evaluated = scratch.json(&format!("evaluate {run}"));
    for part in ["valid", "test", "baselines", "columns"] {
        assert_eq!(evaluated[part], report[part], "{part}");
    }

    let rows = scratch.ok(&format!("forecast {run} --horizon 3")).stdout;
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split(',').collect()).collect();
    assert_eq!(rows[0], ["step", "Sunspots"]);
    assert_eq!(rows.len(), 4);
    for (position, row) in rows.iter().enumerate().skip(1) {
        assert_eq!(row[0], position.to_string());
        assert!(row[1].parse::<f64>().unwrap().is_finite());
    }
    let ahead = scratch.json(&format!("forecast {run} --horizon 3"));
    assert_eq!(ahead["last_time"], "1983-12");
    assert_eq!(ahead["values"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_summary_compares_with_naive_forecasts() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    let line = format!("train forecast --data wave.csv --season 12 --epochs 2 {SMALL}");
    let ran = scratch.ok(&line);
    for part in [
        "RMSE",
        "MASE",
        "ScratchLstm",
        "persistence",
        "seasonal naive (12 rows)",
        "runs/forecast-1/plots/forecast.svg",
        "forecast runs/forecast-1 --horizon",
    ] {
        assert!(ran.stdout.contains(part), "{part}:\n{}", ran.stdout);
    }
    for part in [
        "device: ",
        "run: runs/forecast-1",
        "step ",
        "valid ",
        "best",
    ] {
        assert!(ran.stderr.contains(part), "{part}:\n{}", ran.stderr);
    }
    // Without a terminal there is no bar.
    assert!(!ran.stderr.contains(['\r', '\x1b']), "{:?}", ran.stderr);
    // The next run has a folder of its own.
    let ran = scratch.ok(&line);
    assert!(ran.stderr.contains("run: runs/forecast-2"));
}

#[test]
fn several_columns_and_steps_ahead() {
    let scratch = Scratch::new();
    let row = |k: usize| format!("{},{},{}\n", k % 7, k % 5, k % 3);
    let table: String = (0..150).map(row).collect();
    scratch.write("table.csv", "a,\"b, c\",d\n".to_string() + &table);
    let line = "train forecast --data table.csv --column a --column 2 --horizon 3 --epochs 1 \
                --out run";
    let report = scratch.json(&format!("{line} {SMALL}"));
    assert_eq!(report["horizon"], 3);
    let columns = report["columns"].as_object().unwrap();
    assert_eq!(columns.keys().collect::<Vec<_>>(), ["a", "b, c"]);
    let rows = scratch.ok("forecast run --horizon 4").stdout;
    assert!(rows.starts_with("step,a,\"b, c\"\n1,"), "{rows}");
    assert_eq!(rows.lines().count(), 5);
}

#[test]
fn resume_adds_epochs() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    let train = "train forecast --data wave.csv --out run --epochs 2";
    scratch.ok(&format!("{train} {SMALL}"));
    let steps = |scratch: &Scratch| -> Vec<(u64, u64)> {
        let metrics = scratch.read("run/metrics.csv");
        let rows = metrics.lines().skip(1).map(|row| {
            let mut cells = row.split(',').map(|cell| cell.parse().unwrap_or(0));
            (cells.next().unwrap(), cells.next().unwrap())
        });
        rows.collect()
    };
    let before = steps(&scratch);
    assert_eq!(before.len(), 2);

    let report = scratch.json("resume run --epochs 4");
    let after = steps(&scratch);
    assert_eq!(after[..2], before);
    let epochs: Vec<_> = after.iter().map(|(_, epoch)| *epoch).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
    assert_eq!(number(&report, "training.steps"), after[3].0 as f64);
    assert!(scratch.read("run/config.toml").contains("epochs = 4"));

    // Nothing is left to do, and nothing changes.
    let ran = scratch.ok("resume run");
    assert!(ran.stderr.contains("nothing was left to do"));
    assert_eq!(steps(&scratch), after);
}

#[test]
fn a_time_limit_ends_the_run() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    let line = "train forecast --data wave.csv --out run --max-time 2s";
    let report = scratch.json(&format!("{line} {SMALL}"));
    assert_eq!(report["training"]["ending"], "out_of_time");
    assert!(number(&report, "training.seconds") < 10.0);
}

#[test]
fn text_is_learned_and_written() {
    let scratch = Scratch::new();
    // Without --data: .rs and .md below the current folder.
    scratch.write("docs/a.md", prose(120));
    scratch.write("src/b.rs", prose(30));
    scratch.write("c.csv", "not,text\n");
    let report = scratch
        .json("train text --epochs 1 --d-hidden 8 --window 16 --batch-size 8 --seed 3 --out run");
    assert_eq!(report["files"], 2);
    let nats = number(&report, "valid.nats");
    assert!((number(&report, "valid.bits_per_character") - nats / 2f64.ln()).abs() < 1e-9);
    assert!((number(&report, "valid.perplexity") - nats.exp()).abs() < 1e-6);
    let evaluated = scratch.json("evaluate run");
    assert!((number(&evaluated, "valid.nats") - nats).abs() < 1e-6);

    let generate = "generate run --prompt sun --length 60";
    let written = |seed: u64| scratch.ok(&format!("{generate} --seed {seed}")).stdout;
    let one = written(1);
    assert!(one.starts_with("sun"), "{one}");
    assert_eq!(one.trim_end_matches('\n'), {
        let again = written(1);
        again.trim_end_matches('\n').to_string()
    });
    assert!((2..6).any(|seed| written(seed) != one));
    let object = scratch.json(&format!("{generate} --seed 1"));
    let text = object["text"].as_str().unwrap();
    assert_eq!(text.chars().count(), 60);
    assert!(one.starts_with(&format!("sun{text}")));
    // The likeliest are not drawn.
    let likeliest = |seed: u64| {
        let line = format!("{generate} --temperature 0 --top-k 5 --seed {seed}");
        scratch.ok(&line).stdout
    };
    assert_eq!(likeliest(1), likeliest(2));
}

#[test]
fn a_run_of_text_outlives_changes_of_its_files() {
    let scratch = Scratch::new();
    scratch.write("book.txt", prose(120));
    let line = "train text --data book.txt --epochs 1 --d-hidden 8 --window 16 --batch-size 8";
    scratch.ok(&format!("{line} --units bytes --out bytes"));
    scratch.ok(&format!("{line} --out run"));
    // Characters that the run has never seen.
    scratch.write("book.txt", prose(120) + "0123456789\n");
    let refused = scratch.run("resume run --epochs 2");
    assert_eq!(refused.code, Some(2));
    let said = "training data (";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    scratch.ok("resume run --epochs 2 --accept-changes");
    std::fs::remove_file(scratch.path("book.txt")).unwrap();
    for run in ["run", "bytes"] {
        let text = scratch.ok(&format!("generate {run} --length 30")).stdout;
        assert!(!text.trim().is_empty());
    }
}

#[test]
fn labels_are_told_apart() {
    let scratch = Scratch::new();
    for (label, word) in [("low", "aba"), ("high", "xyz")] {
        let lines: String = (0..60).map(|k| format!("{word}{}\n", k % 10 + k)).collect();
        scratch.write(&format!("words/{label}.txt"), lines);
    }
    let line = "train classify --data words --epochs 6 --d-hidden 8 --batch-size 16 \
                --learning-rate 0.02 --out run";
    let report = scratch.json(line);
    assert!(number(&report, "test.accuracy") > 0.9);
    assert!(number(&report, "test.macro_f1") > 0.9);
    assert!(number(&report, "baselines.accuracy") < 0.7);
    assert_eq!(report["labels"], serde_json::json!(["high", "low"]));
    assert_eq!(scratch.json("evaluate run")["test"], report["test"]);
    assert!(scratch.read("run/plots/confusion.svg").contains("<svg"));
    let metrics = scratch.read("run/metrics.csv");
    assert!(metrics.starts_with("step,epoch,train_loss,valid_loss,valid_accuracy\n"));
}

#[test]
fn flags_go_before_the_file_and_the_file_before_defaults() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    scratch.write(
        "mine.toml",
        "[data]\npath = \"wave.csv\"\nwindows = { window = 12 }\n\
         [model]\nd_hidden = 5\nnum_layers = 2\n[training]\nepochs = 1\nseed = 8\n",
    );
    scratch.ok("train forecast --config mine.toml --d-hidden 6 --out run");
    let config = scratch.read("run/config.toml");
    for line in [
        "task = \"forecast\"",
        "d_hidden = 6",
        "num_layers = 2",
        "window = 12",
        "epochs = 1",
        "seed = 8",
        "batch_size = 32",
    ] {
        assert!(config.lines().any(|found| found == line), "{line}");
    }
    // A run's own settings make the same run again.
    scratch.ok("train forecast --config run/config.toml --out again");
    let metrics = |run: &str| scratch.read(&format!("{run}/metrics.csv"));
    assert_eq!(metrics("again"), metrics("run"));
    // So do those that are printed.
    let printed = scratch.ok("train forecast --config mine.toml --d-hidden 6 --print-config");
    scratch.write("printed.toml", printed.stdout);
    scratch.ok("train forecast --config printed.toml --out printed");
    assert_eq!(metrics("printed"), metrics("run"));
}

#[test]
fn a_run_finds_its_data_from_any_folder() {
    let scratch = Scratch::new();
    scratch.write("here/wave.csv", wave(150));
    scratch.write("there/empty.txt", "");
    let train = "train forecast --data wave.csv --epochs 1 --out run";
    let ran = scratch
        .command(&format!("{train} {SMALL}"))
        .current_dir(scratch.path("here"))
        .output()
        .unwrap();
    assert!(ran.status.success());
    let ran = scratch
        .command("forecast ../here/run --horizon 2")
        .current_dir(scratch.path("there"))
        .output()
        .unwrap();
    assert!(ran.status.success());
}

#[test]
fn devices_are_listed() {
    let scratch = Scratch::new();
    let list = scratch.json("devices");
    let backends = list["backends"].as_array().unwrap();
    let names: Vec<_> = backends.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["cuda", "vulkan", "wgpu", "ndarray", "flex"]);
    for entry in backends {
        let built_in = entry["built_in"].as_bool().unwrap();
        assert!(built_in || entry["devices"].as_array().unwrap().is_empty());
    }
    let flex = backends[4]["built_in"].as_bool();
    assert_eq!(flex, Some(cfg!(feature = "flex")));
    let text = scratch.ok("devices").stdout;
    if !cfg!(feature = "cuda") {
        assert!(text.contains("build with --features cuda"), "{text}");
    }
}

#[test]
fn every_help_has_examples() {
    let scratch = Scratch::new();
    for command in [
        "",
        "train",
        "train forecast",
        "train text",
        "train classify",
        "resume",
        "evaluate",
        "forecast",
        "generate",
        "report",
        "devices",
    ] {
        let help = scratch.ok(&format!("{command} --help")).stdout;
        assert!(help.contains("Examples:\n  scratch "), "{command}: {help}");
    }
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let scratch = Scratch::new();
    scratch.write("book.txt", prose(60));
    scratch.ok(
        "train text --data book.txt --epochs 1 --d-hidden 8 --window 8 --batch-size 8 --out run",
    );
    let mut child = scratch
        .command("generate run --length 100000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 20]).unwrap();
    drop(stdout);
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}
