//! A training run from its folder's point of view: start, resume, finish, load.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use jepa_datasets::{ACTION, Dataset, Normalizer, PROPRIO};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Progress, hash, weights_from_bytes, weights_to_bytes};
use super::config::{Architecture, TrainConfig};
use super::files::{create_dir, damaged, partial, read_json, write_atomic, write_json};
use super::fit::{Fit, METRICS};
use super::loader::{Pixels, SliceSource};
use super::metrics::MetricsLine;
use super::validation::ValidationErrors;
use super::{FrameInput, Trainable};
use crate::device::Compute;
use crate::encoder::conv::ConvEncoder;
use crate::encoder::frozen::FrozenTokens;
use crate::encoder::{FrontEnd, FrozenEncoder};
use crate::ijepa::{IjepaConfig, IjepaGrid};
use crate::layer::init::initialise;
use crate::lejepa::{LejepaConfig, LejepaNet};
use crate::lewm::LewmConfig;
use crate::pldm::{DataShape, PldmConfig, PldmNet};
use crate::policy::{ActionBins, GcbcTokensFile, GoalPolicy, TokenPolicy};
use crate::token::config::{EncoderChoice, TokenConfig};
use crate::token::encoder::{ConvGrid, RandomPatch};
use crate::token::net::{TokenNet, TokenSettings};
use crate::token::planner::TokenGridModel;
use crate::vector_model::VectorModel;
use crate::world_model::{ModelInfo, TrainingInfo, WorldModel};
use crate::world_models::WorldModelsConfig;
use crate::{Error, Result};

mod imported;

pub(crate) use imported::Imported;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const MODEL: &str = "model.json";
const SUMMARY: &str = "training.json";
/// Folder of the run that trained the encoder of a token-grid model.
const ENCODER: &str = "encoder";
/// Folder of the models of a run that are kept on the way.
const KEPT: &str = "kept";

/// The folder of the encoder of a model: in its run, or in the run that a kept model is of.
fn encoder_of(run: &Path) -> PathBuf {
    let (own, whole) = (run.join(ENCODER), run_of(run));
    if own.exists() {
        own
    } else {
        whole.join(ENCODER)
    }
}

/// The training run that a folder with a model belongs to: the one above its `kept`, or itself.
pub fn run_of(model: &Path) -> &Path {
    let kept = model.parent().filter(|kept| kept.ends_with(KEPT));
    kept.and_then(Path::parent).unwrap_or(model)
}

/// Whether a training run has the weights of that hash as its model after so many steps; `None` when it has no model of
/// them at all, say because it was kept no longer.
pub fn holds(run: &Path, steps: u64, weights_hash: &str) -> Option<bool> {
    let models = [run.to_path_buf(), kept_folder(run, steps)];
    let hashes = models.iter().filter_map(|folder| {
        let file: ModelFile = read_json(&folder.join(MODEL)).ok()?;
        let training = file.info.training?;
        (training.steps == steps).then_some(file.info.weights_hash)
    });
    let found: Vec<String> = hashes.collect();
    (!found.is_empty()).then(|| found.iter().any(|hash| hash == weights_hash))
}

/// Where the model after so many steps is kept.
fn kept_folder(run: &Path, steps: u64) -> PathBuf {
    run.join(KEPT).join(format!("step-{steps:08}"))
}

/// What to train, on what, and where to put it.
#[derive(Debug)]
pub struct TrainRequest<'a> {
    /// Resolved configuration.
    pub config: &'a TrainConfig,
    /// Dataset folder.
    pub data: &'a Path,
    /// Run folder; created, or continued when it holds the same configuration and data.
    pub out: &'a Path,
    /// Folder where encoders that are trained first are shared by several runs.
    pub encoders: Option<&'a Path>,
    /// Where to compute.
    pub compute: Compute,
}

/// How a training run talks to its caller.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// Called when a part of the run begins, with its name and the steps it has.
    pub on_stage: &'a (dyn Fn(&str, u64) + Sync),
    /// Called after every step with the step, from 1, and the total loss.
    pub on_step: &'a (dyn Fn(u64, f64) + Sync),
    /// Polled after every step; `true` saves a checkpoint and stops.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// Summary of a finished run, `training.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// Zoo name.
    pub model: String,
    /// Training seed.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Training seconds, validation included, over all sessions.
    pub seconds: f64,
    /// Share of these that the loop waited for data.
    pub wait_share: f64,
    /// Trainable numbers, the parts that only training uses included.
    pub trained_parameters: u64,
    /// Numbers that planning uses.
    pub parameters: u64,
    /// Content hash of the dataset.
    pub dataset_hash: String,
    /// Hash of the training split.
    pub train_split_hash: String,
    /// blake3 of `model.safetensors`.
    pub weights_hash: String,
    /// Validation errors after the last step.
    pub validation: Option<ValidationErrors>,
}

/// What a run folder belongs to; written first, and compared when a run continues.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct RunIdentity {
    config: TrainConfig,
    dataset_hash: String,
    train_split_hash: String,
    /// Stored features of a frozen encoder that are read in place of frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<String>,
}

