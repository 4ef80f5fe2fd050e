//! Vectors of each kind of frame, and a model of two ends and a network that breaks.

mod hub_end;
mod model;
mod vectors;
