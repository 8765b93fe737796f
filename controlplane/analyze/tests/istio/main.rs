//! Istio's own CRDs and samples. `ISTIO_DIR` names the folder that holds them; a clone does not have it, so this target
//! is built with the feature `istio-tests` only.

mod differential;
mod exceptions;

use isthmus_analyze::{Facts, Message, Resources, Schemas, Severity};
use resource::Limits;
use std::path::{Path, PathBuf};

fn istio() -> PathBuf {
    PathBuf::from(std::env::var("ISTIO_DIR").expect("ISTIO_DIR names Istio's data"))
}

fn schemas() -> Schemas {
    let text = std::fs::read_to_string(istio().join("crds.yaml")).expect("Istio's CRDs");
    let mut schemas = Schemas::default();
    assert!(schemas.add("crds.yaml", &text, &Limits::default()).expect("CRDs") >= 14);
    schemas
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of samples").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}

#[test]
fn istios_samples_are_valid_for_us_and_for_the_crds() {
    let schemas = schemas();
    let mut files = Vec::new();
    collect(&istio().join("samples"), &mut files);
    let mut count = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a sample is readable");
        if !text.lines().any(|line| line.starts_with("apiVersion:")) {
            continue;
        }
        let mut resources = Resources::default();
        resources.add(&file.display().to_string(), &text, &Limits::default(), Some(&schemas));
        let is_error = |message: &&Message| message.severity == Severity::Error;
        let errors: Vec<_> = resources.problems().iter().filter(is_error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        count += resources.count();
    }
    assert!(count > 100, "{count}");
}

/// The bookshop with its rules, as Istio ships them: everything that is named is there.
#[test]
fn istios_bookshop_is_whole() {
    let samples = istio().join("samples/bookinfo");
    let mut resources = Resources::default();
    for name in [
        "platform/kube/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-all.yaml",
        "networking/virtual-service-reviews-90-10.yaml",
    ] {
        let text = std::fs::read_to_string(samples.join(name)).expect("a sample");
        resources.add(name, &text, &Limits::default(), None);
    }
    let found = resources.analyze(&Facts::default());
    let worst: Vec<String> =
        found.iter().filter(|one| one.severity == Severity::Error).map(ToString::to_string).collect();
    assert_eq!(worst, Vec::<String>::new());
}

#[test]
fn expressions_that_cannot_run_here_are_told() {
    let text =
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec: {url: 'oci://a/b'}\n";
    let mut resources = Resources::default();
    resources.add("a.yaml", text, &Limits::default(), Some(&schemas()));
    let told: Vec<String> = resources.problems().iter().map(ToString::to_string).collect();
    let is_told =
        |line: &&String| line.contains("ISTHMUS0006") && line.contains("a.yaml:4:13") && line.contains("isURL");
    assert_eq!(told.iter().filter(is_told).count(), 1, "{told:#?}");
}
