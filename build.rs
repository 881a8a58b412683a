//! Compiles `proto/` to Rust in `OUT_DIR`, without a protoc: `csi.v1.rs`, `berth.v1alpha1.rs` and `pluginregistration.rs`
//! (messages, clients, servers), `csi.v1.debug.rs` (a `Debug` that keeps secrets to itself) and `berth_descriptors.bin`
//! (what was compiled, which a test compares with the specification). `src/csi/proto.rs` and `src/kubelet/service.rs`
//! include them.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use protox::prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};

const PROTOS: [&str; 3] =
    ["proto/csi.proto", "proto/operator.proto", "proto/pluginregistration.proto"];

/// The field option that marks a secret.
const SECRET: &str = "csi.v1.csi_secret";

/// What the specification does not mark and may hold a secret all the same: mount flags can be passwords, and
/// orchestrators put tokens into contexts.
const SENSITIVE: [&str; 3] = ["mount_flags", "publish_context", "volume_context"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    if packs_addresses() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(PROTOS)?;
    // Encoded here: by way of prost's own types the specification's options would be lost.
    fs::write(out.join("berth_descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let guarded = guarded_messages(&compiler.descriptor_pool())?;
    fs::write(out.join("csi.v1.debug.rs"), debug_of_all(&guarded)?)?;

    compiler.include_source_info(true); // comments become documentation
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .emit_rerun_if_changed(false)
        .skip_debug(guarded.iter().map(MessageDescriptor::full_name))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Whether the C library can start a program in which each address that is moved at the start takes a bit rather than 24
/// bytes, a megabyte in all: glibc since 2.36.
fn packs_addresses() -> bool {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let answer = asked.map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&answer);
    let Some(version) = version.trim().strip_prefix("glibc ") else { return false };
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next(), parts.next()) >= (Some(2), Some(36))
}

/// The messages with a field that must not be shown. What contains one of them shows it by its own `Debug`.
fn guarded_messages(pool: &DescriptorPool) -> Result<Vec<MessageDescriptor>, Box<dyn Error>> {
    if pool.get_extension_by_name(SECRET).is_none() {
        return Err(format!("proto/csi.proto lacks {SECRET}: secrets would be shown").into());
    }
    Ok(pool.all_messages().filter(|message| message.fields().any(|f| is_withheld(&f))).collect())
}

fn is_withheld(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let secret = options.extensions().any(|(option, _)| option.full_name() == SECRET);
    secret || SENSITIVE.contains(&field.name())
}

/// `impl Debug` for each of `messages`, like the derived one but for what is withheld.
fn debug_of_all(messages: &[MessageDescriptor]) -> Result<String, Box<dyn Error>> {
    let mut code = String::new();
    for message in messages {
        let fields =
            message.fields().map(|field| debug_of(&field)).collect::<Result<String, _>>()?;
        writeln!(
            code,
            "impl std::fmt::Debug for {} {{\n    \
             fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        \
             f.debug_struct({:?}){fields}.finish()\n    }}\n}}",
            rust_path(message)?,
            message.name(),
        )?;
    }
    Ok(code)
}

/// One field of a `debug_struct`: its value, or how many entries are withheld.
fn debug_of(field: &FieldDescriptor) -> Result<String, String> {
    let name = field.name();
    let many = field.is_list() || field.is_map();
    if field.containing_oneof().is_some() || (is_withheld(field) && !many) {
        return Err(format!("{}: build.rs cannot write its Debug yet", field.full_name()));
    }
    Ok(if is_withheld(field) {
        format!("\n            .field({name:?}, &super::Withheld(self.{name}.len()))")
    } else {
        format!("\n            .field({name:?}, &self.{name})")
    })
}

/// A message's path in its package's module, as prost makes it: `volume_capability::MountVolume`.
fn rust_path(message: &MessageDescriptor) -> Result<String, String> {
    if message.package_name() != "csi.v1" {
        return Err(format!("{}: secrets are foreseen in csi.v1 alone", message.full_name()));
    }
    let mut path = message.name().to_owned();
    let mut outer = message.parent_message();
    while let Some(message) = outer {
        path = format!("{}::{path}", snake_case(message.name()));
        outer = message.parent_message();
    }
    Ok(path)
}

/// `VolumeCapability` as `volume_capability`; enough for names without runs of capitals.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (position, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && position > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
