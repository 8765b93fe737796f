//! The descriptors of Envoy's messages are those of the crate that the messages come from, which has them in a file that
//! its users cannot include.
//!
//! After a new version of `envoy-types`: `UPDATE_DESCRIPTORS=1 cargo test -p isthmus-api --test descriptors`.

use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_descriptors_are_those_of_the_messages() {
    let theirs = fs::read(envoy_types().join("src/generated/types.bin")).expect("it is there");
    let mut set = FileDescriptorSet::decode(&theirs[..]).expect("well-formed descriptors");
    for file in &mut set.file {
        file.source_code_info = None;
    }
    let made = set.encode_to_vec();
    if std::env::var_os("UPDATE_DESCRIPTORS").is_some() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("descriptors/envoy.binpb");
        fs::write(kept, &made).expect("it can be written");
    } else {
        assert!(isthmus_api::DESCRIPTORS == made, "the descriptors are of another version of envoy-types");
    }
}

/// The folder of the crate that is used here.
fn envoy_types() -> PathBuf {
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
    manifest.parent().expect("a folder").to_owned()
}
