//! The doors over real sockets.
mod handshake;
mod limits;
mod pages;
mod rest;
mod sse;
