//! The names that Berth gives and takes: nodes, pools, volumes, tenancies, claims.
//!
//! Every type here is valid once it exists: parsing is the only way to make one, so no caller checks again. Nothing in
//! this file touches the host. A name that comes from a caller is a key to look up, never a part of a path. A copy of a
//! name is a pointer to the same text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes that a [`VolumeName`] may have, so that a [`VolumeId`] stays within the 128 bytes of the CSI specification
/// (field requirements: strings).
pub const VOLUME_NAME_MAX: usize = 100;
/// Bytes that a [`ClaimName`] may have (CSI specification, `CreateVolumeRequest.name`).
pub const CLAIM_NAME_MAX: usize = 128;
/// The topology key of every volume and node; its value is [`NodeName::topology_value`].
pub const TOPOLOGY_KEY: &str = "topology.berth.dev/node";
/// Hexadecimal digits of the hash at the end of a volume's name: 64 bits.
const HASH_DIGITS: usize = 16;
/// Bytes of the longest legal Kubernetes object name (RFC 1123 subdomain).
const NODE_NAME_MAX: usize = 253;
/// Bytes of the longest legal label (RFC 1123).
const LABEL_MAX: usize = 63;

/// Why a text is not the name it was given as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is not valid: {reason}")]
pub struct InvalidName {
    /// What the text was meant to be.
    pub kind: &'static str,
    /// The text, cut to 256 bytes.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl InvalidName {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        let text = text.chars().take(256).collect();
        Self { kind, text, reason }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err(reason) => Err(InvalidName::new($kind, text, reason)),
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a node: a Kubernetes Node's name, at most 253 bytes of lower-case letters, digits, `-` and `.`.
    NodeName, "node name", check_node
);
name!(
    /// The name of a pool, the same on every node: an RFC 1123 label of at most 63 bytes.
    PoolName, "pool name", check_pool
);
name!(
    /// The name of a volume in the inventory: `NODE-POOL-ENTRY-HASH`, at most [`VOLUME_NAME_MAX`] bytes and a legal
    /// Kubernetes object name.
    VolumeName, "volume name", check_volume
);
name!(
    /// The name by which the container orchestrator asks for a volume (`CreateVolumeRequest.name`): 1 to 128 bytes
    /// without the control characters that the CSI specification forbids.
    ClaimName, "claim name", check_claim
);

fn check_node(text: &str) -> Result<(), &'static str> {
    if text.len() > NODE_NAME_MAX {
        return Err("it is longer than 253 bytes");
    }
    check_subdomain(text)
}

fn check_pool(text: &str) -> Result<(), &'static str> {
    if text.len() > LABEL_MAX {
        return Err("it is longer than 63 bytes");
    }
    if text.contains('.') {
        return Err("it has a dot; use lower-case letters, digits and '-'");
    }
    check_subdomain(text)
}

fn check_volume(text: &str) -> Result<(), &'static str> {
    if text.len() > VOLUME_NAME_MAX {
        return Err("it is longer than 100 bytes");
    }
    check_subdomain(text)
}

fn check_claim(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > CLAIM_NAME_MAX {
        return Err("it is longer than 128 bytes");
    }
    // The specification allows tab, line feed and carriage return, and forbids the rest of C0, DEL and C1.
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err("it has a control character");
    }
    Ok(())
}

/// RFC 1123 subdomain: dot-separated labels of lower-case alphanumerics and inner hyphens.
fn check_subdomain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    for label in text.split('.') {
        let bytes = label.as_bytes();
        let edge =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !edge(bytes.first()) || !edge(bytes.last()) {
            return Err("each part must start and end with a lower-case letter or a digit");
        }
        if !bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
            return Err("only lower-case letters, digits, '-' and '.' are allowed");
        }
    }
    Ok(())
}

