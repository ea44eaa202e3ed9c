//! What bad input gets: one line of cause that says what was expected and what was found, one line
//! of what to do, exit code 2, and nothing written over.

mod support;

use std::fs;

use support::{Ran, Scratch, prose, wave};

/// Runs what must be refused; `cause` must hold all `parts`.
#[track_caller]
fn refused(scratch: &Scratch, line: &str, parts: &[&str]) {
    let before = scratch.snapshot();
    let ran = scratch.run(line);
    assert_eq!(ran.code, Some(2), "scratch {line}\n{}", ran.stderr);
    assert_eq!(ran.stdout, "", "scratch {line}");
    let cause = cause(&ran);
    for part in parts {
        assert!(
            cause.contains(part),
            "scratch {line}: no `{part}` in\n{cause}"
        );
    }
    let after = scratch.snapshot();
    assert!(before == after, "scratch {line} has changed the folder");
}

/// The line of cause, which a line of help must follow, and nothing else.
#[track_caller]
fn cause(ran: &Ran) -> String {
    let lines: Vec<_> = ran.stderr.lines().collect();
    let errors: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 1, "{}", ran.stderr);
    let [.., cause, help] = lines[..] else {
        panic!("two lines, found {:?}", ran.stderr)
    };
    assert!(cause.starts_with("error: "), "{}", ran.stderr);
    assert!(help.starts_with("help: "), "{}", ran.stderr);
    for sign in ["panicked", "stack backtrace", "a bug in"] {
        assert!(!ran.stderr.contains(sign), "{}", ran.stderr);
    }
    cause.to_string()
}

#[test]
fn an_instruction_set_that_the_processor_has_not() {
    let scratch = Scratch::new();
    let mut command = scratch.command("train forecast --epochs 1");
    command.env("SCRATCH_LSTM_INSTRUCTIONS", "sse9");
    let ran = Ran::from(command.output().unwrap());
    if std::env::var("SCRATCH_TEST_BACKEND").is_ok_and(|name| name == "wgpu") {
        return;
    }
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let cause = cause(&ran);
    assert!(
        cause.contains("portable") && cause.contains("`sse9`"),
        "{cause}"
    );
}

#[test]
fn series_that_cannot_be_forecast() {
    let scratch = Scratch::new();
    let with = |field: &str| wave(100) + &format!("day x,{field}\n") + &wave(50)[11..];
    scratch.write("empty.csv", "");
    scratch.write("header.csv", "time,level\n");
    scratch.write("short.csv", wave(20));
    scratch.write("wave.csv", wave(150));
    scratch.write("word.csv", with("high"));
    scratch.write("nan.csv", with("NaN"));
    scratch.write("inf.csv", with("-inf"));
    scratch.write("gap.csv", with(""));
    scratch.write("ragged.csv", with("1,2"));
    scratch.write("words.csv", "a,b\nx,y\nz,w\n");
    scratch.write("latin.csv", b"time,level\ncaf\xe9,1\n");
    scratch.write("folder/wave.csv", wave(150));
    let cases: [(&str, &[&str]); 16] = [
        ("--data nothing.csv", &["nothing.csv", "expected a file"]),
        ("--data empty.csv", &["empty.csv", "found an empty file"]),
        ("--data header.csv", &["header.csv", "only a header"]),
        ("--data folder", &["expected a file, found a folder"]),
        (
            "--data short.csv",
            &["too short", "at least 49", "found 13"],
        ),
        (
            "--data wave.csv --column nope",
            &["`nope`", "`time`", "`level`"],
        ),
        ("--data wave.csv --column 3", &["`3`"]),
        ("--data wave.csv --column time", &["line 2", "`day 0`"]),
        ("--column nope", &["`nope`", "`Sunspots`"]),
        (
            "--data word.csv",
            &["line 102", "`level`", "finite number", "`high`"],
        ),
        ("--data nan.csv", &["line 102", "`NaN`"]),
        ("--data inf.csv", &["line 102", "`-inf`"]),
        ("--data gap.csv", &["line 102", "an empty field"]),
        (
            "--data ragged.csv",
            &["line 102", "expected 2 fields, found 3"],
        ),
        ("--data words.csv", &["expected a column of numbers"]),
        ("--data latin.csv", &["UTF-8", "byte 14"]),
    ];
    for (flags, parts) in cases {
        refused(
            &scratch,
            &format!("train forecast {flags} --out run"),
            parts,
        );
    }
}