/// `model.json`: what is needed to plan with the weights.
#[derive(Debug, Serialize, Deserialize)]
struct ModelFile {
    format_version: u32,
    pldm: PldmConfig,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    token: Option<TokenFile>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lewm: Option<LewmConfig>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    world_models: Option<WorldModelsConfig>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    gcbc_tokens: Option<GcbcTokensFile>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    lejepa: Option<LejepaConfig>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ijepa: Option<IjepaConfig>,
    shape: DataShape,
    info: ModelInfo,
}

/// What a token-grid model adds to [`ModelFile`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TokenFile {
    config: TokenConfig,
    /// Model steps of a training slice.
    horizon: usize,
    /// Training seed, which a random encoder is drawn from.
    seed: u64,
    /// blake3 of the weights of an encoder that was trained for it.
    encoder_hash: Option<String>,
}

/// Trains a model, or finishes a run that was stopped.
///
/// The result depends on the configuration and the data only: not on threads, or on how often the run
/// was stopped.
///
/// # Errors
/// [`Error::Run`] when the folder belongs to another run, [`Error::Diverged`] when the loss stops being
/// a number, [`Error::Interrupted`] when the caller asked to stop, and what reading the data can return.
pub fn run(request: &TrainRequest<'_>, hooks: &Hooks<'_>) -> Result<Finished> {
    request.config.check()?;
    let dataset = Arc::new(Dataset::open(request.data)?);
    let shape = data_shape(&dataset)?;
    let ready = match request.config.architecture() {
        Architecture::Token(token) => ready_encoder(token, request, &shape, &dataset)?,
        _ => None,
    };
    let identity = RunIdentity {
        config: request.config.clone(),
        dataset_hash: dataset.content_hash().to_string(),
        train_split_hash: dataset.split("train")?.hash.clone(),
        features: ready.as_ref().and_then(|frozen| frozen.features.clone()),
    };
    claim_folder(request.out, &identity)?;
    if let Ok(finished) = read_json(&request.out.join(SUMMARY)) {
        return Ok(finished);
    }
    let seed = request.config.training.seed;
    let device = request.compute.device().autodiff();
    let started = Started {
        request,
        identity,
        dataset: &dataset,
        hooks,
    };
    match request.config.architecture() {
        Architecture::Pldm(pldm) => {
            let net = initialise(pldm.init(&shape, &device)?, seed);
            let facts = Facts::of_vectors(net.planning_parameters(), pldm.latent_width());
            started.train(&pixels(&shape), net, pldm.loss, &facts)
        }
        Architecture::Lewm(lewm) => {
            let net = lewm.init_seeded(&shape, seed, &device)?;
            let facts = Facts::of_vectors(net.num_params(), lewm.latent);
            started.train(&lewm.encoder.input(&shape), net, lewm.loss, &facts)
        }
        Architecture::WorldModels(config) => {
            let net = initialise(config.init(&shape, &device)?, seed);
            let facts = Facts::of_vectors(net.planning_parameters(), config.latent);
            let input = WorldModelsConfig::input(&shape);
            started.train(&input, net, config.loss, &facts)
        }
        Architecture::GcbcTokens(config) => {
            let actions = dataset.stats().get(ACTION, "train")?;
            let bins = ActionBins::between_extremes(actions, config.bins)?;
            let imitating = config.imitating(&bins, &Normalizer::from_statistics(actions));
            let net = config.init_seeded(&shape, seed, &device)?;
            let facts = Facts {
                gcbc_tokens: Some(GcbcTokensFile {
                    config: config.clone(),
                    bins,
                }),
                ..Facts::of_vectors(net.num_params(), config.encoder.latent)
            };
            started.train(&pixels(&shape), net, imitating, &facts)
        }
        Architecture::Lejepa(lejepa) => {
            let net = initialise(lejepa.init(&shape, &device)?, seed);
            let grid = net.tokens(&shape).iter().product();
            let facts = Facts::of_vectors(net.token_parameters(), grid);
            started.train(&pixels(&shape), net, lejepa.loss, &facts)
        }
        Architecture::Ijepa(ijepa) => {
            let net = ijepa.init_seeded(&shape, seed, &device)?;
            let grid = ijepa.tokens(&shape).iter().product();
            let facts = Facts::of_vectors(net.token_parameters(), grid);
            started.train(&pixels(&shape), net, ijepa.loss, &facts)
        }
        Architecture::Token(token) => {
            let frozen = match (ready, request.config.of_encoder()) {
                (Some(frozen), _) => frozen,
                (None, Some(config)) => trained_encoder(request, token, &config, hooks)?,
                (None, None) => unreachable!("an encoder is ready, or a run trains it"),
            };
            let (tokens, horizon) = (frozen.input.shape(), request.config.training.horizon);
            let net = TokenNet::new(token, tokens, &shape, horizon, seed, &device)?;
            let facts = token_facts(request.config, token, &frozen, &net);
            started.train(&frozen.input, net, TokenSettings::new(token), &facts)
        }
    }
}

