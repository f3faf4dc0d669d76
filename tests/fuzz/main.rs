//! Replays the corpora of the fuzz targets, and every input near them: cut anywhere, one byte changed. What the fuzzer found
//! once is in a corpus and stays found.

mod targets;

use std::fs;
use std::path::Path;

use targets::TARGETS;

/// Bytes of an input that are changed one after the other; more would take long and find little.
const CHANGED: usize = 512;

#[test]
fn every_input_of_every_corpus_and_all_near_it_are_borne() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in TARGETS {
        let mut inputs = 0;
        let folder = fs::read_dir(corpora.join(name)).unwrap_or_else(|e| panic!("the corpus of {name}: {e}"));
        for file in folder {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            inputs += 1;
            target(&bytes);
            for at in 0..bytes.len().min(CHANGED) {
                target(&bytes[..at]);
                for flip in [0x01, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    target(&changed);
                }
            }
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
        println!("{name}: {inputs} inputs");
    }
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in tests/fuzz/Cargo.toml");
    }
}
