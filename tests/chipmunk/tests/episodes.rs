//! Random episodes of Push-T in Chipmunk and in the simulator of `jepa-bench`, side by side.
#![cfg(feature = "chipmunk")]

use jepa_bench::env::Env;
use jepa_bench::env::pusht::{Dynamics, PushT, PushTConfig, Shape};
use jepa_chipmunk::{Block, Space};
use jepa_datasets::Stream;

const STEPS: usize = 30;
const EPISODES: u64 = 2000;
/// Pixels, radians, pixels per second.
const TOLERANCE: f64 = 1e-9;

/// How an episode compares.
struct Compared {
    /// Largest difference of a state before any two pairs touched at a time, and overall.
    before: f64,
    overall: f64,
    /// Steps compared before, and whether anything touched.
    single_steps: usize,
    touched: bool,
    several: bool,
}

fn difference(a: [f64; 7], b: [f64; 7]) -> f64 {
    let turn = std::f64::consts::TAU;
    let apart = |index: usize| {
        let apart = (a[index] - b[index]).abs();
        if index == 4 {
            (apart % turn).min(turn - apart % turn)
        } else {
            apart
        }
    };
    (0..7).map(apart).fold(0.0, f64::max)
}

/// Every tenth episode is one of another shape than the T; half are noise, half pushes.
fn play(seed: u64) -> Compared {
    let shape = match seed % 10 {
        9 => Shape::ALL[1 + (seed / 10 % 6) as usize].1,
        _ => Shape::T,
    };
    let table = PushT::new(PushTConfig {
        shape,
        ..PushTConfig::default()
    });
    let mut noise = Stream::new(seed, &["chipmunk", "noise"]);
    let mut pusher = table
        .behaviour("push", Stream::new(seed, &["chipmunk", "push"]))
        .expect("`push` exists");
    let start: [f64; 7] = if seed.is_multiple_of(2) {
        table.sample(seed).expect("a small seed").init
    } else {
        pusher.start()
    }
    .try_into()
    .expect("seven numbers");
    let (centre, moment) = shape.mass_properties();
    let block = Block {
        rectangles: shape.rectangles(),
        centre,
        moment,
    };
    let mut theirs = Space::new(&block, start);
    let mut ours = Dynamics::new(shape);
    ours.reset(start);
    let first = difference(ours.state(), theirs.state());
    let mut compared = Compared {
        before: first,
        overall: first,
        single_steps: 0,
        touched: theirs.most_pairs() > 0,
        several: theirs.most_pairs() > 1,
    };
    for _ in 0..STEPS {
        let action = if seed.is_multiple_of(2) {
            [0, 1].map(|_| 0.2 * noise.normal())
        } else {
            let action = pusher.action(&ours.state());
            [action[0], action[1]]
        };
        theirs.step(action);
        ours.step(action);
        let apart = difference(ours.state(), theirs.state());
        compared.touched |= theirs.most_pairs() > 0;
        compared.several |= theirs.most_pairs() > 1;
        compared.overall = compared.overall.max(apart);
        if !compared.several {
            compared.single_steps += 1;
            compared.before = compared.before.max(apart);
        }
    }
    compared
}

#[test]
fn episodes_agree_while_one_pair_touches_at_a_time() {
    let compared: Vec<Compared> = (0..EPISODES).map(play).collect();
    let count = |of: &dyn Fn(&Compared) -> bool| compared.iter().filter(|c| of(c)).count();
    let worst = compared.iter().map(|c| c.before).fold(0.0, f64::max);
    println!("episodes without contact: {}", count(&|c| !c.touched));
    println!(
        "one pair at a time: {}",
        count(&|c| c.touched && !c.several)
    );
    println!("several pairs in a substep: {}", count(&|c| c.several));
    println!(
        "steps before several pairs: {}, worst difference {worst:e}",
        compared.iter().map(|c| c.single_steps).sum::<usize>()
    );
    let mut several: Vec<f64> = compared
        .iter()
        .filter(|c| c.several)
        .map(|c| c.overall)
        .collect();
    several.sort_by(f64::total_cmp);
    for limit in [1e-9, 1e-6, 1e-3, 0.1, 1.0, 10.0] {
        println!(
            "several pairs, within {limit:e}: {}",
            several.partition_point(|apart| *apart <= limit)
        );
    }
    println!(
        "several pairs, worst: {:e}",
        several.last().copied().unwrap_or(0.0)
    );
    assert!(count(&|c| c.touched && !c.several) > 300 && several.len() > 100);
    for (seed, compared) in compared.iter().enumerate() {
        assert!(
            compared.before <= TOLERANCE,
            "episode {seed}: {:e}",
            compared.before
        );
    }
}
