//! `scratch report`.

mod support;

use support::Scratch;

const TRAIN: &str = "train classify --epochs 2 --d-hidden 8 --d-embedding 4 --batch-size 64";

#[test]
fn a_page_of_one_run_and_one_of_two() {
    let scratch = Scratch::new();
    scratch.ok(&format!("{TRAIN} --out one"));
    scratch.ok(&format!("{TRAIN} --learning-rate 0.01 --out two"));

    let printed = scratch.ok("report one").stdout;
    assert_eq!(printed.trim_end().replace('\\', "/"), "one/report.html");
    let page = scratch.read("one/report.html");
    assert!(page.starts_with("<!DOCTYPE html>"));
    for part in [
        "<h1>one</h1>",
        ">Loss</h3>",
        "accuracy",
        "Test sequences",
        "<h2>Confusion</h2>",
    ] {
        assert!(page.contains(part), "{part}");
    }

    let answer = scratch.json("report one two --out both.html");
    assert_eq!(answer["report"], "both.html");
    assert_eq!(answer["runs"][1], "two");
    let page = scratch.read("both.html");
    assert!(page.contains("<td>training.learning_rate</td>"));
    assert!(!page.contains("<td>training.epochs</td>"));
    scratch.ok("report one two");
    assert!(scratch.path("report.html").is_file());
}

#[test]
fn what_is_no_run_is_refused() {
    let scratch = Scratch::new();
    scratch.write("bare/config.toml", "format = 1\ntask = \"forecast\"\n");
    scratch.write("damaged/config.toml", "x\n");
    for (line, code, part) in [
        ("report nothing", 2, "nothing of that name"),
        ("report bare nothing", 2, "nothing of that name"),
        ("report", 2, "<RUN>"),
        ("report bare --out no/such/folder.html", 1, "folder.html"),
    ] {
        let ran = scratch.run(line);
        assert_eq!(ran.code, Some(code), "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{line}: {}", ran.stderr);
    }
    // What is only damaged is shown as far as it can be read.
    scratch.ok("report bare damaged --out two.html");
    let page = scratch.read("two.html");
    assert!(page.contains("<li>damaged/config.toml: "), "{page}");
    scratch.ok(&format!(
        "report {} --out many.html",
        ["bare"; 14].join(" ")
    ));
    let ran = scratch.run(&format!("report {}", ["bare"; 15].join(" ")));
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("1 to 14 runs, found 15"),
        "{}",
        ran.stderr
    );
}
