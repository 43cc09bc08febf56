//! `jepa-bench train`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_datasets::{Dataset, Shard};
use jepa_models::token::EncoderChoice;
use jepa_models::train::{Finished, Hooks, TrainConfig, TrainRequest};
use jepa_models::{Compute, RECIPES};

use super::Context;
use crate::protocol::{changes, overlay};
use crate::{Error, Result};

/// Train a world model or a policy.
///
/// The run continues from its last checkpoint when the same command is given again, and ends with the
/// same weights however often it was stopped. With `--sweep` there is a run for every combination of values in a file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench train --model pldm --recipe wall --data data/wall --out runs/train/wall-0
  jepa-bench train --recipe wall --data data/wall --out runs/train/wall-1 --seed 1 --epochs 20 --keep-epochs 1
  jepa-bench train --recipe ours-tiny --data data/wall --out runs/rollout --sweep rollout.toml

where rollout.toml is
  [grid]
  \"token.objective.rollout.steps\" = [1, 2, 3]
  \"training.seed\" = [0, 1, 2]
or lists runs
  [[runs]]
  name = \"fixed\"
  set = { \"token.objective.vjepa2-ac.start\" = \"fixed\" }")]
pub struct Args {
    /// Model of the zoo (`jepa-bench list models`); the recipe's, or `pldm` without one.
    #[arg(long)]
    pub model: Option<String>,
    /// Dataset folder.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Run folder, created or continued.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A named configuration that was tried.
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// TOML file with any of the configuration's keys.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One key of the configuration, e.g. `training.learning_rate=1e-3`; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Training seed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Optimiser steps.
    #[arg(long, conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Passes over the slices of the training split, in place of `--steps`.
    #[arg(long)]
    pub epochs: Option<f64>,
    /// Keep a model every so many passes over the slices, in `kept/step-N` of the run folder: each of them can be
    /// evaluated like the run itself. Sets `training.keep_every`.
    #[arg(long, value_name = "EPOCHS")]
    pub keep_epochs: Option<f64>,
    /// TOML file with a table `grid` of lists of values, by dotted keys of the configuration or `model` and `recipe`, and
    /// with runs that are written out; every run has a folder of its own in `--out`.
    #[arg(long, value_name = "FILE")]
    pub sweep: Option<PathBuf>,
    /// Train only part i of n of the runs of the sweep.
    #[arg(long, value_name = "i/n", requires = "sweep")]
    pub shard: Option<Shard>,
    /// Where to compute: `auto`, `cpu`, or `cuda:N` in builds with that feature. A run that is continued elsewhere ends
    /// with other bits.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Print the resolved configuration and stop.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::memory::keep_freed();
    let compute = Compute::parse(&args.device)?;
    if let Some(file) = &args.sweep {
        return super::sweep::run(file, args, ctx);
    }
    let config = resolve(args)?;
    if args.dry_run {
        print_plan(args, &config, ctx)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = TrainRequest {
        config: &config,
        data: &args.data,
        out: &args.out,
        encoders: None,
        compute,
    };
    let finished = train(&request, ctx)?;
    if ctx.json {
        ctx.print_json(&finished)?;
    } else {
        print_summary(args, &finished, ctx)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains with a progress bar.
pub(crate) fn train(request: &TrainRequest<'_>, ctx: &Context) -> anyhow::Result<Finished> {
    let bar = ctx.progress(request.config.training.steps, "train");
    let on_stage = |name: &str, steps: u64| {
        bar.set_length(steps);
        bar.set_position(0);
        bar.set_prefix(name.to_string());
    };
    let on_step = |step: u64, loss: f64| {
        bar.set_position(step);
        bar.set_message(format!("loss {loss:.3}"));
    };
    let interrupted = || ctx.interrupted();
    let hooks = Hooks {
        on_stage: &on_stage,
        on_step: &on_step,
        interrupted: &interrupted,
    };
    let finished = jepa_models::train::run(request, &hooks);
    bar.finish_and_clear();
    Ok(finished?)
}

/// Defaults, then the recipe, then the file, then `--set`, then the flags.
fn resolve(args: &Args) -> Result<TrainConfig> {
    resolve_with(args, args.model.as_deref(), args.recipe.as_deref(), None)
}

/// The same for another model and recipe, with `more` laid over file and `--set`.
pub(super) fn resolve_with(
    args: &Args,
    model: Option<&str>,
    recipe: Option<&str>,
    more: Option<toml::Table>,
) -> Result<TrainConfig> {
    let recipe = recipe.map(recipe_table).transpose()?;
    let changes = changes(args.config.as_deref(), &args.settings)?;
    let layers = recipe.into_iter().chain([changes]).chain(more).collect();
    let mut config = layered(model, layers)?;
    config.training.seed = args.seed.unwrap_or(config.training.seed);
    config.training.steps = args.steps.unwrap_or(config.training.steps);
    if let Some(epochs) = args.epochs {
        config.training.steps = steps_of("--epochs", epochs, &config, args)?;
    }
    if let Some(epochs) = args.keep_epochs {
        config.training.keep_every = steps_of("--keep-epochs", epochs, &config, args)?;
    }
    Ok(config)
}

/// The default configuration of a model with a recipe and other changes laid over it. The model is the one asked
/// for, or the recipe's.
pub(crate) fn configuration(
    model: Option<&str>,
    recipe: Option<toml::Table>,
    changes: toml::Table,
) -> Result<TrainConfig> {
    layered(model, recipe.into_iter().chain([changes]).collect())
}

/// The default configuration of a model with layers laid over it, one after the other.
fn layered(model: Option<&str>, layers: Vec<toml::Table>) -> Result<TrainConfig> {
    let text = |error: &dyn std::fmt::Display| Error::Config {
        what: "training configuration".into(),
        detail: error.to_string(),
        hint: Some("`jepa-bench train --dry-run` prints every key with its value".into()),
    };
    let name = model_of(model, &layers)?;
    let mut table = toml::Table::try_from(TrainConfig::of(&name)?).map_err(|e| text(&e))?;
    for layer in layers {
        choose_variants(&mut table, &layer);
        // TOML has no null: a table that is absent by default is a key all the same.
        for training in TRAINING_TABLES {
            if let Some(training) = table_at(&mut table, training) {
                training
                    .entry("crossing")
                    .or_insert(toml::Value::Boolean(false));
            }
        }
        name_what_is_off(&mut table);
        overlay(&mut table, layer, "")?;
    }
    for training in TRAINING_TABLES {
        if let Some(training) = table_at(&mut table, training)
            && training.get("crossing") == Some(&toml::Value::Boolean(false))
        {
            training.remove("crossing");
        }
    }
    table
        .try_into()
        .map_err(|e: toml::de::Error| text(&e.message()))
}

/// Where a configuration holds settings of a training.
const TRAINING_TABLES: [&[&str]; 2] = [&["training"], &["token", "encoder", "training"]];

/// Names settings that are not written while they are off, so that they can be set.
fn name_what_is_off(table: &mut toml::Table) {
    if let Some(training) = table_at(table, &["training"]) {
        training
            .entry("pose_stride")
            .or_insert(toml::Value::Integer(0));
    }
    if let Some(predictor) = table_at(table, &["token", "predictor"]) {
        predictor
            .entry("proprio_token")
            .or_insert(toml::Value::Boolean(false));
    }
}

/// The table at `path`.
fn table_at<'a>(table: &'a mut toml::Table, path: &[&str]) -> Option<&'a mut toml::Table> {
    path.iter()
        .try_fold(table, |table, key| table.get_mut(*key)?.as_table_mut())
}

/// The model that the flag and the layers of a configuration agree on.
fn model_of(flag: Option<&str>, layers: &[toml::Table]) -> Result<String> {
    let named = layers
        .iter()
        .filter_map(|layer| layer.get("model")?.as_str())
        .next_back();
    match (flag, named) {
        (Some(flag), Some(named)) if flag != named => Err(Error::Config {
            what: "`--model`".into(),
            detail: format!("it means `{flag}`, the recipe or configuration says `{named}`"),
            hint: Some("leave one of them out".into()),
        }),
        (Some(name), _) | (None, Some(name)) => Ok(name.to_string()),
        (None, None) => Ok(DEFAULT_MODEL.to_string()),
    }
}

/// Without `--model` and recipe.
const DEFAULT_MODEL: &str = "pldm";

/// Takes over the encoder and the objective of a layer whole where they are of another kind than the table's: their
/// keys are others.
fn choose_variants(table: &mut toml::Table, layer: &toml::Table) {
    let kind = |table: &toml::Table| {
        let kind = table.get("encoder")?.get("kind")?.as_str()?;
        Some(kind.to_string())
    };
    let objective = |table: &toml::Table| {
        let objective = table.get("objective")?.as_table()?;
        objective.keys().next().cloned()
    };
    for model in ["token", "lewm"] {
        let changes = layer.get(model).and_then(toml::Value::as_table);
        let (Some(changes), Some(table)) = (changes, table_at(table, &[model])) else {
            continue;
        };
        if kind(changes).is_some_and(|kind_of_layer| Some(kind_of_layer) != kind(table)) {
            table.insert("encoder".into(), with_defaults(&changes["encoder"]));
        }
        if objective(changes).is_some_and(|of_layer| Some(of_layer) != objective(table)) {
            table.insert("objective".into(), changes["objective"].clone());
        }
    }
}

/// An encoder of a token-grid model with the defaults of its kind, for later layers to change; anything else as it is.
/// What is wrong with it is said when the whole configuration is read.
fn with_defaults(encoder: &toml::Value) -> toml::Value {
    let whole = encoder.clone().try_into::<EncoderChoice>();
    whole
        .ok()
        .and_then(|encoder| toml::Value::try_from(encoder).ok())
        .unwrap_or_else(|| encoder.clone())
}

/// The TOML of a recipe.
pub(crate) fn recipe_table(name: &str) -> Result<toml::Table> {
    let recipe = RECIPES
        .iter()
        .find(|r| r.name == name)
        .ok_or_else(|| Error::UnknownName {
            kind: "recipe",
            name: name.to_string(),
            known: RECIPES.iter().map(|r| r.name.to_string()).collect(),
        })?;
    recipe
        .toml
        .parse()
        .map_err(|error: toml::de::Error| Error::Config {
            what: format!("recipe `{name}`"),
            detail: error.to_string(),
            hint: None,
        })
}

/// Steps that see every training slice `epochs` times.
fn steps_of(option: &str, epochs: f64, config: &TrainConfig, args: &Args) -> Result<u64> {
    if !(epochs.is_finite() && epochs > 0.0) {
        return Err(Error::Invalid {
            what: format!("`{option}`"),
            detail: format!("must be above 0, is {epochs}"),
        });
    }
    let dataset = Dataset::open(&args.data)?;
    let slices = dataset
        .slices(&jepa_models::train::training_slices(config))?
        .len();
    Ok((epochs * slices as f64 / config.training.batch as f64).ceil() as u64)
}

fn print_plan(args: &Args, config: &TrainConfig, ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        return ctx.print_json(config);
    }
    let dataset = Dataset::open(&args.data)?;
    let slices = dataset
        .slices(&jepa_models::train::training_slices(config))?
        .len();
    let seen = config.training.steps * config.training.batch as u64;
    ctx.say(&format!(
        "reads {} ({} training slices, {:.2} passes), writes {}",
        args.data.display(),
        slices,
        seen as f64 / slices as f64,
        args.out.display()
    ));
    ctx.print(toml::to_string_pretty(config)?.trim_end())
}

