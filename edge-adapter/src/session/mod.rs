//! One session's mind. Pure: what a session asks for ([`request`]), how it is named ([`key`]), how fast it may
//! be ([`rate`]), where it is ([`place`]), and what it may do ([`state`]); time is an argument.
pub mod key;
pub mod place;
pub mod rate;
pub mod request;
pub mod state;
