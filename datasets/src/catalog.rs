//! The datasets this project knows: names, where to get them, their released split and constants.
#![expect(
    clippy::unreadable_literal,
    reason = "constants stand as they were published"
)]

use crate::episode::{ACTION, PROPRIO, STATE};
use crate::normalizer::Normalizer;
use crate::split::SplitRule;

/// One known dataset.
#[derive(Debug, Clone, Copy)]
pub struct CatalogEntry {
    /// Name on the command line and in manifests.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub summary: &'static str,
    /// Where to get it.
    pub url: &'static str,
    /// Where it is described.
    pub citation: &'static str,
    /// Numbers per action, proprioception row and state row.
    pub widths: [usize; 3],
    /// Native steps per model step in the reference configurations.
    pub frameskip: usize,
    /// Episodes of the whole release; `None` where the release has no fixed list.
    pub episodes: Option<u64>,
    split: Option<(f64, u64)>,
    constants: &'static [Constants],
}

/// Mean and standard deviation of one field, as printed by the reference (datasets.md section 3.2).
#[derive(Debug, Clone, Copy)]
struct Constants {
    field: &'static str,
    mean: &'static [f64],
    std: &'static [f64],
}

/// Every known dataset, in alphabetical order.
pub const DATASETS: &[CatalogEntry] = &[DROID, METAWORLD, POINTMAZE, PUSHT, ROBOCASA, WALL];

/// The dataset of a name.
pub fn find(name: &str) -> Option<&'static CatalogEntry> {
    DATASETS.iter().find(|entry| entry.name == name)
}

impl CatalogEntry {
    /// The split of the reference training configurations, for data split by a permutation.
    pub fn released_split(&self) -> Option<SplitRule> {
        self.split
            .map(|(fraction, seed)| SplitRule::JepaWms { fraction, seed })
    }

    /// The published normalisation of a field.
    pub fn released_normalizer(&self, field: &str) -> Option<Normalizer> {
        let short = field.strip_prefix("observation.").unwrap_or(field);
        let constants = self.constants.iter().find(|c| c.field.ends_with(short))?;
        Some(Normalizer {
            mean: constants.mean.to_vec(),
            std: constants.std.to_vec(),
        })
    }

    /// Names of the fields with a published normalisation.
    pub fn normalized_fields(&self) -> impl Iterator<Item = &'static str> {
        self.constants.iter().map(|c| c.field)
    }
}

const WALL_STD: &[f64] = &[17.663522720336914, 17.27516746520996];

const WALL: CatalogEntry = CatalogEntry {
    name: "wall",
    summary: "a dot in two rooms with a door; 1,920 episodes of 50 random steps (DINO-WM release)",
    url: "https://huggingface.co/datasets/facebook/jepa-wms (wall/wall_single.zip), also https://osf.io/bmw48",
    citation: "Zhou et al., DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning, arXiv 2411.04983",
    widths: [2, 2, 2],
    frameskip: 5,
    episodes: Some(1_920),
    split: Some((0.9, 234)),
    constants: &[
        Constants {
            field: ACTION,
            mean: &[-0.005564616061747074, 0.013197818771004677],
            std: &[0.752332866191864, 0.7466897964477539],
        },
        Constants {
            field: PROPRIO,
            mean: &[31.89451026916504, 31.81402015686035],
            std: WALL_STD,
        },
        Constants {
            field: STATE,
            mean: &[31.894489288330078, 31.81402587890625],
            std: WALL_STD,
        },
    ],
};

const POINTMAZE_MEAN: &[f64] = &[
    1.8130563497543335,
    1.9377127885818481,
    -0.0039275349117815495,
    -0.019777977839112282,
];
const POINTMAZE_STD: &[f64] = &[
    1.0055010318756104,
    0.9630089402198792,
    1.6802769899368286,
    1.9319307804107666,
];

const POINTMAZE: CatalogEntry = CatalogEntry {
    name: "pointmaze",
    summary: "a force-driven ball in a maze; 2,000 episodes of 100 steps (DINO-WM release)",
    url: "https://huggingface.co/datasets/facebook/jepa-wms (point_maze/point_maze.zip), also https://osf.io/bmw48",
    citation: "Zhou et al., DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning, arXiv 2411.04983",
    widths: [2, 4, 4],
    frameskip: 5,
    episodes: Some(2_000),
    split: Some((0.9, 234)),
    constants: &[
        Constants {
            field: ACTION,
            mean: &[7.821338658686727e-05, 0.0006003659800626338],
            std: &[0.5769129991531372, 0.577587902545929],
        },
        Constants {
            field: PROPRIO,
            mean: POINTMAZE_MEAN,
            std: POINTMAZE_STD,
        },
        Constants {
            field: STATE,
            mean: POINTMAZE_MEAN,
            std: POINTMAZE_STD,
        },
    ],
};

