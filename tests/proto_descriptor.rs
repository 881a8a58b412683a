//! `proto/csi.proto` is written by hand; this holds it to the specification: every file option, message, field, enum,
//! reserved range, service, method and option equals that of the specification's own Go module, version 1.13.0.
#![expect(clippy::unwrap_used, reason = "a test panics where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use prost_reflect::prost::Message;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, MethodDescriptorProto};
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
    // An option that we do not declare has to be a difference too.
    for unknown in message.unknown_fields() {
        found.insert(format!("{path}.(unknown)[{}]", unknown.number()), format!("{unknown:?}"));
    }
}

fn element(path: &str, value: &Value, found: &mut Elements) {
    match value {
        Value::Message(message) => elements(path, message, found),
        Value::List(list) => {
            for (position, value) in list.iter().enumerate() {
                let path = format!("{path}[{}]", key(position, value));
                element(&path, value, found);
                // An element is one even if nothing is said of it.
                found.entry(path).or_insert("present".into());
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

/// The wire form of the descriptor that the specification's Go module carries.
fn theirs() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proto_descriptor");
    let mut go = Command::new("go");
    go.args(["run", "."]).current_dir(folder).env("GOWORK", "off");
    let output = go.output().unwrap_or_else(|error| {
        panic!("`go` does not start ({error}): install Go 1.26 from https://go.dev/dl")
    });
    assert!(
        output.status.success(),
        "`go run .` in tests/proto_descriptor failed; it needs Go 1.26 and, the first time, the Go module proxy:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A line for each element that differs: its path, what the specification has, and what we have.
fn differences(ours: &Elements, theirs: &Elements) -> Vec<String> {
    let shown = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
    let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
    differ
        .map(|path| {
            let (ours, theirs) = (shown(ours.get(path)), shown(theirs.get(path)));
            format!("{path}: {theirs} in the specification, {ours} in proto/csi.proto")
        })
        .collect()
}

#[test]
fn csi_proto_equals_the_specification_element_by_element() {
    let pool = DescriptorPool::decode(berth::csi::proto::DESCRIPTORS).unwrap();

    let (ours, theirs) = (decoded(&pool, &ours(&pool)), decoded(&pool, &theirs()));

    let methods = theirs.keys().filter(|path| path.ends_with("].input_type")).count();
    assert_eq!(methods, 36, "CSI 1.13 has 36 calls; what was read is not the whole of it");
    let differences = differences(&ours, &theirs);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What the comparison says when `change` is made to a copy of our descriptor.
fn differences_after(change: impl FnOnce(&mut FileDescriptorProto)) -> Vec<String> {
    let pool = DescriptorPool::decode(berth::csi::proto::DESCRIPTORS).unwrap();
    let original = pool.get_file_by_name("csi.proto").unwrap().file_descriptor_proto().clone();
    let mut changed = original.clone();
    change(&mut changed);
    assert_ne!(original, changed);
    let [original, changed] = [original, changed].map(|file| decoded(&pool, &file.encode_to_vec()));
    differences(&changed, &original)
}

fn message<'a>(file: &'a mut FileDescriptorProto, name: &str) -> &'a mut DescriptorProto {
    file.message_type.iter_mut().find(|message| message.name() == name).unwrap()
}

#[test]
fn a_changed_number_is_a_difference_with_its_path_and_both_values() {
    let found = differences_after(|file| message(file, "Volume").field[1].number = Some(9));

    let path = ".message_type[Volume].field[volume_id].number";
    assert_eq!(found, [format!("{path}: I32(2) in the specification, I32(9) in proto/csi.proto")]);
}

#[test]
fn whatever_is_missing_or_too_much_is_a_difference() {
    type Change = fn(&mut FileDescriptorProto);
    let changes: [(&str, Change); 7] = [
        (".message_type[Topology]", |file| {
            file.message_type.retain(|message| message.name() != "Topology");
        }),
        (".message_type[VolumeCapability].field[block].oneof_index", |file| {
            message(file, "VolumeCapability").field[0].oneof_index = None;
        }),
        (".message_type[NodeGetVolumeStatsResponse].reserved_range[0].start", |file| {
            message(file, "NodeGetVolumeStatsResponse").reserved_range.clear();
        }),
        (".message_type[Volume].field[volume_id].json_name", |file| {
            message(file, "Volume").field[1].json_name = Some("id".into());
        }),
        (".enum_type[BlockMetadataType].value[VARIABLE_LENGTH].number", |file| {
            file.enum_type[2].value[2].number = Some(3);
        }),
        (".service[SnapshotMetadata].method[GetMetadataDelta].server_streaming", |file| {
            file.service[3].method[1].server_streaming = None;
        }),
        (".service[Node].method[NodeFormat]", |file| {
            let method =
                MethodDescriptorProto { name: Some("NodeFormat".into()), ..Default::default() };
            file.service[4].method.push(method);
        }),
    ];

    for (path, change) in changes {
        let found = differences_after(change);
        assert!(
            found.iter().any(|line| line.starts_with(&format!("{path}: "))),
            "{path}: {found:#?}"
        );
    }
}

#[test]
fn a_lost_option_is_a_difference() {
    let pool = DescriptorPool::decode(berth::csi::proto::DESCRIPTORS).unwrap();
    // prost's own types do not know the specification's options and drop them.
    let without =
        pool.get_file_by_name("csi.proto").unwrap().file_descriptor_proto().encode_to_vec();

    let found = differences(&decoded(&pool, &without), &decoded(&pool, &ours(&pool)));

    let secret = ".message_type[DeleteVolumeRequest].field[secrets].options.csi.v1.csi_secret";
    let lost = format!("{secret}: Bool(true) in the specification, absent in proto/csi.proto");
    assert!(found.contains(&lost), "{found:#?}");
    assert!(found.iter().all(|line| line.contains(".options.csi.v1.")), "{found:#?}");
}
