//! One reading of the directory: every file anew, except that what has not changed is not parsed again.
//!
//! A file that fails keeps what it last said well. A file that is gone takes its resources with it. A directory that
//! cannot be read changes nothing: loss of information is not information.

use crate::Check;
use crate::status::FileView;
use resource::{Document, Limits, Parsed, Position, ResourceError};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory as last read.
pub(crate) struct Directory {
    path: PathBuf,
    limits: Limits,
    check: Check,
    most_files: usize,
    files: BTreeMap<String, FileState>,
    error: Option<ResourceError>,
}

#[derive(Debug, Default)]
struct FileState {
    content: Option<Vec<u8>>,
    good: Parsed,
    errors: Vec<ResourceError>,
}

// === impl Directory ===

impl Directory {
    pub(crate) fn new(path: PathBuf, (limits, most_files): (Limits, usize), check: Check) -> Self {
        Self { path, limits, check, most_files, files: BTreeMap::new(), error: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads all files; whether anything is different from before.
    pub(crate) fn read(&mut self) -> bool {
        let names = match self.names() {
            Ok(names) => names,
            Err(expected) => return self.fail(expected),
        };
        let mut changed = self.error.take().is_some();
        let count = self.files.len();
        self.files.retain(|name, _| names.contains_key(name));
        changed |= self.files.len() != count;
        for (name, path) in names {
            let file = match self.files.entry(name) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    changed = true;
                    entry.insert(FileState::default())
                }
            };
            changed |= file.read(&path, &self.limits, &self.check);
        }
        changed
    }

    /// What all good files say, in the order of their names.
    pub(crate) fn view(&self) -> FileView {
        let mut view = FileView { errors: self.error.iter().cloned().collect(), ..FileView::default() };
        let mut documents = Vec::new();
        for file in self.files.values() {
            documents.extend(file.good.documents.iter());
            view.warnings.extend_from_slice(&file.good.warnings);
            view.errors.extend_from_slice(&file.errors);
        }
        view.documents = Arc::new(first_of_each(documents, &mut view.errors));
        view
    }

    fn fail(&mut self, expected: String) -> bool {
        let error = Some(file_error(&self.path, "", expected));
        let changed = self.error != error;
        self.error = error;
        changed
    }

    /// The files to read, by name. Names that begin with a dot are a ConfigMap's machinery or an editor's.
    fn names(&self) -> Result<BTreeMap<String, PathBuf>, String> {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(&self.path).map_err(|error| format!("cannot be read: {error}"))? {
            let path = entry.map_err(|error| format!("cannot be read: {error}"))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_yaml && !name.starts_with('.') {
                names.insert(name.to_owned(), path);
            }
            if names.len() > self.most_files {
                return Err(format!("has more than {} files: none is read", self.most_files));
            }
        }
        Ok(names)
    }
}

/// Without those that were said before under the same kind, namespace and name: the first file by name wins.
fn first_of_each(documents: Vec<&Document>, errors: &mut Vec<ResourceError>) -> Vec<Document> {
    let mut first: BTreeMap<(&str, &str, &str, &str), &Position> = BTreeMap::new();
    let mut kept = Vec::with_capacity(documents.len());
    for document in documents {
        let group = document.api_version.split_once('/').map_or("", |(group, _)| group);
        let is_steering =
            group.ends_with("istio.io") || group == "gateway.networking.k8s.io" || document.kind == "Secret";
        let namespace = document.metadata.namespace.as_str();
        match first.entry((group, &document.kind, namespace, &document.metadata.name)) {
            Entry::Occupied(other) if is_steering => errors.push(ResourceError {
                position: document.position.clone(),
                path: "metadata.name".to_owned(),
                value: format!("{:?}", document.metadata.name),
                expected: format!("each {} once in a namespace; {} has it already", document.kind, other.get()),
            }),
            entry => {
                entry.or_insert(&document.position);
                kept.push(document.clone());
            }
        }
    }
    kept
}

fn file_error(path: &Path, value: &str, expected: String) -> ResourceError {
    let position = Position { file: path.to_string_lossy().into(), line: 0, column: 0 };
    ResourceError { position, path: String::new(), value: value.to_owned(), expected }
}

// === impl FileState ===

impl FileState {
    /// Reads and, if it is different, parses the file; whether anything changed.
    fn read(&mut self, path: &Path, limits: &Limits, check: &Check) -> bool {
        match content(path, limits.file_bytes) {
            Ok(content) if self.content.as_ref() == Some(&content) => false,
            Ok(content) => {
                self.parse(path, &content, limits, check);
                self.content = Some(content);
                true
            }
            Err(error) => {
                let errors = vec![file_error(path, "", format!("cannot be read: {error}"))];
                let changed = self.errors != errors;
                self.errors = errors;
                self.content = None;
                changed
            }
        }
    }

    fn parse(&mut self, path: &Path, content: &[u8], limits: &Limits, check: &Check) {
        let parsed = match std::str::from_utf8(content) {
            Ok(text) => resource::parse_with(&path.to_string_lossy(), text, limits),
            Err(error) => Err(file_error(path, &format!("byte {}", error.valid_up_to()), "UTF-8 text".to_owned())),
        };
        let checked = match parsed {
            Ok(parsed) => check(&parsed.documents).map(|()| parsed),
            Err(error) => Err(vec![error]),
        };
        match checked {
            Ok(parsed) => (self.good, self.errors) = (parsed, Vec::new()),
            Err(errors) => self.errors = errors,
        }
    }
}

