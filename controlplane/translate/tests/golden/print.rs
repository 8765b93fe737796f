//! A snapshot as YAML: by the descriptors that Envoy's crate brings along, with what stands inside of each `Any`.

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::process::Command;
use xds::{Resource, Snapshot};

/// Knows every message that is sent.
pub(crate) struct Printer(DescriptorPool);

// === impl Printer ===

impl Printer {
    pub(crate) fn new() -> Self {
        let descriptors = std::fs::read(envoy_types().join("src/generated/types.bin")).expect("Envoy's descriptors");
        let mut pool = DescriptorPool::decode(&descriptors[..]).expect("well-formed descriptors");
        let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../../discovery/api/proto");
        let own =
            protox::compile(["istio/nds.proto", "istio/proxy_config.proto"], [proto]).expect("our own descriptors");
        pool.add_file_descriptor_set(own).expect("they agree");
        Self(pool)
    }

    /// The resources of these types, or of all: by type, then by name.
    pub(crate) fn print(&self, snapshot: &Snapshot, types: &[String]) -> String {
        let mut all = Map::new();
        for (of, resource) in snapshot.iter() {
            let short = of.rsplit('.').next().expect("a type has a name");
            if types.is_empty() || types.iter().any(|wanted| wanted == short) {
                let of_type = all.entry(short).or_insert_with(|| Map::new().into());
                let of_type = of_type.as_object_mut().expect("made so");
                of_type.insert(resource.name.to_string(), self.message(of, resource));
            }
        }
        let mut text = serde_saphyr::to_string(&sorted(all.into())).expect("JSON is YAML");
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }

    fn message(&self, of: &str, resource: &Resource) -> Value {
        let name = of.rsplit('/').next().expect("a type URL ends with a name");
        let descriptor = self.0.get_message_by_name(name).unwrap_or_else(|| panic!("{name} is not known"));
        let message = DynamicMessage::decode(descriptor, &resource.body[..]).expect("what we sent");
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
        message.serialize_with_options(serde_json::value::Serializer, &options).expect("every Any is known")
    }
}

/// `value` with its keys in order, whatever the features of `serde_json` are.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// Where cargo keeps the crate `envoy-types`.
fn envoy_types() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let one = packages.iter().find(|package| package["name"] == "envoy-types").expect("we depend on it");
    let manifest = PathBuf::from(one["manifest_path"].as_str().expect("a path"));
    manifest.parent().expect("a manifest lies in a folder").to_owned()
}
