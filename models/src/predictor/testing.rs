//! Small models and random inputs for the tests of the predictors.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use jepa_datasets::Stream;

use super::token_world_model::{PredictorConfig, TokenWorldModel, TokenWorldModelConfig};
use super::{Grid, TokenModel, TokenState};

/// A grid that is no square.
pub(crate) const GRID: Grid = Grid {
    rows: 2,
    columns: 3,
};

/// Width of the tokens of the small models.
pub(crate) const ENCODER_WIDTH: usize = 10;
pub(crate) const ACTION_DIM: usize = 4;
pub(crate) const PROPRIO_DIM: usize = 3;

/// A model with fresh weights around a small predictor.
pub(crate) fn small(predictor: PredictorConfig) -> TokenWorldModel {
    sized(predictor, PROPRIO_DIM)
}

/// The same with other numbers of proprio.
pub(crate) fn sized(predictor: PredictorConfig, proprio_dim: usize) -> TokenWorldModel {
    let config = TokenWorldModelConfig {
        predictor,
        action_dim: ACTION_DIM,
        proprio_dim,
        normalize_reps: false,
    };
    config.init(&Device::flex()).unwrap().initialise(11)
}

/// Standard normal numbers.
pub(crate) fn random<const D: usize>(name: &str, shape: [usize; D]) -> Tensor<D> {
    let mut stream = Stream::new(5, &[name]);
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|_| stream.normal() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// What a model is fed.
#[derive(Clone)]
pub(crate) struct Input {
    pub visual: Tensor<4>,
    pub proprio: Tensor<3>,
    pub actions: Tensor<3>,
}

impl Input {
    /// Two samples of `frames` frames.
    pub(crate) fn random(model: &TokenWorldModel, frames: usize) -> Self {
        let tokens = model.config().grid().tokens();
        Self {
            visual: random("visual", [2, frames, tokens, ENCODER_WIDTH]),
            proprio: random("proprio", [2, frames, model.config().proprio_dim]),
            actions: random("actions", [2, frames, ACTION_DIM]),
        }
    }

    /// The predictions of every frame.
    pub(crate) fn predict(self, model: &TokenWorldModel) -> TokenState {
        let proprio = match model.config().proprio_dim {
            0 => None,
            _ => model.embed_proprio(self.proprio),
        };
        let state = TokenState {
            visual: self.visual,
            proprio,
        };
        model.predict(state, self.actions)
    }
}

/// Checks that no output before frame `j` changes by a single bit when an input of frame `j` does, and that
/// the output of frame `j` does change, for every `j` and every kind of input.
#[track_caller]
pub(crate) fn assert_causal(model: &TokenWorldModel) {
    const FRAMES: usize = 3;
    let input = Input::random(model, FRAMES);
    let before = input.clone().predict(model);
    for frame in 0..FRAMES {
        let at = |x: Tensor<3>| x.clone().slice_dim(1, frame..frame + 1) * 1.5 + 0.25;
        let place = |x: Tensor<3>| {
            let [batch, _, width] = x.dims();
            x.clone()
                .slice_assign([0..batch, frame..frame + 1, 0..width], at(x))
        };
        let flat = |x: Tensor<4>| {
            let [batch, frames, tokens, width] = x.dims();
            x.reshape([batch, frames, tokens * width])
        };
        let mut changes = vec![
            (
                "visual",
                Input {
                    visual: place(flat(input.visual.clone())).reshape(input.visual.dims()),
                    ..input.clone()
                },
            ),
            (
                "actions",
                Input {
                    actions: place(input.actions.clone()),
                    ..input.clone()
                },
            ),
        ];
        if model.config().proprio_dim > 0 {
            let proprio = place(input.proprio.clone());
            changes.push((
                "proprio",
                Input {
                    proprio,
                    ..input.clone()
                },
            ));
        }
        for (kind, changed) in changes {
            let after = changed.predict(model);
            let frames = |x: &TokenState, from: usize, to: usize| {
                let x = x.slice(from, to);
                (x.visual.into_data(), x.proprio.map(Tensor::into_data))
            };
            if frame > 0 {
                let (before, after) = (frames(&before, 0, frame), frames(&after, 0, frame));
                assert_eq!(before, after, "{kind} of frame {frame} reached back");
            }
            for later in frame..FRAMES {
                let (before, after) = (
                    frames(&before, later, later + 1),
                    frames(&after, later, later + 1),
                );
                assert_ne!(
                    before.0, after.0,
                    "{kind} of frame {frame} does not reach {later}"
                );
            }
        }
    }
}

/// The values of every parameter by its path.
pub(crate) fn parameters<M: Module>(module: &M) -> BTreeMap<String, Vec<f32>> {
    #[derive(Default)]
    struct Reader {
        path: Vec<String>,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().iter::<f32>().collect();
            self.found.insert(self.path.join("."), values);
        }
    }
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.found
}

/// Root of the mean square.
pub(crate) fn root_mean_square(values: &[f32]) -> f64 {
    let sum: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
    (sum / values.len() as f64).sqrt()
}
