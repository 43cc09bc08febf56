//! The released world models (models.md section 2.5): what stands in front of each and how large it is.
//!
//! A file holds a predictor and the encoders of actions and proprio beside it. What it does not hold is here: the frozen
//! image encoder, the scale of its pixels, the frames that are seen (section 2.6), and the statistics that normalise
//! actions and proprio, which are those published with the dataset (datasets.md section 3.2).

use std::path::PathBuf;

use jepa_datasets::transform::Geometry;
use serde::{Deserialize, Serialize};

use crate::encoder::{FrontEnd, PixelScale};
use crate::layer::rope::Variant;
use crate::pldm::DataShape;
use crate::predictor::unroll::Unroll;
use crate::token::config::preset;
use crate::token::{EncoderChoice, PredictorChoice, PredictorKind, TokenConfig};
use crate::{Error, Result};

/// Training state that no model has a place for.
const TRAINING: &[&str] = &["opt", "scaler", "epoch"];
/// The same, and the encoders that V-JEPA 2's authors put into the file.
const WITH_ENCODER: &[&str] = &["opt", "scaler", "epoch", "encoder", "target_encoder"];

/// One released world model.
#[derive(Clone, Copy)]
pub struct ModelEntry {
    /// Name on the command line and of the model in records.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Where the file is.
    pub origin: &'static str,
    /// Its sizes.
    pub sizes: fn() -> ModelSizes,
    /// Entries of the file that are not read.
    ignored: &'static [&'static str],
}

impl ModelEntry {
    /// Whether the array of this key is needed, or has to be known.
    pub fn reads(&self, key: &str) -> bool {
        let section = key.split('.').next().unwrap_or(key);
        !self.ignored.contains(&section)
    }
}

/// Sizes of a world model and what stands in front of it; what `weights import --sizes` takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSizes {
    /// Image encoder, by its name in the table of encoders.
    pub encoder: String,
    /// Width `De` of its tokens.
    pub encoder_width: usize,
    /// Rows and columns of its tokens.
    pub grid: [usize; 2],
    /// Side of the images that it sees, in pixels.
    pub image: usize,
    /// Scale of its pixels.
    pub pixel_norm: PixelScale,
    /// Side of the square frames that the model is given, which are resized to `image`.
    pub frame: usize,
    /// Whether tokens, encoded and predicted, go through a layer norm without parameters.
    pub normalize_reps: bool,
    /// Predictor.
    pub predictor: PredictorChoice,
    /// Frames of a training sample, which learned positions are for.
    pub frames: usize,
    /// Frames that the predictor sees when it plans.
    pub window: usize,
    /// Native steps per model step.
    pub frameskip: usize,
    /// Native action width.
    pub action_dim: usize,
    /// Proprio width of the dataset.
    pub proprio_dim: usize,
    /// Dataset whose published statistics normalise actions and proprio; without, they have to be given.
    pub statistics: Option<String>,
}

impl ModelSizes {
    /// Checks the sizes that no type bounds.
    ///
    /// # Errors
    /// [`Error::Config`] that names the size.
    pub fn check(&self) -> Result<()> {
        let positive = [
            ("encoder_width", self.encoder_width),
            ("grid", self.grid[0] * self.grid[1]),
            ("image", self.image),
            ("frame", self.frame),
            ("frames", self.frames),
            ("action_dim", self.action_dim),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config {
                key,
                detail: "must be at least 1".into(),
            });
        }
        let token = self.token(self.encoder(PathBuf::new()));
        token.check_sizes(self.horizon())?;
        token.network(self.tokens(), &self.shape(), self.horizon())?;
        Ok(())
    }

    /// Whether the model sees proprio.
    pub(crate) fn uses_proprio(&self) -> bool {
        self.predictor.uses_proprio()
    }

    /// Model steps of a training slice.
    pub(crate) fn horizon(&self) -> usize {
        self.frames.saturating_sub(1)
    }

    /// Tokens of a frame, `[width, rows, columns]`.
    pub(crate) fn tokens(&self) -> [usize; 3] {
        [self.encoder_width, self.grid[0], self.grid[1]]
    }

    pub(crate) fn shape(&self) -> DataShape {
        DataShape {
            height: self.frame,
            width: self.frame,
            action_dim: self.action_dim,
            proprio_dim: self.proprio_dim,
        }
    }

    /// The model as a trained one is described. Its objective is that of its kind and trained nothing here.
    pub(crate) fn token(&self, encoder: EncoderChoice) -> TokenConfig {
        let name = match self.predictor.kind {
            PredictorKind::Adaln => "ours",
            PredictorKind::Feature => "dino-wm",
            PredictorKind::Sequence if self.predictor.proprio_token => "vjepa2-ac-buggy",
            PredictorKind::Sequence | PredictorKind::SequenceFeature => "vjepa2-ac",
        };
        TokenConfig {
            frameskip: self.frameskip,
            window: self.window,
            normalize_reps: self.normalize_reps,
            encoder,
            predictor: self.predictor,
            objective: preset(name)
                .map_or_else(|| unreachable!("a preset"), |preset| preset.objective),
        }
    }

    /// What stands in front of the encoder.
    pub(crate) fn front(&self) -> FrontEnd {
        FrontEnd {
            transform: Geometry::JepaWms,
            pixel_norm: self.pixel_norm,
            image: self.image,
        }
    }

    /// The encoder in a folder, as the model sees through it.
    pub(crate) fn encoder(&self, folder: PathBuf) -> EncoderChoice {
        let front = self.front();
        EncoderChoice::Imported {
            weights: folder,
            transform: front.transform,
            pixel_norm: front.pixel_norm,
            image: front.image,
        }
    }
}

