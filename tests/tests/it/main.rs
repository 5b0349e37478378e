//! Hearth, end to end: real processes, real sockets, one test a story. Numbers in the comments are those of the project's
//! list of behaviours that others learnt the hard way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod admin;
mod architecture;
mod attacks;
mod conformance;
mod defence;
mod drain;
mod exchange;
mod faults;
mod grpc;
mod grpcurl;
mod history;
mod jwks;
mod limits;
mod link;
mod long_poll;
mod malformed;
mod namespaces;
mod order;
mod pages;
mod presence;
mod presence_faults;
mod protobuf;
mod protocol;
mod recovery;
mod rest;
mod secure_link;
mod sse;
mod sse_faults;
mod storm;
mod tickets;
mod tls;
mod tokens;
mod typing;
mod websocket_cases;
