//! Proves that whatever lies in an ONNX file is an LSTM or a typed error: nothing panics, hangs, or
//! allocates far more than the file has bytes.
//!
//! ```sh
//! PROPTEST_CASES=20000 cargo test --release -p scratch-tests --test fuzz_onnx
//! ```
//!
//! The golden models are the seeds. They are mutated as bytes and as messages that stay
//! well-formed: other numbers, names and tensors, nodes that are missing or there twice. What can be
//! imported is run.

use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use burn::tensor::Tensor;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use scratch_lstm::weights::{OnnxFile, OnnxOptions, WeightsError};
use scratch_tests::allocations::{Counting, within};
use scratch_tests::{device, is_gpu};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: what another one allocates would be counted, too.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a small file may need besides, names and messages among it.
const SLACK: usize = 1 << 20;
/// Times the size of the file: a tensor is copied for its type, its directions and its gate order,
/// and the names of small nodes are kept in maps.
const TIMES: usize = 64;

/// The golden models, imported and exported ones and those that are refused.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/onnx");
    let mut files = Vec::new();
    for folder in ["", "export", "refused"] {
        let entries = std::fs::read_dir(goldens.join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.extension().is_some_and(|ending| ending == "onnx"));
    files.sort();
    let bytes = files.iter().map(|path| std::fs::read(path).unwrap());
    bytes.collect()
});

/// A change to a file. Places are shares of its length, or of the number of its fields.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Truncate(Index),
    Splice(Index, Index, Index, usize),
    Insert(Index, Vec<u8>),
    Replace(Vec<u8>),
    Number(Index, u64),
    Bytes(Index, Vec<u8>),
    Swap(Index, Index),
    Remove(Index),
    Repeat(Index, usize),
}

