//! `jepa-bench leaderboard`.

use std::path::PathBuf;
use std::process::ExitCode;

use jepa_leaderboard::{
    Added, Board, BoardRun, BoardTask, Interval, ModelKind, ModelRef, PAPER, Published,
    PublishedScore, Ranked, Scored, SeedMean, TaskRef, distinct_labels, published_for, rank_models,
    seed_means,
};
use jepa_reports::text_table;
use serde::Serialize;
use serde_json::json;

use super::compare::{load, percent};
use super::{Context, board};

/// Name of the board's file where none is given.
const FILE: &str = "leaderboard.sqlite";
/// How published rows are marked.
const UNVERIFIED: &str = "reported by the authors, not verified here";

/// Keep, show and serve a leaderboard.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench leaderboard add runs/wall@1/*/*\n  jepa-bench leaderboard show\n  jepa-bench leaderboard import other.sqlite"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// File of the board; by default `leaderboard.sqlite` in `JEPA_BENCH_HOME`, or else here.
    #[arg(long, global = true, value_name = "FILE")]
    db: Option<PathBuf>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Show the board: every run ranked from its episodes, published numbers beside them.
    Show {
        /// Only this task: `wall` or `wall@1`.
        #[arg(long, value_name = "TASK")]
        task: Option<String>,
        /// Comma-separated values instead of a table.
        #[arg(long)]
        csv: bool,
    },
    /// Check runs or bundles and add them; what is there already is left as it is.
    Add {
        /// Run folders written by `jepa-bench eval`, or bundles written by `jepa-bench submit`.
        #[arg(value_name = "RUN|BUNDLE", required = true)]
        runs: Vec<PathBuf>,
        /// Dataset that goals of the tasks come from, to check them too (repeatable).
        #[arg(long, value_name = "DST")]
        data: Vec<PathBuf>,
    },
    /// Take over another board, or note results of another benchmark as unverified rows.
    Import(board::ImportArgs),
    /// Write the results for other programs.
    Results(board::ResultsArgs),
    /// Look at everything: the chain of events, every row, the hash of every file.
    Check,
    /// Copy the board and its files, while others may write to it.
    Backup {
        /// File to write.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Call a key invalid: its runs are marked, and it submits no more.
    Revoke(board::RevokeArgs),
    /// Mark runs as wrong: they are shown struck out, never edited.
    Erratum(board::ErratumArgs),
    /// Serve the board to browsers and take submissions.
    Serve(super::serve::ServeArgs),
    /// Write the board as a folder of files that opens from disk.
    Export(super::serve::ExportArgs),
}

/// One task of the board, ranked.
#[derive(Debug, Serialize)]
struct Table {
    task: TaskRef,
    rows: Vec<Row>,
    /// Members are positions in `rows`.
    seed_means: Vec<SeedMean>,
    published: Vec<Reported>,
}

/// One run of the board.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    model: String,
    planner: String,
    track: Option<String>,
    added_utc: String,
    /// Who submitted it; nobody where the run was added from a folder.
    submitter: Option<String>,
    /// What of it was checked, `V0` to `V4`; runs that were added from a folder were recomputed (V1).
    level: &'static str,
    /// Errors known of it.
    errata: Vec<String>,
    /// Why its key is no longer trusted.
    revoked: Option<String>,
    #[serde(flatten)]
    ranked: Ranked,
}

/// One published row.
#[derive(Debug, Serialize)]
struct Reported {
    model: &'static str,
    planner: &'static str,
    distance: &'static str,
    #[serde(flatten)]
    score: PublishedScore,
    source: &'static str,
    status: &'static str,
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let file = args.db.clone().unwrap_or_else(default_file);
    match &args.action {
        Action::Show { task, csv } => {
            show(&Board::open_existing(&file)?, task.as_deref(), *csv, ctx)?;
        }
        Action::Add { runs, data } => return add(&mut Board::open(&file)?, runs, data, ctx),
        Action::Import(args) => return board::import(args, &mut Board::open(&file)?, ctx),
        Action::Results(args) => board::results(args, &Board::open_existing(&file)?, ctx)?,
        Action::Check => return board::check(&Board::open_existing(&file)?, ctx),
        Action::Backup { to } => board::backup(&Board::open_existing(&file)?, to, ctx)?,
        Action::Revoke(args) => board::revoke(args, &mut Board::open_existing(&file)?, ctx)?,
        Action::Erratum(args) => board::erratum(args, &mut Board::open_existing(&file)?, ctx)?,
        Action::Serve(args) => return super::serve::serve(args, &file, ctx),
        Action::Export(args) => return super::serve::export(args, &file, ctx),
    }
    Ok(ExitCode::SUCCESS)
}