/// A predictor of 16 heads on 16 by 16 tokens of `DINOv2` ViT-S at 224 pixels.
fn on_dinov2(statistics: &str, [action_dim, proprio_dim]: [usize; 2]) -> ModelSizes {
    ModelSizes {
        encoder: "dinov2-small".into(),
        encoder_width: 384,
        grid: [16, 16],
        image: 224,
        pixel_norm: PixelScale::Imagenet,
        frame: 224,
        normalize_reps: false,
        predictor: PredictorChoice {
            kind: PredictorKind::Adaln,
            width: 384,
            depth: 6,
            heads: 16,
            head_width: 64,
            hidden: 2048,
            action_width: 0,
            proprio_width: 16,
            proprio_token: false,
            rope: Variant::VjepaCompat,
            init_scale: 10.0,
        },
        frames: 4,
        window: Unroll::default().window,
        frameskip: 5,
        action_dim,
        proprio_dim,
        statistics: Some(statistics.into()),
    }
}

/// DINO-WM as the paper retrains it, with the widths of its embeddings.
fn dino_wm(statistics: &str, dims: [usize; 2], [action, proprio]: [usize; 2]) -> ModelSizes {
    let ours = on_dinov2(statistics, dims);
    ModelSizes {
        pixel_norm: PixelScale::Half,
        predictor: PredictorChoice {
            kind: PredictorKind::Feature,
            action_width: action,
            proprio_width: proprio,
            ..ours.predictor
        },
        ..ours
    }
}

/// DINO-WM on DROID: no proprio, one action per frame.
fn dino_wm_droid() -> ModelSizes {
    ModelSizes {
        frameskip: 1,
        ..dino_wm("droid", [7, 7], [10, 0])
    }
}

/// The paper's model for DROID and Robocasa: deeper, on `DINOv3` ViT-L.
fn jepa_wm_droid() -> ModelSizes {
    let ours = on_dinov2("droid", [7, 7]);
    ModelSizes {
        encoder: "dinov3-large".into(),
        encoder_width: 1024,
        image: 256,
        frame: 256,
        predictor: PredictorChoice {
            width: 1024,
            depth: 12,
            proprio_width: 0,
            ..ours.predictor
        },
        frameskip: 1,
        ..ours
    }
}

/// V-JEPA-2-AC on V-JEPA 2 ViT-g, with or without the pose as a token.
fn vjepa2_ac(proprio_token: bool) -> ModelSizes {
    let droid = jepa_wm_droid();
    ModelSizes {
        encoder: "vjepa2-giant".into(),
        encoder_width: 1408,
        normalize_reps: true,
        predictor: PredictorChoice {
            kind: PredictorKind::Sequence,
            depth: 24,
            proprio_token,
            ..droid.predictor
        },
        frames: 8,
        ..droid
    }
}