/// The file's content, cut one byte past `limit`: enough for the parser to refuse it.
fn content(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn entry(name: &str, port: u32) -> String {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example], ports: [{{number: {port}, name: a}}]}}\n"
        )
    }

    fn directory(path: &Path) -> Directory {
        let limits = Limits { file_bytes: 4_096, ..Limits::default() };
        Directory::new(path.to_owned(), (limits, 10), Arc::new(check))
    }

    /// Somebody who knows VirtualServices, and takes none that are named `wrong`.
    fn check(documents: &[Document]) -> Result<(), Vec<ResourceError>> {
        let is_wrong = |document: &&Document| document.kind == "VirtualService" && document.metadata.name == "wrong";
        let refuse = |document: &Document| ResourceError {
            position: document.position.clone(),
            path: "metadata.name".to_owned(),
            value: "\"wrong\"".to_owned(),
            expected: "another".to_owned(),
        };
        let errors: Vec<_> = documents.iter().filter(is_wrong).map(refuse).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    #[test]
    fn a_file_with_a_resource_that_others_refuse_keeps_all_that_it_last_said() {
        let service = |name: &str| {
            format!("---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n")
        };
        let temp = tempfile::tempdir().expect("a directory");
        let (a, b) = (temp.path().join("a.yaml"), temp.path().join("b.yaml"));
        fs::write(&a, entry("a", 1) + &service("good")).expect("written");
        fs::write(&b, entry("b", 1)).expect("written");
        let mut directory = directory(temp.path());
        directory.read();
        assert_eq!(names(&directory), ["a", "good", "b"]);

        fs::write(&a, entry("a2", 1) + &service("wrong") + &service("wrong")).expect("written");
        fs::write(&b, entry("b2", 1)).expect("written");
        directory.read();
        assert_eq!(names(&directory), ["a", "good", "b2"], "the other file's change is taken in");
        assert_eq!(directory.view().errors.len(), 2, "all that is wrong is told");

        fs::write(&a, entry("a2", 1) + &service("better")).expect("written");
        directory.read();
        assert_eq!(
            (names(&directory), directory.view().errors.len()),
            (vec!["a2".into(), "better".into(), "b2".into()], 0)
        );
    }

    fn names(directory: &Directory) -> Vec<String> {
        directory.view().documents.iter().map(|document| document.metadata.name.clone()).collect()
    }

    #[test]
    fn a_file_that_fails_keeps_what_it_last_said_well() {
        let temp = tempfile::tempdir().expect("a directory");
        let (a, b) = (temp.path().join("a.yaml"), temp.path().join("b.yml"));
        fs::write(&a, entry("a", 1)).expect("written");
        fs::write(&b, entry("b", 1)).expect("written");
        fs::write(temp.path().join("c.txt"), "[").expect("written");
        fs::write(temp.path().join(".d.yaml"), "[").expect("written");
        let mut directory = directory(temp.path());
        assert!(directory.read());
        assert!(!directory.read(), "nothing changed");
        assert_eq!((names(&directory), directory.view().errors.len()), (vec!["a".into(), "b".into()], 0));

        for bad in [entry("a", 70_000), entry("a", 1) + "---\n" + &entry("c", 0), "{".into(), "x".repeat(5_000)] {
            fs::write(&a, &bad).expect("written");
            assert!(directory.read());
            let view = directory.view();
            assert_eq!(names(&directory), ["a", "b"], "{bad}");
            assert!(view.errors[0].to_string().contains("a.yaml"), "{}", view.errors[0]);
        }
        fs::write(&a, [0xff, 0xfe]).expect("written");
        directory.read();
        assert!(directory.view().errors[0].expected.contains("UTF-8"));

        fs::write(&a, entry("a2", 1)).expect("written");
        assert!(directory.read());
        assert_eq!((names(&directory), directory.view().errors.len()), (vec!["a2".into(), "b".into()], 0));
        fs::remove_file(&b).expect("removed");
        assert!(directory.read());
        assert_eq!(names(&directory), ["a2"]);
    }

    #[test]
    fn a_directory_that_is_lost_changes_nothing() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("d");
        fs::create_dir(&path).expect("made");
        fs::write(path.join("a.yaml"), entry("a", 1)).expect("written");
        let mut directory = directory(&path);
        directory.read();
        fs::rename(&path, temp.path().join("e")).expect("moved");
        assert!(directory.read());
        assert_eq!((names(&directory), directory.view().errors.len()), (vec!["a".into()], 1));
        fs::rename(temp.path().join("e"), &path).expect("moved");
        assert!(directory.read());
        assert_eq!((names(&directory), directory.view().errors.len()), (vec!["a".into()], 0));
    }

    #[test]
    fn odd_files_are_reported_and_do_not_block() {
        let temp = tempfile::tempdir().expect("a directory");
        fs::create_dir(temp.path().join("sub.yaml")).expect("made");
        symlink("nowhere", temp.path().join("dangling.yaml")).expect("linked");
        symlink("self.yaml", temp.path().join("self.yaml")).expect("linked");
        fs::write(temp.path().join("a.yaml"), entry("a", 1)).expect("written");
        fs::write(temp.path().join("b.yaml"), entry("a", 2)).expect("written");
        let mut directory = directory(temp.path());
        directory.read();
        let errors: Vec<String> = directory.view().errors.iter().map(ToString::to_string).collect();
        assert_eq!(names(&directory), ["a"]);
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(errors.iter().any(|error| error.contains("b.yaml:1:1") && error.contains("a.yaml:1:1")), "{errors:?}");
    }

    #[test]
    fn too_many_files_are_not_read() {
        let temp = tempfile::tempdir().expect("a directory");
        for i in 0..11 {
            fs::write(temp.path().join(format!("{i}.yaml")), entry("a", 1)).expect("written");
        }
        let mut directory = directory(temp.path());
        directory.read();
        assert!(directory.view().errors[0].expected.contains("more than 10"));
    }
}