const NUMBERS: [u64; 12] = [
    0,
    1,
    2,
    5,
    11,
    44,
    0xffff,
    0x7fff_ffff,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

const TEXTS: [&str; 14] = [
    "",
    "LSTM",
    "Constant",
    "Squeeze",
    "Reshape",
    "Transpose",
    "reverse",
    "bidirectional",
    "Relu",
    "hidden_size",
    "layout",
    "W0",
    "R1",
    "Y0",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<Index>;
    let bytes = || {
        prop_oneof![
            prop::sample::select(TEXTS.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
            vec(any::<u8>(), 0..40),
        ]
    };
    prop_oneof![
        2 => (index(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => index().prop_map(Mutation::Truncate),
        1 => (index(), index(), index(), 1usize..200)
            .prop_map(|(file, from, to, length)| Mutation::Splice(file, from, to, length)),
        1 => (index(), bytes()).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => vec(any::<u8>(), 0..400).prop_map(Mutation::Replace),
        6 => (index(), prop::sample::select(NUMBERS.to_vec()))
            .prop_map(|(at, number)| Mutation::Number(at, number)),
        3 => (index(), bytes()).prop_map(|(at, bytes)| Mutation::Bytes(at, bytes)),
        3 => (index(), index()).prop_map(|(one, other)| Mutation::Swap(one, other)),
        2 => index().prop_map(Mutation::Remove),
        2 => (index(), 1usize..300).prop_map(|(at, times)| Mutation::Repeat(at, times)),
    ]
}

/// A field of a message, whose bytes may be a message, too.
#[derive(Debug, Clone, PartialEq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(u64),
    /// 4 or 8 bytes.
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// The messages of ONNX that are inside others, by the fields that lead there from a model.
fn is_message(path: &[u64]) -> bool {
    matches!(
        path,
        [7 | 8] | [7, 1 | 5 | 11 | 12] | [7, 1, 5] | [7, 1, 5, 5] | [7, 11 | 12, 2, ..]
    )
}

fn parse(mut bytes: &[u8], path: &mut Vec<u64>) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Fixed(take(&mut bytes, 8)?.to_vec()),
            5 => Value::Fixed(take(&mut bytes, 4)?.to_vec()),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let inner = take(&mut bytes, length)?;
                path.push(number);
                let message = is_message(path).then(|| parse(inner, path)).flatten();
                path.pop();
                message.map_or_else(|| Value::Bytes(inner.to_vec()), Value::Message)
            }
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn put_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Field { number, value } in fields {
        let mut put = |kind: u64, length: Option<usize>, content: &[u8]| {
            put_varint(number << 3 | kind, &mut bytes);
            if let Some(length) = length {
                put_varint(length as u64, &mut bytes);
            }
            bytes.extend_from_slice(content);
        };
        match value {
            Value::Number(value) => {
                let mut content = Vec::new();
                put_varint(*value, &mut content);
                put(0, None, &content);
            }
            Value::Fixed(content) => put(if content.len() == 8 { 1 } else { 5 }, None, content),
            Value::Bytes(content) => put(2, Some(content.len()), content),
            Value::Message(fields) => {
                let content = write(fields);
                put(2, Some(content.len()), &content);
            }
        }
    }
    bytes
}

/// Calls `change` with the list of fields that the `at`-th field of all lies in, and its place there.
fn at_field(
    fields: &mut Vec<Field>,
    at: &mut usize,
    change: &mut dyn FnMut(&mut Vec<Field>, usize),
) -> bool {
    for place in 0..fields.len() {
        if *at == 0 {
            change(fields, place);
            return true;
        }
        *at -= 1;
        if let Value::Message(inner) = &mut fields[place].value
            && at_field(inner, at, change)
        {
            return true;
        }
    }
    false
}

fn count(fields: &[Field]) -> usize {
    let inner = fields.iter().map(|field| match &field.value {
        Value::Message(fields) => 1 + count(fields),
        _ => 1,
    });
    inner.sum()
}

impl Mutation {
    /// The file with this change; as it was where the change makes no sense.
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        let length = bytes.len();
        match self {
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::Splice(file, from, to, count) => {
                let other = &SEEDS[file.index(SEEDS.len())];
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
            _ => {
                if let Some(mut fields) = parse(&bytes, &mut Vec::new()) {
                    self.apply_to(&mut fields);
                    bytes = write(&fields);
                }
            }
        }
        bytes
    }

    fn apply_to(&self, fields: &mut Vec<Field>) {
        let all = count(fields);
        if all == 0 {
            return;
        }
        let change = |fields: &mut Vec<Field>,
                      at: &Index,
                      change: &mut dyn FnMut(&mut Vec<Field>, usize)| {
            at_field(fields, &mut at.index(all), change);
        };
        match self {
            // The next number from there on: most fields are texts.
            Self::Number(at, number) => {
                for place in at.index(all)..all {
                    let mut is_done = false;
                    at_field(fields, &mut { place }, &mut |fields, place| {
                        if let Value::Number(value) = &mut fields[place].value {
                            *value = *number;
                            is_done = true;
                        }
                    });
                    if is_done {
                        break;
                    }
                }
            }
            Self::Bytes(at, bytes) => change(fields, at, &mut |fields, place| {
                if let value @ (Value::Bytes(_) | Value::Message(_)) = &mut fields[place].value {
                    *value = Value::Bytes(bytes.clone());
                }
            }),
            Self::Swap(one, other) => {
                let mut first = None;
                change(fields, one, &mut |fields, place| {
                    first = Some(fields[place].clone());
                });
                change(fields, other, &mut |fields, place| {
                    if let Some(first) = first.take() {
                        fields[place].value = first.value;
                    }
                });
            }
            Self::Remove(at) => change(fields, at, &mut |fields, place| {
                fields.remove(place);
            }),
            Self::Repeat(at, times) => change(fields, at, &mut |fields, place| {
                let copy = fields[place].clone();
                // Nodes and tensors are large.
                let times = if matches!(copy.value, Value::Message(_)) {
                    2
                } else {
                    *times
                };
                fields.splice(place..place, std::iter::repeat_n(copy, times));
            }),
            Self::Flip(..)
            | Self::Truncate(..)
            | Self::Splice(..)
            | Self::Insert(..)
            | Self::Replace(..) => {}
        }
    }
}

/// Reads a file in every way there is.
fn read(path: &Path) -> Result<(), WeightsError> {
    let file = OnnxFile::open(path)?;
    let options = OnnxOptions::default();
    let names = file.names();
    let named = names.iter().map(|name| Some(name.as_str()));
    let nodes: Vec<Option<&str>> = std::iter::once(None).chain(named).take(4).collect();
    let mut outcome = Ok(());
    for node in nodes {
        if let Some(name) = node {
            outcome = outcome.and(file.describe(name).map(drop));
        }
        outcome = outcome.and(file.layers(node, &options).map(drop));
        outcome = outcome.and(file.initial_state(node, &options, &device()).map(drop));
        match file.lstm(node, &options, &device()) {
            Err(error) => outcome = outcome.and(Err(error)),
            Ok(lstm) => {
                let d_input = lstm.config().d_input;
                let (output, _) = lstm.forward(Tensor::ones([1, 2, d_input], &device()), None);
                assert_eq!(output.dims(), [1, 2, lstm.config().d_output()]);
            }
        }
    }
    outcome
}

fn check(bytes: &[u8]) -> Result<(), WeightsError> {
    let folder = TempDir::new_in(scratch()).unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    within(TIMES * bytes.len() + SLACK, || read(&path))
}

/// Memory where there is some to write to: the files are many and small.
fn scratch() -> std::path::PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.into(),
        false => std::env::temp_dir(),
    }
}