/// Frames as the convolutions of `pldm` take them.
fn pixels(shape: &DataShape) -> Arc<dyn FrameInput> {
    Arc::new(Pixels {
        height: shape.height,
        width: shape.width,
    })
}

/// A run whose folder is claimed.
struct Started<'a> {
    request: &'a TrainRequest<'a>,
    identity: RunIdentity,
    dataset: &'a Arc<Dataset>,
    hooks: &'a Hooks<'a>,
}

impl Started<'_> {
    /// Trains the network on frames as `input` gives them, and writes the model.
    fn train<M: Trainable>(
        self,
        input: &Arc<dyn FrameInput>,
        net: M,
        weights: M::Weights,
        facts: &Facts,
    ) -> Result<Finished> {
        let request = self.request;
        let data = TrainingData::open(self.dataset, request.config, input)?;
        (self.hooks.on_stage)("train", request.config.training.steps);
        let fit = Fit {
            run: request.out,
            config: &request.config.training,
            weights,
            training: &data.training,
            validation: &data.validation,
            proprio_dim: data.shape.proprio_dim,
            device: request.compute.device().autodiff(),
            keep: &|net, progress| keep_model(request, &self.identity, &data, net, facts, progress),
        };
        let (net, progress) = fit.train(net, self.hooks)?;
        write_model(request, &self.identity, &data, &net, facts, progress)
    }
}

/// A frozen encoder, ready to read slices through.
struct Frozen {
    input: Arc<dyn FrameInput>,
    parameters: usize,
    /// blake3 of its weights, where they are not drawn at random.
    hash: Option<String>,
    /// Which stored features stand for it in training.
    features: Option<String>,
}

/// The encoder of a token-grid model that need not be trained; `None` for one that must.
fn ready_encoder(
    token: &TokenConfig,
    request: &TrainRequest<'_>,
    shape: &DataShape,
    dataset: &Dataset,
) -> Result<Option<Frozen>> {
    match &token.encoder {
        EncoderChoice::RandomPatch { .. } => {
            random_patch(token, shape, request.config.training.seed).map(Some)
        }
        EncoderChoice::Imported { .. } => {
            imported(token, None, shape, Some(dataset), request.compute).map(Some)
        }
        EncoderChoice::PldmGrid { .. }
        | EncoderChoice::Lejepa { .. }
        | EncoderChoice::IJepa { .. } => Ok(None),
    }
}

/// The encoder of a token-grid model, trained in a folder of the run, where it goes on like the run itself.
fn trained_encoder(
    request: &TrainRequest<'_>,
    token: &TokenConfig,
    config: &TrainConfig,
    hooks: &Hooks<'_>,
) -> Result<Frozen> {
    let own = request.out.join(ENCODER);
    let shared = match request.encoders {
        Some(folder) => Some(folder.join(encoder_name(config, request.data)?)),
        None => None,
    };
    let named = |_: &str, steps: u64| (hooks.on_stage)("train the encoder", steps);
    let hooks = Hooks {
        on_stage: &named,
        ..*hooks
    };
    let request_of_encoder = TrainRequest {
        config,
        data: request.data,
        out: shared.as_deref().unwrap_or(&own),
        encoders: None,
        compute: request.compute,
    };
    run(&request_of_encoder, &hooks)?;
    if let Some(shared) = shared {
        create_dir(&own)?;
        for file in [CONFIG, WEIGHTS, METRICS, MODEL, SUMMARY] {
            let from = shared.join(file);
            let bytes = fs::read(&from).map_err(Error::io("read", &from))?;
            write_atomic(&own.join(file), &bytes)?;
        }
    }
    frozen_encoder(&token.encoder, &own, request.compute)
}

/// Name of the folder of a shared encoder: equal for equal configurations and data.
fn encoder_name(config: &TrainConfig, data: &Path) -> Result<String> {
    let text = serde_json::to_string(config).map_err(|e| Error::Config {
        key: "token.encoder",
        detail: e.to_string(),
    })?;
    let dataset = Dataset::open(data)?.content_hash().to_string();
    let whole = hash(format!("{text}\n{dataset}").as_bytes());
    Ok(whole[..16].to_string())
}

fn random_patch(token: &TokenConfig, shape: &DataShape, seed: u64) -> Result<Frozen> {
    let EncoderChoice::RandomPatch { patch, width } = token.encoder else {
        unreachable!("asked for by its own kind only");
    };
    let encoder = RandomPatch::new(patch, width, [shape.height, shape.width], seed)?;
    Ok(Frozen {
        input: Arc::new(encoder),
        parameters: 3 * patch * patch * width,
        hash: None,
        features: None,
    })
}

