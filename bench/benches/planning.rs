//! One CEM iteration in the simulator, and steps of environments with their frames.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jepa_bench::env::pointmaze::{ContactModel, Dynamics, Renderer};
use jepa_bench::env::pusht::{self, PushT, Shape};
use jepa_bench::env::wall::Wall;
use jepa_bench::env::{Env, Size};
use jepa_bench::planner::cem::{Cem, CemConfig};
use jepa_bench::planner::{ActionBatch, CostModel, PlanShape, Planner};
use jepa_bench::seeds::{PlanKey, StreamNoise};
use jepa_datasets::Stream;

const SHAPE: PlanShape = PlanShape {
    horizon: 6,
    width: 10,
};

/// Squared distance to a goal after a rollout in Wall; an action is two numbers.
struct WallCost {
    wall: Wall,
    start: Vec<f64>,
    goal: Vec<f64>,
}

impl WallCost {
    fn new() -> Self {
        let wall = Wall::default();
        let start = wall.sample(1).expect("seed 1 is a valid seed");
        Self {
            wall,
            start: start.init,
            goal: start.goal,
        }
    }
}

impl CostModel for WallCost {
    fn costs(&mut self, actions: &ActionBatch) -> jepa_bench::Result<Vec<f64>> {
        let mut costs = Vec::with_capacity(actions.samples);
        for candidate in 0..actions.samples {
            self.wall.reset_to(&self.start)?;
            for action in actions.candidate(candidate).chunks_exact(2) {
                self.wall.step(action)?;
            }
            let distance = self.wall.state_distance(&self.goal, self.wall.state());
            costs.push(distance * distance);
        }
        Ok(costs)
    }
}

/// 300 candidates of 30 steps: sampling, simulation, selection, refit.
fn cem_iteration(criterion: &mut Criterion) {
    let config = CemConfig {
        iterations: 1,
        ..CemConfig::default()
    };
    let candidates = config.candidates as u64;
    let planner = Cem::new(config).expect("the defaults are valid");
    let mut group = criterion.benchmark_group("cem");
    group.throughput(Throughput::Elements(candidates));
    group.bench_function("iteration_in_wall", |bencher| {
        let key = PlanKey {
            suite: 1,
            task: "wall@1",
            episode_seed: 1,
            replan: 0,
        };
        bencher.iter_batched_ref(
            WallCost::new,
            |cost| planner.plan(SHAPE, cost, &mut StreamNoise::new(&key)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn pointmaze_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pointmaze");
    group.throughput(Throughput::Elements(1));
    // Along the upper corridor and against its ends, now and then against its sides.
    let mut maze = Dynamics::new(ContactModel::Mujoco23);
    maze.set([1.0, 3.0, 0.0, 0.0]);
    let mut count = 0_u32;
    group.bench_function("step", |bencher| {
        bencher.iter(|| {
            count = count.wrapping_add(1);
            let along = if (count / 40).is_multiple_of(2) {
                1.0
            } else {
                -1.0
            };
            let across = if (count / 7).is_multiple_of(2) {
                0.5
            } else {
                -0.5
            };
            maze.step(black_box([along, across]));
        });
    });
    let renderer = Renderer::new(224);
    group.bench_function("step_and_frame", |bencher| {
        bencher.iter(|| {
            maze.step(black_box([0.01, 0.0]));
            let [x, y, ..] = *maze.state();
            renderer.draw([x, y])
        });
    });
    group.finish();
}

/// State and actions of an episode in which the block is pushed about.
fn pusht_episode() -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut env = PushT::default();
    let stream = Stream::new(1, &["bench", "pusht"]);
    let mut push = env.behaviour("push", stream).expect("`push` exists");
    let start = push.start();
    assert!(env.reset_to(&start).is_ok());
    let mut act = |_| {
        let action = push.action(env.state());
        assert!(env.step(&action).is_ok());
        action
    };
    (start, (0..100).map(&mut act).collect())
}

fn pusht_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pusht");
    group.throughput(Throughput::Elements(1));
    let (start, actions) = pusht_episode();
    let begin = start.as_slice().try_into().expect("seven numbers");
    let mut table = pusht::Dynamics::new(Shape::T);
    let mut step = 0;
    group.bench_function("step", |bencher| {
        bencher.iter(|| {
            if step == 0 {
                table.reset(black_box(begin));
            }
            table.step(black_box([actions[step][0], actions[step][1]]));
            step = (step + 1) % actions.len();
        });
    });
    let mut env = PushT::default();
    let mut step = 0;
    group.bench_function("step_and_frame", |bencher| {
        bencher.iter(|| {
            let is_reset = step > 0 || env.reset_to(black_box(&start)).is_ok();
            let outcome = env.step(black_box(&actions[step]));
            step = (step + 1) % actions.len();
            (is_reset, outcome.is_ok(), env.render(Size::Native))
        });
    });
    group.finish();
}

fn wall_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wall");
    group.throughput(Throughput::Elements(1));
    let mut wall = Wall::default();
    group.bench_function("step", |bencher| {
        let mut sign = 1.0;
        bencher.iter(|| {
            sign = -sign;
            wall.step(black_box(&[sign, 0.3 * sign]))
        });
    });
    group.bench_function("step_and_native_frame", |bencher| {
        bencher.iter(|| {
            let outcome = wall.step(black_box(&[0.01, 0.0]));
            (outcome.is_ok(), wall.render(Size::Native))
        });
    });
    group.bench_function("planner_frame", |bencher| {
        bencher.iter(|| wall.render(Size::Planner));
    });
    group.finish();
}

criterion_group!(
    benches,
    cem_iteration,
    pointmaze_step,
    pusht_step,
    wall_step
);
criterion_main!(benches);
