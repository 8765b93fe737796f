//! `isthmus validate`: whether each resource for itself is one that would be taken.

use super::findings::{Input, tally};
use analyze::Message;
use clap::Args;
use std::process::ExitCode;

/// What to validate.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    input: Input,
}

/// Prints all that is wrong; succeeds if nothing is. Warnings do not make a resource invalid.
///
/// # Errors
/// If what is named cannot be read, or standard output is closed.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let resources = options.input.read()?;
    let mut messages: Vec<&Message> = resources.problems().iter().collect();
    messages.sort_by_key(|message| (&message.position, message.code.id));
    let verdict = if resources.has_errors() {
        format!("validation failed: {} in {} resources", tally(&messages), resources.count())
    } else {
        format!("{} resources are valid", resources.count())
    };
    options.input.print(&messages, &verdict)?;
    Ok(if resources.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
