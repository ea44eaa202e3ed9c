//! Numbers from other frameworks, beside the scripts that made them: `goldens/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use scratch_lstm::ScratchLstmConfig;
use serde_json::Value;

use crate::compare::Values;

/// A `.safetensors` file of `goldens/`.
pub struct Golden {
    tensors: BTreeMap<String, TensorData>,
    /// The settings in its metadata; null if it has none.
    pub settings: Value,
}

impl Golden {
    /// The file of that name in `goldens/pytorch/`, without its ending.
    pub fn open(name: &str) -> Self {
        Self::read(Self::path(name))
    }

    /// The file of that name in `goldens/keras/`, without its ending.
    pub fn keras(name: &str) -> Self {
        Self::read(Self::keras_path(&format!("{name}.safetensors")))
    }

    /// The file of that name in `goldens/equations/`, without its ending.
    pub fn equations(name: &str) -> Self {
        Self::read(folder("equations").join(format!("{name}.safetensors")))
    }

    fn read(path: PathBuf) -> Self {
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let settings = match header.metadata() {
            Some(metadata) => serde_json::from_str(&metadata["config"]).expect("JSON"),
            None => Value::Null,
        };
        let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = tensors
            .iter()
            .map(|(name, view)| {
                let shape = view.shape().to_vec();
                let data = match view.dtype() {
                    Dtype::F32 => TensorData::new(numbers(view.data(), f32::from_le_bytes), shape),
                    Dtype::F64 => TensorData::new(numbers(view.data(), f64::from_le_bytes), shape),
                    Dtype::I64 => TensorData::new(numbers(view.data(), i64::from_le_bytes), shape),
                    other => panic!("{name}: no golden file has {other:?}"),
                };
                (name.to_string(), data)
            })
            .collect();
        Self { tensors, settings }
    }

    /// Where a file of [`open`](Self::open) lies.
    pub fn path(name: &str) -> PathBuf {
        folder("pytorch").join(format!("{name}.safetensors"))
    }

    /// Where a file of `goldens/keras/` lies, with its ending.
    pub fn keras_path(name: &str) -> PathBuf {
        folder("keras").join(name)
    }

    /// The settings of `nn.LSTM` as this project's.
    pub fn lstm_config(&self) -> ScratchLstmConfig {
        serde_json::from_value(self.settings.clone()).expect("settings of an LSTM")
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The numbers of a tensor.
    pub fn values(&self, name: &str) -> Values {
        self.data(name).clone().into()
    }

    /// The only number of a tensor.
    pub fn scalar(&self, name: &str) -> f64 {
        let values = self.values(name).values;
        assert_eq!(values.len(), 1, "{name}");
        values[0]
    }

    /// A float tensor.
    pub fn tensor<const R: usize>(&self, name: &str, device: &Device, dtype: DType) -> Tensor<R> {
        Tensor::from_data(self.data(name).clone(), (device, dtype))
    }

    fn data(&self, name: &str) -> &TensorData {
        let found = self.tensors.get(name);
        found.unwrap_or_else(|| panic!("expected a tensor `{name}` in {:?}", self.tensors.keys()))
    }
}

fn folder(framework: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(framework)
}

fn numbers<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    chunks.iter().map(|&chunk| read(chunk)).collect()
}
