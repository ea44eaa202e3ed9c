//! What can be run: a file for each kind. How its results look is in [`report`](crate::report).

pub mod compare;
pub mod growth;
pub mod long;
pub mod memory;
pub mod stream;
pub mod training;
