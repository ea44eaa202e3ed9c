//! The command line.

use clap::{Parser, ValueEnum};
use scratch_train::Backend;

use crate::dtype::Dtype;
use crate::peers::Torch;
use crate::probe::Probe;
use crate::workload::{Mode, Size};

/// Times this project's LSTM against burn's own and PyTorch's, in alternating pairs in one run.
///
/// Prints, for each size, mode and peer, the peer's time over ours (above 1: ours is faster) with
/// an interval, and how fast ours is. Sizes are batch, steps, input width and hidden width of one
/// layer, one direction.
#[derive(Debug, Clone, Parser)]
#[command(name = "scratch-benchmarks", version, after_help = EXAMPLES)]
pub struct Args {
    /// Pairs for each size, mode and peer, or rounds with --growth, --long, --stream
    /// and --loop
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub pairs: u16,

    /// A size; repeat it for more [default: seven sizes, see the README]
    #[arg(long = "size", value_name = "B,T,D,H")]
    pub sizes: Vec<Size>,

    /// cuda, vulkan, wgpu, ndarray or flex [default: the first that is built in and has a device]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<Backend>,

    /// The published size alone, 16,1024,768,768, with the times that others have published for it
    #[arg(long, conflicts_with_all = ["sizes", "kind"])]
    pub published: bool,

    /// What weights, input and output consist of
    #[arg(
        long,
        value_name = "TYPE",
        default_value_t,
        value_enum,
        conflicts_with = "kind"
    )]
    pub dtype: Dtype,

    /// Whom to compare with; repeat it for more [default: burn, and pytorch, or cudnn on a GPU,
    /// where there is one]
    #[arg(long = "peer", value_name = "PEER")]
    pub peers: Vec<PeerName>,

    /// What to time; repeat it for more [default: both]
    #[arg(long = "mode", value_name = "MODE")]
    pub modes: Vec<Mode>,

    /// Threads for each side on the CPU [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// A Python that can import torch
    #[arg(long, value_name = "PATH", default_value = "python3")]
    pub python: String,

    /// One JSON object a line on stdout, everything else on stderr
    #[arg(long)]
    pub json: bool,

    /// Instead, time and memory of a training step of two layers as the sequence grows
    #[arg(long, group = "kind", conflicts_with_all = ["sizes", "peers", "modes", "python"])]
    pub growth: bool,

    /// Instead, the most memory that a training step needs, against the peers (Linux)
    #[arg(long, group = "kind", conflicts_with_all = ["modes", "pairs"])]
    pub memory: bool,

    /// Instead, time and memory of a training step up to T = 10,000, with gradient checkpointing
    /// and without (Linux)
    #[arg(long, group = "kind", conflicts_with_all = ["sizes", "peers", "modes", "python"])]
    pub long: bool,

    /// Instead, one step of one sequence by `LstmStream`
    #[arg(long, group = "kind", conflicts_with_all = ["sizes", "peers", "modes", "python"])]
    pub stream: bool,

    /// Instead, the training loop against bare steps, and what a checkpoint costs; --size for others
    /// than 32,64,128,256
    #[arg(long = "loop", group = "kind", conflicts_with_all = ["peers", "modes", "python"])]
    pub training_loop: bool,

    /// One measurement for the process that started this one
    #[arg(long, group = "kind", hide = true)]
    pub probe: Option<Probe>,
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The LSTM against its peers.
    Compare,
    /// Growth in `T`.
    Growth,
    /// Memory against the peers'.
    Memory,
    /// Long sequences, with gradient checkpointing and without.
    Long,
    /// Step by step.
    Stream,
    /// The training loop.
    Loop,
    /// A measurement for another process.
    Probe(Probe),
}

/// A peer by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeerName {
    /// burn's own LSTM, on the same backend
    Burn,
    /// PyTorch's, on the CPU
    Pytorch,
    /// PyTorch's by cuDNN, on a GPU with CUDA, f32 as f32
    Cudnn,
    /// The same in f32 with TF32 products
    CudnnTf32,
    /// This one by raw operations instead of the fused one
    Raw,
    /// This one on Flex
    Flex,
    /// This one on NdArray
    Ndarray,
}

impl PeerName {
    /// Those that are compared with when nobody is named, by the run's backend.
    const fn usual(backend: Backend) -> [PeerName; 2] {
        match backend {
            Backend::Cuda | Backend::Vulkan | Backend::Wgpu => [Self::Burn, Self::Cudnn],
            Backend::NdArray | Backend::Flex => [Self::Burn, Self::Pytorch],
        }
    }

