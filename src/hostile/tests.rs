//! The corpus of the fuzz targets, and what is near it, on every `cargo test`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Bytes that the corpora may have together.
const MOST: u64 = 300 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let listed = fs::read_dir(fuzz().join("corpus").join(target)).unwrap();
    let mut seeds: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    seeds.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpora_passes_its_check() {
    for (target, check) in CHECKS {
        for (path, seed) in corpus(target) {
            println!("{}", path.display());
            check(&seed);
        }
    }
}

#[test]
fn every_check_is_a_fuzz_target_with_a_small_corpus() {
    let named: BTreeSet<_> = CHECKS.iter().map(|(target, _)| (*target).to_owned()).collect();
    let listed = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| stem(entry.unwrap().path())).collect()
    };

    assert_eq!(listed("fuzz_targets"), named);
    assert_eq!(listed("corpus"), named);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let mut bytes = 0;
    for target in &named {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
        let seeds = corpus(target);
        assert!(!seeds.is_empty(), "{target} has no corpus");
        bytes += seeds.iter().map(|(_, seed)| seed.len() as u64).sum::<u64>();
    }
    assert!(bytes <= MOST, "the corpora have {bytes} bytes");
}

/// One change of a seed.
#[derive(Debug, Clone)]
enum Change {
    Put(Index, Vec<u8>),
    Cut(Index, usize),
    Repeat(Index, usize),
    Flip(Index, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let put = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..9),
        prop::sample::select(vec![
            "/",
            "..",
            "/../",
            "\0",
            "%2f",
            "@",
            "-1",
            "18446744073709551616",
            "é",
            "*",
            "{",
            "[",
            ": ",
            "\n",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        (any::<Index>(), put).prop_map(|(at, bytes)| Change::Put(at, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, times)| Change::Repeat(at, times)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, mask)| Change::Flip(at, mask)),
    ]
}

fn changed(mut seed: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Put(at, bytes) => {
                let at = at.index(seed.len() + 1);
                seed.splice(at..at, bytes.iter().copied());
            }
            Change::Cut(at, length) => {
                let at = at.index(seed.len() + 1);
                seed.drain(at..seed.len().min(at + length));
            }
            Change::Repeat(at, times) => {
                let tail = seed[at.index(seed.len() + 1)..].to_vec();
                let tail = &tail[..tail.len().min(64)];
                seed.extend(tail.repeat(*times));
            }
            Change::Flip(at, mask) if !seed.is_empty() => {
                let at = at.index(seed.len());
                seed[at] ^= mask;
            }
            Change::Flip(..) => {}
        }
    }
    seed
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn whatever_is_near_the_corpora_passes_too(
        seed in any::<Index>(),
        changes in proptest::collection::vec(change(), 1..6),
    ) {
        for (target, check) in CHECKS {
            let seeds = corpus(target);
            let (_, bytes) = &seeds[seed.index(seeds.len())];
            check(&changed(bytes.clone(), &changes));
        }
    }

    #[test]
    fn any_bytes_pass_every_check(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (_, check) in CHECKS {
            check(&data);
        }
    }
}
