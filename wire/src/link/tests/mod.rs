//! Vectors of each kind of frame, and a model of two ends and a network that breaks.

mod model;
mod vectors;
