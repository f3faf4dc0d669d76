//! A connection that breaks: what came before is not sent again.

use std::fs;

use crate::basic::noise;
use crate::compare::assert_equal;
use crate::rig::Pair;

#[test]
fn a_broken_transfer_goes_on_at_the_chunk() {
    let pair = Pair::new();
    let size = 32u64 << 20;
    fs::write(pair.a().join("large"), noise(size as usize, 3)).unwrap();
    let half = pair.sync_until(size / 2);
    assert!(half >= size / 2, "{half}");
    assert!(!pair.b().join("large").exists());
    let (_, rest) = pair.sync();
    assert_equal(&pair.a(), &pair.b());
    // What was in the buffers of the link when it broke is sent again.
    assert!(rest < size - size / 2 + (6 << 20), "{rest} of {size} bytes after {half} had gone");
    let stores = fs::read_dir(pair.place("b").join(".twobox/trees")).unwrap();
    let left = stores.flat_map(|store| fs::read_dir(store.unwrap().path().join("old")).unwrap()).count();
    assert_eq!(left, 0, "what the broken cycle left stays for ever");
    println!("{half} bytes, broken off, then {rest}");
}
