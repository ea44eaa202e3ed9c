//! Proves that whatever lies in a checkpoint's files is a checkpoint or a typed error: nothing
//! panics, aborts, hangs, or allocates far more than the files have bytes, also where sizes and
//! hashes are right, so that nothing but the readers stands between the bytes and the run.
//!
//! ```sh
//! PROPTEST_CASES=20000 cargo test --release -p scratch-tests --test fuzz_checkpoints
//! ```
//!
//! A checkpoint with everything in it is the seed. Its files are mutated as bytes, as text, and as
//! packs of tensors that are well-formed and wrong; what can be resumed is trained to the end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use burn::tensor::{Bytes, DType, Shape};
use burn_pack::{Reader, Scalar, Tensor, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use scratch_tests::allocations::{Counting, within};
use scratch_tests::runs::{everything, fit, model, trainer};
use scratch_tests::toy::Toy;
use scratch_tests::{device, is_gpu};
use scratch_train::disk::{Disk, FileSystem};
use scratch_train::{
    AverageConfig, Checkpoint, CheckpointConfig, CheckpointError, Checkpoints, ResumeOptions,
    TrainError, Trainer, TrainingConfig,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One measurement at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Serde makes room for a mebibyte of what a length promises before it reads on.
const SLACK: usize = 4 << 20;
/// Times the size of all files: each is read, hashed, parsed and copied into tensors.
const TIMES: usize = 40;

type Files = BTreeMap<String, Vec<u8>>;

fn config() -> TrainingConfig {
    TrainingConfig {
        epochs: 2,
        average: Some(AverageConfig::Ema {
            decay: 0.9,
            warmup: true,
        }),
        checkpoints: CheckpointConfig {
            // After each window, also amid a step.
            every_minutes: Some(1e-9),
            keep_last: 1000,
            ..CheckpointConfig::default()
        },
        ..everything()
    }
}

/// A checkpoint with every file there can be.
static SEED: LazyLock<Files> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    fit(&mut trainer(config(), &device(), &folder)).unwrap();
    let all = scratch_tests::runs::checkpoints(&folder).list().unwrap();
    let read = |path: &Path| -> Files {
        let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    };
    let files = all.iter().map(|one| read(&one.path));
    files.max_by_key(BTreeMap::len).unwrap()
});

const MANIFEST: &str = "manifest.json";

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The manifest that says of these files what they are.
fn manifest(files: &Files) -> Vec<u8> {
    let mut manifest: scratch_train::checkpoint::Manifest =
        serde_json::from_slice(&SEED[MANIFEST]).unwrap();
    let entry = |bytes: &Vec<u8>| scratch_train::checkpoint::Entry {
        bytes: bytes.len() as u64,
        sha256: hash(bytes),
    };
    manifest.files = files
        .iter()
        .filter(|(name, _)| *name != MANIFEST)
        .map(|(name, bytes)| (name.clone(), entry(bytes)))
        .collect();
    let bytes = |manifest: &scratch_train::checkpoint::Manifest| {
        let mut bytes = serde_json::to_vec_pretty(manifest).unwrap();
        bytes.push(b'\n');
        bytes
    };
    manifest.sha256 = String::new();
    manifest.sha256 = hash(&bytes(&manifest));
    bytes(&manifest)
}

/// A change to a file. Places are shares of its length.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Number(Index, u64, usize),
    Truncate(Index),
    Splice(Index, Index, Index, usize),
    Insert(Index, Vec<u8>),
    Replace(Vec<u8>),
    Text(Index, &'static str),
    Pack(Index, Change),
}

/// A change to a tensor of a pack, which stays well-formed.
#[derive(Debug, Clone)]
enum Change {
    Shape(Vec<usize>, DType),
    Reverse,
    Rename(String),
    Parameter(Option<u64>),
    Remove,
    Repeat,
    Scalar(Index, i64),
}

