//! Running the program in a folder of its own.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The commands that run on a device, and so know `--backend`.
const ON_A_DEVICE: [&str; 5] = ["train", "resume", "evaluate", "forecast", "generate"];

/// The program and the folder it is run in.
pub struct Scratch {
    folder: TempDir,
}

/// What a run of the program left.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder for the test"),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).unwrap();
        }
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The program with these arguments, on the backend of the tests (`SCRATCH_TEST_BACKEND`).
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scratch"));
        let words: Vec<&str> = line.split_whitespace().collect();
        command.args(&words);
        let on_a_device = words.iter().any(|word| ON_A_DEVICE.contains(word));
        if on_a_device && !words.contains(&"--backend") && !words.contains(&"--help") {
            let named = std::env::var("SCRATCH_TEST_BACKEND").ok();
            let flex = cfg!(feature = "flex").then(|| "flex".to_string());
            if let Some(backend) = named.or(flex) {
                command.args(["--backend", &backend]);
            }
        }
        command
            .current_dir(self.folder.path())
            // A user who has set it must not see a backtrace either.
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs the program whatever comes of it.
    pub fn run(&self, line: &str) -> Ran {
        Ran::from(self.command(line).output().expect("the program starts"))
    }

    /// Runs the program, which must succeed.
    pub fn ok(&self, line: &str) -> Ran {
        let ran = self.run(line);
        assert_eq!(ran.code, Some(0), "scratch {line}\n{}", ran.stderr);
        ran
    }

    /// Runs the program with `--json`: the one object it prints.
    pub fn json(&self, line: &str) -> Value {
        let ran = self.ok(&format!("{line} --json"));
        assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
        let value: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(value.is_object(), "{value}");
        value
    }

    /// Every file and folder with its content, but locks, which hold the last process.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut found = BTreeMap::new();
        collect(self.folder.path(), &mut found);
        found
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output in UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A number of a JSON object, by its path: `test.rmse`.
pub fn number(value: &Value, path: &str) -> f64 {
    let found = path.split('.').fold(value, |value, key| &value[key]);
    found
        .as_f64()
        .unwrap_or_else(|| panic!("{path}: no number in {value}"))
}

/// A wave of period 12 on a line, with its times.
pub fn wave(rows: usize) -> String {
    let row = |k: usize| {
        let value = 10.0 * (k as f64 * std::f64::consts::TAU / 12.0).sin() + 0.01 * k as f64;
        format!("day {k},{value:.3}\n")
    };
    "time,level\n".to_string() + &(0..rows).map(row).collect::<String>()
}

/// Text of a few words.
pub fn prose(lines: usize) -> String {
    const WORDS: [&str; 7] = ["sun", "moon", "river", "über", "hill", "wind", "and"];
    let line = |k: usize| {
        let word = |j: usize| WORDS[(k * 5 + j * 3 + k * j) % WORDS.len()];
        (0..6).map(word).collect::<Vec<_>>().join(" ") + ".\n"
    };
    (0..lines).map(line).collect()
}

fn collect(folder: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
            found.insert(path, None);
        } else if path.file_name() != Some("lock".as_ref()) {
            let content = fs::read(&path).unwrap();
            found.insert(path, Some(content));
        }
    }
}
