//! The subcommands that do one thing and end.

pub mod analyze;
mod findings;
pub mod init;
pub mod inspect;
pub mod redirect;
mod sources;
pub mod token;
pub mod validate;
