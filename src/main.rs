//! The virtual-llm command.
fn main() {}