fn print_summary(args: &Args, finished: &Finished, ctx: &Context) -> anyhow::Result<()> {
    ctx.print(&format!(
        "{} seed {}: {} steps in {:.0} s, {:.1}% of it waiting for data",
        finished.model,
        finished.seed,
        finished.steps,
        finished.seconds,
        100.0 * finished.wait_share
    ))?;
    ctx.print(&format!(
        "{} parameters ({} with the parts that only train)",
        finished.parameters, finished.trained_parameters
    ))?;
    if let Some(imitation) = finished.validation.as_ref().and_then(|v| v.imitation) {
        ctx.print(&format!(
            "validation: cross-entropy {:.4} nats per number of an action, {:.3}% of them outside the bins",
            imitation.cross_entropy,
            100.0 * imitation.clipped
        ))?;
    } else if let Some(errors) = &finished.validation {
        let first = |values: &[f64]| {
            let shown: Vec<String> = values.iter().take(3).map(|v| format!("{v:.4}")).collect();
            shown.join("  ")
        };
        ctx.print("validation unroll at H = 1, 2, 3")?;
        ctx.print(&format!("  visual L2       {}", first(&errors.visual_l2)))?;
        ctx.print(&format!("  visual L1       {}", first(&errors.visual_l1)))?;
        ctx.print(&format!("  proprio probe   {}", first(&errors.proprio)))?;
        ctx.print(&format!("  latent variance {:.4}", errors.variance))?;
    }
    ctx.print(&format!("model in {}", args.out.display()))
}

