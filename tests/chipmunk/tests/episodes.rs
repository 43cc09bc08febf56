//! Random episodes of Push-T in Chipmunk and in the simulator of `jepa-bench`, side by side.
#![cfg(feature = "chipmunk")]
#![expect(clippy::print_stdout, reason = "the table for docs/pusht.md")]

use jepa_bench::env::pusht::{Dynamics, PushT, PushTConfig, Shape};
use jepa_bench::env::{Behaviour, Env};
use jepa_chipmunk::{Block, Space};
use jepa_datasets::Stream;

const STEPS: usize = 30;
const EPISODES: u64 = 1000;
/// Pixels, radians, pixels per second.
const TOLERANCE: f64 = 1e-9;

/// How actions are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Policy {
    /// Independent normal actions with a standard deviation of 20 pixels, from a random reset.
    Noise,
    /// The behaviour `push`.
    Push,
    /// Straight at the middle of the block and on, until it is wedged.
    Press,
}

/// How an episode compares.
struct Compared {
    /// Largest difference of a state before several pairs touched at a time, and overall.
    before: f64,
    overall: f64,
    /// Steps compared before.
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

/// Chooses the actions of an episode.
struct Hand {
    policy: Policy,
    stream: Stream,
    push: Box<dyn Behaviour>,
}

impl Hand {
    fn new(policy: Policy, table: &PushT, seed: u64) -> Self {
        let name = format!("{policy:?}");
        let push = Stream::new(seed, &["chipmunk", "push"]);
        Self {
            policy,
            stream: Stream::new(seed, &["chipmunk", &name]),
            push: table.behaviour("push", push).expect("`push` exists"),
        }
    }

    fn action(&mut self, state: &[f64; 7]) -> [f64; 2] {
        match self.policy {
            Policy::Noise => [0, 1].map(|_| 0.2 * self.stream.normal()),
            Policy::Push => {
                let action = self.push.action(state);
                [action[0], action[1]]
            }
            Policy::Press => {
                let way = [state[2] - state[0], state[3] - state[1]];
                let length = (way[0] * way[0] + way[1] * way[1]).sqrt().max(1.0);
                way.map(|way| 0.25 * way / length + 0.05 * self.stream.normal())
            }
        }
    }
}

/// Every tenth episode is one of another shape than the T.
fn play(policy: Policy, seed: u64) -> Compared {
    let shape = match seed % 10 {
        9 => Shape::ALL[1 + (seed / 10 % 6) as usize].1,
        _ => Shape::T,
    };
    let table = PushT::new(PushTConfig {
        shape,
        ..PushTConfig::default()
    });
    let mut hand = Hand::new(policy, &table, seed);
    let start = match policy {
        Policy::Noise => table.sample(seed).expect("a small seed").init,
        Policy::Push | Policy::Press => hand.push.start(),
    };
    let start: [f64; 7] = start.try_into().expect("seven numbers");
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
        let action = hand.action(&ours.state());
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

/// Plays the episodes of a policy, prints a table and checks those that do not depend on the order of pairs.
fn compare(policy: Policy) -> [usize; 3] {
    let compared: Vec<Compared> = (0..EPISODES).map(|seed| play(policy, seed)).collect();
    let count = |of: &dyn Fn(&Compared) -> bool| compared.iter().filter(|c| of(c)).count();
    let worst = compared.iter().map(|c| c.before).fold(0.0, f64::max);
    let steps: usize = compared.iter().map(|c| c.single_steps).sum();
    let counts = [
        count(&|c| !c.touched),
        count(&|c| c.touched && !c.several),
        count(&|c| c.several),
    ];
    println!("{policy:?}: none, one, several pairs at a time in {counts:?} episodes");
    println!("  {steps} steps before several pairs touch, worst difference {worst:.1e}");
    let several = compared.iter().filter(|c| c.several);
    let mut several: Vec<f64> = several.map(|c| c.overall).collect();
    several.sort_by(f64::total_cmp);
    for limit in [1e-9, 1e-3, 0.1, 1.0, 10.0] {
        let within = several.partition_point(|apart| *apart <= limit);
        println!("  of episodes with several, within {limit:e}: {within}");
    }
    println!("  worst: {:.1}", several.last().copied().unwrap_or(0.0));
    for (seed, compared) in compared.iter().enumerate() {
        let apart = compared.before;
        assert!(apart <= TOLERANCE, "{policy:?}, episode {seed}: {apart:e}");
    }
    counts
}

#[test]
fn episodes_agree_while_one_pair_touches_at_a_time() {
    let [_, by_noise, _] = compare(Policy::Noise);
    let [_, by_pushing, several] = compare(Policy::Push);
    assert!(by_noise > 100 && by_pushing > 300 && several > 50);
    let [.., wedged] = compare(Policy::Press);
    assert!(wedged > 300, "{wedged}");
}