fn default_file() -> PathBuf {
    std::env::var_os("JEPA_BENCH_HOME")
        .map_or_else(PathBuf::new, PathBuf::from)
        .join(FILE)
}

fn add(
    board: &mut Board,
    given: &[PathBuf],
    data: &[PathBuf],
    ctx: &Context,
) -> anyhow::Result<ExitCode> {
    // All are loaded and checked before the first is written.
    let (folders, bundles): (Vec<PathBuf>, Vec<PathBuf>) =
        given.iter().cloned().partition(|path| path.is_dir());
    let runs = load(&folders)?;
    let bundles = board::checked(&bundles, data)?;
    let mut added = Vec::new();
    for run in &runs {
        let done = board.add(run)?;
        added.push((done, &run.record));
    }
    for (bundle, verified) in &bundles {
        let done = board.submit(bundle, verified)?;
        added.extend(verified.run.as_ref().map(|run| (done, &run.record)));
    }
    if ctx.json {
        let added: Vec<&Added> = added.iter().map(|(added, _)| added).collect();
        ctx.print_json(&added)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (added, record) in &added {
        let verb = if added.is_new {
            "added"
        } else {
            "there already"
        };
        let (label, task) = (&record.model.label, record.task.id());
        ctx.print(&format!(
            "{verb}: {label} on {task}, run {}",
            short(&added.id)
        ))?;
    }
    ctx.print(&format!("head {}", board.head()?))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the board.
pub(super) fn show(
    board: &Board,
    task: Option<&str>,
    csv: bool,
    ctx: &Context,
) -> anyhow::Result<()> {
    let tasks = chosen(board.tasks()?, task)?;
    let tables = tasks
        .iter()
        .map(|known| table(board, &known.task))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let head = board.head()?;
    if ctx.json {
        return ctx.print_json(
            &json!({ "head": head, "events": board.events()?.len(), "tasks": tables }),
        );
    }
    if csv {
        return print_csv(&tables, ctx);
    }
    if tables.is_empty() {
        ctx.print("the board is empty; add runs with `jepa-bench leaderboard add RUN`")?;
    }
    for table in &tables {
        print_table(table, ctx)?;
    }
    ctx.print(&format!("head {head}"))
}

/// The tasks of that name, with or without version; all without a name.
pub(super) fn chosen(tasks: Vec<BoardTask>, name: Option<&str>) -> anyhow::Result<Vec<BoardTask>> {
    let Some(name) = name else { return Ok(tasks) };
    let known: Vec<String> = tasks.iter().map(|known| known.task.id()).collect();
    let found: Vec<BoardTask> = tasks
        .into_iter()
        .filter(|known| known.task.id() == name || known.task.name == name)
        .collect();
    if found.is_empty() {
        return Err(crate::Error::UnknownName {
            kind: "task",
            name: name.into(),
            known,
        }
        .into());
    }
    Ok(found)
}

/// Ranks the runs of a task from their stored episodes.
fn table(board: &Board, task: &TaskRef) -> anyhow::Result<Table> {
    let runs = board.runs(task)?;
    let named: Vec<_> = runs
        .iter()
        .map(|run| (&run.record, short(&run.id)))
        .collect();
    let labels = distinct_labels(&named);
    let scored: Vec<(Scored, &ModelRef)> = runs
        .iter()
        .zip(labels)
        .map(|(run, label)| (run.scored(label), &run.record.model))
        .collect();
    let ranking = rank_models(&scored)?;
    let ordered: Vec<_> = ranking
        .iter()
        .map(|ranked| (&runs[ranked.index].record, &scored[ranked.index].0))
        .collect();
    let seed_means = seed_means(&ordered);
    let rows = ranking
        .into_iter()
        .map(|ranked| row(&runs[ranked.index], ranked))
        .collect();
    let published = ["l2", "l1"]
        .iter()
        .flat_map(|distance| published_for(&task.name, "cem", distance));
    Ok(Table {
        task: task.clone(),
        rows,
        seed_means,
        published: published.map(reported).collect(),
    })
}

fn row(run: &BoardRun, ranked: Ranked) -> Row {
    let record = &run.record;
    let planner = match record.planner.name.as_str() {
        "none" => "-".into(),
        name => format!("{name} {}", record.planner.preset),
    };
    Row {
        id: run.id.clone(),
        model: record.model.name.clone(),
        planner,
        track: record
            .model
            .training
            .as_ref()
            .map(|training| training.track.clone()),
        added_utc: run.added_utc.clone(),
        submitter: run
            .submission
            .as_ref()
            .map(|submission| submission.submission.submitter.clone()),
        level: run.level().as_str(),
        errata: run
            .errata
            .iter()
            .map(|erratum| erratum.text.clone())
            .collect(),
        revoked: run
            .submission
            .as_ref()
            .and_then(|submission| Some(submission.revoked.as_ref()?.reason.clone())),
        ranked,
    }
}

fn reported((row, score): (&'static Published, PublishedScore)) -> Reported {
    let Published {
        model,
        planner,
        distance,
        ..
    } = row;
    Reported {
        model,
        planner,
        distance,
        score,
        source: row.source(),
        status: UNVERIFIED,
    }
}

fn print_table(table: &Table, ctx: &Context) -> anyhow::Result<()> {
    ctx.print(&format!(
        "{}   task hash {}\n",
        table.task.id(),
        short(&table.task.hash)
    ))?;
    let headings = [
        "#rank",
        "model",
        "planner",
        "track",
        "by",
        "level",
        "#n",
        "#success",
        "95% interval",
        "group",
        "#over random",
        "#distance",
        "run",
    ];
    ctx.print(&text_table(
        &headings,
        &table.rows.iter().map(cells).collect::<Vec<_>>(),
    ))?;
    for row in &table.rows {
        let revoked = row
            .revoked
            .iter()
            .map(|why| format!("its key was revoked: {why}"));
        for why in row.errata.iter().cloned().chain(revoked) {
            ctx.print(&format!(
                "(!) {} {}: {why}",
                row.ranked.label,
                short(&row.id)
            ))?;
        }
    }
    if !table.seed_means.is_empty() {
        ctx.print("\nmeans over training seeds; the interval is for the draw of the episodes")?;
        print_means(table, ctx)?;
    }
    if !table.published.is_empty() {
        ctx.print(&format!("\n{UNVERIFIED}: {PAPER}"))?;
        let cells = |row: &Reported| {
            let success = format!("{:.1}%", row.score.mean);
            vec![
                row.model.into(),
                format!("{} {}", row.planner, row.distance),
                success,
                format!("{:.1}", row.score.std),
                row.source.into(),
            ]
        };
        let rows: Vec<Vec<String>> = table.published.iter().map(cells).collect();
        ctx.print(&text_table(
            &["model", "planner", "#success", "#std", "source"],
            &rows,
        ))?;
    }
    ctx.print("")
}

fn print_means(table: &Table, ctx: &Context) -> anyhow::Result<()> {
    let cells = |mean: &SeedMean| {
        let seeds: Vec<String> = mean.seeds.iter().map(u64::to_string).collect();
        vec![
            mean.label.clone(),
            table.rows[mean.members[0]].planner.clone(),
            seeds.join(" "),
            mean.episodes.to_string(),
            percent(mean.success_rate),
            interval(mean.interval),
            format!("{:.1}", 100.0 * mean.standard_deviation),
            format!("{} to {}", percent(mean.lowest), percent(mean.highest)),
        ]
    };
    let headings = [
        "model",
        "planner",
        "seeds",
        "#n",
        "#success",
        "95% interval",
        "#std",
        "range",
    ];
    let rows: Vec<Vec<String>> = table.seed_means.iter().map(cells).collect();
    ctx.print(&text_table(&headings, &rows))
}

fn interval(interval: Interval) -> String {
    format!("[{}, {}]", percent(interval.low), percent(interval.high))
}

fn cells(row: &Row) -> Vec<String> {
    let ranked = &row.ranked;
    let dash = || "-".to_string();
    let rank = match (ranked.rank, ranked.rank_interval) {
        (Some(rank), Some((low, high))) if low < high => format!("{rank} ({low}-{high})"),
        (Some(rank), _) => rank.to_string(),
        (None, _) if ranked.kind == ModelKind::Oracle => "oracle".into(),
        (None, _) => "floor".into(),
    };
    vec![
        rank,
        ranked.label.clone(),
        row.planner.clone(),
        row.track.clone().unwrap_or_else(dash),
        row.submitter.clone().unwrap_or_else(dash),
        if row.errata.is_empty() && row.revoked.is_none() {
            row.level.into()
        } else {
            format!("{} (!)", row.level)
        },
        ranked.episodes.to_string(),
        percent(ranked.success_rate),
        interval(ranked.interval),
        if ranked.letters.is_empty() {
            dash()
        } else {
            ranked.letters.clone()
        },
        ranked
            .above_random
            .map_or_else(dash, |above| format!("{:+.1}", 100.0 * above.mean)),
        format!("{:.2}", ranked.final_distance_mean),
        short(&row.id),
    ]
}

fn print_csv(tables: &[Table], ctx: &Context) -> anyhow::Result<()> {
    ctx.print("task,rank,model,kind,planner,track,n,success_rate,low,high,group,final_distance_mean,run,status")?;
    for table in tables {
        for row in &table.rows {
            let Ranked {
                kind,
                episodes,
                success_rate,
                interval,
                ..
            } = &row.ranked;
            let cells = [
                table.task.id(),
                row.ranked
                    .rank
                    .map_or_else(String::new, |rank| rank.to_string()),
                row.ranked.label.clone(),
                kind.as_str().into(),
                row.planner.clone(),
                row.track.clone().unwrap_or_default(),
                episodes.to_string(),
                success_rate.to_string(),
                interval.low.to_string(),
                interval.high.to_string(),
                row.ranked.letters.clone(),
                row.ranked.final_distance_mean.to_string(),
                row.id.clone(),
                "recomputed from episodes".into(),
            ];
            ctx.print(&csv_line(&cells))?;
        }
        for mean in &table.seed_means {
            let row = &table.rows[mean.members[0]];
            let cells = [
                table.task.id(),
                String::new(),
                mean.label.clone(),
                "mean".into(),
                row.planner.clone(),
                row.track.clone().unwrap_or_default(),
                mean.episodes.to_string(),
                mean.success_rate.to_string(),
                mean.interval.low.to_string(),
                mean.interval.high.to_string(),
                String::new(),
                mean.final_distance_mean.to_string(),
                String::new(),
                "recomputed from episodes".into(),
            ];
            ctx.print(&csv_line(&cells))?;
        }
        for row in &table.published {
            let rate = row.score.mean / 100.0;
            let planner = format!("{} {}", row.planner, row.distance);
            let mut cells = [(); 14].map(|()| String::new());
            cells[0] = table.task.id();
            (cells[2], cells[3], cells[4]) = (row.model.into(), "published".into(), planner);
            (cells[7], cells[13]) = (rate.to_string(), row.status.into());
            ctx.print(&csv_line(&cells))?;
        }
    }
    Ok(())
}

/// A line after RFC 4180: cells with commas, quotes or line breaks are quoted.
fn csv_line(cells: &[String]) -> String {
    let quoted = cells.iter().map(|cell| {
        let is_plain = !cell.contains([',', '"', '\n', '\r']);
        if is_plain {
            cell.clone()
        } else {
            format!("\"{}\"", cell.replace('"', "\"\""))
        }
    });
    quoted.collect::<Vec<_>>().join(",")
}

/// The first twelve digits of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_cells_are_quoted_when_they_must_be() {
        let cells = [
            "a".to_string(),
            "b, c".into(),
            "say \"d\"".into(),
            String::new(),
        ];
        assert_eq!(csv_line(&cells), "a,\"b, c\",\"say \"\"d\"\"\",");
    }
}
