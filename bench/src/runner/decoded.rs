//! What a world model imagines, as pictures: predicted latents through an image decoder, above what then happened.

use std::path::Path;

use jepa_leaderboard::EpisodeRow;
use jepa_models::head::image_decoder::ImageDecoder;
use jepa_models::head::image_metric::{Picture, Scores};
use jepa_models::head::lpips::Lpips;
use jepa_models::weights::Array;
use serde::Serialize;

use super::Evaluation;
use super::films::{FRAME, GAP, filmstrip};
use super::imagination::{Past, executed_plans};
use crate::agent::Policy;
use crate::env::{Image, Size};
use crate::{Error, Result};

/// Networks that show and judge what a model imagines.
#[derive(Debug)]
pub struct Heads {
    decoder: ImageDecoder,
    lpips: Option<Lpips>,
}

impl Heads {
    /// Reads folders that `weights import` wrote: of an image decoder, and of VGG16 and the vectors of LPIPS.
    ///
    /// # Errors
    /// When one cannot be read or holds something else.
    pub fn load(decoder: &Path, lpips: Option<[&Path; 2]>) -> Result<Self> {
        let lpips = lpips.map(|[trunk, vectors]| Lpips::load(trunk, vectors));
        Ok(Self {
            decoder: ImageDecoder::load(decoder)?,
            lpips: lpips.transpose()?,
        })
    }
}

/// How far the picture of a predicted latent is from the frame that then came (evaluation.md section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DecodedStep {
    /// Plan, from 0.
    pub plan: usize,
    /// Environment step.
    pub step: usize,
    /// Pixels in `[0, 1]`; LPIPS on `[-1, 1]`.
    #[serde(flatten)]
    pub scores: Scores,
}

/// A recorded episode as it was imagined.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedEpisode {
    /// One entry per model step that was executed as planned.
    pub steps: Vec<DecodedStep>,
    /// Decoded pictures above, frames below: the start, every model step, the goal.
    pub strip: Image,
}

/// Decodes what the model of a run predicted in a recorded episode: from the start of every plan, under the actions
/// that were executed. The first picture and the goal's are decoded from what the model saw, not predicted.
///
/// # Errors
/// When the policy is no world model, its latents do not fit the decoder, or the episode does not fit the run.
pub fn decode(evaluation: &Evaluation, row: &EpisodeRow, heads: &Heads) -> Result<DecodedEpisode> {
    let Policy::Model(model) = &evaluation.policy else {
        return Err(Error::Config {
            what: format!("decoding what `{}` imagines", evaluation.policy.name()),
            detail: "it has no world model".into(),
            hint: None,
        });
    };
    let mut past = Past::new(evaluation, model.as_ref(), row)?;
    let frameskip = evaluation.config.protocol.frameskip;
    let start = past.encode_step(0)?;
    let (mut above, mut below) = (vec![heads.show(&start.visual)?], vec![frame(&mut past, 0)?]);
    let mut steps = Vec::new();
    for executed in executed_plans(evaluation, row) {
        let rollout = past.rollout(&executed, frameskip)?;
        let width = rollout.visual.len() / executed.blocks;
        for (block, latent) in rollout.visual.chunks_exact(width).enumerate() {
            let step = executed.first + (block + 1) * frameskip;
            let truth = frame(&mut past, step)?;
            steps.push(DecodedStep {
                plan: executed.plan,
                step,
                scores: heads.compare(latent, &truth)?,
            });
            above.push(heads.show(latent)?);
            below.push(truth);
        }
    }
    let goal = past.encode_goal()?;
    above.push(heads.show(&goal.visual)?);
    below.push(past.tape.goal()?.render(Size::Planner)?);
    Ok(DecodedEpisode {
        steps,
        strip: stack(&above, &below),
    })
}

/// The frame after `step` environment steps.
fn frame(past: &mut Past<'_>, step: usize) -> Result<Image> {
    past.tape.at(step)?.render(Size::Planner)
}

