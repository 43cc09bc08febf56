//! Metaworld v3 through the bridge (evaluation.md section 1.4).

use serde::Deserialize;
use serde_json::json;

use super::{Bridged, Compared, Rules, Success};
use crate::env::{EnvEntry, Fields, Limits, PLANNER_SIZE, settings};

/// The line in [`crate::env::ENVIRONMENTS`].
pub(in crate::env) const ENTRY: EnvEntry = EnvEntry {
    name: "metaworld",
    summary: "a Sawyer arm at a table, 50 tasks (Metaworld v3, through Python)",
    limits: Limits {
        // Of `reach-v3`; a task with more things in it has more.
        state_width: 99,
        proprio_width: 4,
        action_width: 4,
        native_size: PLANNER_SIZE,
        nominal_action: 1.0,
        settles: false,
        normalizer: "metaworld",
        distance_unit: "metres and other units of the observation",
        oracle_cost: "squared distance of the hands",
    },
    check: |table| settings::read::<MetaworldConfig>(table, KNOWN).map(drop),
    build: |table| {
        let config: MetaworldConfig = settings::read(table, KNOWN)?;
        Ok(Box::new(Bridged::open(config.rules())?))
    },
    behaviours: &[],
    outside: true,
    fields: Fields {
        camera: "corner2",
        action: [
            "centimetres, newtons",
            "move of the hand x, y, z, clipped to [-1, 1], and closing force of the gripper",
        ],
        proprio: ["metres", "hand x, y, z and opening of the gripper"],
        state: [
            "metres and others",
            "observation of 39 numbers, success, seed, steps, state of the simulator",
        ],
    },
};

/// What the settings are, for errors.
const KNOWN: &str = "`metaworld` knows `task` (such as `reach-v3`) and `frame_size`";

/// Numbers of an observation, at the beginning of a state.
const OBSERVATION: usize = 39;

/// Settings of Metaworld.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MetaworldConfig {
    /// Task, as Metaworld calls it.
    task: String,
    /// Rows and columns of a frame.
    frame_size: usize,
}

impl Default for MetaworldConfig {
    fn default() -> Self {
        Self {
            task: "reach-v3".into(),
            frame_size: PLANNER_SIZE,
        }
    }
}

impl MetaworldConfig {
    fn rules(&self) -> Rules {
        Rules {
            entry: &ENTRY,
            adapter: "metaworld",
            settings: json!({"task": self.task, "frame_size": self.frame_size}),
            success: Success::Flag(OBSERVATION),
            compared: Compared::First(OBSERVATION),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_the_other_end() {
        let read = |text: &str| settings::read::<MetaworldConfig>(&text.parse().unwrap(), KNOWN);
        let rules = read("task = \"push-v3\"\nframe_size = 256")
            .unwrap()
            .rules();
        assert_eq!(
            rules.settings,
            json!({"task": "push-v3", "frame_size": 256})
        );
        let error = read("tusk = \"push-v3\"").unwrap_err();
        assert!(error.hint().unwrap().contains("`task`"), "{error}");
    }
}