#[cfg(test)]
mod tests {
    use jepa_models::lejepa::LejepaConfig;
    use jepa_models::pldm::DataShape;
    use jepa_models::token::{EncoderChoice, ObjectiveChoice};
    use jepa_models::train::TrainingConfig;

    use super::*;

    #[test]
    fn every_recipe_resolves() {
        for recipe in RECIPES {
            let table = Some(recipe_table(recipe.name).unwrap());
            let config = configuration(None, table, toml::Table::new()).unwrap();
            // Small ones for Wall see enough of the door; others and those at full size draw uniformly, as released.
            let full_size = config.training.keep_every > 0;
            let elsewhere = ["pusht-small", "pointmaze-small"].contains(&recipe.name);
            let crosses = config.training.crossing.is_some();
            assert_eq!(crosses, !full_size && !elsewhere, "{}", recipe.name);
        }
    }

    #[test]
    fn recipes_at_full_size_have_the_widths_of_the_paper() {
        // models.md section 5.3: D 400 of the paper's model, 404, 414, 414 and 424 of DINO-WM.
        let inner = |name: &str| {
            let table = Some(recipe_table(name).unwrap());
            let config = configuration(None, table, toml::Table::new()).unwrap();
            let predictor = config.token.unwrap().predictor;
            let visual = if name.starts_with("ours") {
                predictor.width
            } else {
                384
            };
            visual + predictor.proprio_width + predictor.action_width
        };
        for environment in ["wall", "pointmaze", "pusht", "metaworld"] {
            assert_eq!(inner(&format!("ours-{environment}")), 400);
        }
        let widths = ["wall", "pointmaze", "pusht", "metaworld"]
            .map(|environment| inner(&format!("dino-wm-{environment}")));
        assert_eq!(widths, [404, 414, 414, 424]);
    }

