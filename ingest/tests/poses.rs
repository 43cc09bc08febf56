//! Steps between poses, against arrays that the reference project ships.

use jepa_ingest::pose::{Pose, compose, delta, deltas};

use crate::support::{Arrays, close};

fn poses(values: &[f64]) -> &[Pose] {
    values.as_chunks::<7>().0
}

/// datasets.md section 12: `actions` are the steps between the first four poses, rounded to 32 bits.
#[test]
fn steps_of_the_sample_recording_equal_its_actions() {
    let arrays = Arrays::f64("poses");
    let steps = deltas(&poses(arrays.get("poses_sequence"))[..4]);
    close(
        "golden",
        steps.as_flattened(),
        arrays.get("golden.actions"),
        1e-9,
    );
    close("file", steps.as_flattened(), arrays.get("actions"), 1e-7);
    let printed = [
        0.092_369_378,
        0.030_987_205,
        0.084_279_582,
        -0.017_164_769,
        -0.009_999_051_7,
        -2.407_275_9e-5,
        0.0,
    ];
    close("printed", &steps[0], &printed, 1e-8);
}

#[test]
fn the_two_samples_are_the_start_of_one_recording() {
    let arrays = Arrays::f64("poses");
    let [first, second] = poses(arrays.get("franka.states")) else {
        panic!("two poses")
    };
    let step = delta(first, second);
    close("step", &step, &arrays.get("golden.actions")[..7], 1e-9);
    close("back", &compose(first, &step), second, 1e-9);
}
