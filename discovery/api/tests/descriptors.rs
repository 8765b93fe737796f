//! The descriptors of Envoy's messages are those of the crate that the messages come from.
//!
//! After a new version of `envoy-types`: `UPDATE_DESCRIPTORS=1 cargo test -p isthmus-api --test descriptors`.

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the crate keeps its .proto files, by what they import each other.
const ROOTS: [&str; 7] = [
    "data-plane-api",
    "xds",
    "protoc-gen-validate",
    "googleapis",
    "client_model",
    "cel-spec/proto",
    "opentelemetry-proto",
];

#[test]
fn the_descriptors_are_those_of_the_messages() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("descriptors/envoy.binpb");
    let made = made();
    if std::env::var_os("UPDATE_DESCRIPTORS").is_some() {
        fs::write(&kept, &made).expect("it can be written");
    } else {
        assert!(isthmus_api::DESCRIPTORS == made, "the descriptors are of another version of envoy-types");
    }
}

fn made() -> Vec<u8> {
    let protos = protos();
    let roots: Vec<PathBuf> = ROOTS.iter().map(|root| protos.join(root)).collect();
    let mut files = Vec::new();
    collect(&roots[0].join("envoy"), &mut files);
    files.sort();
    // Each on its own: a name means something else where packages are known that a file does not import.
    let mut all = BTreeMap::new();
    for file in &files {
        let name = file.strip_prefix(&roots[0]).expect("it is below").to_str().expect("a plain name");
        let mut resolver = ChainFileResolver::new();
        resolver.add(Roots(roots.clone()));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).open_file(name).expect("it compiles");
        let set = compiler.file_descriptor_set();
        all.extend(set.file.into_iter().map(|file| (file.name().to_owned(), file)));
    }
    let mut set = FileDescriptorSet::default();
    for name in all.keys().cloned().collect::<Vec<_>>() {
        take(&name, &mut all, &mut set);
    }
    set.encode_to_vec()
}

/// Finds files below its folders.
struct Roots(Vec<PathBuf>);

impl FileResolver for Roots {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().map(|root| root.join(name)).find(|path| path.is_file());
        let path = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        let mut source = fs::read_to_string(path).expect("it can be read");
        if name.starts_with("envoy/extensions/clusters/") {
            // Packages that a file imports by way of others hide nothing in protoc, but do in protox.
            source =
                source.replace(" common.dynamic_forward_proxy.", " envoy.extensions.common.dynamic_forward_proxy.");
        }
        File::from_source(name, &source)
    }
}

/// Adds the file of this name to `set`, after those that it imports.
fn take(name: &str, all: &mut BTreeMap<String, FileDescriptorProto>, set: &mut FileDescriptorSet) {
    let Some(mut file) = all.remove(name) else { return };
    for import in &file.dependency {
        take(import, all, set);
    }
    file.source_code_info = None;
    set.file.push(file);
}

/// The folder of .proto files of the crate that is used here.
fn protos() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        // Other platforms' packages need not be here.
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "envoy-types").expect("we use it");
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a folder").join("proto")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it can be read").map(|entry| entry.expect("it can be read").path()) {
        if entry.is_dir() {
            collect(&entry, files);
        } else if entry.extension().is_some_and(|extension| extension == "proto") {
            files.push(entry);
        }
    }
}
