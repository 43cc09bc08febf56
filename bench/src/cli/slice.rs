//! `jepa-bench slice`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use clap::ValueEnum;
use jepa_datasets::export::npz::{self, Array, Values};
use jepa_datasets::transform::{Geometry, PixelNorm, Transform};
use jepa_datasets::{
    ACTION, Dataset, Dtype, Error, Normalizer, PROPRIO, Pixels, STATE, Slice, SliceRef, SliceSpec,
};
use serde::Serialize;

use super::Context;
use super::slices::OrderArg;

/// Write one trajectory slice as NumPy arrays.
///
/// Arrays: `frames` [W+1,h,w,3] uint8 (and `frames_f32`, exact, where the dataset stores floats), or with a
/// transform `visual` [W+1,3,S,S] float32; `action` [W+1,F*d], `proprio` [W+1,p], `state` [W+1,s], `reward`
/// [W+1] (zeros when the source has none), `episode_index`, `rows` [W+1].
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  jepa-bench slice data/wall --context 3 --frameskip 5 --split train --index 0 --out slice.npz \\
    --normalize all --transform jepa-wms --image-size 224")]
pub struct Args {
    /// Dataset folder.
    dataset: PathBuf,
    /// W: a slice has W + 1 frames.
    #[arg(long, value_name = "W")]
    context: usize,
    /// Steps from one frame to the next.
    #[arg(long, value_name = "F")]
    frameskip: usize,
    /// `train`, `val` or `all`.
    #[arg(long, value_name = "SPLIT")]
    split: String,
    /// Number of the slice, from 0.
    #[arg(long, value_name = "K")]
    index: usize,
    /// File to write.
    #[arg(long, value_name = "X.npz")]
    out: PathBuf,
    /// How slices are numbered.
    #[arg(long, default_value = "released")]
    order: OrderArg,
    /// Camera; the first one unless given.
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Statistics that action and proprioception are normalized with.
    #[arg(long, default_value = "none")]
    normalize: Normalize,
    /// Image transform of a reference code base.
    #[arg(long, default_value = "none")]
    transform: TransformArg,
    /// Side of the transformed image in pixels; that of the reference unless given.
    #[arg(long, value_name = "S")]
    image_size: Option<usize>,
    /// Scale of the transformed pixels; that of the reference unless given.
    #[arg(long)]
    pixel_norm: Option<PixelNormArg>,
    /// Limits of width divided by height of the crop; those of the reference unless given.
    #[arg(long, value_name = "MIN:MAX")]
    aspect: Option<Aspect>,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Normalize {
    /// Raw values.
    None,
    /// The constants published with the dataset.
    Released,
    /// Statistics of the training split.
    Train,
    /// Statistics of all episodes, as the reference loaders compute them.
    All,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum TransformArg {
    /// Frames as they are stored.
    None,
    /// Antialiased resize and central crop, pixels -1 to 1.
    DinoWm,
    /// Central crop, resize without antialias.
    JepaWms,
    /// Wide central crop, squashed to a square.
    Vjepa2Ac,
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PixelNormArg {
    /// Mean and standard deviation of `ImageNet`.
    Imagenet,
    /// One half everywhere: -1 to 1.
    Half,
}

/// `MIN:MAX`.
#[derive(Debug, Clone, Copy)]
struct Aspect([f64; 2]);

impl FromStr for Aspect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once(':')
            .and_then(|(low, high)| Some([low.parse().ok()?, high.parse().ok()?]));
        parsed
            .map(Self)
            .ok_or_else(|| "write MIN:MAX, for example `0.75:1.35`".into())
    }
}

#[derive(Serialize)]
struct Document<'a> {
    out: &'a std::path::Path,
    #[serde(flatten)]
    at: SliceRef,
    rows: &'a [u64],
    arrays: Vec<(&'static str, &'a [usize])>,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let dataset = Dataset::open(&args.dataset)?;
    let transform = transform(args)?;
    let spec = SliceSpec {
        order: args.order.into(),
        camera: args.camera.clone(),
        ..SliceSpec::new(args.context, args.frameskip, &args.split)
    };
    let index = dataset.slices(&spec)?;
    if args.index >= index.len() {
        return Err(Error::OutOfRange {
            what: "slice",
            index: args.index as u64,
            len: index.len() as u64,
        }
        .into());
    }
    let mut slice = dataset.read_slice(&spec, index.get(args.index))?;
    normalize(args.normalize, &dataset, &mut slice)?;
    let (at, rows) = (slice.at, slice.rows.clone());
    let arrays = arrays(&dataset, slice, transform.as_ref())?;
    write(args, &arrays).with_context(|| format!("cannot write `{}`", args.out.display()))?;
    if ctx.json {
        let arrays = arrays
            .iter()
            .map(|array| (array.name, array.shape.as_slice()))
            .collect();
        ctx.print_json(&Document {
            out: &args.out,
            at,
            rows: &rows,
            arrays,
        })?;
    } else {
        ctx.print(&format!(
            "{}: episode {}, rows {rows:?}",
            args.out.display(),
            at.episode
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn transform(args: &Args) -> anyhow::Result<Option<Transform>> {
    let geometry = match args.transform {
        TransformArg::None => return Ok(None),
        TransformArg::DinoWm => Geometry::DinoWm,
        TransformArg::JepaWms => Geometry::JepaWms,
        TransformArg::Vjepa2Ac => Geometry::VJepa2Ac,
    };
    let mut transform = Transform::released(geometry);
    transform.size = args.image_size.unwrap_or(transform.size);
    transform.aspect = args.aspect.map_or(transform.aspect, |aspect| aspect.0);
    transform.norm = args.pixel_norm.map_or(transform.norm, |norm| match norm {
        PixelNormArg::Imagenet => PixelNorm::IMAGENET,
        PixelNormArg::Half => PixelNorm::HALF,
    });
    transform.check()?;
    Ok(Some(transform))
}

fn normalize(with: Normalize, dataset: &Dataset, slice: &mut Slice) -> anyhow::Result<()> {
    let fields = [(ACTION, &mut slice.action), (PROPRIO, &mut slice.proprio)];
    for (name, values) in fields.into_iter().filter(|(_, values)| !values.is_empty()) {
        if let Some(normalizer) = normalizer(with, dataset, name)? {
            normalizer.normalize(values);
        }
    }
    Ok(())
}

fn normalizer(
    with: Normalize,
    dataset: &Dataset,
    field: &str,
) -> anyhow::Result<Option<Normalizer>> {
    let split = match with {
        Normalize::None => return Ok(None),
        Normalize::Train => "train",
        Normalize::All => "all",
        Normalize::Released => {
            let source = &dataset.manifest().draft.source.name;
            let width = dataset
                .manifest()
                .field(field)
                .map_or(0, jepa_datasets::Field::width);
            let found = Normalizer::released(source, field)
                .filter(|normalizer| normalizer.width() == width);
            let missing = || {
                anyhow::anyhow!(
                    "`{source}` has no released normalization of `{field}` with {width} dimensions"
                )
            };
            return found.ok_or_else(missing).map(Some);
        }
    };
    Ok(Some(Normalizer::from_statistics(
        dataset.stats().get(field, split)?,
    )))
}

/// The arrays of a slice, in the order of the documentation.
fn arrays(
    dataset: &Dataset,
    slice: Slice,
    transform: Option<&Transform>,
) -> anyhow::Result<Vec<Array>> {
    let frames = slice.rows.len();
    let wide = |values: usize| [frames, values / frames];
    let mut arrays = images(&slice, transform)?;
    arrays.push(Array::new(
        "action",
        &wide(slice.action.len()),
        Values::F32(slice.action),
    )?);
    arrays.push(Array::new(
        "proprio",
        &wide(slice.proprio.len()),
        Values::F32(slice.proprio),
    )?);
    let state = match dataset.manifest().field(STATE).map(|field| field.dtype) {
        Some(Dtype::F32) => Values::F32(slice.state.iter().map(|&v| v as f32).collect()),
        _ => Values::F64(slice.state.clone()),
    };
    arrays.push(Array::new("state", &wide(slice.state.len()), state)?);
    arrays.push(Array::new("reward", &[frames], Values::F32(slice.reward))?);
    arrays.push(Array::new(
        "episode_index",
        &[],
        Values::I64(vec![slice.at.episode as i64]),
    )?);
    let rows = slice.rows.iter().map(|&row| row as i64).collect();
    arrays.push(Array::new("rows", &[frames], Values::I64(rows))?);
    Ok(arrays)
}

fn images(slice: &Slice, transform: Option<&Transform>) -> anyhow::Result<Vec<Array>> {
    let (n, h, w) = (slice.rows.len(), slice.height, slice.width);
    let Some(transform) = transform else {
        let mut arrays = vec![Array::new(
            "frames",
            &[n, h, w, 3],
            Values::U8(slice.frames.clone().into_u8()),
        )?];
        if let Pixels::F32(values) = &slice.frames {
            arrays.push(Array::new(
                "frames_f32",
                &[n, h, w, 3],
                Values::F32(values.clone()),
            )?);
        }
        return Ok(arrays);
    };
    let visual = transform.apply(&slice.frames.clone().into_f32(), h, w);
    Ok(vec![Array::new(
        "visual",
        &[n, 3, transform.size, transform.size],
        Values::F32(visual),
    )?])
}

/// Writes under a temporary name and renames.
fn write(args: &Args, arrays: &[Array]) -> anyhow::Result<()> {
    let folder = match args.out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => std::path::Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    let mut out = BufWriter::new(temporary.as_file());
    npz::write(&mut out, arrays)?;
    out.flush()?;
    drop(out);
    temporary.persist(&args.out)?;
    Ok(())
}
