//! Reading numbers from a device while it goes on computing.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use burn::tensor::Tensor;

/// A thread that waits for numbers of a device: whoever trains goes on queueing work. It ends when
/// this is dropped.
pub(super) struct Reader {
    tensors: Sender<Tensor<1>>,
    read: Receiver<Result<Vec<f64>, Panic>>,
}

type Panic = Box<dyn Any + Send>;

impl Reader {
    pub(super) fn new() -> Self {
        let (tensors, to_read) = channel::<Tensor<1>>();
        let (done, read) = channel();
        thread::spawn(move || {
            for tensor in to_read {
                // A lost device: whoever waits is told.
                let numbers = catch_unwind(AssertUnwindSafe(|| numbers(tensor)));
                if done.send(numbers).is_err() {
                    return;
                }
            }
        });
        Self { tensors, read }
    }

    /// Has a tensor read, after those before it.
    pub(super) fn read(&self, tensor: Tensor<1>) {
        // A thread that has ended is found out by whoever asks for the numbers.
        let _ = self.tensors.send(tensor);
    }

    /// The numbers of the first tensor that was not asked for yet, if they are there.
    pub(super) fn try_take(&self) -> Option<Vec<f64>> {
        match self.read.try_recv() {
            Ok(read) => Some(read.unwrap_or_else(|panic| resume_unwind(panic))),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the thread that reads losses has ended"),
        }
    }

    /// The same, however long it takes.
    pub(super) fn take(&self) -> Vec<f64> {
        match self.read.recv() {
            Ok(read) => read.unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => panic!("the thread that reads losses has ended"),
        }
    }
}

/// The numbers of a tensor. Waits for the device.
pub(super) fn numbers(tensor: Tensor<1>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn numbers_come_in_the_order_of_their_tensors() {
        let reader = Reader::new();
        let device = Device::flex();
        for number in 0..20 {
            reader.read(Tensor::from_floats([number as f32, 0.5], &device));
        }
        for number in 0..10 {
            assert_eq!(reader.take(), [f64::from(number), 0.5]);
        }
        for number in 10..20 {
            let read = std::iter::repeat_with(|| reader.try_take()).find_map(|read| read);
            assert_eq!(read.unwrap(), [f64::from(number), 0.5]);
        }
        assert_eq!(reader.try_take(), None);
    }
}