impl NodeName {
    /// The node's value of the topology key `topology.berth.dev/node`: at most 63 bytes, a legal label value.
    ///
    /// The name itself where it fits; else its beginning and, since two long names may begin alike, 64 bits of a hash
    /// over all of it. It never changes, as the CSI specification asks of a topology.
    pub fn topology_value(&self) -> String {
        if self.0.len() <= LABEL_MAX {
            return self.as_str().to_owned();
        }
        // A name is ASCII, so every byte is a place to cut.
        let beginning = &self.0[..LABEL_MAX - HASH_DIGITS - 1];
        format!("{beginning}-{}", short_hash(&[self.0.as_bytes()]))
    }
}

impl VolumeName {
    /// Composes the name of the volume that `entry` of `pool` on `node` is, told apart from every other by `identity`:
    /// bytes that are equal exactly when two sources are the same (see [`super::Fingerprint::identity`]).
    ///
    /// The readable parts are cut to fit and cleaned to legal characters; the hash over node and identity decides.
    pub fn compose(node: &NodeName, pool: &PoolName, entry: &str, identity: &[u8]) -> Self {
        let hash = source_hash(node, identity);
        let entry = legal(entry, 24);
        let pool = legal(pool.as_str(), 24);
        let node =
            legal(node.as_str(), VOLUME_NAME_MAX - HASH_DIGITS - entry.len() - pool.len() - 3);
        let parts = [node, pool, entry, hash];
        let parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).cloned().collect();
        Self(parts.join("-").into())
    }

    /// Whether the name was made for the source on `node` that `identity` tells.
    pub fn is_of(&self, node: &NodeName, identity: &[u8]) -> bool {
        self.0.rsplit('-').next() == Some(&source_hash(node, identity))
    }
}

fn source_hash(node: &NodeName, identity: &[u8]) -> String {
    short_hash(&[node.as_str().as_bytes(), &[0], identity])
}

/// The first 64 bits of the SHA-256 of `parts`, one after the other, in hexadecimal.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let digest = hash.finalize();
    let hash = digest.iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    format!("{hash:0HASH_DIGITS$x}")
}

/// The first `most` bytes of `text` made of lower-case letters, digits and inner hyphens; other characters become hyphens.
fn legal(text: &str, most: usize) -> String {
    let mut legal = String::with_capacity(most);
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if legal.len() == most {
            break;
        }
        if c != '-' || !(legal.is_empty() || legal.ends_with('-')) {
            legal.push(c);
        }
    }
    legal.trim_end_matches('-').to_owned()
}

/// The number of a tenancy: one claim's stay in one volume. 0 stands for "before the first".
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tenancy(pub u64);

impl Tenancy {
    /// The tenancy that follows. It saturates, which 2⁶⁴ claims of one volume do not reach.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Tenancy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The CSI volume id, `VOLUME@TENANCY`: one tenancy of one volume, so that a late or repeated call about an old tenancy
/// can never touch the next tenant. At most 121 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId {
    /// The volume's name in the inventory.
    pub volume: VolumeName,
    /// Which tenancy of it.
    pub tenancy: Tenancy,
}

impl FromStr for VolumeId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |reason| InvalidName::new("volume id", text, reason);
        let (volume, tenancy) =
            text.rsplit_once('@').ok_or_else(|| invalid("it is not of the form VOLUME@TENANCY"))?;
        let volume = volume.parse().map_err(|error: InvalidName| invalid(error.reason))?;
        // One spelling for one number: no sign, no leading zero. Tenancy 0 is nobody's.
        let canonical = tenancy.bytes().all(|b| b.is_ascii_digit()) && !tenancy.starts_with('0');
        match tenancy.parse() {
            Ok(number) if canonical => Ok(Self { volume, tenancy: Tenancy(number) }),
            _ => Err(invalid("its tenancy is not a positive number")),
        }
    }
}

impl TryFrom<String> for VolumeId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.volume, self.tenancy)
    }
}

#[cfg(test)]
mod tests;
