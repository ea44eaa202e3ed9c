//! What `table.py` makes of lines as the program writes them, if there is a Python.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Lines of two runs in f16, one with a rung fixed, and of one in f32 that failed.
const CHOSEN: &str = r#"
{"b":8,"t":32,"d":32,"h":512,"mode":"train","peer":"burn","ratio":4.0,"low":3.5,"high":4.5,"our_ms":2.0,"peer_ms":8.0,"gflops":5.0,"percent_of_matmul":50.0,"pairs":6,"rung":"stepwise","backend":"cuda","path":"fused (GPU kernels, stepwise)","dtype":"f16","device":"GPU X"}
{"b":8,"t":32,"d":32,"h":512,"mode":"train","peer":"cudnn","ratio":0.5,"low":0.25,"high":0.75,"our_ms":2.5,"peer_ms":1.25,"gflops":4.0,"percent_of_matmul":40.0,"pairs":6,"rung":"stepwise","backend":"cuda","path":"fused (GPU kernels, stepwise)","dtype":"f16","device":"GPU X"}
{"summary":"geometric mean","mode":"train","peer":"burn","ratio":4.0,"sizes":2,"backend":"cuda","path":"fused (GPU kernels)","dtype":"f16","device":"GPU X"}
{"matmul":"burn","width":8192,"gflops":1000.0,"low":1.0,"high":2.0,"probes":2,"backend":"cuda","path":"fused (GPU kernels)","dtype":"f16","device":"GPU X"}
{"published":"cuDNN","dtype":"fp16","forward_ms":2.0,"train_ms":5.2,"b":16,"t":1024,"d":768,"h":768,"device":"H100"}
"#;
const PERSISTENT: &str = r#"
{"b":8,"t":32,"d":32,"h":512,"mode":"train","peer":"cudnn","ratio":0.25,"low":0.2,"high":0.3,"our_ms":5.0,"peer_ms":1.25,"gflops":2.0,"percent_of_matmul":20.0,"pairs":6,"rung":"persistent","backend":"cuda","path":"fused (GPU kernels, persistent)","dtype":"f16","device":"GPU X"}
"#;

fn table(folder: &Path) -> Option<(bool, String)> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("table.py");
    let output = Command::new("python3").arg(program).arg(folder).output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no python3");
        return None;
    };
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    Some((
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    ))
}

#[test]
fn lines_become_tables() {
    let folder = tempfile::tempdir().unwrap();
    for (name, lines, said) in [
        (
            "f16-standard-chosen",
            CHOSEN,
            "a driver warns\n2 cores; burn 0; PyTorch\n",
        ),
        (
            "f16-standard-persistent",
            PERSISTENT,
            "a driver warns\n2 cores; burn 0; PyTorch\n",
        ),
        ("f32-standard-chosen", "", "error: no device\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(path.with_extension("jsonl"), lines.trim_start()).unwrap();
        fs::write(path.with_extension("log"), said).unwrap();
    }
    let Some((success, text)) = table(folder.path()) else {
        return;
    };
    assert!(success, "{text}");
    for line in [
        "# LSTM on GPU X (cuda)",
        "- 2 cores; burn 0; PyTorch",
        "## f16",
        "| B | T | D | H | mode | rung | our ms | % matmul | burn ms | cudnn ms |",
        "| 8 | 32 | 32 | 512 | train | stepwise | 2.250 | 45.0 | 8.000 (4.00, 3.50 to 4.50) | 1.250 (0.50, 0.25 to 0.75) |",
        "| f16 | 8 | 32 | 32 | 512 | train | stepwise | 2.250 | 5.000 |",
        "| f16 | train | burn | 2 | 4.00 |",
        "| f16 | burn | 8192 | 1000 |",
        "## Published for 16,1024,768,768 on an H100, for orientation",
        "| cuDNN | fp16 | 2.0 | 5.2 |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n\n{text}");
    }
    assert!(!text.contains("error"), "{text}");
}

#[test]
fn a_folder_without_results_is_no_fault_and_none_at_all_is() {
    let folder = tempfile::tempdir().unwrap();
    if let Some((success, text)) = table(folder.path()) {
        assert!(success && text.contains("nothing was measured"), "{text}");
        let (success, _) = table(&folder.path().join("none")).unwrap();
        assert!(!success);
    }
}