#[test]
fn texts_and_labels_that_cannot_be_learned() {
    let scratch = Scratch::new();
    scratch.write("empty.txt", " \n");
    scratch.write("short.txt", "hello");
    scratch.write("latin.txt", b"caf\xe9 au lait");
    scratch.write("folder/notes.csv", "x\n");
    scratch.write("one/label.txt", "a\nb\n");
    scratch.write("table.csv", "a,b\n1,2\n");
    let cases: [(&str, &[&str]); 11] = [
        ("text --data nothing.txt", &["nothing.txt"]),
        ("text --data empty.txt", &["found an empty file"]),
        ("text --data short.txt", &["too short", "found 5"]),
        ("text --data latin.txt", &["UTF-8", "byte 3"]),
        ("text --data folder", &[".rs or .md or .txt, found none"]),
        ("text", &[".rs or .md, found none"]),
        ("classify --data nothing", &["nothing"]),
        ("classify --data folder", &[".txt", "found none"]),
        ("classify --data one", &["at least 2 labels", "`label`"]),
        ("classify --data table.csv", &["`text`", "`a`, `b`"]),
        ("classify --data empty.txt", &["found an empty file"]),
    ];
    for (line, parts) in cases {
        refused(&scratch, &format!("train {line}"), parts);
    }
}

#[test]
fn absurd_settings() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    let huge = "99999999999999";
    let cases: [(&str, &str, &[&str]); 19] = [
        ("--window", "0", &["`window`", "at least 1"]),
        ("--window", huge, &["too short", huge]),
        ("--horizon", "0", &["`horizon`"]),
        ("--horizon", huge, &["too short", huge]),
        ("--batch-size", "0", &["`batch_size`"]),
        ("--season", "0", &["season", "1 to 96"]),
        ("--season", huge, &["season"]),
        ("--d-hidden", "0", &["`d_hidden`"]),
        ("--d-hidden", huge, &["`d_hidden`"]),
        ("--num-layers", "0", &["`num_layers`"]),
        ("--num-layers", huge, &["num_layers"]),
        ("--dropout", "1", &["dropout", "less than 1", "found 1"]),
        ("--dropout", "nan", &["dropout", "NaN"]),
        ("--epochs", "0", &["`epochs`", "at least 1"]),
        ("--epochs", huge, &["`epochs`", "at most"]),
        ("--patience", "0", &["`patience`"]),
        (
            "--learning-rate",
            "0",
            &["`learning_rate`", "a positive number"],
        ),
        ("--learning-rate", "-0.1", &["`learning_rate`"]),
        ("--learning-rate", "inf", &["`learning_rate`"]),
    ];
    for (flag, value, parts) in cases {
        let line = format!("train forecast --data wave.csv --out run {flag} {value}");
        refused(&scratch, &line, parts);
    }
}

