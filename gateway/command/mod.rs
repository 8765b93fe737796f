//! The subcommands that do one thing and end.

pub mod init;
pub mod inspect;
pub mod redirect;
pub mod token;
