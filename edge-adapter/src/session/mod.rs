//! One session's mind. Pure: what a session asks for ([`request`]), how it is named ([`key`]), and what it may
//! do ([`state`]); time is an argument.
pub mod key;
pub mod request;
pub mod state;
