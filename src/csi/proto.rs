//! What `build.rs` made of `proto/`: messages, clients and servers of CSI 1.13 and of the operator's service.
//!
//! A call that a server does not write out answers UNIMPLEMENTED. Messages with secrets, contexts or mount flags have a
//! `Debug` that withholds the contents of those and shows the rest, so that neither a log line nor a failed assertion
//! can print them.
#![expect(missing_docs, clippy::pedantic, reason = "generated from proto/")]

use std::fmt;

/// The Container Storage Interface, version 1.13.0: `proto/csi.proto`.
pub mod csi_v1 {
    tonic::include_proto!("csi.v1");
    include!(concat!(env!("OUT_DIR"), "/csi.v1.debug.rs"));
}

/// The calls behind `berth volumes`, `clean`, `release`, `cordon` and `forget`: `proto/operator.proto`.
pub mod operator_v1alpha1 {
    tonic::include_proto!("berth.v1alpha1");
}

/// The `google.protobuf.FileDescriptorSet` of both packages and of all that they import, in wire form, with every
/// option and without source positions.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/berth_descriptors.bin"));

/// Stands in a message's `Debug` for what must not be shown: says only how many entries there are.
struct Withheld(usize);

impl fmt::Debug for Withheld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{} withheld>", self.0)
    }
}

#[cfg(test)]
mod tests;