/// The released encoder of the configuration, with the features that the dataset has of it. A folder `encoder` in a
/// finished `run` is used in place of the one that it was trained with, which may be on another machine.
fn imported(
    token: &TokenConfig,
    run: Option<&Path>,
    shape: &DataShape,
    dataset: Option<&Dataset>,
    compute: Compute,
) -> Result<Frozen> {
    let EncoderChoice::Imported {
        weights,
        transform,
        pixel_norm,
        image,
    } = &token.encoder
    else {
        unreachable!("asked for by its own kind only");
    };
    let beside = run.map(encoder_of).filter(|path| path.is_dir());
    let folder = beside.as_deref().unwrap_or(weights);
    if !folder.is_dir() {
        return Err(Error::Run {
            path: folder.to_path_buf(),
            detail: "is not there: it held the weights of the image encoder".into(),
            hint: "make it with `jepa-bench weights import`; for a trained model, as folder `encoder` in its run"
                .into(),
        });
    }
    let front = FrontEnd {
        transform: *transform,
        pixel_norm: *pixel_norm,
        image: *image,
    };
    let encoder = FrozenEncoder::open(folder, front, compute)?;
    let (parameters, hash) = (encoder.parameters(), encoder.weights_hash().to_string());
    let mut tokens = FrozenTokens::new(encoder, token.normalize_reps, shape.height, shape.width);
    if let Some(dataset) = dataset {
        tokens = tokens.with_features(dataset)?;
    }
    Ok(Frozen {
        features: tokens.features(),
        input: Arc::new(tokens),
        parameters,
        hash: Some(hash),
    })
}

/// The encoder of the finished run in `folder`, which trained it.
fn frozen_encoder(choice: &EncoderChoice, folder: &Path, compute: Compute) -> Result<Frozen> {
    let device = compute.device();
    match choice {
        EncoderChoice::Lejepa { .. } => {
            let (file, net) = load_lejepa(folder, &device)?;
            Ok(conv_grid(file, net.into_encoder(), device))
        }
        EncoderChoice::IJepa { .. } => ijepa_grid(folder, device),
        _ => {
            let (file, net) = load_pldm(folder, &device)?;
            Ok(conv_grid(file, net.into_encoder(), device))
        }
    }
}

fn conv_grid(file: ModelFile, encoder: ConvEncoder, device: Device) -> Frozen {
    let (height, width) = (file.shape.height, file.shape.width);
    Frozen {
        parameters: encoder.feature_parameters(),
        input: Arc::new(ConvGrid::new(encoder, height, width, device)),
        hash: Some(file.info.weights_hash),
        features: None,
    }
}

fn ijepa_grid(folder: &Path, device: Device) -> Result<Frozen> {
    let file = read_model(folder)?;
    let (path, bytes) = read_weights(folder, &file)?;
    let Some(config) = &file.ijepa else {
        return Err(damaged(&path, "model.json has no encoder of `i-jepa`"));
    };
    let net = weights_from_bytes(config.init(&file.shape, &device)?, bytes, &path)?;
    Ok(Frozen {
        parameters: net.token_parameters(),
        input: Arc::new(IjepaGrid::new(
            net.into_encoder(),
            config,
            &file.shape,
            device,
        )),
        hash: Some(file.info.weights_hash),
        features: None,
    })
}

/// A dataset as the trainer sees it.
struct TrainingData {
    shape: DataShape,
    action: Normalizer,
    proprio: Normalizer,
    training: SliceSource,
    validation: SliceSource,
    track: String,
}

impl TrainingData {
    fn open(
        dataset: &Arc<Dataset>,
        config: &TrainConfig,
        input: &Arc<dyn FrameInput>,
    ) -> Result<Self> {
        let shape = data_shape(dataset)?;
        let poses = config.training.pose_stride > 0;
        let normalizer = |field| -> Result<Normalizer> {
            if poses {
                // Poses and their changes stay in their units (datasets.md section 3.2).
                let width = dataset.stats().get(field, "train")?.mean.len();
                return Ok(Normalizer::identity(width));
            }
            Ok(Normalizer::from_statistics(
                dataset.stats().get(field, "train")?,
            ))
        };
        let (action, proprio) = (normalizer(ACTION)?, normalizer(PROPRIO)?);
        let slices = |split| {
            let (rows, horizon) = (config.rows_per_step(), config.training.horizon);
            let normalizers = (action.clone(), proprio.clone());
            let input = Arc::clone(input);
            if let Some(views) = config.views() {
                return SliceSource::of_views(dataset, split, views, normalizers, shape, input);
            }
            let source =
                SliceSource::new(dataset, split, rows, horizon, normalizers, shape, input)?;
            if poses {
                source.with_poses()
            } else {
                Ok(source)
            }
        };
        let mut training = slices("train")?;
        if let Some(crossing) = &config.training.crossing {
            training = training.with_crossing(crossing)?;
        }
        Ok(Self {
            training,
            validation: slices("val")?,
            track: track(dataset).to_string(),
            shape,
            action,
            proprio,
        })
    }
}

