//! A training that is stopped from outside: what it says, its exit code, and that nothing is lost.

#![cfg(unix)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Ran, Scratch, wave};

/// Long enough to be stopped on the way, short enough to be waited for.
const TRAIN: &str =
    "train forecast --data wave.csv --epochs 60 --d-hidden 24 --window 24 --batch-size 4";

fn start(scratch: &Scratch, line: &str) -> Child {
    let mut command = scratch.command(line);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until a run has gone through some epochs.
fn wait_for_rows(scratch: &Scratch, run: &str, rows: usize) {
    let began = Instant::now();
    let path = scratch.path(&format!("{run}/metrics.csv"));
    while fs::read_to_string(&path).map_or(0, |text| text.lines().count()) < rows + 1 {
        assert!(began.elapsed() < Duration::from_secs(120), "no epoch ends");
        thread::sleep(Duration::from_millis(2));
    }
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(sent.unwrap().success());
}

/// The weights of the newest checkpoint.
fn weights(scratch: &Scratch, run: &str) -> Vec<u8> {
    let entries = fs::read_dir(scratch.path(&format!("{run}/checkpoints"))).unwrap();
    let last: PathBuf = entries.map(|entry| entry.unwrap().path()).max().unwrap();
    fs::read(last.join("model.bpk")).unwrap()
}

#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(300));
    scratch.ok(&format!("{TRAIN} --out through"));
    for (signal, code, name) in [("INT", 130, "Ctrl-C"), ("TERM", 143, "SIGTERM")] {
        let run = format!("run-{signal}");
        let child = start(&scratch, &format!("{TRAIN} --out {run}"));
        wait_for_rows(&scratch, &run, 3);

        // Meanwhile nobody else can train there.
        let second = scratch.run(&format!("resume {run}"));
        assert_eq!(second.code, Some(2), "{}", second.stderr);
        let holder = format!("in use by process {}", child.id());
        assert!(second.stderr.contains(&holder), "{}", second.stderr);

        send(&child, signal);
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(code), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let [.., cause, help] = lines[..] else {
            panic!("{}", ran.stderr)
        };
        let begins = format!("stopped: interrupted by {name} after step ");
        assert!(cause.starts_with(&begins), "{cause}");
        assert_eq!(help, format!("help: go on with: scratch resume {run}"));

        let ran = scratch.ok(&format!("resume {run}"));
        assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
        for file in ["metrics.csv", "steps.csv", "log.jsonl"] {
            let (found, expected) = (format!("{run}/{file}"), format!("through/{file}"));
            assert_eq!(scratch.read(&found), scratch.read(&expected), "{file}");
        }
        assert_eq!(weights(&scratch, &run), weights(&scratch, "through"));
    }
}

#[test]
fn a_lock_does_not_outlive_a_crash() {
    let scratch = Scratch::new();
    scratch.write("wave.csv", wave(300));
    let mut child = start(&scratch, &format!("{TRAIN} --out run"));
    wait_for_rows(&scratch, "run", 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(scratch.path("run/lock").exists());
    scratch.ok("resume run");
}
