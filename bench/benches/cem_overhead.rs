//! What the cross-entropy method itself costs beside the model: a whole plan of the paper (300 candidates, 6 model steps,
//! 30 iterations) with `pldm`, timed as a whole and inside the model's costs. Prints the share of the rest.
//!
//! ```text
//! cargo bench -p jepa-bench --bench cem_overhead
//! ```

use std::time::{Duration, Instant};

use jepa_bench::planner::cem::{Cem, CemConfig};
use jepa_bench::planner::{ActionBatch, CostModel, PlanShape, Planner};
use jepa_bench::seeds::{PlanKey, StreamNoise};
use jepa_models::pldm::{DataShape, PldmConfig, untrained};
use jepa_models::{CostSpec, Distance, Frame, Latent, Steps, WorldModel};

const SHAPE: PlanShape = PlanShape {
    horizon: 6,
    width: 10,
};
/// Plans that are timed, after one that is not.
const PLANS: u32 = 5;

/// Costs of `pldm` as the agent asks for them, and the time spent in the model.
struct Timed {
    model: Box<dyn WorldModel>,
    start: Latent,
    goal: Latent,
    inside: Duration,
}

impl Timed {
    fn new() -> anyhow::Result<Self> {
        let shape = DataShape {
            height: 65,
            width: 65,
            action_dim: 2,
            proprio_dim: 2,
        };
        let model = untrained(&PldmConfig::default(), shape, 1)?;
        let latent = |shade: u8| {
            let frame = Frame {
                rgb: &vec![shade; 65 * 65 * 3],
                height: 65,
                width: 65,
            };
            model.encode(frame, &[0.0, 0.0])
        };
        let (start, goal) = (latent(50)?, latent(200)?);
        Ok(Self {
            model,
            start,
            goal,
            inside: Duration::ZERO,
        })
    }
}

impl CostModel for Timed {
    fn costs(&mut self, actions: &ActionBatch) -> jepa_bench::Result<Vec<f64>> {
        let values: Vec<f32> = actions.values.iter().map(|&value| value as f32).collect();
        let batch = jepa_models::ActionBatch {
            values: &values,
            samples: actions.samples,
            horizon: actions.shape.horizon,
            width: actions.shape.width,
        };
        let spec = CostSpec {
            distance: Distance::L2,
            steps: Steps::Last,
            proprio_weight: 0.1,
        };
        let asked = Instant::now();
        let costs = self.model.costs(&self.start, &self.goal, &spec, batch)?;
        self.inside += asked.elapsed();
        Ok(costs)
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints what it found")]
fn main() -> anyhow::Result<()> {
    let planner = Cem::new(CemConfig::default())?;
    let mut cost = Timed::new()?;
    let mut plan = |replan| -> anyhow::Result<[f64; 2]> {
        let key = PlanKey {
            suite: 1,
            task: "wall@1",
            episode_seed: 1,
            replan,
        };
        cost.inside = Duration::ZERO;
        let started = Instant::now();
        planner.plan(SHAPE, &mut cost, &mut StreamNoise::new(&key))?;
        Ok([started.elapsed().as_secs_f64(), cost.inside.as_secs_f64()])
    };
    plan(0)?;
    for replan in 1..=PLANS {
        let [whole, inside] = plan(replan)?;
        let rest = whole - inside;
        println!(
            "plan {replan}: {:.1} ms, of which {:.1} ms in the model; the rest is {:.2} ms, {:.2}%",
            1e3 * whole,
            1e3 * inside,
            1e3 * rest,
            100.0 * rest / whole
        );
    }
    Ok(())
}
