//! Records of runs, and what may be concluded from them.
//!
//! A result is a set of episodes, not a number. [`Run::load`] opens a run folder and recomputes every
//! number from its episodes; [`compare`] compares runs episode by episode; [`Board`] keeps runs in
//! one SQLite file with a chained log; [`rank`] orders them. Nothing here simulates or plans.

#![cfg_attr(
    test,
    allow(clippy::float_cmp, reason = "tests compare numbers that must be exact")
)]

mod analysis;
mod compare;
mod compute;
mod episodes;
mod error;
mod files;
mod interop;
mod key;
mod macro_average;
mod page;
mod proxy;
mod published;
mod ranking;
mod record;
mod referee;
mod run;
mod score_average;
mod seed_mean;
mod server;
mod site;
mod statistics;
mod store;
mod submission;
mod table_guard;
pub mod testing;
mod verification;

pub use analysis::{Aggregate, Band, CostCurve, EpisodeTable, cost_curves, distance_curve};
pub use compare::{
    Comparison, Score, Scored, compare, compare_all, compare_sharing, distinct_labels,
};
pub use compute::{ComputePoint, score_against_compute, score_against_compute_of_records};
pub use episodes::{read_episodes, read_timings, write_episodes, write_timings};
pub use error::{Error, Refusal, Result};
pub use files::hash_file;
pub use interop::{
    ExportFile, ExportFormat, ExportOptions, ExportRun, ImportStatus, ImportedFrom, ImportedRow,
    export, export_csv, export_every_eval_ever, export_hf_eval_results, export_parquet,
    read_clear_lewm, read_stable_worldmodel,
};
pub use key::{Identity, PublicKey, Purpose, check_name};
pub use macro_average::{
    MacroAverage, TaskDifferences, TaskMean, compare_over_tasks, differences_to_best,
    macro_average, macro_difference,
};
pub use proxy::{Proxy, ProxyMetric, ProxyModel, ProxyPoint, proxy};
pub use published::{
    PAPER, Published, PublishedCell, PublishedRow, PublishedScore, PublishedTable, TASK_GROUPS,
    published, published_for, published_table, published_tables,
};
pub use ranking::{RANDOM_FLOOR, Ranked, rank, rank_models};
pub use record::{
    CONFIDENCE, EpisodeRow, ModelKind, ModelRef, PlannerRef, Provenance, RECORD_VERSION, RunRecord,
    Summary, TaskRef, TimingRow, TrainingRef,
};
pub use referee::{Referee, Replay, Rules};
pub use run::{CONFIG_FILE, EPISODES_FILE, RECORD_FILE, Run, TIMINGS_FILE};
pub use score_average::{ScoreAverage, average_scores};
pub use seed_mean::{SeedMean, recipes, seed_means};
pub use server::{Options as ServerOptions, Rate, Server};
pub use site::{SiteOptions, WrittenSite, export_site};
pub use statistics::{
    Difference, Draws, EPOCH_WINDOWS, EpochAverage, EpochScore, EpochWindow, Interval, OverSeeds,
    PairedOutcomes, PooledEpochs, SeedEpochs, average_epochs, episodes_to_detect, epoch_window,
    holm, mcnemar_exact, mean, minimal_detectable_difference, minimal_detectable_paired_difference,
    paired_bootstrap, paired_rate_difference, quantile, smoothed, spearman, stratified_bootstrap,
    wilson, wilson_rate,
};
pub use store::{
    Added, Board, BoardRun, BoardSubmission, BoardTask, Challenge, Checked, Erratum, Event, Merged,
    PinnedKey, Rerun, Revocation,
};
pub use submission::{
    Budget, Bundle, Claims, ENVIRONMENT_FILE, FileRef, Limits, METHOD_FILE, SIGNATURE_FILE,
    SUBMISSION_FILE, SUBMISSION_SCHEMA, Seeds, Submission, VIDEO_FOLDER, Video,
};
pub use verification::{Check, Level, Outcome, Verdict, Verified, verify};
