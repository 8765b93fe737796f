//! `isthmus validate` and `isthmus analyze` as a user and a CI job meet them.

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web, namespace: shop, annotations: {isthmus.io/export: west}}
spec:
  hosts: [web.shop]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
";
const BAD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web.shop]
  http:
  - timeout: soon
    retries: {attempts: many}
    route: [{destination: {host: web.shop}}]
";
const LOOSE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: loose, namespace: shop}
spec: {hosts: [web.shop], http: [{route: [{destination: {host: cart.shop}}]}]}
";
const CRD: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.example.org}
spec:
  group: example.org
  names: {kind: Box}
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, minimum: 1, x-kubernetes-validations: [{rule: self % 2 == 0, message: must be even}]}
              color: {type: string, enum: [red, blue]}
              where: {type: string, x-kubernetes-validations: [{rule: isURL(self)}]}
";

fn isthmus(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[test]
fn validate_tells_all_mistakes_of_all_files_with_their_places() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "good.yaml", GOOD);
    write(folder.path(), "more/bad.yaml", BAD);
    let broken = write(folder.path(), "broken.yml", "a: [");
    write(folder.path(), "not.txt", "a: [");
    let path = folder.path().display().to_string();

    let good = isthmus(&["validate", &format!("{path}/good.yaml")], "");
    assert_eq!((good.status.code(), text(&good).as_str()), (Some(0), "1 resources are valid\n"));

    let flat = isthmus(&["validate", &path], "");
    assert_eq!(flat.status.code(), Some(1));
    assert!(text(&flat).contains(&format!("Error [IST0106] ({broken}:1:4) not well-formed YAML")), "{}", text(&flat));
    assert!(!text(&flat).contains("bad.yaml") && !text(&flat).contains("not.txt"), "{}", text(&flat));

    let deep = isthmus(&["validate", "-R", &path], "");
    let told = text(&deep);
    for part in [
        "more/bad.yaml:7:14) spec.http[0].timeout: \"soon\" is not accepted",
        "more/bad.yaml:8:25) spec.http[0].retries.attempts",
    ] {
        assert!(told.contains(part), "{told}");
    }
    assert!(told.contains("(VirtualService shop/web "), "{told}");

    let piped = isthmus(&["validate", "-"], BAD);
    assert_eq!(piped.status.code(), Some(1));
    assert!(text(&piped).contains("((stdin):7:14)") || text(&piped).contains("(stdin):7:14)"), "{}", text(&piped));

    let nothing = isthmus(&["validate", &format!("{path}/none.yaml")], "");
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing).contains("none.yaml: no such file or directory"), "{}", text(&nothing));
    assert_eq!(isthmus(&["validate"], "").status.code(), Some(1));
}

#[test]
fn analyze_fails_from_the_threshold_on_and_is_read_by_machines() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    write(folder.path(), "good.yaml", GOOD);

    let good = isthmus(&["analyze", "--cluster", "east", "--cluster", "west", &path], "");
    assert_eq!((good.status.code(), text(&good).as_str()), (Some(0), "no issues found in 1 resources\n"));

    let unknown = isthmus(&["analyze", "--cluster", "east", &path, "-o", "json"], "");
    assert_eq!(unknown.status.code(), Some(79));
    let records: Value = serde_json::from_slice(&unknown.stdout).expect("JSON");
    let record = &records[0];
    assert_eq!((&record["code"], &record["level"]), (&"ISTHMUS0001".into(), &"Error".into()));
    assert_eq!(
        (&record["origin"], &record["line"], &record["column"]),
        (&"ServiceEntry shop/web".into(), &3.into(), &73.into())
    );
    assert_eq!(record["reference"], format!("{path}/good.yaml:3:73"));

    write(folder.path(), "loose.yaml", LOOSE);
    let loose = isthmus(&["analyze", &path], "");
    assert_eq!(loose.status.code(), Some(79), "{}", text(&loose));
    assert!(text(&loose).contains("Error [IST0101] (VirtualService shop/loose"), "{}", text(&loose));
    let known = isthmus(&["analyze", "--host", "*.shop", &path], "");
    assert_eq!(known.status.code(), Some(0), "{}", text(&known));
    let silent = isthmus(&["analyze", "-S", "IST0101=VirtualService *.shop", &path, "-o", "yaml"], "");
    assert_eq!((silent.status.code(), text(&silent).trim()), (Some(0), "[]"));

    // A warning: it fails only who asks for it.
    write(
        folder.path(),
        "rule.yaml",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: nobody.shop}\n",
    );
    let arguments = ["analyze", "-S", "IST0101=*", &path];
    assert_eq!(isthmus(&arguments, "").status.code(), Some(0));
    assert_eq!(isthmus(&[&arguments[..], &["--failure-threshold", "Warning"]].concat(), "").status.code(), Some(79));
    assert!(text(&isthmus(&["analyze", "-L"], "")).contains("IST0101 ReferencedResourceNotFound (Error)"));
    assert_eq!(isthmus(&["analyze", "--failure-threshold", "Bad", &path], "").status.code(), Some(2));
}

#[test]
fn clusters_are_known_from_the_settings_of_a_control_plane() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/controlplane.yaml");
    let path = write(folder.path(), "good.yaml", &GOOD.replace("west", "nowhere"));
    let found = isthmus(&["analyze", "--settings", settings, &path], "");
    assert_eq!(found.status.code(), Some(79), "{}", text(&found));
    assert!(text(&found).contains("Export to an unknown cluster: \"nowhere\"; known: "), "{}", text(&found));
}

#[test]
fn crds_check_kinds_that_nobody_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let crds = write(folder.path(), "crds.yaml", CRD);
    let boxes = |spec: &str| format!("apiVersion: example.org/v1\nkind: Box\nmetadata: {{name: a}}\nspec: {spec}\n");
    let validate = |spec: &str| isthmus(&["validate", "--crds", &crds, "-"], &boxes(spec));
    assert_eq!(validate("{size: 2, color: red}").status.code(), Some(0));
    for (spec, part) in [
        ("{size: 3}", "4:14) spec.size: 3 is not accepted: must be even"),
        ("{size: 0}", "4:14) spec.size: 0 is not accepted: at least 1"),
        ("{size: 2, color: green}", "4:24) spec.color: \"green\" is not accepted: one of \"red\", \"blue\""),
        (
            "{size: 2, colour: red}",
            "spec.colour: \"red\" is not accepted: an unknown field; known here: color, size, where",
        ),
        ("{color: red}", "spec.size: nothing is not accepted: this field is required"),
    ] {
        let refused = validate(spec);
        assert_eq!(refused.status.code(), Some(1), "{spec}");
        assert!(text(&refused).contains(part), "{spec}: {}", text(&refused));
    }
    let unknown = validate("{size: 2, where: here}");
    assert_eq!(unknown.status.code(), Some(0));
    assert!(text(&unknown).contains("Warning [ISTHMUS0006]") && text(&unknown).contains("isURL"), "{}", text(&unknown));
}
