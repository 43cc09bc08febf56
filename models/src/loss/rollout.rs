//! Rollout terms: losses of predictions that were made from predictions (models.md sections 4.3 and 4.4).
//!
//! The *order* of a prediction is the number of predictor calls since the encoded frames; teacher forcing has
//! order 1. Three strategies make the orders 2 to `k`:
//!
//! - *last gradient only* (the paper's): from the frames `0..=t` and the teacher-forcing prediction of frame
//!   `t + 1`, one frame after the other, the predictor seeing the last few;
//! - *equal order*: each call takes the whole output of the call before, all of one order;
//! - *all gradients*: each call takes the first encoded frame and the newest prediction of every other one.
//!
//! With `rollout_stop_gradient` the input of every call is a constant, in all three. Targets always are.

use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::elementwise::proprio_width;
use super::objective::{Draws, ObjectiveConfig, ProprioRollout};
use crate::predictor::{TokenModel, TokenState};
use crate::{Error, Result};

/// How predictions of order 2 and above are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStrategy {
    /// One frame after the other, from a prefix of encoded frames.
    #[default]
    LastGradientOnly,
    /// The whole sequence again, all of one order.
    EqualOrder,
    /// The whole sequence again, behind the first encoded frame.
    AllGradients,
}

/// What every strategy starts from.
#[derive(Debug)]
pub(crate) struct RolloutInputs<'a> {
    /// The `T` encoded frames.
    pub truth: &'a TokenState,
    /// Normalised action blocks, `[B, T, A]`.
    pub actions: &'a Tensor<3>,
    /// Teacher-forcing predictions of the frames `1..T`.
    pub first: &'a TokenState,
}

/// Losses of the orders 2 to `k`, averaged over the prefixes of `draws`, `[1]` each.
///
/// # Errors
/// [`Error::Config`] when there is no prefix, a prefix leaves no room for the steps, or the model does not predict
/// the proprio that is to be fed back.
pub(crate) fn rollout_terms<M: TokenModel>(
    config: &ObjectiveConfig,
    model: &M,
    inputs: &RolloutInputs<'_>,
    draws: &Draws,
) -> Result<Vec<Tensor<1>>> {
    if config.steps < 2 {
        return Ok(Vec::new());
    }
    let rollout = Rollout {
        config,
        model,
        inputs,
    };
    match config.strategy {
        RolloutStrategy::LastGradientOnly => rollout.mean_over(&draws.prefixes),
        RolloutStrategy::EqualOrder => rollout.equal_order(draws),
        RolloutStrategy::AllGradients => rollout.all_gradients(draws),
    }
}

struct Rollout<'a, M> {
    config: &'a ObjectiveConfig,
    model: &'a M,
    inputs: &'a RolloutInputs<'a>,
}

