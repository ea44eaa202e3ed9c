//! One event in the form of TensorBoard's files.
//!
//! An event is a protocol buffer message (`tensorflow/core/util/event.proto`) of a few fields, and
//! a file is a row of records: length, checksum of the length, message, checksum of the message.
//! That is less than the crates for it weigh, which are no longer maintained or bring images,
//! generated code and an own reader along.

use std::io::{self, Write};

/// Something that happened at a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'a> {
    /// Seconds since 1970.
    pub wall_time: f64,
    pub step: u64,
    pub what: What<'a>,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// A file begins.
    Version,
    /// Events of this step and after it, in files before, are no longer true.
    Start,
    /// Numbers by their tags.
    Scalars(&'a [(&'a str, f64)]),
}

impl Event<'_> {
    /// Writes the event as a record.
    pub fn write(&self, sink: &mut impl Write) -> io::Result<()> {
        let message = self.message();
        let length = (message.len() as u64).to_le_bytes();
        sink.write_all(&length)?;
        sink.write_all(&masked(&length))?;
        sink.write_all(&message)?;
        sink.write_all(&masked(&message))
    }

    /// `Event { wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7 }`.
    fn message(&self) -> Vec<u8> {
        let mut out = Message::default();
        out.double(1, self.wall_time);
        out.integer(2, self.step);
        match self.what {
            What::Version => out.bytes(3, b"brain.Event:2"),
            What::Start => {
                // `SessionLog { status = 1 }`, whose START is 1.
                let mut log = Message::default();
                log.integer(1, 1);
                out.bytes(7, &log.0);
            }
            What::Scalars(scalars) => {
                // `Summary { value = 1 }` of `Value { tag = 1, simple_value = 2 }`.
                let mut summary = Message::default();
                for (tag, number) in scalars {
                    let mut value = Message::default();
                    value.bytes(1, tag.as_bytes());
                    value.float(2, *number as f32);
                    summary.bytes(1, &value.0);
                }
                out.bytes(5, &summary.0);
            }
        }
        out.0
    }
}

/// A checksum as the format wants it: rotated, so that checksums of checksums are as good.
fn masked(bytes: &[u8]) -> [u8; 4] {
    let sum = crc32c::crc32c(bytes);
    sum.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// Fields of a protocol buffer message.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Zero is what a missing field means.
    fn integer(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, 0);
            self.varint(value);
        }
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.varint(field << 3 | wire);
    }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same events as in `golden.py`, byte for byte as TensorBoard's own writer has them.
    #[test]
    fn events_are_written_as_tensorboard_writes_them() {
        let event = |after: f64, step, what| Event {
            wall_time: 1.75e9 + after,
            step,
            what,
        };
        let train = [("train/loss", 0.25), ("train/learning_rate", 2e-3)];
        let valid = [("valid/loss", f64::INFINITY), ("valid/ä", -0.1)];
        let events = [
            event(0.0, 0, What::Version),
            event(0.0, 301, What::Start),
            event(0.5, 310, What::Scalars(&train)),
            event(1.0, (1 << 40) + 5, What::Scalars(&valid)),
        ];
        let mut bytes = Vec::new();
        for event in &events {
            event.write(&mut bytes).unwrap();
        }
        assert_eq!(bytes, include_bytes!("golden.bin"));
    }
}
