//! The cross-entropy method on a cost with a known optimum: a dot pulled to (1, -2) in six moves.
//!
//! ```sh
//! cargo run --release --example plan_on_quadratic
//! ```

use std::io::Write;

use jepa_bench::Result;
use jepa_bench::planner::cem::{Cem, CemConfig};
use jepa_bench::planner::{ActionBatch, CostModel, PlanShape, Planner};
use jepa_bench::seeds::{PlanKey, StreamNoise};

/// Squared distance of the last position from the goal, plus a small price for long moves.
struct Pull {
    goal: [f64; 2],
}

impl CostModel for Pull {
    fn costs(&mut self, actions: &ActionBatch) -> Result<Vec<f64>> {
        let cost = |candidate| {
            let moves = actions.candidate(candidate);
            let end = |axis: usize| moves.iter().skip(axis).step_by(2).sum::<f64>();
            let miss: f64 = (0..2)
                .map(|axis| (end(axis) - self.goal[axis]).powi(2))
                .sum();
            miss + 0.1 * moves.iter().map(|value| value * value).sum::<f64>()
        };
        Ok((0..actions.samples).map(cost).collect())
    }
}

fn main() -> Result<()> {
    let planner = Cem::new(CemConfig {
        candidates: 200,
        iterations: 20,
        ..CemConfig::default()
    })?;
    let shape = PlanShape {
        horizon: 6,
        width: 2,
    };
    let key = PlanKey {
        suite: 1,
        task: "example",
        episode_seed: 0,
        replan: 0,
    };
    let plan = planner.plan(
        shape,
        &mut Pull { goal: [1.0, -2.0] },
        &mut StreamNoise::new(&key),
    )?;

    let mut out = std::io::stdout().lock();
    for (iteration, best) in plan.trace.best.iter().enumerate() {
        let _ = writeln!(out, "iteration {iteration:2}: best cost {best:.6}");
    }
    for (step, action) in plan.actions.chunks(2).enumerate() {
        let _ = writeln!(out, "step {step}: {:+.3} {:+.3}", action[0], action[1]);
    }
    Ok(())
}
