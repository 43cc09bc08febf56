//! The seam between models and everything that plans with them: plain arrays in, plain arrays out.
//!
//! A [`WorldModel`] encodes one observation into a [`Latent`], predicts latents under actions
//! ([`WorldModel::unroll`]) and scores action sequences by how close they bring the latent to a
//! goal ([`WorldModel::costs`]). No tensor type of the back end crosses this seam, so a planner
//! works with every model, and a model of another framework can be put behind the trait.

use jepa_datasets::Normalizer;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One RGB image.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Pixels, `[h, w, 3]`, row-major, 0..=255.
    pub rgb: &'a [u8],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// What a model knows about one moment: `N` visual tokens of width `D`, and the proprio code.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// Visual tokens, `[N * D]`.
    pub visual: Vec<f32>,
    /// Proprio code, `[P]`; empty for models without proprio.
    pub proprio: Vec<f32>,
}

/// Candidate action sequences in normalised units.
#[derive(Debug, Clone, Copy)]
pub struct ActionBatch<'a> {
    /// Values, `[S, H, A]`, row-major.
    pub values: &'a [f32],
    /// Candidates `S`.
    pub samples: usize,
    /// Model steps `H`.
    pub horizon: usize,
    /// Action block width `A = frameskip * action_dim`.
    pub width: usize,
}

impl ActionBatch<'_> {
    /// Checks that the sizes agree with the values and with a model of block width `width`.
    pub(crate) fn check(&self, width: usize) -> Result<()> {
        if self.width != width {
            return Err(Error::Shape {
                what: "action block width",
                expected: width.to_string(),
                actual: self.width.to_string(),
            });
        }
        let expected = self.samples * self.horizon * self.width;
        if self.values.len() != expected || expected == 0 {
            return Err(Error::Shape {
                what: "action batch",
                expected: format!(
                    "[{}, {}, {}], not empty",
                    self.samples, self.horizon, self.width
                ),
                actual: format!("{} values", self.values.len()),
            });
        }
        Ok(())
    }
}

/// Predicted latents of every candidate after each of its actions; the start is not included.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Visual tokens, `[S, H, N * D]`.
    pub visual: Vec<f32>,
    /// Proprio codes, `[S, H, P]`; empty for models without proprio.
    pub proprio: Vec<f32>,
    /// Candidates `S`.
    pub samples: usize,
    /// Model steps `H`.
    pub horizon: usize,
}

/// Costs of candidates and their slopes.
#[derive(Debug, Clone, PartialEq)]
pub struct CostGradients {
    /// Cost of each candidate, `[S]`.
    pub costs: Vec<f64>,
    /// Gradient of the sum of the costs with respect to every action, `[S, H, A]`; since a cost depends on
    /// its own candidate only, row `s` is the gradient of cost `s`.
    pub gradient: Vec<f64>,
}

/// How two latents are compared (evaluation.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Distance {
    /// Mean of squared differences, without root.
    L2,
    /// Mean of absolute differences.
    L1,
    /// Minus the cosine of the angle between them, each as one vector.
    Cosine,
}

/// Below this a length is taken for this, as in the reference.
pub(crate) const SHORTEST: f64 = 1e-8;

/// Minus the cosine between two vectors, from their product and their squared lengths. A vector of length
/// zero has no angle and counts as a right one.
pub(crate) fn minus_cosine(product: f64, squares: [f64; 2]) -> f64 {
    let length = |square: f64| square.sqrt().max(SHORTEST);
    -product / (length(squares[0]) * length(squares[1]))
}

/// Which predicted steps enter the cost (evaluation.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Steps {
    /// The last one.
    Last,
    /// The sum over all predicted steps.
    All,
}

/// What a planner minimises.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostSpec {
    /// Comparison of predicted and goal latent.
    pub distance: Distance,
    /// Steps that count.
    pub steps: Steps,
    /// Weight of the proprio part, which is compared in the same way; ignored by models without proprio.
    pub proprio_weight: f32,
}

/// Where the weights of a trained model come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingInfo {
    /// Training run folder, as given on the command line.
    pub run: String,
    /// Training seed.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Wall-clock seconds of training, over all its sessions.
    pub seconds: f64,
    /// Hash (blake3, hex) of the training configuration without its seed, where it is known.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// Content hash of the dataset.
    pub dataset_hash: String,
    /// Hash of the training split.
    pub train_split_hash: String,
    /// Data track: `standard`, `reduced` or `external` (leaderboard.md section 2).
    pub track: String,
}

