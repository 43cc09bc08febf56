//! Learning rates and weight decays, step by step.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::train::schedule::{DecaySchedule, RateSchedule};
use crate::weights::check::{Case, Comparison, compare};
use crate::{Error, Result};

/// One schedule of the reference and its values from step 1.
#[derive(Deserialize)]
struct Expected {
    cls: String,
    args: Value,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct RateArguments {
    #[serde(default)]
    warmup_steps: u64,
    #[serde(default)]
    anneal_steps: u64,
    #[serde(rename = "T_max")]
    steps: u64,
    start_lr: f64,
    ref_lr: f64,
    final_lr: f64,
}

#[derive(Deserialize)]
struct DecayArguments {
    ref_wd: f64,
    final_wd: f64,
    #[serde(rename = "T_max")]
    steps: u64,
}

pub(super) fn check(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let expected = serde_json::from_value::<BTreeMap<String, Expected>>(case.expected()?);
    let expected = expected.map_err(|e| case.broken(format!("expected.json: {e}")))?;
    let compared = expected.into_iter().map(|(name, expected)| {
        let value =
            schedule(&expected).map_err(|detail| case.broken(format!("{name}: {detail}")))?;
        let ours: Vec<f32> = (1..=expected.values.len() as u64)
            .map(|s| value(s) as f32)
            .collect();
        let expected: Vec<f32> = expected.values.iter().map(|v| *v as f32).collect();
        Ok::<_, Error>(compare(&name, &ours, &expected, case.tolerance()))
    });
    compared.collect()
}

/// Our schedule for one of the reference: a value for every step.
fn schedule(expected: &Expected) -> Result<Box<dyn Fn(u64) -> f64>, String> {
    if expected.cls == "CosineWDSchedule" {
        let arguments = DecayArguments::deserialize(&expected.args).map_err(|e| e.to_string())?;
        let decay = DecaySchedule {
            start: arguments.ref_wd,
            last: arguments.final_wd,
        };
        return Ok(Box::new(move |step| decay.at(step, arguments.steps)));
    }
    let arguments = RateArguments::deserialize(&expected.args).map_err(|e| e.to_string())?;
    let RateArguments {
        warmup_steps,
        anneal_steps,
        start_lr: start,
        ref_lr: peak,
        final_lr: last,
        ..
    } = arguments;
    let rate = match expected.cls.as_str() {
        "WarmupCosineSchedule" => RateSchedule::WarmupCosine {
            start,
            peak,
            last,
            warmup_steps,
        },
        "WSDSchedule" => RateSchedule::WarmupStableDecay {
            start,
            peak,
            last,
            warmup_steps,
            anneal_steps,
        },
        other => return Err(format!("there is no schedule `{other}`")),
    };
    Ok(Box::new(move |step| rate.at(step, arguments.steps)))
}

#[cfg(test)]
mod tests {
    use crate::weights::check::testing::assert_case;

    #[test]
    fn schedules_are_those_of_the_reference() {
        assert_case("schedules");
    }
}
