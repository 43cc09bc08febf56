//! Any Gymnasium environment with vector observations and actions, through the bridge.

use serde::Deserialize;
use serde_json::json;

use super::{Bridged, Compared, Rules, Success};
use crate::Result;
use crate::env::{EnvEntry, Fields, Limits, PLANNER_SIZE, settings};

/// The line in [`crate::env::ENVIRONMENTS`].
pub(in crate::env) const ENTRY: EnvEntry = EnvEntry {
    name: "gymnasium",
    summary: "any Gymnasium environment of vectors; goals are where random actions lead (through Python)",
    limits: Limits {
        // Those of an environment are known when it is started.
        state_width: 0,
        proprio_width: 0,
        action_width: 0,
        native_size: PLANNER_SIZE,
        nominal_action: 1.0,
        settles: false,
        normalizer: "",
        distance_unit: "units of the observation",
        oracle_cost: "squared distance of the observations",
    },
    check: |table| {
        settings::read::<GymnasiumConfig>(table, KNOWN)?
            .rules()
            .map(drop)
    },
    build: |table| {
        let config: GymnasiumConfig = settings::read(table, KNOWN)?;
        Ok(Box::new(Bridged::open(config.rules()?)?))
    },
    behaviours: &[],
    outside: true,
    fields: Fields {
        camera: "render",
        action: ["native", "action of the environment, clipped to its bounds"],
        proprio: ["native", "observation of the environment"],
        state: ["native", "observation, seed, steps"],
    },
};

/// What the settings are, for errors.
const KNOWN: &str = "`gymnasium` needs `id` (such as `Pusher-v5`) and knows `success_distance`, `goal_steps` and `frame_size`";

/// Numbers after the observation in a state.
const AFTER: usize = 2;

/// Settings of a Gymnasium environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GymnasiumConfig {
    /// Its registered name.
    id: String,
    /// An observation nearer to the goal's than this has reached it.
    success_distance: f64,
    /// Random actions that lead to the goal.
    goal_steps: usize,
    /// Rows and columns of a frame.
    frame_size: usize,
}

impl Default for GymnasiumConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            success_distance: 0.1,
            goal_steps: 30,
            frame_size: PLANNER_SIZE,
        }
    }
}

impl GymnasiumConfig {
    fn rules(&self) -> Result<Rules> {
        settings::positive("success_distance", self.success_distance, KNOWN)?;
        if self.id.is_empty() {
            return Err(settings::invalid("`id` is missing", KNOWN));
        }
        Ok(Rules {
            entry: &ENTRY,
            adapter: "gymnasium",
            settings: json!({"id": self.id, "goal_steps": self.goal_steps, "frame_size": self.frame_size}),
            success: Success::Distance(self.success_distance),
            compared: Compared::AllBut(AFTER),
        })
    }
}
