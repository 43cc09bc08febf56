//! Comparison with recorded episodes and with the numbers of evaluation.md section 8.3.

use super::*;
use crate::fixtures::Npz;

/// What a state differs by, angles modulo a full turn.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    let mut worst = 0.0_f64;
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let mut apart = (found - expected).abs();
        if index == 4 {
            let turns = apart % std::f64::consts::TAU;
            apart = turns.min(std::f64::consts::TAU - turns);
        }
        worst = worst.max(apart);
    }
    worst
}

fn state(values: &[f64]) -> [f64; STATE] {
    values.try_into().unwrap()
}

/// One array of a fixture, cut into the rows of an episode.
fn rows<'a>(recorded: &'a Npz, key: &str, episode: usize) -> &'a [f64] {
    let episodes = recorded.array(key).shape[0];
    let size = recorded.values(key).len() / episodes;
    &recorded.values(key)[size * episode..][..size]
}

/// By how much an episode differs: before the order of contacts matters, and in the end; and from which step on.
struct Played {
    before: f64,
    overall: f64,
    first: Option<usize>,
}

fn play(recorded: &Npz, episode: usize, shape: Shape) -> Played {
    let until = rows(recorded, "order_sensitive_from", episode)[0] as usize;
    let expected = rows(recorded, "states", episode).as_chunks::<STATE>().0;
    let actions = rows(recorded, "actions", episode).as_chunks::<2>().0;
    let contacts = rows(recorded, "n_contacts", episode);
    let mut dynamics = Dynamics::new(shape);
    dynamics.reset(state(rows(recorded, "init", episode)));
    let mut played = Played {
        before: difference(&dynamics.state(), &expected[0]),
        overall: 0.0,
        first: None,
    };
    for (step, (action, expected)) in actions.iter().zip(&expected[1..]).enumerate() {
        dynamics.step(*action);
        let apart = difference(&dynamics.state(), expected);
        played.overall = played.overall.max(apart);
        if apart > 1e-9 {
            played.first = played.first.or(Some(step + 1));
        }
        if step + 1 < until {
            played.before = played.before.max(apart);
            assert_eq!(
                dynamics.contact_count(),
                contacts[step] as usize,
                "episode {episode}, step {step}"
            );
        }
    }
    played
}

/// Plays every episode; prints those with simultaneous contacts in which states differ in the end.
fn play_all(recorded: &Npz, shape: impl Fn(usize) -> Shape) {
    let episodes = recorded.array("init").shape[0];
    for episode in 0..episodes {
        let class = rows(recorded, "contact_class_code", episode)[0] as u8;
        let played = play(recorded, episode, shape(episode));
        assert!(
            played.before <= 1e-9,
            "episode {episode}: {}",
            played.before
        );
        if class < 4 {
            assert!(
                played.overall <= 1e-9,
                "episode {episode}: {}",
                played.overall
            );
        } else {
            println!(
                "episode {episode}, several contacts: {:e}, first seen at step {:?}",
                played.overall, played.first
            );
        }
    }
}

#[test]
fn recorded_episodes_of_the_t_are_played_again() {
    let recorded = Npz::read("sims/pusht_episodes.npz");
    assert_eq!(recorded.array("actions").shape, [40, 30, 2]);
    play_all(&recorded, |_| Shape::T);
}

#[test]
fn recorded_episodes_of_the_other_shapes_are_played_again() {
    let recorded = Npz::read("sims/pusht_shapes.npz");
    assert_eq!(recorded.array("actions").shape, [18, 30, 2]);
    let codes = recorded.values("shape_code");
    play_all(&recorded, |episode| Shape::ALL[codes[episode] as usize].1);
}

#[test]
fn states_are_set_as_recorded() {
    let recorded = Npz::read("sims/pusht_set_state.npz");
    for row in 0..recorded.array("input").shape[0] {
        let mut dynamics = Dynamics::new(Shape::T);
        dynamics.reset(state(rows(&recorded, "input", row)));
        let apart = difference(&dynamics.state(), rows(&recorded, "after_reset", row));
        assert!(apart <= 1e-12, "row {row}: {apart}");
        let pairs = rows(&recorded, "reset_pairs", row);
        let [walls, agent] = dynamics.touching();
        let expected = [0, 1, 2].map(|index| pairs[index] as usize);
        assert_eq!([walls + agent, agent, walls], expected, "row {row}");
        dynamics.step([0.0; 2]);
        let apart = difference(&dynamics.state(), rows(&recorded, "after_zero_step", row));
        if pairs[0] <= 1.0 {
            assert!(apart <= 1e-9, "row {row}: {apart}");
        } else {
            println!("row {row}, {pairs:?} pairs: {apart:e}");
        }
    }
}

