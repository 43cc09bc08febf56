//! What the planner of a case works with. Planners are not checked here but where they live.

use serde_json::Value;

use super::{Case, planner};
use crate::{Latent, Result, TokenPlanner};

/// A model with the weights of a planner case, and what it plans between.
pub struct Planning {
    /// The model; frames come to it encoded.
    pub model: TokenPlanner,
    /// The encoded start.
    pub start: Latent,
    /// The encoded goal.
    pub goal: Latent,
}

/// The world model of a planner case, with start and goal. Its weights are those of the case, or of the file
/// beside it that the manifest names.
///
/// # Errors
/// Errors of reading the case, and of weights or inputs that do not fit its configuration.
pub fn world_model(case: &Case<'_>) -> Result<Planning> {
    let file = case.manifest().get("model").and_then(Value::as_str);
    let model = planner(case, case.arrays(file.unwrap_or("model.pth.tar"))?)?;
    let inputs = case.arrays("inputs.safetensors")?;
    let latent = |name: &str| -> Result<Latent> {
        let visual = inputs.require(&format!("{name}_visual"))?.values.clone();
        let proprio = inputs.get(&format!("{name}_proprio"));
        model.latent(visual, proprio.map_or(&[][..], |array| &array.values))
    };
    Ok(Planning {
        start: latent("init")?,
        goal: latent("goal")?,
        model,
    })
}
