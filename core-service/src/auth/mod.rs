//! Who a caller is and what it may do: tokens are verified here and permissions checked, for links and services alike.
//!
//! [`keys`] are what tokens are verified with, [`token`] verifies one and reads its claims, [`grant`] is what comes of it: a user and its
//! rights. Time is an argument.
mod crypto;
pub mod grant;
pub mod keys;
pub mod token;
