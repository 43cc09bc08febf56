//! What of a model the paper varies, read from its training configuration.

use serde::Serialize;
use serde_json::Value;

/// Design values of a model; `None` where its configuration does not say or it has no such thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Design {
    /// `token.predictor.kind`.
    pub predictor: Option<String>,
    /// `token.predictor.depth`, blocks.
    pub depth: Option<u64>,
    /// `token.objective.<objective>.steps`, steps of the rollout loss.
    pub rollout_steps: Option<u64>,
    /// `training.horizon`, frames that the predictor is trained on, `W`.
    pub context: Option<u64>,
    /// Whether `token.predictor` takes proprio: a width above 0, or a token of its own.
    pub proprio: Option<bool>,
    /// Name of the imported encoder, or else `token.encoder.kind`.
    pub encoder: Option<String>,
}

impl Design {
    /// Reads a resolved training configuration (`config` of the training run's `config.json`); `encoder` is the name of
    /// the imported encoder, if it has one. Models that are no token grids have nothing that the paper varies.
    pub fn of(config: &Value, encoder: Option<String>) -> Self {
        let Some(token) = config.get("token").filter(|token| token.is_object()) else {
            return Self::default();
        };
        let predictor = &token["predictor"];
        let objective = token["objective"].as_object();
        let steps =
            objective.and_then(|named| named.values().find_map(|one| one["steps"].as_u64()));
        let width = predictor["proprio_width"].as_u64();
        let has_token = predictor["proprio_token"].as_bool().unwrap_or(false);
        Self {
            predictor: predictor["kind"].as_str().map(String::from),
            depth: predictor["depth"].as_u64(),
            rollout_steps: steps,
            context: config["training"]["horizon"].as_u64(),
            proprio: width.map(|width| width > 0 || has_token),
            encoder: encoder.or_else(|| token["encoder"]["kind"].as_str().map(String::from)),
        }
    }

    /// Family of the encoder: the first word of a released encoder's name, else all of it.
    pub(crate) fn encoder_family(&self) -> Option<&str> {
        let name = self.encoder.as_deref()?;
        let is_sized = self.size().is_some();
        Some(name.split('-').next().filter(|_| is_sized).unwrap_or(name))
    }

    /// Size of a released encoder by its name: 0 for S, 1 for B, 2 for L.
    pub(crate) fn size(&self) -> Option<usize> {
        let mut words = self.encoder.as_deref()?.split('-');
        words.find_map(|word| SIZES.iter().position(|size| *size == word))
    }
}

/// Words for the sizes of encoders.
const SIZES: [&str; 3] = ["small", "base", "large"];

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        serde_json::json!({
            "model": "ours",
            "token": {
                "window": 2,
                "encoder": {"kind": "imported", "weights": "anywhere"},
                "predictor": {"kind": "adaln", "depth": 6, "proprio_width": 16},
                "objective": {"rollout": {"steps": 2, "strategy": "last_gradient_only"}}
            },
            "training": {"horizon": 3}
        })
    }

    #[test]
    fn design_values_come_from_the_configuration() {
        let design = Design::of(&config(), Some("dinov2-base-registers".into()));
        let expected = Design {
            predictor: Some("adaln".into()),
            depth: Some(6),
            rollout_steps: Some(2),
            context: Some(3),
            proprio: Some(true),
            encoder: Some("dinov2-base-registers".into()),
        };
        assert_eq!(design, expected);
        assert_eq!(
            (design.encoder_family(), design.size()),
            (Some("dinov2"), Some(1))
        );
    }

    #[test]
    fn without_proprio_is_a_width_of_zero_and_no_token() {
        let mut config = config();
        config["token"]["predictor"]["proprio_width"] = 0.into();
        assert_eq!(Design::of(&config, None).proprio, Some(false));
        config["token"]["predictor"]["proprio_token"] = true.into();
        assert_eq!(Design::of(&config, None).proprio, Some(true));
    }

    #[test]
    fn encoders_trained_here_have_a_kind_and_no_size() {
        let mut config = config();
        config["token"]["encoder"]["kind"] = "pldm-grid".into();
        let design = Design::of(&config, None);
        assert_eq!(
            (design.encoder_family(), design.size()),
            (Some("pldm-grid"), None)
        );
        assert_eq!(
            Design::of(&serde_json::json!({"model": "pldm"}), None),
            Design::default()
        );
    }
}