impl<M: TokenModel> Rollout<'_, M> {
    /// Terms of the sequential rollout, averaged over prefixes.
    fn mean_over(&self, prefixes: &[usize]) -> Result<Vec<Tensor<1>>> {
        let mut sums: Option<Vec<Tensor<1>>> = None;
        for prefix in prefixes {
            let terms = self.after_prefix(*prefix)?;
            sums = Some(match sums {
                None => terms,
                Some(sums) => sums.into_iter().zip(terms).map(|(a, b)| a + b).collect(),
            });
        }
        let sums = sums.ok_or_else(|| Error::Config {
            key: "loss.prefix",
            detail: "gives no frame to start a rollout from".into(),
        })?;
        let count = prefixes.len() as f64;
        Ok(sums.into_iter().map(|sum| sum / count).collect())
    }

    /// Terms of the sequential rollout from the encoded frames `0..=prefix`.
    fn after_prefix(&self, prefix: usize) -> Result<Vec<Tensor<1>>> {
        let (config, truth) = (self.config, self.inputs.truth);
        if prefix + config.steps >= truth.frames() {
            return Err(Error::Config {
                key: "loss.prefix",
                detail: format!(
                    "{prefix} leaves no room for {} steps in {} frames",
                    config.steps,
                    truth.frames()
                ),
            });
        }
        let fed = self.to_feed(self.inputs.first.slice(prefix, prefix + 1), prefix + 1)?;
        let mut states = truth.slice(0, prefix + 1).then(fed);
        let mut terms = Vec::with_capacity(config.steps - 1);
        for _ in 2..=config.steps {
            // The next frame has the index `frames`.
            let frames = states.frames();
            let from = frames.saturating_sub(config.ctxt_window_train_rollout);
            let output = self.predict(states.slice(from, frames), from);
            let predicted = output.slice(frames - from - 1, frames - from);
            terms.push(self.loss(&predicted, frames));
            states = states.then(self.to_feed(predicted, frames)?);
        }
        Ok(terms)
    }

    fn equal_order(&self, draws: &Draws) -> Result<Vec<Tensor<1>>> {
        let last = self.inputs.truth.frames() - 1;
        let mut newest = self.inputs.first.clone();
        let mut terms = Vec::with_capacity(self.config.steps - 1);
        for order in 2..=self.config.steps {
            // `newest` predicts the frames `order - 1 ..= last`; the last one has no successor.
            let input = newest.slice(0, last - order + 1);
            let input = self.to_feed(input, order - 1)?;
            let input = self.with_encoded(input, order - 1, draws.encoded.get(order - 2));
            newest = self.predict(input, order - 1);
            terms.push(self.loss(&newest, order));
        }
        Ok(terms)
    }

    fn all_gradients(&self, draws: &Draws) -> Result<Vec<Tensor<1>>> {
        let truth = self.inputs.truth;
        let last = truth.frames() - 1;
        let mut newest = self.inputs.first.clone();
        let mut terms = Vec::with_capacity(self.config.steps - 1);
        for order in 2..=self.config.steps {
            let later = self.to_feed(newest.slice(0, last - 1), 1)?;
            let later = self.with_encoded(later, 1, draws.encoded.get(order - 2));
            // `newest` predicts the frames `1..=last`. Those before `order` repeat the calls before this one.
            newest = self.predict(truth.slice(0, 1).then(later), 0);
            terms.push(self.loss(&newest.slice(order - 1, last), order));
        }
        Ok(terms)
    }

    /// The predictor on frames that begin with the one of index `from`.
    fn predict(&self, input: TokenState, from: usize) -> TokenState {
        let input = if self.config.rollout_stop_gradient {
            input.detach()
        } else {
            input
        };
        let to = from + input.frames();
        self.model
            .predict(input, self.inputs.actions.clone().slice_dim(1, from..to))
    }

    /// Loss of predicted frames that begin with the one of index `from`.
    fn loss(&self, predicted: &TokenState, from: usize) -> Tensor<1> {
        let target = self
            .inputs
            .truth
            .slice(from, from + predicted.frames())
            .detach();
        self.config.state.between(predicted.clone(), target).total
    }

    /// Predicted frames, from the one of index `from`, with the proprio that the next call sees.
    fn to_feed(&self, predicted: TokenState, from: usize) -> Result<TokenState> {
        let truth = &self.inputs.truth.proprio;
        let proprio = match self.config.proprio_rollout {
            ProprioRollout::Predicted => predicted.proprio,
            ProprioRollout::GroundTruth => {
                let to = from + predicted.visual.dims()[1];
                truth.clone().map(|proprio| proprio.slice_dim(1, from..to))
            }
        };
        let fed = TokenState {
            visual: predicted.visual,
            proprio,
        };
        if proprio_width(&fed) != proprio_width(self.inputs.truth) {
            return Err(Error::Config {
                key: "loss.proprio_rollout",
                detail: "must be `ground_truth` for a model that does not predict its proprio"
                    .into(),
            });
        }
        Ok(fed)
    }

    /// Frames from the one of index `from`, some of them replaced by the encoded ones.
    fn with_encoded(
        &self,
        input: TokenState,
        from: usize,
        encoded: Option<&Vec<bool>>,
    ) -> TokenState {
        let Some(encoded) = encoded else {
            return input;
        };
        let [batch, frames, _, _] = input.visual.dims();
        let all = self.inputs.truth.frames();
        let chosen = TensorData::new(encoded.clone(), [batch, all, 1, 1]);
        let chosen = Tensor::<4, Bool>::from_data(chosen, &input.visual.device());
        let chosen = chosen.slice_dim(1, from..from + frames);
        let replace = |predicted: Tensor<4>, truth: Tensor<4>| {
            let mask = chosen.clone().expand(predicted.dims());
            predicted.mask_where(mask, truth)
        };
        let truth = self.inputs.truth.slice(from, from + frames);
        TokenState {
            visual: replace(input.visual, truth.visual),
            proprio: input.proprio.zip(truth.proprio).map(|(a, b)| replace(a, b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::teacher_forcing;
    use crate::loss::toy::{Toy, ToyProprio, gradient, number, state};

    const STATES: [f32; 4] = [0.0, 1.0, 3.0, 6.0];
    const ACTIONS: [f32; 4] = [1.0, 2.0, 3.0, 50.0];

    fn config(strategy: RolloutStrategy, steps: usize) -> ObjectiveConfig {
        ObjectiveConfig {
            steps,
            strategy,
            ..ObjectiveConfig::default()
        }
    }

    fn terms(toy: &Toy, config: &ObjectiveConfig, draws: &Draws) -> Vec<Tensor<1>> {
        let (truth, actions) = (toy.frames(&STATES), toy.actions(&ACTIONS));
        let first = teacher_forcing::predictions(toy, &truth, &actions);
        let inputs = RolloutInputs {
            truth: &truth,
            actions: &actions,
            first: &first,
        };
        rollout_terms(config, toy, &inputs, draws).unwrap()
    }

    fn from_prefix(prefix: usize) -> Draws {
        Draws {
            prefixes: vec![prefix],
            encoded: Vec::new(),
        }
    }

    fn assert_numbers(terms: &[Tensor<1>], expected: &[f64]) {
        let ours: Vec<f64> = terms.iter().map(number).collect();
        let close = ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(
            close && ours.len() == expected.len(),
            "{ours:?} {expected:?}"
        );
    }

    #[test]
    fn a_third_step_feeds_the_second_back() {
        // 0.9, then 0.9 + 1.8 = 2.7 of 3, then 2.7 + 2.7 = 5.4 of 6.
        let toy = Toy::new(0.9);
        let mut config = config(RolloutStrategy::LastGradientOnly, 3);
        let rollout = terms(&toy, &config, &from_prefix(0));
        assert_numbers(&rollout, &[0.09, 0.36]);
        // Detached: 2 (-0.6) 3; through the graph: 2 (-0.6) (1 + 2 + 3).
        assert!((gradient(&rollout[1], &toy.coefficient) + 3.6).abs() < 1e-5);
        config.rollout_stop_gradient = false;
        let rollout = terms(&toy, &config, &from_prefix(0));
        assert!((gradient(&rollout[1], &toy.coefficient) + 7.2).abs() < 1e-5);
    }

    #[test]
    fn the_window_bounds_what_the_predictor_sees() {
        // States 0, 0.9: mean 0.45, so 2.25 of 3; with a window of one, 0.9 + 1.8 = 2.7. Then (0, 0.9, 2.25) has
        // the mean 1.05, so 3.75 of 6; (0.9, 2.25) has 1.575, so 4.275; with a window of one 5.4.
        let toy = Toy::new(0.9).with_memory();
        let errors = |window: usize| {
            let config = ObjectiveConfig {
                ctxt_window_train_rollout: window,
                ..config(RolloutStrategy::LastGradientOnly, 3)
            };
            terms(&toy, &config, &from_prefix(0))
        };
        assert_numbers(&errors(3), &[0.75 * 0.75, 2.25 * 2.25]);
        assert_numbers(&errors(2), &[0.75 * 0.75, 1.725 * 1.725]);
        assert_numbers(&errors(1), &[0.09, 0.36]);
    }

    #[test]
    fn equal_order_feeds_whole_outputs_back() {
        // Order 1: 0.9, 2.8, 5.7. Order 2 from 0.9 and 2.8: 2.7 of 3, 5.5 of 6. Order 3 from 2.7: 5.4 of 6.
        let toy = Toy::new(0.9);
        let mut config = config(RolloutStrategy::EqualOrder, 3);
        let rollout = terms(&toy, &config, &Draws::default());
        assert_numbers(&rollout, &[0.17, 0.36]);
        // (2 (-0.3) 2 + 2 (-0.5) 3) / 2 with constants as input; (2 (-0.3) 3 + 2 (-0.5) 5) / 2 without.
        assert!((gradient(&rollout[0], &toy.coefficient) + 2.1).abs() < 1e-5);
        config.rollout_stop_gradient = false;
        let rollout = terms(&toy, &config, &Draws::default());
        assert!((gradient(&rollout[0], &toy.coefficient) + 3.4).abs() < 1e-5);
    }

    #[test]
    fn equal_order_forgets_the_frames_before_its_first_prediction() {
        // Order 1 with memory: 0.9, 2.3, 4.0333. Order 2 from 0.9 and 2.3: 2.7 of 3, 1.6 + 2.7 = 4.3 of 6.
        let toy = Toy::new(0.9).with_memory();
        let rollout = terms(
            &toy,
            &config(RolloutStrategy::EqualOrder, 2),
            &Draws::default(),
        );
        assert_numbers(&rollout, &[f64::midpoint(0.09, 1.7 * 1.7)]);
    }

    #[test]
    fn all_gradients_keeps_the_first_encoded_frame_and_the_newest_predictions() {
        // Order 1: 0.9, 2.3, 4.0333. Order 2 from 0, 0.9, 2.3: 0.9, 2.25 of 3, 3.2/3 + 2.7 of 6. Order 3 from
        // 0, 0.9, 2.25: 3.15/3 + 2.7 = 3.75 of 6. Frames of a lower order than the term do not count.
        let toy = Toy::new(0.9).with_memory();
        let mut config = config(RolloutStrategy::AllGradients, 3);
        let rollout = terms(&toy, &config, &Draws::default());
        let last: f64 = 6.0 - 2.7 - 3.2 / 3.0;
        assert_numbers(&rollout, &[f64::midpoint(0.5625, last * last), 2.25 * 2.25]);
        // Constants as input: (2 (-0.75) 2 + 2 (-last) 3) / 2. Through the graph frame 1 moves by 1 and frame 2,
        // from 0.5, by 2, so frame 2 of order 2 moves by 1/2 + 2 and frame 3 by (1 + 2) / 3 + 3.
        assert!((gradient(&rollout[0], &toy.coefficient) + 1.5 + 3.0 * last).abs() < 1e-5);
        config.rollout_stop_gradient = false;
        let rollout = terms(&toy, &config, &Draws::default());
        let slope = 0.75 * 2.5 + last * 4.0;
        assert!((gradient(&rollout[0], &toy.coefficient) + slope).abs() < 1e-5);
    }

    #[test]
    fn encoded_frames_take_the_place_of_predictions_where_they_were_drawn() {
        let toy = Toy::new(0.9);
        let draws = |frames: [bool; 4]| Draws {
            prefixes: Vec::new(),
            encoded: vec![frames.to_vec()],
        };
        for strategy in [RolloutStrategy::EqualOrder, RolloutStrategy::AllGradients] {
            let config = config(strategy, 2);
            // Frame 1 is 1 in place of 0.9: 2.8 of 3, and 5.5 of 6 as before.
            let rollout = terms(&toy, &config, &draws([false, true, false, false]));
            assert_numbers(&rollout, &[0.145]);
            // Frame 2 is 3 in place of 2.8: 5.7 of 6.
            let rollout = terms(&toy, &config, &draws([false, false, true, false]));
            assert_numbers(&rollout, &[0.09]);
        }
    }

    #[test]
    fn proprio_is_fed_back_from_the_model_or_from_the_data() {
        // Features 1, 2, 4 that the toy predicts to stay as they are: order 2 predicts frame 2 from frame 1.
        let toy = ToyProprio::new(1.0);
        let truth = state(&toy, &[0.0; 3], &[1.0, 2.0, 4.0]);
        let actions = Toy::new(0.0).actions(&[0.0; 3]);
        let first = teacher_forcing::predictions(&toy, &truth, &actions);
        let inputs = RolloutInputs {
            truth: &truth,
            actions: &actions,
            first: &first,
        };
        for strategy in [
            RolloutStrategy::LastGradientOnly,
            RolloutStrategy::EqualOrder,
        ] {
            let mut config = config(strategy, 2);
            let term = |config: &ObjectiveConfig| {
                rollout_terms(config, &toy, &inputs, &from_prefix(0)).unwrap()
            };
            // Predicted: 1 of 4. From the data: 2 of 4.
            assert_numbers(&term(&config), &[9.0]);
            config.proprio_rollout = ProprioRollout::GroundTruth;
            assert_numbers(&term(&config), &[4.0]);
        }
    }

    #[test]
    fn a_prefix_without_room_and_a_rollout_without_prefix_are_refused() {
        let toy = Toy::new(0.9);
        let (truth, actions) = (toy.frames(&STATES), toy.actions(&ACTIONS));
        let first = teacher_forcing::predictions(&toy, &truth, &actions);
        let inputs = RolloutInputs {
            truth: &truth,
            actions: &actions,
            first: &first,
        };
        let config = config(RolloutStrategy::LastGradientOnly, 2);
        for draws in [Draws::default(), from_prefix(2)] {
            let error = rollout_terms(&config, &toy, &inputs, &draws).unwrap_err();
            assert!(error.to_string().contains("loss.prefix"), "{error}");
        }
    }
}