    #[test]
    fn recipes_at_full_size_have_the_parameters_of_the_released_models() {
        // models.md section 2.5: the predictor, and the encoders of actions and proprio outside of it.
        let counts = [
            ("ours-wall", [2, 2], 17_626_480 + 48),
            ("ours-pointmaze", [2, 4], 17_626_480 + 80),
            ("ours-pusht", [2, 4], 17_626_480 + 80),
            ("ours-metaworld", [4, 4], 17_630_480 + 80),
            ("ours-droid", [7, 7], 228_835_328),
            ("dino-wm-wall", [2, 2], 20_298_744 + 110 + 30),
            ("dino-wm-pointmaze", [2, 4], 20_800_884 + 110 + 100),
            ("dino-wm-pusht", [2, 4], 20_800_884 + 110 + 100),
            ("dino-wm-metaworld", [4, 4], 21_303_024 + 420 + 100),
            ("dino-wm-droid", [7, 7], 19_796_604 + 80),
            ("vjepa2-ac-droid", [7, 7], 305_205_632),
        ];
        for (name, [action_dim, proprio_dim], parameters) in counts {
            let table = Some(recipe_table(name).unwrap());
            let config = configuration(None, table, toml::Table::new()).unwrap();
            let token = config.token.unwrap();
            let width = match &token.encoder {
                EncoderChoice::Imported { weights, .. } if weights.ends_with("dinov3-large") => {
                    1024
                }
                EncoderChoice::Imported { weights, .. } if weights.ends_with("vjepa2-giant") => {
                    1408
                }
                _ => 384,
            };
            let shape = DataShape {
                height: 256,
                width: 256,
                action_dim,
                proprio_dim,
            };
            let found = token.parameters([width, 16, 16], &shape, config.training.horizon);
            assert_eq!(found.unwrap(), parameters, "{name}");
        }
    }

