//! The doors over real sockets.
mod handshake;
mod limits;
mod long_poll;
mod pages;
mod rest;
mod sse;