    /// What it is called in results, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Burn => "burn",
            Self::Pytorch => "pytorch",
            Self::Cudnn => "cudnn",
            Self::CudnnTf32 => "cudnn-tf32",
            Self::Raw => "raw",
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
        }
    }

    /// Its backend, if it is not that of the run.
    pub const fn backend(self) -> Option<Backend> {
        match self {
            Self::Flex => Some(Backend::Flex),
            Self::Ndarray => Some(Backend::NdArray),
            Self::Burn | Self::Pytorch | Self::Cudnn | Self::CudnnTf32 | Self::Raw => None,
        }
    }

    /// Where PyTorch computes it, if it does.
    pub const fn torch(self) -> Option<Torch> {
        match self {
            Self::Pytorch => Some(Torch::Cpu),
            Self::Cudnn => Some(Torch::Cudnn),
            Self::CudnnTf32 => Some(Torch::CudnnTf32),
            Self::Burn | Self::Raw | Self::Flex | Self::Ndarray => None,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  scratch-benchmarks                                    all sizes and modes, every peer there is
  scratch-benchmarks --size 32,64,128,256 --mode train  one size, training steps alone
  scratch-benchmarks --peer pytorch --python ~/torch/bin/python
  scratch-benchmarks --backend ndarray --json > results.jsonl
  scratch-benchmarks --peer raw                         what the fused operation is worth
  scratch-benchmarks --dtype bf16 --peer cudnn          in another type, against cuDNN
  scratch-benchmarks --published                        the size that others have published
  scratch-benchmarks --memory                           peak memory of training steps
  scratch-benchmarks --growth                           is it linear in the number of steps?
  scratch-benchmarks --long --pairs 3                   T = 10,000, with gradient checkpointing
  scratch-benchmarks --stream                           step by step
  scratch-benchmarks --loop                             the training loop against bare steps";

impl Args {
    /// The sizes to time.
    pub fn sizes(&self) -> Vec<Size> {
        if self.published {
            vec![Size::PUBLISHED]
        } else if self.sizes.is_empty() {
            Size::STANDARD.to_vec()
        } else {
            self.sizes.clone()
        }
    }

    /// The modes to time.
    pub fn modes(&self) -> Vec<Mode> {
        if self.modes.is_empty() {
            Mode::value_variants().to_vec()
        } else {
            self.modes.clone()
        }
    }

    /// Whom to compare with in a run on `backend`, each once, PyTorch if it is there.
    pub fn peers(&self, backend: Backend) -> Vec<PeerName> {
        if self.peers.is_empty() {
            return PeerName::usual(backend).to_vec();
        }
        let mut peers = Vec::new();
        for &peer in &self.peers {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        peers
    }

    /// What to run.
    pub fn kind(&self) -> Kind {
        match self.probe {
            Some(probe) => Kind::Probe(probe),
            None if self.growth => Kind::Growth,
            None if self.memory => Kind::Memory,
            None if self.long => Kind::Long,
            None if self.stream => Kind::Stream,
            None if self.training_loop => Kind::Loop,
            None => Kind::Compare,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("scratch-benchmarks").chain(line.split_whitespace()))
    }

    #[test]
    fn the_command_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn without_flags_everything_is_measured() {
        let args = parse("").unwrap();
        assert_eq!(args.sizes(), Size::STANDARD);
        assert_eq!(args.modes(), [Mode::Forward, Mode::Train]);
        let on_cpu = args.peers(Backend::Flex);
        assert_eq!(on_cpu, [PeerName::Burn, PeerName::Pytorch]);
        let on_gpu = args.peers(Backend::Vulkan);
        assert_eq!(on_gpu, [PeerName::Burn, PeerName::Cudnn]);
        assert_eq!(args.dtype, Dtype::F32);
        assert_eq!(args.kind(), Kind::Compare);
    }

    #[test]
    fn flags_narrow_it() {
        let args = parse(
            "--size 3,7,5,11 --size 1,2,3,4 --mode train --peer pytorch --peer raw --peer raw",
        )
        .unwrap();
        assert_eq!(
            args.sizes(),
            [Size::new(3, 7, 5, 11), Size::new(1, 2, 3, 4)]
        );
        assert_eq!(args.modes(), [Mode::Train]);
        let expected = [PeerName::Pytorch, PeerName::Raw];
        assert_eq!(args.peers(Backend::Cuda), expected);
    }

    #[test]
    fn the_published_size_comes_alone() {
        let args = parse("--published --dtype bf16 --peer cudnn-tf32").unwrap();
        assert_eq!(args.sizes(), [Size::new(16, 1024, 768, 768)]);
        assert_eq!(args.dtype, Dtype::Bf16);
        assert_eq!(args.peers(Backend::Cuda), [PeerName::CudnnTf32]);
        assert_eq!(args.kind(), Kind::Compare);
    }

    #[test]
    fn whoever_is_pytorch_knows_its_peer() {
        for &peer in PeerName::value_variants() {
            assert!(peer.torch().is_none_or(|torch| torch.peer() == peer));
        }
    }

    #[test]
    fn one_kind_at_a_time() {
        for (flag, kind) in [
            ("--growth", Kind::Growth),
            ("--memory", Kind::Memory),
            ("--long", Kind::Long),
            ("--loop", Kind::Loop),
        ] {
            assert_eq!(parse(flag).unwrap().kind(), kind);
        }
        assert!(parse("--memory --long").is_err());
    }

    #[test]
    fn peers_are_called_the_same_everywhere() {
        for peer in PeerName::value_variants() {
            let value = peer.to_possible_value().unwrap();
            assert_eq!(value.get_name(), peer.name());
        }
    }

    #[test]
    fn bad_values_say_what_was_expected_and_end_with_2() {
        for (line, part) in [
            ("--size 3,7", "B,T,D,H"),
            ("--size 3,0,5,11", "T of at least 1"),
            ("--pairs 0", "1..=1000"),
            ("--threads 0", "1..=1024"),
            ("--backend gpu", "cuda, vulkan, wgpu, ndarray, flex"),
            ("--peer keras", "burn, pytorch, cudnn, cudnn-tf32, raw"),
            ("--dtype f64", "f32, f16, bf16"),
            ("--loop --dtype f16", "cannot be used with"),
            ("--memory --dtype f32", "cannot be used with"),
            ("--published --size 3,7,5,11", "cannot be used with"),
            ("--growth --published", "cannot be used with"),
            ("--mode backward", "forward, train"),
            ("--growth --mode train", "cannot be used with"),
            ("--memory --pairs 3", "cannot be used with"),
            ("--long --size 3,7,5,11", "cannot be used with"),
            ("--loop --mode train", "cannot be used with"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.to_string().contains(part), "{line}: {error}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(parse("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }
}
