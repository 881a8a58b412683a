//! What the binary is made of, and the image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::Report;

const BINARY: &str = env!("CARGO_BIN_EXE_berth");

/// What sections are for, by the beginnings of their names.
const PARTS: [(&str, &[&str]); 6] = [
    ("code", &[".text", ".plt", ".init", ".fini"]),
    ("constants", &[".rodata"]),
    ("tables that the loader writes addresses into", &[".data", ".got"]),
    ("how to move them", &[".rel"]),
    ("how to unwind the stack", &[".eh_frame", ".gcc_except_table"]),
    ("names of functions, which are never mapped", &[".symtab", ".strtab"]),
];

pub fn tell(report: &mut Report) {
    report.table(&["the binary", "KiB:"]);
    let sections = sections();
    for (what, beginnings) in PARTS {
        let is_of = |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
        let bytes: u64 =
            sections.iter().filter(|(name, _)| is_of(name)).map(|(_, bytes)| bytes).sum();
        report.row(&[&what, &(bytes >> 10)]);
    }
    report.row(&[&"in all", &(fs::metadata(BINARY).unwrap().len() >> 10)]);
    report.row(&[&"without the names", &(stripped() >> 10)]);
    report.end();
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image/berth.tar");
    if image.exists() {
        tell_of_image(report, &image);
    }
}

/// The sections of the binary with their sizes in the file (elf(5)).
fn sections() -> BTreeMap<String, u64> {
    let mut sections = BTreeMap::new();
    for line in printed(Command::new("readelf").args(["--sections", "--wide", BINARY])).lines() {
        // [11] .rodata PROGBITS address offset size ...
        let Some((_, line)) = line.split_once("] ") else { continue };
        let fields: Vec<_> = line.split_whitespace().collect();
        if let [name, kind, _, _, size, ..] = fields[..]
            && kind != "NOBITS"
            && let Ok(bytes) = u64::from_str_radix(size, 16)
        {
            sections.insert(name.to_owned(), bytes);
        }
    }
    sections
}

fn stripped() -> u64 {
    let copy = tempfile::NamedTempFile::new().unwrap();
    printed(Command::new("strip").arg("-o").arg(copy.path()).arg(BINARY));
    fs::metadata(copy.path()).unwrap().len()
}

/// The image that was made last, by what is in it.
fn tell_of_image(report: &mut Report, image: &Path) {
    let list = "tar -xOf \"$0\" --wildcards '*/layer.tar' | tar -tv";
    let listed = printed(Command::new("sh").args(["-c", list]).arg(image));
    let (mut berth, mut programs, mut texts) = (0, 0, 0);
    for line in listed.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (Some(bytes), Some(name)) = (fields.get(2), fields.get(5)) else { continue };
        let bytes: u64 = bytes.parse().unwrap_or_default();
        match name.trim_start_matches("./").split('/').collect::<Vec<_>>()[..] {
            ["usr", "bin", ..] => berth += bytes,
            ["usr", "share", ..] => texts += bytes,
            _ => programs += bytes,
        }
    }
    report.table(&["the image", "KiB:"]);
    report.row(&[&"`berth`, with the C library in it", &(berth >> 10)]);
    report.row(&[&"licences and the bill of materials", &(texts >> 10)]);
    let without = berth + texts;
    report.row(&[&"without `mkfs`", &(without >> 10)]);
    report.row(&[&"`mkfs.ext4`, `mkfs.xfs` and their libraries", &(programs >> 10)]);
    report.row(&[&"in all, as an archive", &(fs::metadata(image).unwrap().len() >> 10)]);
    report.end();
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