#[test]
fn seeds_are_read_and_written_as_they_are() {
    let _turn = turn();
    assert!(SEEDS.len() > 30);
    for seed in SEEDS.iter() {
        let fields = parse(seed, &mut Vec::new()).unwrap();
        assert!(count(&fields) > 20);
        assert!(write(&fields) == *seed);
    }
    let good = SEEDS.iter().filter(|seed| check(seed).is_ok()).count();
    assert!(good > 20, "{good}");
}

#[test]
fn files_cut_short_anywhere() {
    let _turn = turn();
    if is_gpu() {
        return;
    }
    let shortest = SEEDS
        .iter()
        .filter(|seed| check(seed).is_ok())
        .min_by_key(|seed| seed.len());
    let whole = shortest.unwrap();
    for length in 0..whole.len() {
        assert!(check(&whole[..length]).is_err(), "{length}");
    }
}

/// Two bytes for each of a hundred thousand messages, and nodes of a few bytes that are different.
#[test]
fn many_small_messages_stay_small() {
    let _turn = turn();
    let empty = [0x0a, 0x2a, 0x5a, 0x62].map(|field| [field, 0x00].repeat(100_000));
    let nodes = (0..100_000u32).flat_map(|number| {
        let name = format!("{number:06}").into_bytes();
        let mut node = vec![0x0a, 16, 0x0a, 6];
        node.extend(&name);
        node.extend([0x12, 6]);
        node.extend(&name);
        node
    });
    for graph in empty.into_iter().chain([nodes.collect()]) {
        let mut model = vec![0x42, 0x00, 0x3a];
        put_varint(graph.len() as u64, &mut model);
        model.extend(graph);
        assert!(check(&model).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn files_of_any_content(seed in any::<Index>(), changes in vec(mutation(), 1..5)) {
        // The files of all backends are the same, and a GPU takes minutes to read them.
        if is_gpu() {
            return Ok(());
        }
        let _turn = turn();
        let mut bytes = SEEDS[seed.index(SEEDS.len())].clone();
        for mutation in &changes {
            bytes = mutation.apply(bytes);
        }
        // An error is as good as an LSTM.
        let _ = check(&bytes);
    }
}
