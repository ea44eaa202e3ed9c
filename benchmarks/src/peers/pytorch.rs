//! PyTorch's LSTM, on the CPU or by cuDNN, in a Python process that answers requests line by line.

use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::args::PeerName;
use crate::dtype::Dtype;
use crate::probe::Footprint;
use crate::workload::{Mode, Size};

use super::{Peer, PeerError};

/// A Python process with torch; it ends when this is dropped.
#[derive(Debug)]
pub struct Pytorch {
    python: String,
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    /// Gives the last line on stderr, once the process has ended.
    complaints: Option<JoinHandle<String>>,
    torch: Torch,
    threads: usize,
    info: Info,
}

/// Where PyTorch computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torch {
    /// On the CPU.
    Cpu,
    /// On a GPU with CUDA, by cuDNN, f32 as f32.
    Cudnn,
    /// The same, where products in f32 are TF32's.
    CudnnTf32,
}

impl Torch {
    /// The peer that is compared with.
    pub const fn peer(self) -> PeerName {
        match self {
            Self::Cpu => PeerName::Pytorch,
            Self::Cudnn => PeerName::Cudnn,
            Self::CudnnTf32 => PeerName::CudnnTf32,
        }
    }

    /// What the Python program is told.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["--device", "cpu"],
            Self::Cudnn => &["--device", "cuda"],
            Self::CudnnTf32 => &["--device", "cuda", "--tf32"],
        }
    }
}

/// Handed to Python as text, so that the program needs no file beside it.
const PROGRAM: &str = include_str!("../../pytorch_lstm.py");

/// Starting on a cold disk and the slowest timing take less.
const LIMIT: Duration = Duration::from_secs(300);

/// OpenMP's threads go on spinning for up to this long after their work (libgomp for some
/// milliseconds, Intel's for 200), on the cores that the next timing needs.
const SPINNING: Duration = Duration::from_millis(250);

impl Pytorch {
    /// Starts `python`, whose torch will compute in `dtype` and use `threads` of the CPU.
    ///
    /// # Errors
    ///
    /// If there is no such program, it cannot import torch, or torch has no such device.
    pub fn start(
        python: &str,
        torch: Torch,
        dtype: Dtype,
        threads: usize,
    ) -> Result<Self, PeerError> {
        let mut child = Command::new(python)
            .args(["-c", PROGRAM, "--dtype", dtype.name()])
            .args(torch.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| PeerError::Start {
                python: python.into(),
                source,
            })?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let stderr = stderr.expect("piped above");
        let mut pytorch = Self {
            python: python.into(),
            requests: stdin.expect("piped above"),
            answers: lines(stdout.expect("piped above")),
            // Read all the time: a full pipe would stop the process.
            complaints: Some(thread::spawn(|| last_line(stderr))),
            child,
            torch,
            threads,
            info: Info::default(),
        };
        pytorch.info = pytorch.ask(&InfoRequest { cmd: "info" })?;
        Ok(pytorch)
    }

    /// Which peer it is.
    pub fn peer(&self) -> PeerName {
        self.torch.peer()
    }

    /// After a timing on the CPU, until its threads are at rest.
    fn rest(&self) {
        if self.torch == Torch::Cpu {
            thread::sleep(SPINNING);
        }
    }

    /// What a training step of `size` needs, in a process that has done nothing else yet.
    ///
    /// # Errors
    ///
    /// If it cannot be measured.
    pub fn footprint(&mut self, size: Size) -> Result<Footprint, PeerError> {
        self.ask(&FootprintRequest {
            cmd: "memory",
            size,
            threads: self.threads,
        })
    }

    fn ask<A: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<A, PeerError> {
        let request = serde_json::to_string(request).expect("requests are plain structs");
        // A process that has ended breaks the pipe here, or closes its answers below.
        let sent = writeln!(self.requests, "{request}").and_then(|()| self.requests.flush());
        if sent.is_err() {
            return Err(self.ended());
        }
        let line = match self.answers.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => {
                return Err(PeerError::Silent {
                    python: self.python.clone(),
                    limit: LIMIT,
                });
            }
        };
        match serde_json::from_str(&line) {
            Ok(Answer::Given(answer)) => Ok(answer),
            Ok(Answer::Refused { error }) => Err(PeerError::Refused(error)),
            Err(_) => Err(PeerError::Garbled {
                python: self.python.clone(),
                line,
            }),
        }
    }

    fn ended(&mut self) -> PeerError {
        // Something that closed its output and lives on would never close its stderr.
        let _ = self.child.kill();
        let reason = self.complaints.take().and_then(|thread| thread.join().ok());
        PeerError::Ended {
            python: self.python.clone(),
            reason: reason
                .filter(|line| !line.is_empty())
                .unwrap_or_else(|| "it gave no reason".into()),
        }
    }
}