const PUSHT: CatalogEntry = CatalogEntry {
    name: "pusht",
    summary: "an agent pushes a T block; 18,685 + 21 episodes of up to 246 steps (DINO-WM release)",
    url: "https://huggingface.co/datasets/facebook/jepa-wms (pusht/pusht_noise.zip), also https://osf.io/bmw48",
    citation: "Zhou et al., DINO-WM: World Models on Pre-trained Visual Features enable Zero-shot Planning, arXiv 2411.04983",
    widths: [2, 4, 7],
    frameskip: 5,
    episodes: Some(18_706),
    split: None,
    constants: &[
        Constants {
            field: ACTION,
            mean: &[-0.0087, 0.0068],
            std: &[0.2019, 0.2002],
        },
        Constants {
            field: PROPRIO,
            mean: &[236.6155, 264.5674, -2.93032027, 2.54307914],
            std: &[101.1202, 87.0112, 74.84556075, 74.14009094],
        },
        Constants {
            field: STATE,
            mean: &[
                236.6155,
                264.5674,
                255.1307,
                266.3721,
                1.9584,
                -2.93032027,
                2.54307914,
            ],
            std: &[
                101.1202,
                87.0112,
                52.7054,
                57.4971,
                1.7556,
                74.84556075,
                74.14009094,
            ],
        },
    ],
};

const METAWORLD: CatalogEntry = CatalogEntry {
    name: "metaworld",
    summary: "a robot arm in 42 manipulation tasks; 12,600 episodes of 99 steps (JEPA-WMs release)",
    url: "https://huggingface.co/datasets/facebook/jepa-wms (metaworld/)",
    citation: "Terver et al., What Drives Success in Physical Planning with Joint-Embedding Predictive World Models?, arXiv 2512.24497",
    widths: [4, 4, 39],
    frameskip: 5,
    episodes: Some(12_600),
    split: Some((0.9, 234)),
    constants: &[
        Constants {
            field: ACTION,
            mean: &[
                0.005723577458411455,
                0.15735651552677155,
                -0.1396457850933075,
                0.1998193860054016,
            ],
            std: &[
                0.7359239459037781,
                0.73408043384552,
                0.7182977199554443,
                0.743205726146698,
            ],
        },
        Constants {
            field: PROPRIO,
            mean: &[
                -0.0029392109718173742,
                0.6544238924980164,
                0.15410053730010986,
                0.6402314901351929,
            ],
            std: &[
                0.10431358963251114,
                0.11230525374412537,
                0.07981759309768677,
                0.26138949394226074,
            ],
        },
    ],
};

/// DROID and Robocasa are not normalised: mean 0 and standard deviation 1 in every dimension.
const IDENTITY: &[Constants] = &[
    Constants {
        field: ACTION,
        mean: &[0.0; 7],
        std: &[1.0; 7],
    },
    Constants {
        field: PROPRIO,
        mean: &[0.0; 7],
        std: &[1.0; 7],
    },
    Constants {
        field: STATE,
        mean: &[0.0; 7],
        std: &[1.0; 7],
    },
];

const DROID: CatalogEntry = CatalogEntry {
    name: "droid",
    summary: "a Franka arm in homes and laboratories, teleoperated, several cameras",
    url: "https://droid-dataset.github.io (raw release)",
    citation: "Khazatsky et al., DROID: A Large-Scale In-The-Wild Robot Manipulation Dataset, arXiv 2403.12945",
    widths: [7, 7, 7],
    frameskip: 1,
    episodes: None,
    split: None,
    constants: IDENTITY,
};

const ROBOCASA: CatalogEntry = CatalogEntry {
    name: "robocasa",
    summary: "14 kitchen demonstrations for evaluation (JEPA-WMs release)",
    url: "https://huggingface.co/datasets/facebook/jepa-wms (robocasa/)",
    citation: "Nasiriany et al., RoboCasa: Large-Scale Simulation of Everyday Tasks for Generalist Robots, arXiv 2406.02523",
    widths: [7, 7, 0],
    frameskip: 5,
    episodes: None,
    split: None,
    constants: IDENTITY,
};
