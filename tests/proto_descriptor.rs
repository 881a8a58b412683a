//! `proto/csi.proto` is written by hand; this holds it to the specification: every file option, message, field, enum,
//! reserved range, service, method and option equals that of the specification's own Go module, version 1.13.0.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test panics where something is not as it must be"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

/// Every element of a file's descriptor by its path, for example
/// `message_type[NodeStageVolumeRequest].field[secrets].options.csi.v1.csi_secret`, with its value.
type Elements = BTreeMap<String, String>;

fn elements(path: &str, message: &DynamicMessage, found: &mut Elements) {
    for (field, value) in message.fields() {
        // Where the file lies and how it is laid out is no part of the protocol.
        if path.is_empty() && matches!(field.name(), "name" | "source_code_info") {
            continue;
        }
        element(&format!("{path}.{}", field.name()), value, found);
    }
    for (extension, value) in message.extensions() {
        element(&format!("{path}.{}", extension.full_name()), value, found);
    }
}

fn element(path: &str, value: &Value, found: &mut Elements) {
    match value {
        Value::Message(message) => elements(path, message, found),
        Value::List(list) => {
            for (position, value) in list.iter().enumerate() {
                element(&format!("{path}[{}]", key(position, value)), value, found);
            }
        }
        value => {
            found.insert(path.to_owned(), format!("{value:?}"));
        }
    }
}

/// The name of an element of a list, so that the order in the file does not matter; its position where it has none.
fn key(position: usize, value: &Value) -> String {
    let name = value.as_message().and_then(|message| message.get_field_by_name("name"));
    match name.as_ref().and_then(|name| name.as_ref().as_str()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => position.to_string(),
    }
}

fn decoded(pool: &DescriptorPool, wire: &[u8]) -> Elements {
    let kind = pool.get_message_by_name("google.protobuf.FileDescriptorProto").unwrap();
    let message = DynamicMessage::decode(kind, wire).unwrap();
    let mut found = Elements::new();
    elements("", &message, &mut found);
    found
}

/// The wire form of the descriptor of our `csi.proto`, options included.
fn ours(pool: &DescriptorPool) -> Vec<u8> {
    let kind = pool.get_message_by_name("google.protobuf.FileDescriptorSet").unwrap();
    let set = DynamicMessage::decode(kind, berth::csi::proto::DESCRIPTORS).unwrap();
    let files = set.get_field_by_name("file").unwrap().into_owned();
    let files = files.as_list().unwrap().iter().filter_map(Value::as_message);
    let package = Value::String("csi.v1".into());
    let mut csi = files.filter(|f| f.get_field_by_name("package").unwrap().as_ref() == &package);
    csi.next().unwrap().encode_to_vec()
}

fn theirs() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proto_descriptor");
    let output = Command::new("go").args(["run", "."]).current_dir(folder).output();
    let output = output.expect("Go 1.26 is needed (https://go.dev/dl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn differences(ours: &Elements, theirs: &Elements) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
    differ.map(|path| format!("{path}: {:?}, not {:?}", ours.get(path), theirs.get(path))).collect()
}

#[test]
fn csi_proto_equals_the_specification_element_by_element() {
    let pool = DescriptorPool::decode(berth::csi::proto::DESCRIPTORS).unwrap();

    let (ours, theirs) = (decoded(&pool, &ours(&pool)), decoded(&pool, &theirs()));

    assert!(theirs.len() > 2000, "only {} elements were read", theirs.len());
    let differences = differences(&ours, &theirs);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_field_that_the_specification_calls_secret_is_one_whose_contents_are_withheld() {
    let pool = DescriptorPool::decode(berth::csi::proto::DESCRIPTORS).unwrap();

    let elements = decoded(&pool, &ours(&pool));

    let secret = elements.keys().filter(|path| path.ends_with("csi.v1.csi_secret"));
    let fields: Vec<_> = secret.collect();
    assert!(fields.len() > 20);
    assert!(fields.iter().all(|path| path.contains(".field[secrets].")), "{fields:#?}");
}
