//! `jepa-bench embed`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use jepa_datasets::transform::Geometry;
use jepa_datasets::{Dataset, Shard};
use jepa_models::Compute;
use jepa_models::encoder::{FrontEnd, FrozenEncoder, PixelScale};
use jepa_models::features::{EmbedHooks, EmbedRequest, Embedded, FeatureSpec, FeatureType, embed};
use jepa_models::weights::import;

use super::Context;
use super::slice::PixelNormArg;
use crate::{Error, weights};

/// Encode every frame of a dataset with a frozen encoder and keep the tokens.
///
/// They lie in `DATASET/features`, one NumPy file per episode, beside the frames; `train` reads them in place of frames
/// whenever its model has the same encoder, weights and transform. Features of another dataset, encoder, weights or
/// transform are never taken for these. The same command goes on where it was stopped, and episodes that have their
/// tokens are left alone, so parts may run side by side (`--shard`).
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench weights import dinov2_vits14_pretrain.pth --model dinov2-small --out weights/dinov2-small
  jepa-bench embed data/wall --weights weights/dinov2-small
  jepa-bench embed data/wall --weights weights/dinov2-small --transform dino-wm --dtype f32
  jepa-bench train --model ours --data data/wall --out runs/ours --set token.encoder.kind=imported \\
      --set token.encoder.weights=weights/dinov2-small")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// Name of the encoder, see `jepa-bench list encoders`; a folder of weights says its own.
    #[arg(long, value_name = "NAME")]
    encoder: Option<String>,
    /// Folder that `weights import` wrote, or a released file of the encoder.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// Crop and interpolation in front of the encoder, with their scale of the pixels.
    #[arg(long, value_enum, default_value = "jepa-wms")]
    transform: GeometryArg,
    /// Scale of the pixels; by default that of the transform's code base.
    #[arg(long, value_enum)]
    pixel_norm: Option<PixelNormArg>,
    /// Side of the images that the encoder sees, in pixels; by default its own.
    #[arg(long, value_name = "PIXELS")]
    image: Option<usize>,
    /// Type of the stored numbers: half precision takes half the disk.
    #[arg(long, value_enum, default_value = "f16", value_name = "f16|f32")]
    dtype: DtypeArg,
    /// Camera whose frames are encoded; by default the first one, which `train` uses.
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Where to compute: `auto`, `cpu`, or `cuda:N` in builds with that feature.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Encode only part i of n of the episodes; the parts need no merge.
    #[arg(long, value_name = "i/n")]
    shard: Option<Shard>,
    /// Say what would be written, with its size, and stop.
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum GeometryArg {
    JepaWms,
    DinoWm,
    #[value(name = "vjepa2-ac")]
    Vjepa2Ac,
}

impl From<GeometryArg> for Geometry {
    fn from(arg: GeometryArg) -> Self {
        match arg {
            GeometryArg::JepaWms => Self::JepaWms,
            GeometryArg::DinoWm => Self::DinoWm,
            GeometryArg::Vjepa2Ac => Self::VJepa2Ac,
        }
    }
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum DtypeArg {
    F16,
    F32,
}

impl From<DtypeArg> for FeatureType {
    fn from(arg: DtypeArg) -> Self {
        match arg {
            DtypeArg::F16 => Self::F16,
            DtypeArg::F32 => Self::F32,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    crate::memory::keep_freed();
    let dataset = Dataset::open(&args.dataset)?;
    let encoder = open_encoder(args)?;
    let dtype = args.dtype.into();
    if args.dry_run {
        let spec = FeatureSpec::new(&dataset, &encoder, args.camera.as_deref(), dtype)?;
        return print_plan(&dataset, &spec, ctx);
    }
    let bar = ctx.progress(0, "frames");
    let request = EmbedRequest {
        dataset: &dataset,
        encoder: &encoder,
        camera: args.camera.as_deref(),
        dtype,
        shard: args.shard,
    };
    let hooks = EmbedHooks {
        on_total: &|total| bar.set_length(total),
        on_frames: &|frames| bar.inc(frames),
        interrupted: &|| ctx.interrupted(),
    };
    let began = Instant::now();
    let embedded = embed(&request, &hooks).map_err(stopped)?;
    bar.finish_and_clear();
    print(&embedded, began.elapsed().as_secs_f64(), ctx)?;
    Ok(ExitCode::SUCCESS)
}

/// What is done of an interrupted embedding is counted in frames.
fn stopped(error: jepa_models::Error) -> anyhow::Error {
    match error {
        jepa_models::Error::Interrupted { step, total } => Error::Interrupted {
            done: step as usize,
            total: total as usize,
            what: "frames",
        }
        .into(),
        other => other.into(),
    }
}

fn open_encoder(args: &Args) -> anyhow::Result<FrozenEncoder> {
    let compute = Compute::parse(&args.device)?;
    let front = FrontEnd {
        transform: args.transform.into(),
        pixel_norm: args
            .pixel_norm
            .map_or(PixelScale::Released, |norm| match norm {
                PixelNormArg::Imagenet => PixelScale::Imagenet,
                PixelNormArg::Half => PixelScale::Half,
            }),
        image: args.image.unwrap_or(0),
    };
    if args.weights.is_dir() {
        let encoder = FrozenEncoder::open(&args.weights, front, compute)?;
        if let Some(name) = args
            .encoder
            .as_deref()
            .filter(|name| *name != encoder.name())
        {
            return Err(Error::Config {
                what: "`--encoder`".into(),
                detail: format!(
                    "is `{name}`, {} holds `{}`",
                    args.weights.display(),
                    encoder.name()
                ),
                hint: Some("leave `--encoder` out, or give the weights of that encoder".into()),
            }
            .into());
        }
        return Ok(encoder);
    }
    let Some(name) = &args.encoder else {
        return Err(Error::Config {
            what: "`--encoder`".into(),
            detail: format!("is needed to read {}", args.weights.display()),
            hint: Some("`jepa-bench list encoders` shows the names".into()),
        }
        .into());
    };
    jepa_models::encoder::find(name)?;
    let entry = import::find(name)?;
    let file = weights::read_where(&args.weights, &|key| entry.reads(key))?;
    Ok(FrozenEncoder::of_file(name, file, front, compute)?)
}

fn print_plan(dataset: &Dataset, spec: &FeatureSpec, ctx: &Context) -> anyhow::Result<ExitCode> {
    let bytes = spec.bytes(dataset);
    let folder = spec.folder(dataset.path())?;
    if ctx.json {
        ctx.print_json(&serde_json::json!({ "folder": folder, "features": spec, "bytes": bytes }))?;
    } else {
        ctx.print(&format!(
            "would write {:.1} MB to {}",
            bytes as f64 / 1e6,
            folder.display()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(embedded: &Embedded, seconds: f64, ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        return ctx.print_json(embedded);
    }
    let spec = &embedded.features;
    let [rows, columns] = spec.grid;
    ctx.print(&format!(
        "{}: {rows}x{columns} tokens of width {} by {}",
        embedded.folder.display(),
        spec.width,
        spec.encoder
    ))?;
    ctx.print(&format!(
        "{} of {} episodes, {:.1} MB; {} frames encoded in {seconds:.1} s",
        embedded.episodes,
        embedded.of_episodes,
        embedded.bytes as f64 / 1e6,
        embedded.encoded_frames
    ))
}
