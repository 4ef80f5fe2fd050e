//! `hub`: the hub as a server.