/// One filmstrip above the other.
fn stack(above: &[Image], below: &[Image]) -> Image {
    let small = |frames: &[Image]| {
        let small: Vec<Image> = frames.iter().map(|frame| frame.resized(FRAME)).collect();
        filmstrip(&small)
    };
    let (above, below) = (small(above), small(below));
    let mut strip = Image::filled(above.height + below.height - GAP, above.width, [128; 3]);
    strip.paste(&above, 0, 0);
    strip.paste(&below, above.height - GAP, 0);
    strip
}

impl Heads {
    /// The decoded picture of one latent, `[1, 3, h, w]` in the pixel space of the encoder.
    fn picture(&self, latent: &[f32]) -> Result<Array> {
        let width = self.decoder.features();
        let tokens = latent.len() / width;
        let side = tokens.isqrt();
        if tokens == 0 || side * side * width != latent.len() {
            return Err(Error::Config {
                what: "image decoder".into(),
                detail: format!(
                    "it takes a square of tokens of width {width}, the model's latent has {} numbers",
                    latent.len()
                ),
                hint: Some("pass the decoder of the model's image encoder".into()),
            });
        }
        let features = Array::new(vec![1, side, side, width], latent.to_vec())?;
        Ok(self.decoder.decode(&features)?)
    }

    fn show(&self, latent: &[f32]) -> Result<Image> {
        let picture = self.picture(latent)?;
        let (height, width) = (picture.shape[2], picture.shape[3]);
        Ok(Image {
            height,
            width,
            rgb: self.decoder.to_bytes(&picture)?,
        })
    }

    fn compare(&self, latent: &[f32], truth: &Image) -> Result<Scores> {
        let decoded = self.decoder.denormalise(&self.picture(latent)?)?;
        let (height, width) = (decoded.shape[2], decoded.shape[3]);
        let truth = planes(truth, height);
        let picture = |values| Picture {
            values,
            height,
            width,
        };
        let mut scores = Scores::new(picture(&decoded.values), picture(&truth), 1.0);
        if let Some(lpips) = &self.lpips {
            let signed = |values: &[f32]| {
                let values = values.iter().map(|x| 2.0 * x - 1.0).collect();
                Array::new(vec![1, 3, height, width], values)
            };
            let distances = lpips.distance(&signed(&decoded.values)?, &signed(&truth)?)?;
            scores.lpips = distances.first().map(|distance| f64::from(*distance));
        }
        Ok(scores)
    }
}

