//! All mistakes of one document, though its reader stops at the first: what is wrong is taken out, and the rest is read
//! again.

use config::Intent;
use resource::{Document, ResourceError, Tree, Warning};

/// How many mistakes of one document are told.
const MOST: usize = 50;

/// The document that `tree` is with what there is to warn about, or all that is wrong with it.
pub(crate) fn read(tree: &Tree) -> Result<(Document, Vec<Warning>), Vec<ResourceError>> {
    let first = match attempt(tree) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    let mut mistakes = vec![first];
    let mut rest = tree.clone();
    while mistakes.len() < MOST {
        let path = inside(&mistakes[mistakes.len() - 1].path, tree);
        let Some(without) = rest.without(&path) else { break };
        rest = without;
        let Err(next) = attempt(&rest) else { break };
        // What is said now of something that is not there, or of what surrounds it, may be our own doing.
        let is_ours = next.value == "nothing" || mistakes.iter().any(|known| known.path.starts_with(&next.path));
        if is_ours {
            break;
        }
        mistakes.push(next);
    }
    Err(mistakes)
}

/// `path` as [`Tree`] knows it: of the document itself, without its place in a `List`.
fn inside(path: &str, tree: &Tree) -> String {
    let object = tree.object();
    let inner = path.strip_prefix(object.path()).filter(|_| !object.path().is_empty()).unwrap_or(path);
    inner.trim_start_matches('.').to_owned()
}

fn attempt(tree: &Tree) -> Result<(Document, Vec<Warning>), ResourceError> {
    let (document, mut warnings) = tree.read()?;
    let (mut intent, mut errors) = Intent::as_written(std::slice::from_ref(&document));
    if !errors.is_empty() {
        return Err(errors.swap_remove(0));
    }
    warnings.append(&mut intent.warnings);
    Ok((document, warnings))
}
