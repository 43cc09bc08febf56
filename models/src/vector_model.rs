//! Planning with a model that has one vector per frame, or an ensemble of predictors that each have one.
//!
//! The latents of an ensemble lie side by side in one vector, so planners see an ordinary latent.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::Error;
use crate::Result;
use crate::train::FrameInput;
use crate::world_model::{
    ActionBatch, CostGradients, CostSpec, Distance, Frame, Latent, ModelInfo, Rollout, SHORTEST,
    ScoreRequest, Steps, WorldModel, minus_cosine,
};

/// What planning needs of a network.
pub(crate) trait VectorDynamics: Module + Send + Sync {
    /// Predictors `E` that go their own way from the same encoding.
    fn copies(&self) -> usize {
        1
    }

    /// Encodings `[n, D]` of network input `[n, C, h, w]`.
    fn encode(&self, images: Tensor<4>) -> Tensor<2>;

    /// Latents after each of the `H` action blocks, `[E, S, D]` each.
    ///
    /// # Shapes
    /// - `start`: `[E, S, D]`; `actions`: `[S, H, A]`, normalised
    fn unroll(&self, start: &Tensor<3>, actions: &Tensor<3>) -> Vec<Tensor<3>>;
}

/// A trained network, ready to plan with.
#[derive(Debug)]
pub(crate) struct VectorModel<N> {
    info: ModelInfo,
    input: Arc<dyn FrameInput>,
    net: N,
    copies: usize,
    device: Device,
}

impl<N: VectorDynamics> VectorModel<N> {
    /// `net` must be on `device`, without gradients.
    pub(crate) fn new(info: ModelInfo, input: Arc<dyn FrameInput>, net: N, device: Device) -> Self {
        Self {
            copies: net.copies(),
            info,
            input,
            net,
            device,
        }
    }

    fn check_latent(&self, what: &'static str, latent: &Latent) -> Result<()> {
        if latent.visual.len() == self.info.latent_width {
            return Ok(());
        }
        Err(Error::Shape {
            what,
            expected: format!("{} numbers", self.info.latent_width),
            actual: format!("{} numbers", latent.visual.len()),
        })
    }

    fn check(&self, start: &Latent, goal: &Latent, actions: &ActionBatch<'_>) -> Result<()> {
        actions.check(self.info.block_width())?;
        self.check_latent("start latent", start)?;
        self.check_latent("goal latent", goal)
    }

    /// A planning latent as `[E, 1, D]`.
    fn tensor(&self, latent: &Latent, device: &Device) -> Tensor<3> {
        let shape = [self.copies, 1, self.info.latent_width / self.copies];
        Tensor::from_data(TensorData::new(latent.visual.clone(), shape), device)
    }

    /// Numbers that a distance is a mean over.
    fn numbers(&self, distance: Distance) -> f64 {
        match distance {
            Distance::L2 | Distance::L1 => self.info.latent_width as f64,
            Distance::Cosine => 1.0,
        }
    }

    /// Costs of `samples` candidates from their latents.
    fn costs_of(
        &self,
        steps: &[Tensor<3>],
        goal: &Tensor<3>,
        distance: Distance,
        samples: usize,
    ) -> Vec<f64> {
        let mut costs = vec![0.0; samples];
        for latents in steps {
            add_distances(&mut costs, latents.clone(), goal, distance);
        }
        let numbers = self.numbers(distance);
        for cost in &mut costs {
            *cost /= numbers;
        }
        costs
    }

    /// Latents `[E, S, D]` after each of the actions `[S, H, A]`.
    fn unroll_tensors(&self, net: &N, start: &Latent, actions: &Tensor<3>) -> Vec<Tensor<3>> {
        let start = self.tensor(start, &actions.device());
        net.unroll(&start.repeat_dim(1, actions.dims()[0]), actions)
    }
}

/// Candidates as `[S, H, A]`.
fn candidates(actions: &ActionBatch<'_>, device: &Device) -> Tensor<3> {
    let shape = [actions.samples, actions.horizon, actions.width];
    Tensor::from_data(TensorData::new(actions.values.to_vec(), shape), device)
}

