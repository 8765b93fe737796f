//! Istio's own sample manifests, taken unchanged. `ISTIO_DIR` names the folder that holds `samples`; a clone does not
//! have it, so this target is built with the feature `istio-tests` only.

use isthmus_resource::{Resource, parse};
use std::path::{Path, PathBuf};

#[test]
fn istios_samples_are_taken_unchanged() {
    let samples = PathBuf::from(std::env::var("ISTIO_DIR").expect("ISTIO_DIR names Istio's data")).join("samples");
    let mut files = Vec::new();
    collect(&samples, &mut files);
    assert!(files.len() > 50, "found only {} files in {}", files.len(), samples.display());
    let (mut documents, mut entries) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a sample is readable");
        // Values for Helm charts and settings of other programs lie among the manifests.
        if !text.lines().any(|line| line.starts_with("apiVersion:")) {
            continue;
        }
        let parsed = parse(&file.display().to_string(), &text).unwrap_or_else(|error| panic!("{error}"));
        documents += parsed.documents.len();
        let is_entry = |resource: &&Resource| matches!(resource, Resource::ServiceEntry(_));
        entries += parsed.documents.iter().map(|document| &document.resource).filter(is_entry).count();
    }
    assert!(documents > 100 && entries >= 2, "{documents} documents, {entries} of them ServiceEntries");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of samples").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
}