const NUMBERS: [u64; 9] = [
    0,
    1,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

const TEXTS: [&str; 12] = [
    "0",
    "-1",
    "3",
    "18446744073709551615",
    "9223372036854775807",
    "1e308",
    "1e-308",
    "null",
    "\"own\"",
    "true",
    "[]",
    "{}",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let dtype = prop::sample::select(vec![
        DType::F32,
        DType::F64,
        DType::F16,
        DType::I64,
        DType::U8,
    ]);
    let change = prop_oneof![
        4 => (vec(0usize..40, 0..6), dtype).prop_map(|(shape, dtype)| Change::Shape(shape, dtype)),
        2 => Just(Change::Reverse),
        1 => "[a-z._0-9]{0,12}".prop_map(Change::Rename),
        1 => any::<Option<u64>>().prop_map(Change::Parameter),
        1 => Just(Change::Remove),
        1 => Just(Change::Repeat),
        2 => (index(), prop_oneof![0i64..10, any::<i64>()])
            .prop_map(|(at, value)| Change::Scalar(at, value)),
    ];
    prop_oneof![
        3 => (index(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        3 => (index(), prop::sample::select(NUMBERS.to_vec()), prop::sample::select(vec![1, 2, 4, 8]))
            .prop_map(|(at, number, width)| Mutation::Number(at, number, width)),
        1 => index().prop_map(Mutation::Truncate),
        1 => (index(), index(), index(), 1usize..200)
            .prop_map(|(file, from, to, length)| Mutation::Splice(file, from, to, length)),
        1 => (index(), vec(any::<u8>(), 0..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => vec(any::<u8>(), 0..400).prop_map(Mutation::Replace),
        4 => (index(), prop::sample::select(TEXTS.to_vec()))
            .prop_map(|(at, text)| Mutation::Text(at, text)),
        6 => (index(), change).prop_map(|(at, change)| Mutation::Pack(at, change)),
    ]
}

impl Mutation {
    /// The file with this change; as it was where the change makes no sense.
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        let length = bytes.len();
        match self {
            // Most of what is read lies near the beginning.
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Number(at, number, width) => {
                let at = at.index(length.min(400));
                let number = &number.to_be_bytes()[8 - width..];
                for (byte, new) in bytes[at..].iter_mut().zip(number) {
                    *byte = *new;
                }
            }
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::Splice(file, from, to, count) => {
                let other = SEED.values().nth(file.index(SEED.len())).unwrap();
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
            Self::Text(at, text) => {
                let Ok(whole) = std::str::from_utf8(&bytes) else {
                    return bytes;
                };
                // A value: between a colon and what ends it.
                let values: Vec<usize> = whole.match_indices(": ").map(|(at, _)| at + 2).collect();
                if let Some(&start) = values.get(at.index(values.len().max(1))) {
                    let end = whole[start..]
                        .find([',', '\n'])
                        .map_or(start, |end| start + end);
                    bytes.splice(start..end, text.bytes());
                }
            }
            Self::Pack(at, change) => {
                let Ok(reader) = Reader::from_bytes(Bytes::from_bytes_vec(bytes.clone())) else {
                    return bytes;
                };
                if let Some(changed) = change.apply(reader, at) {
                    bytes = changed;
                }
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, reader: Reader, at: &Index) -> Option<Vec<u8>> {
        let mut scalars = reader.scalars().clone();
        let metadata = reader.metadata().clone();
        let mut tensors = Vec::new();
        for tensor in reader.into_tensors().ok()? {
            let (name, dtype, shape, id, bytes) = tensor.into_parts().ok()?;
            tensors.push((name, dtype, shape, id, bytes.to_vec()));
        }
        if tensors.is_empty() {
            return None;
        }
        let at = at.index(tensors.len());
        let (name, dtype, shape, id, bytes) = &mut tensors[at];
        match self {
            Self::Shape(new, kind) => {
                let count: usize = new.iter().product();
                if count > 10_000 {
                    return None;
                }
                (*dtype, *shape) = (*kind, Shape::from(new.clone()));
                *bytes = vec![0x3e; count * kind.size()];
            }
            Self::Reverse => {
                let reversed: Vec<usize> = shape.iter().rev().copied().collect();
                *shape = Shape::from(reversed);
            }
            Self::Rename(new) => name.clone_from(new),
            Self::Parameter(new) => *id = *new,
            Self::Remove => drop(tensors.remove(at)),
            Self::Repeat => {
                let mut copy = tensors[at].clone();
                copy.0.push_str("_2");
                tensors.push(copy);
            }
            Self::Scalar(at, value) => {
                let count = scalars.len();
                if let Some(scalar) = scalars.values_mut().nth(at.index(count.max(1))) {
                    *scalar = Scalar::Int(*value);
                }
            }
        }
        let tensors = tensors.into_iter().map(|(name, dtype, shape, id, bytes)| {
            Tensor::new(name, dtype, shape, id, Bytes::from_bytes_vec(bytes))
        });
        let mut writer = Writer::new(tensors.collect());
        for (name, value) in scalars {
            writer = writer.with_scalar(&name, value);
        }
        for (name, value) in metadata {
            writer = writer.with_metadata(&name, &value);
        }
        Some(writer.into_bytes().ok()?.to_vec())
    }
}

/// A disk that keeps nothing: what the run that goes on writes is not looked at.
#[derive(Debug)]
struct Nowhere;

impl Disk for Nowhere {
    fn create_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _path: &Path, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the checkpoint in every way there is.
fn read(path: &Path, checkpoints: &Checkpoints) -> Result<Trainer<'static, Toy>, TrainError> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.progress()?;
    let empty = || model(&device());
    let loaded = checkpoint.load_model(empty());
    let best = checkpoint.load_best_model(empty());
    let resumed = Trainer::new(empty(), config(), &device())?
        .with_checkpoints(checkpoints.clone())
        .resume(&ResumeOptions::default());
    let resumed = resumed?;
    // A run that goes on has a model.
    loaded?;
    best?;
    Ok(resumed)
}

/// Whether the run went on to its end.
fn survives(files: &Files, has_valid_manifest: bool) -> Result<(), TrainError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new_in(scratch()).unwrap();
    let path = folder.path().join(folder_name());
    FileSystem.create_folder(&path).unwrap();
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
    if has_valid_manifest {
        fs::write(path.join(MANIFEST), manifest(files)).unwrap();
    }
    let checkpoints = Checkpoints::new(folder.path()).with_disk(Arc::new(Nowhere));
    let size: usize = files.values().map(Vec::len).sum();
    let mut trainer = within(TIMES * size + SLACK, || read(&path, &checkpoints))?;
    fit(&mut trainer).map(drop)
}

/// Memory where there is some to write to: the files are many and small.
fn scratch() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.into(),
        false => std::env::temp_dir(),
    }
}

/// The folder's name says the step, too.
fn folder_name() -> String {
    let manifest: scratch_train::checkpoint::Manifest =
        serde_json::from_slice(&SEED[MANIFEST]).unwrap();
    format!("step-{:08}", manifest.step)
}

#[test]
fn the_seed_has_every_file_and_goes_on() {
    let names: Vec<&str> = SEED.keys().map(String::as_str).collect();
    let expected = [
        "average.bpk",
        "best.bpk",
        "callbacks.json",
        "carried.bpk",
        "clock.json",
        "gradients.bpk",
        "manifest.json",
        "model.bpk",
        "optimizer.bpk",
        "progress.json",
    ];
    assert_eq!(names, expected);
    // Our manifest is the library's.
    assert_eq!(manifest(&SEED), SEED[MANIFEST]);
    survives(&SEED, true).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn files_of_any_content(changes in vec((any::<Index>(), mutation()), 1..4)) {
        // The files of all backends are the same, and a GPU takes minutes to read them.
        if is_gpu() {
            return Ok(());
        }
        let mut files = SEED.clone();
        files.remove(MANIFEST);
        for (file, mutation) in &changes {
            let bytes = files.values_mut().nth(file.index(SEED.len() - 1)).unwrap();
            *bytes = mutation.apply(std::mem::take(bytes));
        }
        // An error is as good as a run; a panic of the loop became one of its errors.
        let _ = survives(&files, true);
    }

    #[test]
    fn manifests_of_any_content(changes in vec(mutation(), 1..4)) {
        if is_gpu() {
            return Ok(());
        }
        let mut files = SEED.clone();
        let bytes = files.get_mut(MANIFEST).unwrap();
        for mutation in &changes {
            *bytes = mutation.apply(std::mem::take(bytes));
        }
        let is_changed = files[MANIFEST] != SEED[MANIFEST];
        let result = survives(&files, false);
        prop_assert_eq!(result.is_err(), is_changed);
    }
}

/// Shapes that burn would find out about only in the middle of a step.
#[test]
fn tensors_of_another_shape_are_typed_errors() {
    for (name, count) in [
        ("optimizer.bpk", 4),
        ("carried.bpk", 2),
        ("gradients.bpk", 4),
    ] {
        for tensor in 0..count {
            let mut files = SEED.clone();
            let bytes = files.get_mut(name).unwrap();
            let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes.clone())).unwrap();
            let names: Vec<String> = reader
                .tensor_names()
                .iter()
                .map(ToString::to_string)
                .collect();
            let tensor = tensor % names.len();
            let mut tensors = reader.into_tensors().unwrap();
            let (of, _, _, id, _) = tensors.remove(tensor).into_parts().unwrap();
            let values = Bytes::from_bytes_vec(vec![0; 4 * 3 * 2]);
            tensors.push(Tensor::new(
                of,
                DType::F32,
                Shape::from(vec![3, 2]),
                id,
                values,
            ));
            *bytes = Writer::new(tensors).into_bytes().unwrap().to_vec();
            let result = survives(&files, true);
            assert!(
                matches!(
                    result,
                    Err(TrainError::Checkpoint(
                        CheckpointError::Format { .. }
                            | CheckpointError::State { .. }
                            | CheckpointError::Architecture { .. }
                    ) | TrainError::NewestDamaged { .. }
                        | TrainError::Panicked { .. })
                ),
                "{name}, {}: {result:?}",
                names[tensor]
            );
        }
    }
}