/// Every released world model.
pub const MODELS: &[ModelEntry] = &[
    ModelEntry {
        name: "jepa_wm_wall",
        summary: "the paper's model for Wall, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/wall_jepa-wm.pth.tar",
        sizes: || on_dinov2("wall", [2, 2]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "jepa_wm_pointmaze",
        summary: "the paper's model for PointMaze, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/mz_jepa-wm.pth.tar",
        sizes: || on_dinov2("pointmaze", [2, 4]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "jepa_wm_pusht",
        summary: "the paper's model for Push-T, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/pt_jepa-wm.pth.tar",
        sizes: || on_dinov2("pusht", [2, 4]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "jepa_wm_metaworld",
        summary: "the paper's model for Metaworld, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/mw_jepa-wm.pth.tar",
        sizes: || on_dinov2("metaworld", [4, 4]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "jepa_wm_droid",
        summary: "the paper's model for DROID and Robocasa, without proprio, on dinov3-large",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/droid_jepa-wm_noprop.pth.tar",
        sizes: jepa_wm_droid,
        ignored: TRAINING,
    },
    ModelEntry {
        name: "dino_wm_wall",
        summary: "DINO-WM retrained for Wall, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/wall_dino-wm.pth.tar",
        sizes: || dino_wm("wall", [2, 2], [10, 10]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "dino_wm_pointmaze",
        summary: "DINO-WM retrained for PointMaze, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/mz_dino-wm.pth.tar",
        sizes: || dino_wm("pointmaze", [2, 4], [10, 20]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "dino_wm_pusht",
        summary: "DINO-WM retrained for Push-T, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/pt_dino-wm.pth.tar",
        sizes: || dino_wm("pusht", [2, 4], [10, 20]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "dino_wm_metaworld",
        summary: "DINO-WM retrained for Metaworld, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/mw_dino-wm.pth.tar",
        sizes: || dino_wm("metaworld", [4, 4], [20, 20]),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "dino_wm_droid",
        summary: "DINO-WM retrained for DROID, without proprio, on dinov2-small",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/droid_dino-wm_noprop.pth.tar",
        sizes: dino_wm_droid,
        ignored: TRAINING,
    },
    ModelEntry {
        name: "vjepa2_ac_droid",
        summary: "V-JEPA-2-AC retrained for DROID with its loss fixed, without proprio, on vjepa2-giant",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/droid_vj2ac_noprop.pth.tar",
        sizes: || vjepa2_ac(false),
        ignored: TRAINING,
    },
    ModelEntry {
        name: "vjepa2_ac_oss",
        summary: "V-JEPA-2-AC of its authors as hosted by JEPA-WMs, with the pose as a token, on vjepa2-giant",
        origin: "https://dl.fbaipublicfiles.com/jepa-wms/droid_vj2ac_oss-prop.pth.tar",
        sizes: || vjepa2_ac(true),
        ignored: WITH_ENCODER,
    },
    ModelEntry {
        name: "vjepa2-ac-vitg",
        summary: "V-JEPA-2-AC of its authors; the file holds its encoder too, which is imported as vjepa2-giant",
        origin: "https://dl.fbaipublicfiles.com/vjepa2/vjepa2-ac-vitg.pt",
        sizes: || vjepa2_ac(true),
        ignored: WITH_ENCODER,
    },
];

/// The world model called `name`; `None` for other files.
pub fn find_model(name: &str) -> Option<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use jepa_datasets::{ACTION, Normalizer, PROPRIO};

    use super::*;
    use crate::encoder::{EncoderConfig, find};

    #[test]
    fn every_model_sees_through_the_encoder_that_it_names_and_has_published_statistics() {
        for entry in MODELS {
            let sizes = (entry.sizes)();
            sizes.check().unwrap();
            let (width, patch) = match find(&sizes.encoder).unwrap().config {
                EncoderConfig::Dinov2(c) => (c.transformer.width, c.patch),
                EncoderConfig::Dinov3(c) => (c.transformer.width, c.patch),
                EncoderConfig::Vjepa(c) => (c.transformer.width, c.patch),
                EncoderConfig::Vjepa2(c) => (c.transformer.width, c.patch),
            };
            let side = sizes.image / patch;
            assert_eq!(sizes.tokens(), [width, side, side], "{}", entry.name);
            let dataset = sizes.statistics.unwrap();
            let width = |field| Normalizer::released(&dataset, field).unwrap().width();
            assert_eq!(
                (width(ACTION), width(PROPRIO)),
                (sizes.action_dim, sizes.proprio_dim),
                "{}",
                entry.name
            );
        }
    }

    #[test]
    fn pixels_are_scaled_as_the_model_was_trained() {
        // models.md section 0, row 7: one half for DINO-WM, ImageNet for all others.
        for entry in MODELS {
            let half = (entry.sizes)().pixel_norm == PixelScale::Half;
            assert_eq!(half, entry.name.starts_with("dino_wm"), "{}", entry.name);
        }
    }

    #[test]
    fn training_state_is_not_read_and_an_unknown_entry_is() {
        let wall = find_model("jepa_wm_wall").unwrap();
        assert!(wall.reads("predictor.module.predictor_norm.weight"));
        assert!(wall.reads("heads.module.weight") && wall.reads("encoder.module.norm.weight"));
        assert!(!wall.reads("opt.state.0.exp_avg") && !wall.reads("epoch"));
        assert!(!find_model("vjepa2-ac-vitg").unwrap().reads("encoder.x"));
        assert!(find_model("dinov2-small").is_none());
    }

    #[test]
    fn sizes_that_cannot_be_are_named() {
        let says = |change: fn(&mut ModelSizes), part: &str| {
            let mut sizes = on_dinov2("wall", [2, 2]);
            change(&mut sizes);
            let error = sizes.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        says(|s| s.grid[1] = 0, "`grid`");
        says(|s| s.frames = 0, "`frames`");
        says(|s| s.window = 0, "`token.window`");
        says(|s| s.predictor.heads = 7, "must divide");
        says(|s| s.predictor.proprio_token = true, "proprio_token");
        says(|s| s.proprio_dim = 0, "proprio_dim");
    }
}
