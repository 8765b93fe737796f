//! The walls of the house: which folder may import which, which crates may not name tokio, and how long a file may be.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates that decide and never do: time, chance and bytes are their arguments.
const PURE: [&str; 7] = ["model", "resource", "federation", "config", "analyze", "translate", "routing"];
const LINES: usize = 500;

struct Crate {
    name: String,
    folder: String,
    dependencies: BTreeSet<String>,
}

#[test]
fn the_folders_are_a_diamond() {
    let crates = crates();
    let folder_of = |name: &str| crates.iter().find(|c| c.name == name).map(|c| c.folder.clone());
    for member in &crates {
        for dependency in &member.dependencies {
            let Some(target) = folder_of(dependency) else { continue };
            let allowed: &[&str] = match member.folder.as_str() {
                "discovery" => &["discovery"],
                "controlplane" => &["discovery", "controlplane"],
                "dataplane" => &["discovery", "dataplane"],
                _ => &["discovery", "controlplane", "dataplane", "gateway"],
            };
            assert!(
                allowed.contains(&target.as_str()),
                "{} ({}) must not import {dependency} ({target})",
                member.name,
                member.folder
            );
        }
    }
}

#[test]
fn the_gateways_crates_import_neither_plane() {
    for member in crates().iter().filter(|c| ["isthmus-tunnel", "isthmus-eastwest"].contains(&c.name.as_str())) {
        for plane in ["isthmus-proxy", "isthmus-routing", "isthmus-translate", "isthmus-controlplane", "isthmus-ca"] {
            assert!(!member.dependencies.contains(plane), "{} must not import {plane}", member.name);
        }
    }
}

#[test]
fn the_data_plane_knows_neither_registry_nor_store() {
    for member in crates().iter().filter(|c| c.folder == "dataplane") {
        for forbidden in ["isthmus-registry", "isthmus-store"] {
            assert!(!member.dependencies.contains(forbidden), "{} must not import {forbidden}", member.name);
        }
    }
}

#[test]
fn pure_crates_cannot_name_tokio() {
    for member in crates() {
        let short = member.name.trim_start_matches("isthmus-");
        if PURE.contains(&short) {
            assert!(!member.dependencies.contains("tokio"), "{} must not depend on tokio", member.name);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let mut files = Vec::new();
    for folder in ["discovery", "controlplane", "dataplane", "gateway", "tests"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 50, "found only {} files", files.len());
    for file in files {
        let lines = std::fs::read_to_string(&file).expect("a source file is readable").lines().count();
        assert!(lines <= LINES, "{} has {lines} lines, more than {LINES}", file.display());
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The workspace's crates with their direct, non-development dependencies.
fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    packages.iter().map(parse).collect()
}

fn parse(package: &Value) -> Crate {
    let manifest = PathBuf::from(package["manifest_path"].as_str().expect("a path"));
    let inside = manifest.strip_prefix(root()).expect("a member lies in the workspace");
    let folder = inside.components().next().expect("a component").as_os_str().to_string_lossy().into_owned();
    let dependencies = package["dependencies"]
        .as_array()
        .expect("dependencies")
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
        .collect();
    Crate {
        name: package["name"].as_str().expect("a name").to_owned(),
        folder: if folder == "Cargo.toml" { "root".to_owned() } else { folder },
        dependencies,
    }
}
