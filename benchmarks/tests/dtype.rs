//! The program in another type than burn's usual one, which is settled once for a process and so
//! needs one of its own.

#![cfg(feature = "flex")]

use std::process::{Command, Output};

use serde_json::Value;

fn program(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scratch-benchmarks"))
        .args("--backend flex --size 3,7,5,11 --pairs 1 --threads 1".split(' '))
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

#[test]
fn every_model_on_burn_runs_in_half_precision() {
    for dtype in ["f16", "bf16"] {
        let output = program(&format!("--json --peer burn --peer raw --dtype {dtype}"));
        let (text, errors) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert!(output.status.success(), "{errors}");
        assert!(errors.contains(&format!("; in {dtype}\n")), "{errors}");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!(lines.iter().all(|line| line["dtype"] == dtype), "{text}");
        let rows = lines.iter().filter(|line| line["our_ms"].is_number());
        let peers: Vec<_> = rows
            .map(|row| (row["mode"].as_str(), row["peer"].as_str()))
            .collect();
        let expected = [
            (Some("forward"), Some("burn")),
            (Some("forward"), Some("raw")),
            (Some("train"), Some("burn")),
            (Some("train"), Some("raw")),
        ];
        assert_eq!(peers, expected, "{text}");
    }
}

#[test]
fn what_cannot_be_had_ends_with_2_and_says_why() {
    for (arguments, part) in [
        (
            "--dtype f16 --peer cudnn-tf32",
            "expected --dtype f32, found f16",
        ),
        (
            "--peer cudnn --python no-such-python",
            "`--peer cudnn`: cannot start",
        ),
    ] {
        let output = program(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(part), "{arguments}: {errors}");
    }
}