/// `standard` for a whole released dataset, `reduced` for a part of one, `external` for anything else,
/// episodes recorded with our own simulators among them (leaderboard.md section 2).
fn track(dataset: &Dataset) -> &'static str {
    let source = &dataset.manifest().draft.source;
    let recorded_here = source.inputs.is_empty();
    let released = jepa_datasets::catalog::find(&source.name).and_then(|entry| entry.episodes);
    match released {
        Some(count) if !recorded_here && dataset.manifest().counts.episodes >= count => "standard",
        Some(_) if !recorded_here => "reduced",
        _ => "external",
    }
}

fn data_shape(dataset: &Dataset) -> Result<DataShape> {
    let manifest = dataset.manifest();
    let camera = manifest.camera(None)?;
    for (field, width) in [
        (ACTION, manifest.action_width),
        (PROPRIO, manifest.proprio_width),
    ] {
        if width == 0 {
            return Err(Error::Config {
                key: "data",
                detail: format!("has no field `{field}`"),
            });
        }
    }
    Ok(DataShape {
        height: camera.height,
        width: camera.width,
        action_dim: manifest.action_width,
        proprio_dim: manifest.proprio_width,
    })
}

/// Creates the folder, or checks that it holds this very run.
fn claim_folder(out: &Path, identity: &RunIdentity) -> Result<()> {
    create_dir(out)?;
    let path = out.join(CONFIG);
    if !path.exists() {
        if holds_something_else(out, &partial(&path))? {
            return Err(Error::Run {
                path: out.to_path_buf(),
                detail: "is not empty and holds no training run".into(),
                hint: "choose another `--out`".into(),
            });
        }
        return write_json(&path, identity);
    }
    let found: RunIdentity = read_json(&path)?;
    if found == *identity {
        return Ok(());
    }
    let what = if found.config == identity.config {
        "other data"
    } else {
        "another configuration"
    };
    Err(Error::Run {
        path: out.to_path_buf(),
        detail: format!("belongs to a run with {what}"),
        hint: "choose another `--out`, or delete the folder".into(),
    })
}