#[test]
fn steps_are_those_of_the_specification() {
    let actions = [
        [0.3, 0.5],
        [0.3, 0.5],
        [0.4, 0.4],
        [0.2, 0.6],
        [0.1, 0.6],
        [-0.2, 0.3],
        [0.5, 0.0],
        [0.5, -0.1],
    ];
    let expected = [
        [
            208.870_153_577,
            214.783_589_296,
            256.0,
            300.0,
            0.7,
            112.244_296_750,
            187.073_827_916,
        ],
        [
            221.099_982_396,
            235.166_637_326,
            256.0,
            300.0,
            0.7,
            111.508_834_853,
            185.848_058_088,
        ],
        [
            236.264_515_365,
            252.556_277_984,
            256.0,
            300.0,
            0.7,
            148.928_419_427,
            148.441_324_156,
        ],
        [
            246.635_648_605,
            274.739_703_016,
            255.024_101_585,
            300.541_802_992,
            0.691_169_458,
            73.853_702_719,
            223.515_956_662,
        ],
        [
            251.802_941_644,
            299.170_247_869,
            243.583_239_911,
            311.171_911_534,
            0.633_699_395,
            36.930_851_604,
            223.024_042_745,
        ],
        [
            246.994_913_250,
            314.715_915_269,
            234.743_330_239,
            324.172_904_427,
            0.647_990_305,
            -75.071_514_367,
            110.782_969_179,
        ],
        [
            259.531_476_056,
            318.031_850_327,
            234.005_603_576,
            325.281_498_558,
            0.649_789_035,
            187.565_721_401,
            -0.725_886_793,
        ],
        [
            279.929_247_350,
            315.053_405_361,
            234.005_603_576,
            325.281_498_558,
            0.649_789_035,
            185.844_835_039,
            -37.410_009_332,
        ],
    ];
    let mut dynamics = Dynamics::new(Shape::T);
    dynamics.reset([200.0, 200.0, 256.0, 300.0, 0.7, 0.0, 0.0]);
    for (step, (action, expected)) in actions.into_iter().zip(expected).enumerate() {
        dynamics.step(action);
        let apart = difference(&dynamics.state(), &expected);
        assert!(apart <= 1e-9, "step {step}: {apart}");
    }
}

#[test]
fn the_agent_leaves_the_window() {
    let mut dynamics = Dynamics::new(Shape::T);
    dynamics.reset([30.0, 100.0, 256.0, 300.0, 0.7, 0.0, 0.0]);
    for expected in [3.3895, -33.2999, -69.9234, -106.5473] {
        dynamics.step([-0.9, 0.0]);
        let found = dynamics.state()[0];
        assert!((found - expected).abs() < 5e-5, "{found} {expected}");
    }
}

#[test]
fn success_is_near_in_place_and_in_angle() {
    let table = PushT::default();
    let goal = [100.0, 100.0, 200.0, 200.0, 0.1, 0.0, 0.0];
    let near = |change: &dyn Fn(&mut [f64; STATE])| {
        let mut state = goal;
        change(&mut state);
        table.success(&goal, &state)
    };
    // Four differences of 9.9 make 19.8, of 10 make 20.
    assert!(near(&|state| state[..4]
        .iter_mut()
        .for_each(|at| *at += 9.9)));
    assert!(!near(&|state| state[..4]
        .iter_mut()
        .for_each(|at| *at += 10.0)));
    assert!(near(&|state| state[4] += std::f64::consts::TAU - 0.3));
    assert!(!near(&|state| state[4] += 0.35));
    assert!(near(&|state| state[6] = 500.0));
}

#[test]
fn settings_reach_the_simulator() {
    let build = |text: &str| PushTConfig::from_table(&text.parse().unwrap()).map(PushT::new);
    let square = build("shape = \"square\"\nframe_size = 256").unwrap();
    assert_eq!(square.render(Size::Native).unwrap().width, 256);
    assert_eq!(square.render(Size::Planner).unwrap().width, 224);
    assert_ne!(
        square.render(Size::Planner).unwrap(),
        PushT::default().render(Size::Planner).unwrap()
    );
    let strict = build("success_angle = 0.01\nsuccess_distance = 1.0").unwrap();
    assert!(!strict.success(&[0.0; STATE], &[0.0, 0.0, 0.0, 0.0, 0.02, 0.0, 0.0]));
    assert!(!strict.success(&[0.0; STATE], &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    for wrong in [
        "shape = \"O\"",
        "success_angle = 0.0",
        "success_distance = inf",
        "frame_size = 96",
        "colour = 1",
    ] {
        let error = build(wrong).unwrap_err();
        assert!(error.hint().unwrap().contains("small_tee"), "{wrong}");
    }
}

#[test]
fn a_snapshot_taken_while_pushing_brings_the_push_back() {
    // The agent is in the corner between bar and stem, and pushes both.
    let recorded = Npz::read("sims/pusht_episodes.npz");
    let actions = rows(&recorded, "actions", 28).as_chunks::<2>().0;
    let mut table = PushT::default();
    table.reset_to(rows(&recorded, "init", 28)).unwrap();
    for action in &actions[..23] {
        table.step(action).unwrap();
    }
    assert_eq!(table.dynamics.touching(), [0, 2]);
    let (snapshot, frame) = (
        table.snapshot().unwrap(),
        table.render(Size::Native).unwrap(),
    );
    table.step(&actions[23]).unwrap();
    let expected = table.state().to_vec();
    let mut other = PushT::default();
    other.restore(&snapshot).unwrap();
    assert_eq!(other.render(Size::Native).unwrap(), frame);
    assert_eq!(other.snapshot().unwrap(), snapshot);
    let state = other.state().to_vec();
    other.step(&actions[23]).unwrap();
    assert_eq!(other.state(), expected);
    // The state alone is not enough: the block would begin to move anew.
    other.reset_to(&state).unwrap();
    other.step(&actions[23]).unwrap();
    assert_ne!(other.state(), expected);
    assert!(other.restore(&snapshot[1..]).is_err());
    assert!(other.restore(&[snapshot, vec![0.0]].concat()).is_err());
}

#[test]
fn a_step_out_of_all_bounds_is_refused_and_leaves_the_state() {
    let mut table = PushT::default();
    let before = table.state().to_vec();
    assert!(table.step(&[f64::MAX, 0.0]).is_err());
    assert_eq!(table.state(), before);
}
