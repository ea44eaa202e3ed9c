//! What data are, in 64 digits.

use sha2::{Digest, Sha256};

use crate::checkpoint::hex;

/// SHA-256 of numbers and sizes, piece by piece. Each piece begins with its length, so that no two
/// divisions of the same numbers look alike.
#[derive(Default)]
pub(crate) struct Fingerprint(Sha256);

impl Fingerprint {
    pub(crate) fn sizes(mut self, sizes: &[usize]) -> Self {
        self.numbers(sizes, |size| (*size as u64).to_le_bytes());
        self
    }

    pub(crate) fn units(mut self, units: &[u32]) -> Self {
        self.numbers(units, |unit| unit.to_le_bytes());
        self
    }

    pub(crate) fn values(mut self, values: &[f32]) -> Self {
        self.numbers(values, |value| value.to_le_bytes());
        self
    }

    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())
    }

    fn numbers<T, const N: usize>(&mut self, numbers: &[T], bytes: impl Fn(&T) -> [u8; N]) {
        self.0.update((numbers.len() as u64).to_le_bytes());
        let mut buffer = Vec::with_capacity(N * CHUNK.min(numbers.len()));
        for chunk in numbers.chunks(CHUNK) {
            buffer.clear();
            buffer.extend(chunk.iter().flat_map(&bytes));
            self.0.update(&buffer);
        }
    }
}

/// Numbers hashed at once.
const CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_and_every_cut_counts() {
        let of = |pieces: &[&[u32]]| {
            let pieces = pieces.iter();
            pieces
                .fold(Fingerprint::default(), |print, piece| print.units(piece))
                .finish()
        };
        let all = [
            of(&[]),
            of(&[&[]]),
            of(&[&[1, 2, 3]]),
            of(&[&[1, 2], &[3]]),
            of(&[&[1, 2, 4]]),
        ];
        for (k, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 64);
            assert!(!all[..k].contains(one));
        }
        let long: Vec<u32> = (0..3 * CHUNK as u32 + 7).collect();
        assert_eq!(of(&[&long]), of(&[&long.clone()]));
    }
}