#[test]
fn command_lines_that_say_nothing() {
    let scratch = Scratch::new();
    for line in [
        "",
        "fly",
        "train",
        "train song",
        "train forecast --frobnicate",
        "train forecast --epochs many",
        "train forecast --epochs -1",
        "train forecast --max-time soon",
        "train forecast --max-time 0s",
        "train forecast --backend gpu",
        "train forecast --all-columns --column a",
        "evaluate",
    ] {
        let ran = scratch.run(line);
        assert_eq!(ran.code, Some(2), "scratch {line}\n{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert!(scratch.snapshot().is_empty());
    }
}

#[test]
fn settings_files_that_do_not_fit() {
    let scratch = Scratch::new();
    scratch.write("key.toml", "[model]\nd_hidden = 4\nhidden = 5\n");
    scratch.write("section.toml", "[mode]\n");
    scratch.write("syntax.toml", "[model\n");
    scratch.write("type.toml", "[training]\nepochs = \"many\"\n");
    scratch.write("value.toml", "[training.schedule]\nwarmup = 2\n");
    scratch.write("task.toml", "task = \"text\"\n");
    scratch.write("latin.toml", b"# caf\xe9\n");
    scratch.write("folder/x", "");
    let cases: [(&str, &[&str]); 9] = [
        (
            "key.toml",
            &["key.toml", "line 3", "unknown key `hidden`", "`d_hidden`"],
        ),
        ("section.toml", &["section.toml", "unknown key `mode`"]),
        ("syntax.toml", &["syntax.toml", "line 1"]),
        ("type.toml", &["type.toml", "line 2", "\"many\""]),
        ("value.toml", &["warmup", "found 2"]),
        ("task.toml", &["`forecast`", "text"]),
        ("latin.toml", &["UTF-8"]),
        ("nothing.toml", &["nothing.toml", "nothing of that name"]),
        ("folder", &["folder"]),
    ];
    for (file, parts) in cases {
        let line = format!("train forecast --config {file} --out run");
        refused(&scratch, &line, parts);
    }
}

#[test]
fn places_that_are_taken() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    scratch.write("full/precious.txt", "mine");
    scratch.write("file", "mine");
    let train = "train forecast --data wave.csv --epochs 1 --d-hidden 4 --window 12";
    for (out, parts) in [
        ("full", &["full", "new or empty folder, found files"][..]),
        ("file", &["file", "found a file"]),
        ("file/below", &["file/below"]),
    ] {
        refused(&scratch, &format!("{train} --out {out}"), parts);
    }
    scratch.ok(&format!("{train} --out run"));
    refused(
        &scratch,
        &format!("{train} --out run"),
        &["run", "another run"],
    );
}

#[test]
fn backends_that_are_not_there() {
    let scratch = Scratch::new();
    for (backend, built_in) in [
        ("cuda", cfg!(feature = "cuda")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("ndarray", cfg!(feature = "ndarray")),
    ] {
        if !built_in {
            let flag = format!("--features {backend}");
            let line = format!("train forecast --out run --backend {backend}");
            refused(&scratch, &line, &["not built in", &flag]);
        }
    }
}

#[test]
fn folders_that_are_no_run() {
    let scratch = Scratch::new();
    scratch.write("full/x", "x");
    scratch.write("file", "x");
    scratch.write("toml/config.toml", "x\n");
    scratch.write("song/config.toml", "format = 1\ntask = \"song\"\n");
    scratch.write("new/config.toml", "format = 99\ntask = \"forecast\"\n");
    scratch.write(
        "key/config.toml",
        "format = 1\ntask = \"forecast\"\n[model]\nhidden = 3\n",
    );
    scratch.write("bare/config.toml", "format = 1\ntask = \"forecast\"\n");
    for command in ["resume", "evaluate", "forecast"] {
        for (run, parts) in [
            ("nothing", &["nothing of that name"][..]),
            ("full", &["expected a run folder", "without it"]),
            ("file", &["found a file"]),
            ("toml", &["config.toml", "line 1"]),
            ("song", &["`forecast`", "`song`"]),
            ("new", &["format 1, found 99"]),
            ("key", &["config.toml", "unknown key `hidden`"]),
        ] {
            refused(&scratch, &format!("{command} {run}"), parts);
        }
    }
    refused(&scratch, "generate full", &["expected a run folder"]);
    // A run that was cut off before its first checkpoint can begin again.
    for command in ["evaluate", "forecast"] {
        let line = format!("{command} bare");
        refused(&scratch, &line, &["checkpoints", "expected a checkpoint"]);
    }
    scratch.ok("resume bare --epochs 1");
    // Without its checkpoints it cannot: there is something to lose.
    fs::remove_dir_all(scratch.path("bare/checkpoints")).unwrap();
    let parts = ["checkpoints", "expected a checkpoint"];
    refused(&scratch, "resume bare --epochs 1", &parts);
}

#[test]
fn runs_that_are_asked_for_what_they_are_not() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    scratch.write("book.txt", prose(60));
    scratch.ok(
        "train forecast --data wave.csv --epochs 2 --d-hidden 4 --window 12 --out forecast-run",
    );
    scratch.ok(
        "train text --data book.txt --epochs 1 --d-hidden 8 --window 8 --batch-size 8 --out text",
    );
    let cases: [(&str, &[&str]); 8] = [
        ("generate forecast-run", &["`text`", "`forecast`"]),
        ("forecast text", &["`forecast`", "`text`"]),
        ("forecast forecast-run --horizon 0", &["horizon", "found 0"]),
        (
            "forecast forecast-run --horizon 99999999",
            &["horizon", "found 99999999"],
        ),
        ("generate text --length 0", &["length", "found 0"]),
        ("generate text --temperature -1", &["temperature"]),
        ("generate text --top-k 0", &["top_k"]),
        (
            "resume forecast-run --epochs 1",
            &["epochs", "at least 2", "found 1"],
        ),
    ];
    for (line, parts) in cases {
        refused(&scratch, line, parts);
    }
    // Data that are gone.
    fs::remove_file(scratch.path("wave.csv")).unwrap();
    for command in ["resume", "evaluate", "forecast"] {
        refused(&scratch, &format!("{command} forecast-run"), &["wave.csv"]);
    }
}

