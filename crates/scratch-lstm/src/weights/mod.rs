//! Weights in other layouts, to and from [`CellWeights`](crate::CellWeights).
