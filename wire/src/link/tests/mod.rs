//! Vectors of each kind of frame, a model of two ends and a network that breaks, and peers that are hostile.

mod hostile;
mod hub_end;
mod model;
mod two_ends;
mod vectors;
