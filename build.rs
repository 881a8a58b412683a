//! Compiles `proto/` into `OUT_DIR`: messages, clients and servers, and the descriptors that a test compares with the
//! specification's. No protoc is needed.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, error, fs};

use protox::prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};

/// Fields whose contents must never reach a log. Every field that the specification marks `csi_secret` is called
/// `secrets`, which a test holds; contexts may carry tokens, and mount flags may carry passwords.
const WITHHELD: &[&str] = &["secrets", "volume_context", "publish_context", "mount_flags"];

fn main() -> Result<(), Box<dyn error::Error>> {
    let files = ["proto/csi.proto", "proto/operator.proto"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(files)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();

    let mut withheld = Vec::new();
    let mut redacted = String::new();
    for file in descriptors.file.iter().filter(|file| file.package() == "csi.v1") {
        withhold(file, &mut withheld, &mut redacted)?;
    }
    fs::write(out.join("redacted.rs"), redacted)?;

    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .emit_rerun_if_changed(false)
        .skip_debug(&withheld)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Notes every message of `file` with a withheld field, and writes a `Debug` for it that shows nothing of it.
fn withhold(
    file: &FileDescriptorProto,
    withheld: &mut Vec<String>,
    redacted: &mut String,
) -> Result<(), std::fmt::Error> {
    let mut open: Vec<(String, String, &DescriptorProto)> = Vec::new();
    for message in &file.message_type {
        open.push((format!(".{}", file.package()), String::new(), message));
    }
    while let Some((scope, module, message)) = open.pop() {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            open.push((name.clone(), format!("{module}{}::", snake(message.name())), nested));
        }
        if message.field.iter().any(|field| WITHHELD.contains(&field.name())) {
            let shown = message.name();
            writeln!(
                redacted,
                "impl std::fmt::Debug for {module}{shown} {{\n    \
                 fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\n        \
                 f.debug_struct({shown:?}).finish_non_exhaustive()\n    }}\n}}"
            )?;
            withheld.push(name);
        }
    }
    Ok(())
}

/// `VolumeCapability` → `volume_capability`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (position, character) in name.chars().enumerate() {
        if character.is_ascii_uppercase() && position > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
