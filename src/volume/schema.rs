//! How volumes look in JSON where deriving would not say it as Kubernetes wants it: a schema there is structural, so that
//! the ways of an enum stand side by side as optional properties.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    Bytes, CLAIM_NAME_MAX, ClaimName, CleanMethod, CleanPolicy, Fingerprint, NodeName, PoolName,
    Tenancy,
};

/// RFC 1123 subdomain.
const SUBDOMAIN: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// RFC 1123 label.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

macro_rules! schema {
    ($type:ident, $schema:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema!(
    NodeName,
    json_schema!({"type": "string", "minLength": 1, "maxLength": 253, "pattern": SUBDOMAIN})
);
schema!(
    PoolName,
    json_schema!({"type": "string", "minLength": 1, "maxLength": 63, "pattern": LABEL})
);
schema!(ClaimName, json_schema!({"type": "string", "minLength": 1, "maxLength": CLAIM_NAME_MAX}));
schema!(Tenancy, json_schema!({"type": "integer", "format": "int64", "minimum": 0}));
schema!(Bytes, json_schema!({"type": "integer", "format": "int64", "minimum": 0}));
schema!(CleanMethod, clean(false));
schema!(CleanPolicy, clean(true));
schema!(Fingerprint, fingerprint());

/// A method with what belongs to it; as a policy, with whether the result is read back.
fn clean(policy: bool) -> Schema {
    let mut schema = json_schema!({
        "type": "object",
        "required": ["method"],
        "properties": {
            "method": {
                "description": "How.",
                "type": "string",
                "enum": ["delete", "reformat", "none", "discard", "zero", "shred", "command"],
            },
            "passes": {
                "description": "With shred: how often random data is written.",
                "type": "integer", "format": "int32", "minimum": 1, "maximum": 32,
            },
            "command": {
                "description": "With command: the program and its arguments.",
                "type": "array", "maxItems": 256,
                "items": {"type": "string", "maxLength": 4096},
            },
            "timeout": {
                "description": "With command: the seconds that it may take.",
                "type": "integer", "format": "int64", "minimum": 0, "maximum": 2_592_000,
            },
        },
    });
    if let Some(properties) = schema.get_mut("properties").filter(|_| policy) {
        properties["verify"] = serde_json::json!({
            "description": "Whether the result is read back before the volume is offered again.",
            "type": "boolean", "default": false,
        });
    }
    schema
}

/// Either a directory or a device, by `kind`.
fn fingerprint() -> Schema {
    json_schema!({
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"type": "string", "enum": ["directory", "device"]},
            "filesystem": {
                "description": "Of a directory: the file system that it lies on.",
                "type": "object",
                "required": ["fsType"],
                "properties": {
                    "fsType": {"type": "string"},
                    "uuid": {"type": "string"},
                    "deviceNumber": {"type": "string"},
                },
            },
            "inode": {
                "description": "Of a directory: its inode number, as text since it may need 64 bits.",
                "type": "string", "maxLength": 20, "pattern": "^[0-9]+$",
            },
            "born": {
                "description": "Of a directory: when it was made, in nanoseconds since 1970.",
                "type": "integer", "format": "int64",
            },
            "device": {
                "description": "Of a device: what it says it is.",
                "type": "object",
                "required": ["by", "id"],
                "properties": {
                    "by": {
                        "type": "string",
                        "enum": [
                            "wwn", "serial", "partitionUuid", "mapper", "loopFile", "deviceNumber",
                        ],
                    },
                    "id": {"type": "string"},
                },
            },
            "size": {
                "description": "Of a device: its bytes.",
                "type": "integer", "format": "int64", "minimum": 0,
            },
        },
    })
}
