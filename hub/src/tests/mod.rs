//! The hub as a whole, in process, on port 0, spoken to over raw HTTP by callers and scripted publishers.

mod access;
mod bodies;
mod browser;
mod callers;
mod channel;
mod clients;
mod console;
mod extensions;
mod hostile;
pub(crate) mod http;
mod lifecycle;
mod limits;
mod manage;
mod outage;
mod publisher;
mod queue;
mod races;
mod raw;
mod results;
mod road;
mod shapes;
mod smuggling;
pub(crate) mod support;
mod through_agents;
mod upstream;
mod view;
mod visibility;
