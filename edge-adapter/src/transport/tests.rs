//! The doors over real sockets.
mod api;
mod handshake;
mod limits;
mod long_poll;
mod pages;
mod rest;
mod sse;
