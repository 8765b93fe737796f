//! The files that a command reads resources from: files, directories, or standard input.

use anyhow::{Context, bail};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What stands for standard input.
const STDIN: &str = "-";
/// How many files a command reads at most.
const MOST_FILES: usize = 10_000;

/// A file's name, and what it holds or why it cannot be read.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: Result<String, String>,
}

/// The YAML and JSON files that `paths` name, each once: a directory stands for its files, and with `recursive` for
/// those below it too. A file that is named itself may be of any name.
///
/// # Errors
/// If a path does not exist, or a directory cannot be read.
pub(super) fn read(paths: &[PathBuf], recursive: bool) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == STDIN {
            files.push(path.clone());
        } else if path.is_dir() {
            collect(path, recursive, &mut files)?;
        } else if path.exists() {
            files.push(path.clone());
        } else {
            bail!("{}: no such file or directory", path.display());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|path| seen.insert(path.clone()));
    Ok(files.iter().map(|path| open(path)).collect())
}

fn open(path: &Path) -> Source {
    if path.as_os_str() == STDIN {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string());
        return Source { name: "(stdin)".to_owned(), text: read.map(|_| text) };
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    Source { name: path.display().to_string(), text }
}

fn collect(folder: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let is_hidden = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.'));
        let extension = path.extension().and_then(|extension| extension.to_str());
        if is_hidden {
            continue;
        }
        if path.is_dir() {
            if recursive {
                collect(&path, recursive, files)?;
            }
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            bail!("{}: more than {MOST_FILES} files", folder.display());
        }
    }
    Ok(())
}
