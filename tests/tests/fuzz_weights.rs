//! Proves that whatever lies in a file of weights is an LSTM or a typed error: nothing panics,
//! aborts, hangs, or allocates far more than the file has bytes.
//!
//! ```sh
//! PROPTEST_CASES=20000 cargo test --release -p scratch-tests --test fuzz_weights
//! ```
//!
//! The seeds are files that PyTorch and Keras have written, in every format they have had; what is
//! in ONNX models is `fuzz_onnx`'s. They are mutated as bytes, most of all where they have structure; what can be opened is read as a whole,
//! and every LSTM in it is converted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use scratch_lstm::weights::{
    Conversion, ConvertOptions, KerasFile, PytorchFile, TargetKind, WeightsError, WeightsFile,
};
use scratch_tests::allocations::{Counting, within};
use scratch_tests::{device, is_gpu};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Tables of a size that the formats limit, and what a backend keeps for itself.
const SLACK: usize = 16 << 20;
/// Times the size of the file: read, converted to other floats, and copied into tensors.
const TIMES: usize = 40;

const SEEDS: [&str; 10] = [
    "keras/single.weights.h5",
    "keras/bidirectional.h5",
    "keras/newest_format.weights.h5",
    "keras/bfloat16.weights.h5",
    "pytorch_files/zip.pt",
    "pytorch_files/legacy.pt",
    "pytorch_files/whole_module.pt",
    "pytorch_files/projected.pt",
    "pytorch/lstm_projected_packed.safetensors",
    "onnx/torch_stacked.onnx",
];

static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let read = |name: &&str| fs::read(goldens.join(name)).unwrap();
    SEEDS.iter().map(read).collect()
});

/// A change to a file. Places are shares of its length.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Number(Index, u64, usize),
    /// Eight bytes of one place over those of another, as addresses are in HDF5.
    Word(Index, Index),
    Truncate(Index),
    Splice(Index, Index, Index, usize),
    Insert(Index, Vec<u8>),
    Replace(Vec<u8>),
}

const NUMBERS: [u64; 10] = [
    0,
    1,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let number = || prop::sample::select(NUMBERS.to_vec());
    prop_oneof![
        4 => (index(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        4 => (index(), number(), prop::sample::select(vec![1, 2, 4, 8]))
            .prop_map(|(at, number, width)| Mutation::Number(at, number, width)),
        3 => (index(), index()).prop_map(|(from, to)| Mutation::Word(from, to)),
        1 => index().prop_map(Mutation::Truncate),
        1 => (index(), index(), index(), 1usize..200)
            .prop_map(|(file, from, to, length)| Mutation::Splice(file, from, to, length)),
        1 => (index(), vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => vec(any::<u8>(), 0..400).prop_map(Mutation::Replace),
    ]
}

impl Mutation {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() < 16 {
            return bytes;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => {
                let at = structure(&bytes, at);
                bytes[at] ^= 1 << bit;
            }
            Self::Number(at, number, width) => {
                let at = structure(&bytes, at);
                let number = number.to_le_bytes();
                for (byte, new) in bytes[at..].iter_mut().zip(&number[..*width]) {
                    *byte = *new;
                }
            }
            Self::Word(from, to) => {
                let [from, to] = [from, to].map(|at| structure(&bytes, at).min(length - 8) / 8 * 8);
                bytes.copy_within(from..from + 8, to);
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::Splice(file, from, to, count) => {
                let other = &FILES[file.index(FILES.len())];
                let from = from.index(other.len());
                let piece = &other[from..(from + count).min(other.len())];
                let to = to.index(length);
                bytes.splice(to..to, piece.iter().copied());
            }
            Self::Insert(at, piece) => {
                let at = at.index(length);
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Replace(new) => bytes.clone_from(new),
        }
        bytes
    }
}

/// A place that is likely to have structure: the next byte that neighbours a zero, as the numbers of
/// headers do and those of weights seldom.
fn structure(bytes: &[u8], at: &Index) -> usize {
    let start = at.index(bytes.len());
    let near = |at: &usize| bytes[*at] != 0 && bytes.get(at + 1) == Some(&0);
    (start..bytes.len()).take(4096).find(near).unwrap_or(start)
}

/// Reads everything there is in a file, and the first thing that does not fit.
fn read(path: &Path) -> Result<(), WeightsError> {
    let file = WeightsFile::open(path)?;
    match file.layout() {
        "Keras" => {
            let file = KerasFile::open(path)?;
            for name in file.names() {
                let _ = file.data(&name);
            }
        }
        "PyTorch" => {
            let file = PytorchFile::open(path)?;
            for name in file.names() {
                let _ = file.data(&name);
            }
        }
        // Their tensors are read for the LSTMs below.
        _ => {}
    }
    for prefix in file.lstm_prefixes().into_iter().take(8) {
        let options = ConvertOptions {
            prefixes: vec![prefix],
            ..ConvertOptions::default()
        };
        Conversion::new(&file, TargetKind::Pytorch, &options, &device())?;
    }
    Ok(())
}

/// [`read`] of these bytes, with an eye on the memory that it takes.
fn survives(bytes: &[u8]) -> Result<(), WeightsError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::TempDir::new_in(scratch()).unwrap();
    let path = folder.path().join("weights");
    fs::write(&path, bytes).unwrap();
    within(TIMES * bytes.len() + SLACK, || read(&path))
}

/// Memory where there is some to write to: the files are many and small.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.into(),
        false => std::env::temp_dir(),
    }
}

#[test]
fn the_seeds_are_whole() {
    for (name, bytes) in SEEDS.iter().zip(FILES.iter()) {
        survives(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_group_that_holds_itself_ends() {
    // The address of the root group's tree over each address in the file.
    let bytes = &FILES[0];
    let words = bytes.len() / 8;
    let word = |at: usize| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap());
    let is_address = |at: &usize| (96..bytes.len() as u64).contains(&word(*at));
    let addresses: Vec<usize> = (0..words).filter(is_address).collect();
    assert!(addresses.len() > 20, "{addresses:?}");
    for &from in addresses.iter().take(12) {
        for &to in &addresses {
            let mut bytes = bytes.clone();
            bytes.copy_within(8 * from..8 * from + 8, 8 * to);
            let _ = survives(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn files_of_any_content(seed in 0..SEEDS.len(), changes in vec(mutation(), 1..4)) {
        // The files of all backends are the same, and a GPU takes minutes to read them.
        if is_gpu() {
            return Ok(());
        }
        let unchanged = FILES[seed].clone();
        let bytes = changes.iter().fold(unchanged, |bytes, change| change.apply(bytes));
        // An error is as good as an LSTM.
        let _ = survives(&bytes);
    }
}