#[test]
fn checkpoints_that_do_not_fit() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    scratch.ok("train forecast --data wave.csv --epochs 1 --d-hidden 4 --window 12 --out run");
    let config = scratch.read("run/config.toml");
    let commands = ["resume run --epochs 3", "evaluate run", "forecast run"];

    scratch.write(
        "run/config.toml",
        config.replace("d_hidden = 4", "d_hidden = 5"),
    );
    let parts = ["settings.model.d_hidden (4 then, 5 now)"];
    refused(&scratch, commands[0], &parts);
    for line in &commands[1..] {
        refused(&scratch, line, &["another model", "weight_ih"]);
    }
    scratch.write("run/config.toml", &config);

    let checkpoints = fs::read_dir(scratch.path("run/checkpoints")).unwrap();
    let checkpoint = checkpoints
        .map(|entry| entry.unwrap().path())
        .max()
        .unwrap();
    let weights = checkpoint.join("model.bpk");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    for line in commands {
        refused(&scratch, line, &["model.bpk", "damaged"]);
    }
    fs::write(&weights, &bytes[..last / 2]).unwrap();
    for line in commands {
        refused(&scratch, line, &["model.bpk", "damaged"]);
    }
    fs::remove_file(&weights).unwrap();
    for line in commands {
        refused(&scratch, line, &["model.bpk"]);
    }
    fs::remove_dir_all(scratch.path("run/checkpoints")).unwrap();
    for line in commands {
        refused(&scratch, line, &["expected a checkpoint"]);
    }
}

/// Not bad input: the run fails on its way, and what was good is kept.
#[test]
fn a_diverging_loss_stops_with_the_step() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(150));
    let train = "train forecast --data wave.csv --epochs 2 --d-hidden 4 --window 12";
    scratch.write(
        "sgd.toml",
        "[training]\noptimizer = { kind = \"sgd\", weight_decay = 0.1 }\n",
    );
    scratch.ok(&format!("{train} --config sgd.toml --out run"));
    let good = scratch.json("evaluate run");

    // Weights that grow beyond all numbers.
    let config = scratch.read("run/config.toml");
    let config = config
        .lines()
        .map(|line| match line.starts_with("weight_decay") {
            true => "weight_decay = 1e30\n".to_string(),
            false => format!("{line}\n"),
        });
    scratch.write("run/config.toml", config.collect::<String>());
    let line = "resume run --epochs 9";
    refused(&scratch, line, &["weight_decay (0.1 then, 1"]);
    let ran = scratch.run(&format!("{line} --accept-changes"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    let cause = cause(&ran);
    assert!(cause.contains("the loss became"), "{cause}");
    assert!(cause.contains(" at step "), "{cause}");
    assert!(cause.contains("run/checkpoints/step-"), "{cause}");
    assert_eq!(scratch.json("evaluate run")["test"], good["test"]);
}

/// Nor is this: what cannot be written is a failed run.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_a_failed_run() {
    let scratch = Scratch::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let ran = scratch
        .command("devices")
        .stdout(full)
        .output()
        .unwrap()
        .into();
    let ran: Ran = ran;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(cause(&ran).contains("standard output"), "{}", ran.stderr);
}