/// What a planner or a record needs to know about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Zoo name.
    pub name: String,
    /// Native action width `A_e`.
    pub action_dim: usize,
    /// Native steps per model step.
    pub frameskip: usize,
    /// Proprio width of the dataset.
    pub proprio_dim: usize,
    /// Whether the model sees proprio.
    pub uses_proprio: bool,
    /// Rows of the images it takes.
    pub image_height: usize,
    /// Columns of the images it takes.
    pub image_width: usize,
    /// Numbers per visual latent, `N * D`.
    pub latent_width: usize,
    /// Trainable numbers that planning uses.
    pub parameters: u64,
    /// blake3 of the weight file.
    pub weights_hash: String,
    /// Statistics that normalise native actions.
    pub action: Normalizer,
    /// Statistics that normalise proprio.
    pub proprio: Normalizer,
    /// How it was trained, when it was trained here.
    pub training: Option<TrainingInfo>,
}

impl ModelInfo {
    /// Action block width `A = frameskip * action_dim`.
    pub fn block_width(&self) -> usize {
        self.frameskip * self.action_dim
    }

    /// Refuses a frame of another size than the model's.
    pub(crate) fn check_frame(&self, frame: Frame<'_>) -> Result<()> {
        let (height, width) = (self.image_height, self.image_width);
        if (frame.height, frame.width) == (height, width) && frame.rgb.len() == 3 * height * width {
            return Ok(());
        }
        Err(Error::Shape {
            what: "frame",
            expected: format!("{height}x{width} RGB"),
            actual: format!(
                "{}x{}, {} bytes",
                frame.height,
                frame.width,
                frame.rgb.len()
            ),
        })
    }
}

/// Candidates of one search.
#[derive(Debug, Clone, Copy)]
pub struct ScoreRequest<'a> {
    /// Where they begin.
    pub start: &'a Latent,
    /// What they are to reach.
    pub goal: &'a Latent,
    /// How that is measured.
    pub spec: &'a CostSpec,
    /// The candidates.
    pub actions: ActionBatch<'a>,
}

/// A frozen world model, ready to plan with. One value may be used from many threads.
pub trait WorldModel: Send + Sync {
    /// Sizes, statistics and provenance.
    fn info(&self) -> &ModelInfo;

    /// Encodes one observation.
    ///
    /// `frame` must be of the size in [`ModelInfo`]; `proprio` is in native units, `[P]`, and
    /// ignored by models without proprio.
    fn encode(&self, frame: Frame<'_>, proprio: &[f32]) -> Result<Latent>;

    /// Predicts the latent after each action of each candidate, from one start.
    fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout>;

    /// Candidates of `horizon` model steps that it computes at once. More than these take as long in one call as in
    /// several, with the same costs; between calls a search can be given up.
    fn candidates_at_a_time(&self, _horizon: usize) -> usize {
        usize::MAX
    }

    /// Cost of each candidate, `[S]`, lower is better (evaluation.md section 2).
    fn costs(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<Vec<f64>>;

    /// The costs of several searches, each as [`WorldModel::costs`] gives them, to the last bit. A model that is faster
    /// with many candidates at once puts them into one batch.
    ///
    /// # Errors
    /// Those of [`WorldModel::costs`], for any of them.
    fn costs_of_several(&self, requests: &[ScoreRequest<'_>]) -> Result<Vec<Vec<f64>>> {
        let costs = |request: &ScoreRequest<'_>| {
            let ScoreRequest {
                start,
                goal,
                spec,
                actions,
            } = *request;
            self.costs(start, goal, spec, actions)
        };
        requests.iter().map(costs).collect()
    }

    /// The costs of [`WorldModel::costs`] with their gradients, for planners that descend.
    ///
    /// # Errors
    /// [`Error::NoGradients`] from a model that has none, which is what a model that does not say
    /// otherwise answers.
    fn cost_gradients(
        &self,
        _start: &Latent,
        _goal: &Latent,
        _spec: &CostSpec,
        _actions: ActionBatch<'_>,
    ) -> Result<CostGradients> {
        Err(Error::NoGradients {
            model: self.info().name.clone(),
        })
    }
}
