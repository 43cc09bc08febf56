//! HDF5 files: bytes changed all over small ones of both layouts.

use jepa_ingest::container::hdf5::{Group, open};

use super::{Dice, Scratch};
use crate::support::fixture;

/// Reads everything below a group; the number of values.
fn read(group: &Group, depth: usize) -> usize {
    let mut values = 0;
    let _ = group.text_attribute("env_args");
    for name in group.children().unwrap_or_default() {
        if let Ok(inner) = group.group(&name)
            && depth > 0
        {
            values += read(&inner, depth - 1);
        }
        let Ok(data) = group.data(&name) else {
            continue;
        };
        values += data.f64(None).map_or(0, |numbers| numbers.len());
        let _ = (data.u8(None), data.i64(None), data.texts());
        let _ = (data.image_size(), data.f32(Some(0..1)));
    }
    values
}

/// In this process: a fault inside the library would end the test.
#[test]
fn no_damage_of_a_file_does_more_than_an_error() {
    let mut dice = Dice(6);
    for (name, rounds) in [
        (
            "bad/30_droid_mixed/LAB/success/2023-01-02/ep_good/trajectory.h5",
            400,
        ),
        ("bad/33_swm_hdf5_problems/lengths_disagree.h5", 400),
        ("bad/33_swm_hdf5_problems/zero_len.h5", 200),
    ] {
        let good = std::fs::read(fixture(name)).unwrap();
        assert!(
            read(&open(&fixture(name)).expect("a file"), 4) > 0,
            "{name}"
        );
        let mut opened = 0;
        for _ in 0..rounds {
            let scratch = Scratch::new("a.h5");
            if let Ok(root) = open(scratch.write(&dice.damage(&good))) {
                read(&root, 4);
                opened += 1;
            }
            scratch.holds_nothing_else();
        }
        assert!(opened > 0, "most bytes do not matter");
    }
}