    #[test]
    fn recipes_for_droid_take_changes_of_pose_for_actions_and_the_rates_of_the_paper() {
        let config = |name: &str| {
            let table = Some(recipe_table(name).unwrap());
            configuration(None, table, toml::Table::new()).unwrap()
        };
        // models.md sections 5.2 and 5.3: 315 epochs of 300 steps; W = 3, and 7 for V-JEPA-2-AC.
        for (name, horizon, batch, beta2) in [
            ("ours-droid", 3, 256, 0.995),
            ("dino-wm-droid", 3, 128, 0.999),
            ("vjepa2-ac-droid", 7, 256, 0.999),
        ] {
            let config = config(name);
            let training = &config.training;
            assert_eq!(
                (training.pose_stride, config.frameskip()),
                (15, 1),
                "{name}"
            );
            assert_eq!(
                (training.steps, training.horizon, training.batch),
                (94_500, horizon, batch)
            );
            assert!((training.betas[1] - beta2).abs() < 1e-12);
        }
        let training = config("vjepa2-ac-droid").training;
        let rate = training.learning_rate;
        let fifteen_epochs = 15.0 / 315.0;
        for (found, expected) in [
            (rate, 4.25e-4),
            (rate * training.start_fraction, 7.5e-5),
            (training.warmup_fraction, fifteen_epochs),
            (training.anneal_fraction, fifteen_epochs),
            (training.weight_decay, 0.04),
            (training.clip_norm, 0.0),
        ] {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn settings_that_are_off_can_be_set_and_are_not_written() {
        let set = |setting: &str| {
            let changes = changes(None, &[setting.to_string()]).unwrap();
            configuration(Some("vjepa2-ac-buggy"), None, changes).unwrap()
        };
        assert_eq!(set("training.pose_stride=4").training.pose_stride, 4);
        let with_pose = set("token.predictor.proprio_token=true");
        assert!(with_pose.token.unwrap().predictor.proprio_token);
        let text = toml::to_string(&set("training.batch=2")).unwrap();
        assert!(
            !text.contains("pose_stride") && !text.contains("proprio_token"),
            "{text}"
        );
    }

    #[test]
    fn a_setting_wins_over_the_recipe() {
        let settings = [
            "training.steps=7".to_string(),
            "training.crossing.share=0.5".to_string(),
        ];
        let layer = changes(None, &settings).unwrap();
        let config = configuration(None, Some(recipe_table("wall").unwrap()), layer).unwrap();
        assert_eq!(config.training.steps, 7);
        assert!((config.training.crossing.unwrap().share - 0.5).abs() < 1e-12);
    }

    #[test]
    fn an_unknown_key_names_what_exists() {
        let layer = changes(None, &["training.step=7".to_string()]).unwrap();
        let error = configuration(None, None, layer).unwrap_err();
        assert!(error.to_string().contains("training.step"), "{error}");
        assert!(
            error
                .hint()
                .unwrap()
                .contains("did you mean `training.steps`"),
            "{:?}",
            error.hint()
        );
    }

    #[test]
    fn a_model_brings_its_own_settings_and_a_recipe_its_model() {
        let config = configuration(Some("ours"), None, toml::Table::new()).unwrap();
        assert_eq!(config.model, "ours");
        let set = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_string()).collect();
            configuration(Some("ours"), None, changes(None, &settings).unwrap())
        };
        let deeper = set(&["token.predictor.depth=5"]).unwrap();
        assert_eq!(deeper.token.unwrap().predictor.depth, 5);
        let random = set(&[
            "token.encoder.kind=random-patch",
            "token.encoder.patch=8",
            "token.encoder.width=32",
        ]);
        let encoder = random.unwrap().token.unwrap().encoder;
        assert_eq!(
            encoder,
            EncoderChoice::RandomPatch {
                patch: 8,
                width: 32
            }
        );
        let lejepa = set(&[
            "token.encoder.kind=lejepa",
            "token.encoder.training.steps=7",
            "token.encoder.lejepa.loss.lambda=0.5",
        ]);
        assert_eq!(lejepa.unwrap().token.unwrap().encoder, on_lejepa(7, 0.5));
        let other = set(&["token.objective.vjepa2-ac.start=buggy"]).unwrap();
        let objective = other.token.unwrap().objective;
        assert!(
            matches!(objective, ObjectiveChoice::Vjepa2Ac(_)),
            "{objective:?}"
        );
        assert!(set(&["token.predictor.deep=5"]).is_err());

        let recipe = || Some(recipe_table("ours-tiny").unwrap());
        assert_eq!(
            configuration(None, recipe(), toml::Table::new())
                .unwrap()
                .model,
            "ours"
        );
        let error = configuration(Some("pldm"), recipe(), toml::Table::new()).unwrap_err();
        assert!(error.to_string().contains("`ours`"), "{error}");
    }

    /// An encoder of `lejepa` with its own defaults and these settings.
    fn on_lejepa(steps: u64, lambda: f64) -> EncoderChoice {
        let mut lejepa = LejepaConfig::default();
        lejepa.loss.lambda = lambda;
        EncoderChoice::Lejepa {
            lejepa,
            training: TrainingConfig {
                steps,
                ..LejepaConfig::training()
            },
        }
    }

    #[test]
    fn settings_reach_the_encoder_that_a_recipe_has_chosen() {
        let settings = [
            "token.encoder.training.steps=7".to_string(),
            "token.encoder.lejepa.loss.lambda=0.5".to_string(),
        ];
        let recipe = || Some(recipe_table("ours-lejepa-tiny").unwrap());
        let layer = changes(None, &settings).unwrap();
        let config = configuration(None, recipe(), layer).unwrap();
        assert_eq!(config.token.unwrap().encoder, on_lejepa(7, 0.5));
        let layer = changes(None, &["token.encoder.lejepa.view=3".to_string()]).unwrap();
        let error = configuration(None, recipe(), layer).unwrap_err();
        assert!(error.to_string().contains("lejepa.view"), "{error}");
    }

    #[test]
    fn an_unknown_recipe_names_what_exists() {
        let error = recipe_table("wal").unwrap_err();
        assert!(error.hint().unwrap().contains("wall-long"));
    }
}