/// A frame at another size, `[3, side, side]` in `[0, 1]`.
fn planes(image: &Image, side: usize) -> Vec<f32> {
    let image = image.resized(side);
    let channel = |c: usize| image.rgb.iter().skip(c).step_by(3);
    (0..3)
        .flat_map(channel)
        .map(|&byte| f32::from(byte) / 255.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use jepa_models::weights::import::{self, SourceFile, WeightsConfig};
    use serde_json::json;

    use super::*;
    use crate::agent::testing::KnowsWall;
    use crate::protocol::{Choices, resolve};
    use crate::runner::run_episode;

    const FILE: &str = "../tests/fixtures/models/head_image_decoder/model.pth.tar";

    /// The decoder of the reference case, on the first `width` numbers of a token.
    fn folder(width: usize) -> tempfile::TempDir {
        let file = crate::weights::read(Path::new(FILE)).unwrap();
        let mut arrays = file.section("model").without_wrapper();
        arrays.remove("decoder_pos_embed").unwrap();
        let key = "decoder_embed.weight";
        let whole = arrays.remove(key).unwrap();
        let rows = whole.values.chunks_exact(whole.shape[1]);
        let kept: Vec<f32> = rows.flat_map(|row| row[..width].to_vec()).collect();
        let kept = Array::new(vec![whole.shape[0], width], kept).unwrap();
        arrays.insert(key, kept);
        let config = WeightsConfig {
            format_version: 1,
            model: "small".into(),
            kind: "image-decoder".into(),
            config: json!({
                "features": width, "width": 48, "depth": 2, "heads": 4, "hidden": 192, "epsilon": 1e-5, "patch": 8,
                "picture": [56, 56], "pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225],
            }),
            parameters: 0,
            arrays: 0,
            weights_blake3: String::new(),
            left_out: Vec::new(),
            source: SourceFile {
                file: "small".into(),
                origin: "a test".into(),
                bytes: 0,
                blake3: String::new(),
                sha256: String::new(),
            },
        };
        let folder = tempfile::tempdir().unwrap();
        import::write(folder.path(), &arrays, config).unwrap();
        folder
    }

    fn evaluation(policy: Policy, name: &str) -> Evaluation {
        let settings = [
            "planner.candidates=30".into(),
            "planner.iterations=3".into(),
            "planner.replan_every=2".into(),
            "protocol.max_steps=28".into(),
        ];
        let choices = Choices {
            model: Some(name),
            task: Some("wall@1"),
            settings: &settings,
            ..Choices::default()
        };
        Evaluation::new(resolve(&choices).unwrap(), policy).unwrap()
    }

    #[test]
    fn a_perfect_model_imagines_the_pictures_of_what_happens() {
        // The latent of this model is the position: one token of two numbers.
        let folder = folder(2);
        let heads = Heads::load(folder.path(), None).unwrap();
        let evaluation = evaluation(Policy::Model(Box::new(KnowsWall::new())), "test");
        let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
        let decoded = decode(&evaluation, &row, &heads).unwrap();

        // 28 steps are five whole blocks in three plans, of which two are drawn twice.
        let at: Vec<(usize, usize)> = decoded.steps.iter().map(|s| (s.plan, s.step)).collect();
        assert_eq!(at, [(0, 5), (0, 10), (1, 15), (1, 20), (2, 25)]);
        // Start, five steps and goal, in two rows.
        let strip = &decoded.strip;
        assert_eq!(
            (strip.height, strip.width),
            (2 * 130 + 3 * 4, 7 * 130 + 7 * 4 + 16)
        );

        let shown = |row: usize, column: usize| {
            let (top, left) = (GAP + row * (FRAME + GAP), GAP + column * (FRAME + GAP));
            let pixels =
                (0..FRAME * FRAME).map(|at| strip.pixel(top + at / FRAME, left + at % FRAME));
            pixels.collect::<Vec<_>>()
        };
        let mut env = evaluation.config().simulator().unwrap();
        for (index, step) in [5, 10, 15, 20, 25].into_iter().enumerate() {
            let state = &row.states[2 * step..2 * step + 2];
            env.reset_to(state).unwrap();
            let frame = env.render(Size::Planner).unwrap().resized(FRAME);
            let pixels: Vec<[u8; 3]> = frame.rgb.as_chunks().0.to_vec();
            assert_eq!(shown(1, index + 1), pixels, "frame at {step}");
            let latent: Vec<f32> = env.proprio();
            let picture = heads.show(&latent).unwrap().resized(FRAME);
            for (ours, theirs) in shown(0, index + 1).iter().flatten().zip(&picture.rgb) {
                assert!(ours.abs_diff(*theirs) <= 2, "picture at {step}");
            }
            // The score is that of the picture against the frame at the decoder's size.
            let scores = decoded.steps[index].scores;
            let truth = planes(&env.render(Size::Planner).unwrap(), 56);
            let picture = heads
                .decoder
                .denormalise(&heads.picture(&latent).unwrap())
                .unwrap();
            let squares = picture
                .values
                .iter()
                .zip(&truth)
                .map(|(a, b)| f64::from(a - b).powi(2));
            let mse = squares.sum::<f64>() / truth.len() as f64;
            assert!(
                (scores.mse.unwrap() - mse).abs() < 1e-3 * mse,
                "{scores:?} {mse}"
            );
            assert_eq!(scores.lpips, None);
        }
    }

    #[test]
    fn a_decoder_of_another_encoder_and_a_policy_without_a_model_are_refused() {
        let folder = folder(3);
        let heads = Heads::load(folder.path(), None).unwrap();
        let with_model = evaluation(Policy::Model(Box::new(KnowsWall::new())), "test");
        let row = run_episode(&with_model, 0, &|| false).unwrap().row;
        let error = decode(&with_model, &row, &heads).unwrap_err().to_string();
        assert!(error.contains("tokens of width 3"), "{error}");
        assert!(error.contains("latent has 2 numbers"), "{error}");
        let oracle = evaluation(Policy::Oracle, "oracle");
        let error = decode(&oracle, &row, &heads).unwrap_err().to_string();
        assert!(error.contains("no world model"), "{error}");
    }
}