/// The latents of the steps that count.
fn counted(steps: Vec<Tensor<3>>, spec: CostSpec) -> Vec<Tensor<3>> {
    match spec.steps {
        Steps::Last => steps.into_iter().next_back().into_iter().collect(),
        Steps::All => steps,
    }
}

impl<N: VectorDynamics> WorldModel for VectorModel<N> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn encode(&self, frame: Frame<'_>, _proprio: &[f32]) -> Result<Latent> {
        self.info.check_frame(frame)?;
        let [channels, height, width] = self.input.shape();
        let values = self.input.convert(frame.rgb)?;
        let input = TensorData::new(values, [1, channels, height, width]);
        let code = floats(self.net.encode(Tensor::from_data(input, &self.device)));
        Ok(Latent {
            visual: code.repeat(self.copies),
            proprio: Vec::new(),
        })
    }

    fn unroll(&self, start: &Latent, actions: ActionBatch<'_>) -> Result<Rollout> {
        actions.check(self.info.block_width())?;
        self.check_latent("start latent", start)?;
        let (samples, horizon) = (actions.samples, actions.horizon);
        let steps = self.unroll_tensors(&self.net, start, &candidates(&actions, &self.device));
        // [E, S, H, D] to [S, H, E, D].
        let visual = floats(Tensor::stack::<4>(steps, 2).permute([1, 2, 0, 3]));
        Ok(Rollout {
            visual,
            proprio: Vec::new(),
            samples,
            horizon,
        })
    }

    fn costs(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<Vec<f64>> {
        self.check(start, goal, &actions)?;
        let steps = self.unroll_tensors(&self.net, start, &candidates(&actions, &self.device));
        let goal = self.tensor(goal, &self.device);
        Ok(self.costs_of(
            &counted(steps, *spec),
            &goal,
            spec.distance,
            actions.samples,
        ))
    }

    /// Unrolls the candidates of all searches of one length as one batch.
    fn costs_of_several(&self, requests: &[ScoreRequest<'_>]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::with_capacity(requests.len());
        for requests in requests.chunk_by(|a, b| a.actions.horizon == b.actions.horizon) {
            for request in requests {
                self.check(request.start, request.goal, &request.actions)?;
            }
            let starts = requests.iter().map(|request| {
                let start = self.tensor(request.start, &self.device);
                start.repeat_dim(1, request.actions.samples)
            });
            let actions = requests
                .iter()
                .map(|request| candidates(&request.actions, &self.device));
            let starts = Tensor::cat(starts.collect(), 1);
            let steps = self.net.unroll(&starts, &Tensor::cat(actions.collect(), 0));
            let mut first = 0;
            for request in requests {
                let samples = request.actions.samples;
                let own = |latents: &Tensor<3>| latents.clone().narrow(1, first, samples);
                let steps = counted(steps.iter().map(own).collect(), *request.spec);
                let goal = self.tensor(request.goal, &self.device);
                all.push(self.costs_of(&steps, &goal, request.spec.distance, samples));
                first += samples;
            }
        }
        Ok(all)
    }

    /// Backpropagates through the unroll. The weights are constants of the graph, and every call has a graph of
    /// its own.
    fn cost_gradients(
        &self,
        start: &Latent,
        goal: &Latent,
        spec: &CostSpec,
        actions: ActionBatch<'_>,
    ) -> Result<CostGradients> {
        self.check(start, goal, &actions)?;
        let device = self.device.clone().autodiff();
        let net = self.net.clone().fork(&device).no_grad();
        let leaf = candidates(&actions, &device).require_grad();
        let steps = counted(self.unroll_tensors(&net, start, &leaf), *spec);
        let goal = self.tensor(goal, &device);
        let costs = self.costs_of(&steps, &goal, spec.distance, actions.samples);
        let total = total_distance(steps, &goal, spec.distance);
        let slopes = leaf.grad(&total.backward());
        // Costs in which no action takes part are flat.
        let slopes = slopes.map_or_else(|| vec![0.0; actions.values.len()], floats);
        let numbers = self.numbers(spec.distance);
        let gradient = slopes.into_iter().map(|slope| f64::from(slope) / numbers);
        Ok(CostGradients {
            costs,
            gradient: gradient.collect(),
        })
    }
}

/// Adds the distance of each candidate's latents to the goal, over all predictors together: the sum of
/// squared or absolute differences, or minus the cosine.
///
/// # Shapes
/// - `costs`: `[S]`; `latents`: `[E, S, D]`; `goal`: `[E, 1, D]`
fn add_distances(costs: &mut [f64], latents: Tensor<3>, goal: &Tensor<3>, distance: Distance) {
    match distance {
        Distance::L2 => add_sums(costs, (latents - goal.clone()).square()),
        Distance::L1 => add_sums(costs, (latents - goal.clone()).abs()),
        Distance::Cosine => {
            let (mut squares, mut products) = (vec![0.0; costs.len()], vec![0.0; costs.len()]);
            add_sums(&mut squares, latents.clone().square());
            add_sums(&mut products, latents * goal.clone());
            let mut goal_square = [0.0];
            add_sums(&mut goal_square, goal.clone().square());
            for (cost, (product, square)) in costs.iter_mut().zip(products.iter().zip(squares)) {
                *cost += minus_cosine(*product, [square, goal_square[0]]);
            }
        }
    }
}

/// Adds the sums of `[E, S, D]` over `D` (on the device) and then over predictors (in 64 bits) to `[S]`.
fn add_sums(sums: &mut [f64], values: Tensor<3>) {
    for row in floats(values.sum_dim(2)).chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
}

/// The same distances on the device, summed over steps and candidates: what gradients are taken of.
fn total_distance(steps: Vec<Tensor<3>>, goal: &Tensor<3>, distance: Distance) -> Tensor<1> {
    let latents = Tensor::stack::<4>(steps, 0);
    let goal = goal.clone().unsqueeze_dim::<4>(0);
    match distance {
        Distance::L2 => (latents - goal).square().sum(),
        Distance::L1 => (latents - goal).abs().sum(),
        Distance::Cosine => {
            // Over predictors and D; steps and candidates stay apart.
            let over = |x: Tensor<4>| x.sum_dim(3).sum_dim(1);
            let length = |x: Tensor<4>| over(x.square()).sqrt().clamp_min(SHORTEST);
            let lengths = length(latents.clone()) * length(goal.clone());
            (over(latents * goal) / lengths).sum().neg()
        }
    }
}

/// The values of a tensor, row-major.
fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pldm::{DataShape, PldmConfig, untrained};
    use crate::predictor::residual_mlp::ResidualMlpConfig;

    const SHAPE: DataShape = DataShape {
        height: 65,
        width: 65,
        action_dim: 2,
        proprio_dim: 2,
    };

    fn model(ensemble: usize) -> Box<dyn WorldModel> {
        let predictor = ResidualMlpConfig {
            width: 16,
            ensemble,
        };
        let config = PldmConfig {
            predictor,
            ..PldmConfig::default()
        };
        untrained(&config, SHAPE, 7).unwrap()
    }

    fn latent(model: &dyn WorldModel, salt: u8) -> Latent {
        let rgb: Vec<u8> = (0..65 * 65 * 3).map(|i| (i % 251) as u8 ^ salt).collect();
        model
            .encode(
                Frame {
                    rgb: &rgb,
                    height: 65,
                    width: 65,
                },
                &[],
            )
            .unwrap()
    }

    fn actions(samples: usize, horizon: usize) -> Vec<f32> {
        (0..samples * horizon * 10)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0)
            .collect()
    }

    #[test]
    fn searches_in_one_batch_have_the_costs_they_have_alone_to_the_last_bit() {
        let model = model(3);
        let latents: Vec<Latent> = (0..6).map(|salt| latent(model.as_ref(), salt)).collect();
        let spec = |distance| CostSpec {
            distance,
            steps: Steps::Last,
            proprio_weight: 0.0,
        };
        let specs = [
            spec(Distance::L2),
            spec(Distance::L1),
            spec(Distance::Cosine),
        ];
        let values = actions(306, 6);
        // Searches of other sizes and lengths among them.
        let sizes = [(300, 6), (300, 6), (17, 6), (300, 2), (1, 6), (40, 6)];
        let requests: Vec<ScoreRequest<'_>> = sizes
            .iter()
            .enumerate()
            .map(|(at, &(samples, horizon))| ScoreRequest {
                start: &latents[at],
                goal: &latents[5 - at],
                spec: &specs[at % 3],
                actions: ActionBatch {
                    values: &values[10 * at..][..samples * horizon * 10],
                    samples,
                    horizon,
                    width: 10,
                },
            })
            .collect();
        let together = model.costs_of_several(&requests).unwrap();
        for (request, costs) in requests.iter().zip(together) {
            let ScoreRequest {
                start,
                goal,
                spec,
                actions,
            } = *request;
            assert_eq!(costs, model.costs(start, goal, spec, actions).unwrap());
        }
    }

    #[test]
    fn costs_are_the_mean_distance_of_the_rollout_to_the_goal() {
        let model = model(2);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let values = actions(4, 3);
        let batch = ActionBatch {
            values: &values,
            samples: 4,
            horizon: 3,
            width: 10,
        };
        let rollout = model.unroll(&start, batch).unwrap();
        for (distance, steps) in [
            (Distance::L2, Steps::Last),
            (Distance::L1, Steps::Last),
            (Distance::L2, Steps::All),
            (Distance::Cosine, Steps::Last),
            (Distance::Cosine, Steps::All),
        ] {
            let spec = CostSpec {
                distance,
                steps,
                proprio_weight: 0.0,
            };
            let costs = model.costs(&start, &goal, &spec, batch).unwrap();
            for (sample, cost) in costs.iter().enumerate() {
                let first = if steps == Steps::Last { 2 } else { 0 };
                let expected: f64 = (first..3)
                    .map(|step| {
                        let at = (sample * 3 + step) * 64;
                        let row = &rollout.visual[at..at + 64];
                        let differences =
                            row.iter().zip(&goal.visual).map(|(a, b)| f64::from(a - b));
                        let sum: f64 = match distance {
                            Distance::L2 => differences.map(|d| d * d).sum(),
                            Distance::L1 => differences.map(f64::abs).sum(),
                            Distance::Cosine => {
                                let product = |a: &[f32], b: &[f32]| -> f64 {
                                    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
                                };
                                let lengths =
                                    product(row, row) * product(&goal.visual, &goal.visual);
                                -64.0 * product(row, &goal.visual) / lengths.sqrt()
                            }
                        };
                        sum / 64.0
                    })
                    .sum();
                assert!(
                    (cost - expected).abs() < 1e-5 * expected.abs().max(1e-3),
                    "{cost} {expected}"
                );
            }
        }
    }

    #[test]
    fn every_predictor_starts_from_the_encoding_and_goes_its_own_way() {
        let model = model(3);
        let start = latent(model.as_ref(), 1);
        assert_eq!(start.visual[..32], start.visual[32..64]);
        let values = actions(1, 1);
        let batch = ActionBatch {
            values: &values,
            samples: 1,
            horizon: 1,
            width: 10,
        };
        let rollout = model.unroll(&start, batch).unwrap();
        assert_ne!(rollout.visual[..32], rollout.visual[32..64]);
    }

    #[test]
    fn a_candidate_does_not_depend_on_the_others_in_its_batch() {
        let model = model(1);
        let start = latent(model.as_ref(), 0);
        let values = actions(3, 2);
        let all = ActionBatch {
            values: &values,
            samples: 3,
            horizon: 2,
            width: 10,
        };
        let one = ActionBatch {
            values: &values[20..40],
            samples: 1,
            horizon: 2,
            width: 10,
        };
        let together = model.unroll(&start, all).unwrap();
        let alone = model.unroll(&start, one).unwrap();
        for (a, b) in together.visual[64..128].iter().zip(&alone.visual) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    const fn spec(distance: Distance, steps: Steps) -> CostSpec {
        CostSpec {
            distance,
            steps,
            proprio_weight: 0.0,
        }
    }

    const SPECS: [CostSpec; 6] = [
        spec(Distance::L2, Steps::Last),
        spec(Distance::L2, Steps::All),
        spec(Distance::L1, Steps::Last),
        spec(Distance::L1, Steps::All),
        spec(Distance::Cosine, Steps::Last),
        spec(Distance::Cosine, Steps::All),
    ];

    /// Two candidates of three blocks.
    fn batch(values: &[f32]) -> ActionBatch<'_> {
        ActionBatch {
            values,
            samples: 2,
            horizon: 3,
            width: 10,
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_costs() {
        let model = model(2);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let values = actions(2, 3);
        for spec in SPECS {
            let costs = |values: &[f32]| model.costs(&start, &goal, &spec, batch(values)).unwrap();
            let found = model
                .cost_gradients(&start, &goal, &spec, batch(&values))
                .unwrap();
            assert_eq!(found.costs, costs(&values), "{spec:?}");
            let largest = found
                .gradient
                .iter()
                .fold(0.0_f64, |most, slope| most.max(slope.abs()));
            assert!(largest > 1e-4, "{spec:?}: {largest}");
            let moved = |at: usize, by: f32| {
                let mut values = values.clone();
                values[at] += by;
                costs(&values)[at / 30]
            };
            let differs = |(at, slope): &(usize, &f64)| {
                let difference = (moved(*at, 0.002) - moved(*at, -0.002)) / 0.004;
                (*slope - difference).abs() > 0.02 * largest
            };
            // A few differences may straddle a kink of a ReLU or of an absolute value.
            let off = found.gradient.iter().enumerate().filter(differs).count();
            assert!(off <= 3, "{spec:?}: {off} of 60 slopes are wrong");
        }
    }

    #[test]
    fn gradients_do_not_depend_on_what_other_threads_compute() {
        let model = model(3);
        let (start, goal) = (latent(model.as_ref(), 0), latent(model.as_ref(), 3));
        let run = &|candidate: usize| {
            let values: Vec<f32> = actions(4, 3)[30 * candidate..][..30].to_vec();
            let batch = ActionBatch {
                values: &values,
                samples: 1,
                horizon: 3,
                width: 10,
            };
            let descend = |spec| model.cost_gradients(&start, &goal, spec, batch).unwrap();
            SPECS.iter().map(descend).collect::<Vec<_>>()
        };
        let alone: Vec<_> = (0..4).map(run).collect();
        for _ in 0..20 {
            let together: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|at| scope.spawn(move || run(at))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(together, alone);
        }
    }

    #[test]
    fn wrong_shapes_are_named() {
        let model = model(1);
        let start = latent(model.as_ref(), 0);
        let values = actions(1, 1);
        let narrow = ActionBatch {
            values: &values[..8],
            samples: 1,
            horizon: 1,
            width: 8,
        };
        let error = model.unroll(&start, narrow).unwrap_err().to_string();
        assert!(
            error.contains("action block width: expected 10, got 8"),
            "{error}"
        );
        let rgb = vec![0; 12];
        let error = model
            .encode(
                Frame {
                    rgb: &rgb,
                    height: 2,
                    width: 2,
                },
                &[],
            )
            .unwrap_err();
        assert!(
            error.to_string().contains("expected 65x65 RGB, got 2x2"),
            "{error}"
        );
        let short = Latent {
            visual: vec![0.0; 3],
            proprio: vec![],
        };
        let batch = ActionBatch {
            values: &values,
            samples: 1,
            horizon: 1,
            width: 10,
        };
        assert!(model.unroll(&short, batch).is_err());
    }
}
