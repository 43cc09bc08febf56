//! V3 and V4: a maintainer runs the weights of a submission.

use std::path::Path;
use std::process::ExitCode;

use jepa_leaderboard::{
    Board, Bundle, CONFIDENCE, Challenge, Level, Rerun, Run, RunRecord, Scored, Verified, compare,
    wilson,
};
use jepa_models::Compute;
use serde_json::json;

use super::{Args, report};
use crate::agent::Policy;
use crate::cli::Context;
use crate::cli::eval::runs_folder;
use crate::cli::watcher::Watcher;
use crate::protocol::{Resolved, RunConfig, Task};
use crate::runner::{Continue, Destination, Evaluation, evaluate};
use crate::{Error, Result};

/// Evaluates the weights and says whether the result holds.
pub(super) fn run(
    args: &Args,
    bundle: &Bundle,
    verified: &Verified,
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    let (Some(submitted), None) = (&verified.run, verified.verdict.failure()) else {
        report(bundle, verified, ctx)?;
        return Ok(ExitCode::from(1));
    };
    let mut board = args.db.as_deref().map(Board::open_existing).transpose()?;
    let challenge = match &mut board {
        Some(board) if args.fresh => Some(board.challenge(&bundle.id)?),
        _ => None,
    };
    let evaluation = evaluation(args, submitted, challenge.as_ref())?;
    let destination = Destination {
        runs: args
            .out
            .clone()
            .unwrap_or_else(|| runs_folder(None).join("verify")),
        unfinished: Continue::IfThere,
    };
    let watcher = Watcher::new(ctx, "episodes");
    let finished = evaluate(&evaluation, &destination, &watcher)?;
    drop(watcher);
    let ours = Run::load(&finished.dir)?;
    let (level, (holds, detail)) = if challenge.is_some() {
        (Level::V4, on_fresh(&submitted.record, &ours.record)?)
    } else {
        (Level::V3, on_the_same(submitted, &ours)?)
    };
    let rerun = Rerun {
        level,
        holds,
        by: args.by.clone().unwrap_or_else(|| "maintainer".into()),
        detail,
        run: ours.id()?,
    };
    if let Some(board) = &mut board {
        board.add_rerun(&bundle.id, &rerun)?;
    }
    say(bundle, &rerun, &ours, ctx)?;
    Ok(ExitCode::from(u8::from(!holds)))
}

fn say(bundle: &Bundle, rerun: &Rerun, ours: &Run, ctx: &Context) -> anyhow::Result<()> {
    if ctx.json {
        let document = json!({ "id": bundle.id, "rerun": rerun, "summary": ours.record.summary });
        return ctx.print_json(&document);
    }
    let verb = if rerun.holds {
        "holds"
    } else {
        "does NOT hold"
    };
    ctx.print(&format!(
        "submission {}: {} {verb}: {}\nrun {}",
        bundle.id,
        rerun.level.as_str(),
        rerun.detail,
        ours.dir.display()
    ))
}

/// The evaluation that the bundle says it was, with the simulator and rules of this program and the weights at hand.
fn evaluation(args: &Args, submitted: &Run, challenge: Option<&Challenge>) -> Result<Evaluation> {
    let task = Task::find(&submitted.record.task.id())?;
    let claimed = RunConfig::from_toml("config.toml of the bundle", &submitted.config_toml)?;
    let weights = args.weights.as_deref().unwrap_or(Path::new("."));
    let mut config = RunConfig {
        model: weights.display().to_string(),
        task: task.id(),
        data: None,
        environment: task.environment.clone(),
        protocol: task.protocol,
        episodes: task.episodes,
        ..claimed
    };
    if let Some(wanted) = submitted.goal_data() {
        config.data = Some(dataset(&args.data, &wanted)?);
    }
    if let Some(challenge) = challenge {
        config.episodes.first_seed = challenge.first_seed();
    }
    config.check()?;
    let compute = Compute::parse(&args.device)?;
    let policy = Policy::find(&config.model, compute)?;
    let (found, named) = (
        policy.weights_hash(),
        submitted.record.model.weights_hash.as_deref(),
    );
    if found != named {
        let unnamed = "none";
        return Err(Error::Invalid {
            what: format!("`{}`", weights.display()),
            detail: format!(
                "its weights have hash {}, the submission names {}",
                found.unwrap_or(unnamed),
                named.unwrap_or(unnamed)
            ),
        });
    }
    let mut evaluation = Evaluation::new(Resolved { task, config }, policy)?;
    evaluation.command = std::env::args().collect();
    evaluation.device = compute.to_string();
    Ok(evaluation)
}

/// The folder among those given whose content has that hash.
fn dataset(folders: &[std::path::PathBuf], wanted: &str) -> Result<String> {
    for folder in folders {
        if jepa_datasets::Dataset::open(folder)?.content_hash() == wanted {
            return Ok(folder.display().to_string());
        }
    }
    Err(Error::Config {
        what: "the dataset that goals come from".into(),
        detail: format!("none of those given has content hash {wanted}"),
        hint: Some("name it with `--data DST`".into()),
    })
}

/// The same episodes: bit for bit, or else not to be told apart.
fn on_the_same(submitted: &Run, ours: &Run) -> Result<(bool, String)> {
    let same = submitted
        .episodes
        .iter()
        .zip(&ours.episodes)
        .filter(|(a, b)| a.state_digest() == b.state_digest() && a.success == b.success)
        .count();
    let n = submitted.episodes.len();
    if same == n && ours.episodes.len() == n {
        return Ok((
            true,
            format!("all {n} episodes came out the same, bit for bit"),
        ));
    }
    let pair = compare(
        &Scored::new(submitted, "submitted".into()),
        &Scored::new(ours, "run here".into()),
    )?;
    let holds = pair.p_value >= 1.0 - CONFIDENCE;
    Ok((
        holds,
        format!(
            "{same} of {n} episodes came out the same; {} succeeded only as submitted and {} only here (McNemar p = {:.3})",
            pair.outcomes.only_first, pair.outcomes.only_second, pair.p_value
        ),
    ))
}

/// Other episodes of the same kind: the two rates may differ by chance only.
fn on_fresh(submitted: &RunRecord, ours: &RunRecord) -> Result<(bool, String)> {
    let interval = |record: &RunRecord| {
        let summary = &record.summary;
        wilson(summary.successes, summary.episodes, CONFIDENCE).ok_or_else(|| Error::Invalid {
            what: "the success rate".into(),
            detail: "there are no episodes".into(),
        })
    };
    let (theirs, fresh) = (interval(submitted)?, interval(ours)?);
    let holds = theirs.low <= fresh.high && fresh.low <= theirs.high;
    let percent = |share: f64| 100.0 * share;
    Ok((
        holds,
        format!(
            "{:.1}% on {} fresh episodes from seed {} (95% interval {:.1} to {:.1}), {:.1}% as submitted ({:.1} to {:.1})",
            percent(ours.summary.success_rate),
            ours.summary.episodes,
            ours.first_seed,
            percent(fresh.low),
            percent(fresh.high),
            percent(submitted.summary.success_rate),
            percent(theirs.low),
            percent(theirs.high)
        ),
    ))
}