/// Whether a folder without a configuration holds anything. A kill while the configuration was written leaves the
/// beginning of it behind, which is ours and is written again.
fn holds_something_else(folder: &Path, ours: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        if entry.map_err(Error::io("read", folder))?.path() != ours {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What only the network of a run knows about its model.
struct Facts {
    /// Numbers that planning uses.
    parameters: usize,
    latent_width: usize,
    uses_proprio: bool,
    token: Option<TokenFile>,
    gcbc_tokens: Option<GcbcTokensFile>,
}

impl Facts {
    /// Of a model with one vector per frame, without proprio.
    fn of_vectors(parameters: usize, latent_width: usize) -> Self {
        Self {
            parameters,
            latent_width,
            uses_proprio: false,
            token: None,
            gcbc_tokens: None,
        }
    }
}

fn token_facts(
    config: &TrainConfig,
    token: &TokenConfig,
    frozen: &Frozen,
    net: &TokenNet,
) -> Facts {
    Facts {
        parameters: frozen.parameters + net.num_params(),
        latent_width: frozen.input.shape().iter().product(),
        uses_proprio: token.uses_proprio(),
        token: Some(TokenFile {
            config: token.clone(),
            horizon: config.training.horizon,
            seed: config.training.seed,
            encoder_hash: frozen.hash.clone(),
        }),
        gcbc_tokens: None,
    }
}

/// Writes the model's files; `training.json`, which marks the run as finished, comes last.
fn write_model<M: Module>(
    request: &TrainRequest<'_>,
    identity: &RunIdentity,
    data: &TrainingData,
    net: &M,
    facts: &Facts,
    progress: Progress,
) -> Result<Finished> {
    let weights = weights_to_bytes(net, request.out)?;
    let finished = Finished {
        validation: last_validation(request.out)?,
        ..facts.finished(identity, net, progress, &weights)
    };
    write_atomic(&request.out.join(WEIGHTS), &weights)?;
    write_json(
        &request.out.join(MODEL),
        &model_file(&identity.config, data, facts, &finished, request.out)?,
    )?;
    write_json(&request.out.join(SUMMARY), &finished)?;
    Ok(finished)
}

/// Writes a model on its way, to be evaluated, and removes the older ones beyond those that stay.
fn keep_model<M: Module>(
    request: &TrainRequest<'_>,
    identity: &RunIdentity,
    data: &TrainingData,
    net: &M,
    facts: &Facts,
    progress: Progress,
) -> Result<()> {
    let all = request.out.join(KEPT);
    let folder = kept_folder(request.out, progress.step);
    create_dir(&folder)?;
    let weights = weights_to_bytes(net, &folder)?;
    write_atomic(&folder.join(WEIGHTS), &weights)?;
    let finished = facts.finished(identity, net, progress, &weights);
    write_json(
        &folder.join(MODEL),
        &model_file(&identity.config, data, facts, &finished, &folder)?,
    )?;
    let last = identity.config.training.keep_last;
    if last == 0 {
        return Ok(());
    }
    let mut kept = Vec::new();
    for entry in fs::read_dir(&all).map_err(Error::io("read", &all))? {
        kept.push(entry.map_err(Error::io("read", &all))?.path());
    }
    kept.sort();
    let old = kept.len().saturating_sub(last);
    for folder in &kept[..old] {
        fs::remove_dir_all(folder).map_err(Error::io("remove", folder))?;
    }
    Ok(())
}

impl Facts {
    /// What can be said of a network after some steps.
    fn finished<M: Module>(
        &self,
        identity: &RunIdentity,
        net: &M,
        progress: Progress,
        weights: &[u8],
    ) -> Finished {
        Finished {
            model: identity.config.model.clone(),
            seed: identity.config.training.seed,
            steps: progress.step,
            seconds: progress.seconds,
            wait_share: if progress.seconds > 0.0 {
                progress.waited / progress.seconds
            } else {
                0.0
            },
            trained_parameters: net.num_params() as u64,
            parameters: self.parameters as u64,
            dataset_hash: identity.dataset_hash.clone(),
            train_split_hash: identity.train_split_hash.clone(),
            weights_hash: hash(weights),
            validation: None,
        }
    }
}

fn model_file(
    config: &TrainConfig,
    data: &TrainingData,
    facts: &Facts,
    finished: &Finished,
    out: &Path,
) -> Result<ModelFile> {
    let info = ModelInfo {
        name: config.model.clone(),
        action_dim: data.shape.action_dim,
        frameskip: config.frameskip(),
        proprio_dim: data.shape.proprio_dim,
        uses_proprio: facts.uses_proprio,
        image_height: data.shape.height,
        image_width: data.shape.width,
        latent_width: facts.latent_width,
        parameters: finished.parameters,
        weights_hash: finished.weights_hash.clone(),
        action: data.action.clone(),
        proprio: data.proprio.clone(),
        training: Some(TrainingInfo {
            run: out.display().to_string(),
            seed: finished.seed,
            steps: finished.steps,
            seconds: finished.seconds,
            config_hash: Some(config.hash_without_seed()?),
            dataset_hash: finished.dataset_hash.clone(),
            train_split_hash: finished.train_split_hash.clone(),
            track: data.track.clone(),
        }),
    };
    Ok(ModelFile {
        format_version: 1,
        pldm: config.pldm.clone(),
        token: facts.token.clone(),
        lewm: config.lewm.clone(),
        world_models: config.world_models.clone(),
        gcbc_tokens: facts.gcbc_tokens.clone(),
        lejepa: config.lejepa.clone(),
        ijepa: config.ijepa.clone(),
        shape: data.shape,
        info,
    })
}

/// The validation errors on the last line of the metrics that has some.
fn last_validation(out: &Path) -> Result<Option<ValidationErrors>> {
    let path = out.join(METRICS);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    for line in text.lines().rev() {
        let line: MetricsLine =
            serde_json::from_str(line).map_err(|e| damaged(&path, &e.to_string()))?;
        if line.validation.is_some() {
            return Ok(line.validation);
        }
    }
    Ok(None)
}

/// Opens a finished training run for planning.
///
/// # Errors
/// [`Error::Run`] when the folder is not a finished run, or its weights do not fit.
pub fn load(run: &Path, compute: Compute) -> Result<Box<dyn WorldModel>> {
    let file = read_model(run)?;
    if file.token.is_some() {
        return load_tokens(run, file, compute);
    }
    if file.gcbc_tokens.is_some() {
        return Err(Error::Run {
            path: run.to_path_buf(),
            detail: format!(
                "`{}` is a policy, which imagines nothing to plan with",
                file.info.name
            ),
            hint: "let it act with `jepa-bench eval --model RUN`".into(),
        });
    }
    let device = compute.device();
    if let Some(lewm) = &file.lewm {
        let (path, bytes) = read_weights(run, &file)?;
        let net = weights_from_bytes(lewm.init(&file.shape, &device)?, bytes, &path)?;
        let input = lewm.encoder.input(&file.shape);
        return Ok(Box::new(VectorModel::new(file.info, input, net, device)));
    }
    if let Some(config) = &file.world_models {
        let (path, bytes) = read_weights(run, &file)?;
        let net = weights_from_bytes(config.init(&file.shape, &device)?, bytes, &path)?;
        let input = WorldModelsConfig::input(&file.shape);
        return Ok(Box::new(VectorModel::new(file.info, input, net, device)));
    }
    if file.lejepa.is_some() || file.ijepa.is_some() {
        return Err(Error::Run {
            path: run.to_path_buf(),
            detail: "holds an image encoder, which cannot plan by itself".into(),
            hint: "give the run that it was trained for, the folder above it".into(),
        });
    }
    let (file, net) = load_pldm(run, &device)?;
    let input = pixels(&file.shape);
    Ok(Box::new(VectorModel::new(file.info, input, net, device)))
}

/// Opens a finished training run of a policy; `None` when it is one of a world model.
///
/// # Errors
/// [`Error::Run`] when the folder is not a finished run, or its weights do not fit.
pub fn load_policy(run: &Path, compute: Compute) -> Result<Option<Box<dyn GoalPolicy>>> {
    let file = read_model(run)?;
    let Some(GcbcTokensFile { config, bins }) = file.gcbc_tokens.clone() else {
        return Ok(None);
    };
    let device = compute.device();
    let (path, bytes) = read_weights(run, &file)?;
    if (bins.count, bins.low.len(), bins.high.len())
        != (config.bins, file.shape.action_dim, file.shape.action_dim)
    {
        return Err(damaged(&path, "model.json has bins of another size"));
    }
    let net = weights_from_bytes(config.init(&file.shape, &device)?, bytes, &path)?;
    let input = pixels(&file.shape);
    let policy = TokenPolicy::new(file.info, input, net, bins, device);
    Ok(Some(Box::new(policy)))
}

/// `model.json` of a finished run.
fn read_model(run: &Path) -> Result<ModelFile> {
    let path = run.join(MODEL);
    if !path.is_file() {
        return Err(unfinished(run));
    }
    let file: ModelFile = read_json(&path)?;
    if file.format_version != 1 {
        return Err(Error::Run {
            path,
            detail: format!(
                "has format version {}, this program reads 1",
                file.format_version
            ),
            hint: "use a newer version of the program".into(),
        });
    }
    Ok(file)
}

/// The weights of a finished run, of the hash in its `model.json`.
fn read_weights(run: &Path, file: &ModelFile) -> Result<(PathBuf, Vec<u8>)> {
    let path = run.join(WEIGHTS);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    if hash(&bytes) != file.info.weights_hash {
        return Err(damaged(&path, "its hash is not the one in model.json"));
    }
    Ok((path, bytes))
}

fn load_pldm(run: &Path, device: &Device) -> Result<(ModelFile, PldmNet)> {
    let file = read_model(run)?;
    let (path, bytes) = read_weights(run, &file)?;
    let net = weights_from_bytes(file.pldm.init(&file.shape, device)?, bytes, &path)?;
    Ok((file, net))
}

fn load_lejepa(run: &Path, device: &Device) -> Result<(ModelFile, LejepaNet)> {
    let file = read_model(run)?;
    let (path, bytes) = read_weights(run, &file)?;
    let Some(lejepa) = &file.lejepa else {
        return Err(damaged(&path, "model.json has no encoder of `lejepa`"));
    };
    let net = weights_from_bytes(lejepa.init(&file.shape, device)?, bytes, &path)?;
    Ok((file, net))
}

fn load_tokens(run: &Path, file: ModelFile, compute: Compute) -> Result<Box<dyn WorldModel>> {
    let (path, bytes) = read_weights(run, &file)?;
    let Some(token) = &file.token else {
        return Err(damaged(&path, "model.json has no token-grid model"));
    };
    let config = &token.config;
    let frozen = match &config.encoder {
        EncoderChoice::RandomPatch { .. } => random_patch(config, &file.shape, token.seed)?,
        EncoderChoice::Imported { .. } => imported(config, Some(run), &file.shape, None, compute)?,
        choice @ (EncoderChoice::PldmGrid { .. }
        | EncoderChoice::Lejepa { .. }
        | EncoderChoice::IJepa { .. }) => frozen_encoder(choice, &encoder_of(run), compute)?,
    };
    if frozen.hash != token.encoder_hash {
        return Err(damaged(
            &encoder_of(run),
            "its weights are not the ones that the model was trained with",
        ));
    }
    let device = compute.device();
    let tokens = frozen.input.shape();
    let net = TokenNet::new(
        config,
        tokens,
        &file.shape,
        token.horizon,
        token.seed,
        &device,
    )?;
    let net = weights_from_bytes(net, bytes, &path)?;
    let model = TokenGridModel::new(config, file.info, frozen.input, net, &device)?;
    Ok(Box::new(model))
}

fn unfinished(run: &Path) -> Error {
    let started = run.join(CONFIG).is_file();
    let (detail, hint) = if started {
        (
            "has not finished training",
            "run the same `train` command again; it continues",
        )
    } else if run.is_dir() {
        (
            "holds no trained model",
            "give the folder that `train --out` wrote",
        )
    } else {
        ("does not exist", "give the folder that `train --out` wrote")
    };
    Error::Run {
        path: run.to_path_buf(),
        detail: detail.into(),
        hint: hint.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TrainingConfig;
    use super::*;

    fn identity() -> RunIdentity {
        RunIdentity {
            config: TrainConfig::default(),
            dataset_hash: "d".into(),
            train_split_hash: "s".into(),
            features: None,
        }
    }

    #[test]
    fn a_kill_while_the_configuration_was_written_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let beginning = partial(&folder.path().join(CONFIG));
        fs::write(&beginning, b"{ \"config").unwrap();
        claim_folder(folder.path(), &identity()).unwrap();
        assert!(folder.path().join(CONFIG).is_file() && !beginning.exists());
        claim_folder(folder.path(), &identity()).unwrap();
    }

    /// Settings of a short training.
    fn short() -> TrainingConfig {
        TrainingConfig {
            steps: 100,
            batch: 4,
            horizon: 2,
            validation_slices: 4,
            validate_every: 50,
            checkpoint_every: 40,
            log_every: 10,
            ..TrainingConfig::default()
        }
    }

    /// A token-grid model on an encoder that is trained first.
    fn on(encoder: EncoderChoice) -> TrainConfig {
        let mut config = TrainConfig::of("ours").unwrap();
        config.training = TrainingConfig {
            steps: 3,
            ..short()
        };
        config.token.as_mut().unwrap().encoder = encoder;
        config
    }

    /// `lejepa` for small frames.
    fn lejepa(views: usize) -> EncoderChoice {
        use crate::encoder::conv::{ConvEncoderConfig, StageConfig};

        EncoderChoice::Lejepa {
            lejepa: LejepaConfig {
                views,
                encoder: ConvEncoderConfig {
                    stages: vec![StageConfig {
                        filters: 8,
                        kernel: 4,
                        stride: 4,
                        padding: 0,
                    }],
                    latent: 6,
                },
                projector: vec![8],
                embedding: 4,
                ..LejepaConfig::default()
            },
            training: short(),
        }
    }

    /// `i-jepa` for small frames.
    fn ijepa() -> EncoderChoice {
        use crate::ijepa::VitConfig;

        let size = VitConfig {
            width: 8,
            depth: 1,
            heads: 2,
        };
        EncoderChoice::IJepa {
            ijepa: IjepaConfig {
                patch: 2,
                encoder: size,
                predictor: size,
                ..IjepaConfig::default()
            },
            training: short(),
        }
    }

    /// Trains, or goes on, until `interrupted`; a stop at a step is an error with that step.
    fn train_until(
        config: &TrainConfig,
        data: &Path,
        out: &Path,
        interrupted: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Finished> {
        use std::sync::atomic::{AtomicU64, Ordering};

        let request = TrainRequest {
            config,
            data,
            out,
            encoders: None,
            compute: Compute::parse("cpu").unwrap(),
        };
        let at = AtomicU64::new(0);
        let hooks = Hooks {
            on_stage: &|_, _| (),
            on_step: &|step, _| at.store(step, Ordering::Relaxed),
            interrupted: &|| interrupted(at.load(Ordering::Relaxed)),
        };
        run(&request, &hooks)
    }

    /// Stops the training of an encoder half-way and goes on; returns the numbers of a latent.
    fn trains_in_two_parts_to_the_bits_of_one(encoder: EncoderChoice) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        crate::train::testing::dataset(&data);
        let config = on(encoder);
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        train_until(&config, &data, &whole, &|_| false).unwrap();
        let stopped = train_until(&config, &data, &parts, &|step| step == 50).unwrap_err();
        let half_way = matches!(
            stopped,
            Error::Interrupted {
                step: 50,
                total: 100
            }
        );
        assert!(half_way, "{stopped}");
        assert!(!parts.join(ENCODER).join(WEIGHTS).exists());
        train_until(&config, &data, &parts, &|_| false).unwrap();
        for file in [WEIGHTS, "encoder/model.safetensors"] {
            let bytes = |run: &Path| fs::read(run.join(file)).unwrap();
            assert!(bytes(&whole) == bytes(&parts), "{file}");
        }

        let compute = Compute::parse("cpu").unwrap();
        let error = load(&parts.join(ENCODER), compute).err().unwrap();
        assert!(error.to_string().contains("cannot plan"), "{error}");
        load(&parts, compute).unwrap().info().latent_width
    }

    #[test]
    fn an_encoder_of_lejepa_trains_in_two_parts_to_the_bits_of_one() {
        let numbers = trains_in_two_parts_to_the_bits_of_one(lejepa(3));
        assert_eq!(numbers, 8 * 2 * 2);
    }

    #[test]
    fn an_encoder_of_i_jepa_trains_in_two_parts_to_the_bits_of_one() {
        let numbers = trains_in_two_parts_to_the_bits_of_one(ijepa());
        assert_eq!(numbers, 8 * 4 * 4);
    }

    #[test]
    fn wrong_settings_of_an_encoder_are_errors_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        crate::train::testing::dataset(&data);
        let out = folder.path().join("run");
        let wrong = |encoder: EncoderChoice, key: &str| {
            let error = train_until(&on(encoder), &data, &out, &|_| false).unwrap_err();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
            assert!(!out.exists());
        };
        // Two views, and a training with samples of three frames.
        wrong(lejepa(2), "token.encoder.training.horizon");
        let mut encoder = lejepa(3);
        if let EncoderChoice::Lejepa { training, .. } = &mut encoder {
            training.batch = 0;
        }
        wrong(encoder, "training.batch");
        let mut encoder = ijepa();
        if let EncoderChoice::IJepa { ijepa, .. } = &mut encoder {
            ijepa.encoder.heads = 3;
        }
        wrong(encoder, "token.encoder.ijepa.encoder");
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
        let error = claim_folder(folder.path(), &identity()).unwrap_err();
        assert!(
            error.to_string().contains("holds no training run"),
            "{error}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