impl Peer for Pytorch {
    fn name(&self) -> &'static str {
        self.peer().name()
    }

    fn library(&self) -> &'static str {
        self.name()
    }

    fn multiply(&mut self, width: usize, iterations: usize) -> Result<f64, PeerError> {
        let request = MultiplyRequest {
            cmd: "matmul",
            width,
            iters: iterations,
            threads: self.threads,
        };
        let timed: Timed = self.ask(&request)?;
        self.rest();
        Ok(timed.seconds)
    }

    fn time(&mut self, size: Size, mode: Mode, iterations: usize) -> Result<f64, PeerError> {
        let request = TimeRequest {
            size,
            mode,
            iters: iterations,
            threads: self.threads,
        };
        let timed: Timed = self.ask(&request)?;
        self.rest();
        Ok(timed.seconds)
    }
}

/// What it is, for the head of the results.
impl fmt::Display for Pytorch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { torch, device } = &self.info;
        if let Some(device) = device {
            return write!(f, "{}: PyTorch {torch} on {device}", self.peer().name());
        }
        write!(f, "PyTorch {torch} on the CPU")?;
        match env::var(OMP_POLICY) {
            Ok(policy) => write!(f, " ({OMP_POLICY}={policy})"),
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Pytorch {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Changes what PyTorch's threads do while they wait, and so the results.
const OMP_POLICY: &str = "OMP_WAIT_POLICY";

#[derive(Serialize)]
struct InfoRequest {
    cmd: &'static str,
}

#[derive(Debug, Default, Deserialize)]
struct Info {
    torch: String,
    /// The GPU and its library, if it is one.
    device: Option<String>,
}

#[derive(Serialize)]
struct TimeRequest {
    #[serde(flatten)]
    size: Size,
    mode: Mode,
    iters: usize,
    threads: usize,
}

#[derive(Serialize)]
struct MultiplyRequest {
    cmd: &'static str,
    width: usize,
    iters: usize,
    threads: usize,
}

#[derive(Serialize)]
struct FootprintRequest {
    cmd: &'static str,
    #[serde(flatten)]
    size: Size,
    threads: usize,
}

#[derive(Deserialize)]
struct Timed {
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<A> {
    Refused { error: String },
    Given(A),
}

/// Lines as they come, until the end.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The last line that is not empty: where Python names the exception.
fn last_line(stream: impl Read) -> String {
    BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .filter(|line| !line.trim().is_empty())
        .last()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(python: &str) -> Result<Pytorch, PeerError> {
        Pytorch::start(python, Torch::Cpu, Dtype::F32, 1)
    }

    #[test]
    fn a_program_that_is_not_there() {
        let error = start("no-such-python").unwrap_err();
        assert!(matches!(error, PeerError::Start { .. }), "{error}");
        assert!(error.to_string().contains("`no-such-python`"), "{error}");
    }

    /// `sh -c PROGRAM` is a Python without torch: a syntax error.
    #[cfg(unix)]
    #[test]
    fn a_program_that_ends_gives_its_last_complaint() {
        let error = start("sh").unwrap_err();
        let PeerError::Ended { reason, .. } = &error else {
            panic!("{error}");
        };
        assert_ne!(reason, "it gave no reason");
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        let parse = serde_json::from_str::<Answer<Timed>>;
        assert!(matches!(
            parse(r#"{"seconds": 0.5}"#),
            Ok(Answer::Given(Timed { seconds: 0.5 }))
        ));
        assert!(matches!(
            parse(r#"{"error": "KeyError: 'b'"}"#),
            Ok(Answer::Refused { .. })
        ));
        assert!(parse("{}").is_err());
    }

    #[test]
    fn what_it_is_has_a_device_unless_it_is_the_cpu() {
        let parse = |text: &str| serde_json::from_str::<Info>(text).unwrap().device;
        let gpu = parse(r#"{"torch": "2.15.0", "device": "NVIDIA H100, cuDNN 91002"}"#);
        assert_eq!(gpu.as_deref(), Some("NVIDIA H100, cuDNN 91002"));
        assert_eq!(parse(r#"{"torch": "2.15.0", "device": null}"#), None);
    }

    #[test]
    fn a_request_is_what_the_program_reads() {
        let request = TimeRequest {
            size: Size::new(3, 7, 5, 11),
            mode: Mode::Forward,
            iters: 2,
            threads: 1,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"b":3,"t":7,"d":5,"h":11,"mode":"forward","iters":2,"threads":1}"#
        );
        let request = MultiplyRequest {
            cmd: "matmul",
            width: 64,
            iters: 2,
            threads: 1,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"cmd":"matmul","width":64,"iters":2,"threads":1}"#
        );
        let request = FootprintRequest {
            cmd: "memory",
            size: Size::new(3, 7, 5, 11),
            threads: 1,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"cmd":"memory","b":3,"t":7,"d":5,"h":11,"threads":1}"#
        );
    }
}
