use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use jepa_leaderboard::{EPISODES_FILE, Run};

use super::*;
use crate::agent::testing::{KnowsWall, pldm};
use crate::protocol::{Choices, resolve};

/// A small search that runs in milliseconds.
const SMALL: &[&str] = &[
    "planner.candidates=30",
    "planner.iterations=5",
    "episodes.count=7",
];

fn evaluation(policy: Policy, settings: &[&str]) -> Evaluation {
    let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
    let choices = Choices {
        model: Some("test"),
        task: Some("wall@1"),
        settings: &settings,
        ..Choices::default()
    };
    Evaluation::new(resolve(&choices).unwrap(), policy).unwrap()
}

fn model() -> Policy {
    Policy::Model(Box::new(KnowsWall::new()))
}

fn into(folder: &Path) -> Destination {
    Destination {
        runs: folder.to_path_buf(),
        unfinished: Continue::IfThere,
    }
}

fn episodes_file(finished: &Finished) -> Vec<u8> {
    std::fs::read(finished.dir.join(EPISODES_FILE)).unwrap()
}

/// Stops after a number of episodes.
struct StopAfter {
    episodes: usize,
    seen: AtomicUsize,
}

impl StopAfter {
    fn new(episodes: usize) -> Self {
        Self {
            episodes,
            seen: AtomicUsize::new(0),
        }
    }
}

impl Observer for StopAfter {
    fn finished(&self, _row: &EpisodeRow) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    fn interrupted(&self) -> bool {
        self.seen.load(Ordering::Relaxed) >= self.episodes
    }
}

/// Runs on a pool of its own, so that the number of workers is known.
fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(work)
}

#[test]
fn a_run_can_be_loaded_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut evaluation = evaluation(model(), SMALL);
    evaluation.films = 2;
    let finished = evaluate(&evaluation, &into(folder.path()), &Unobserved).unwrap();
    let run = Run::load(&finished.dir).unwrap();
    assert_eq!(run.record, finished.record);
    assert_eq!(run.record.summary.episodes, 7);
    assert_eq!(run.record.model.name, "knows-wall");
    assert_eq!(run.record.planner.settings["candidates"], 30);
    assert_eq!(run.record.objective["proprio_weight"], 0.1);
    assert_eq!(run.config_toml, evaluation.config.to_toml().unwrap());
    assert_eq!(
        RunManifest::read(&finished.dir).unwrap().run_hash,
        evaluation.run_hash()
    );
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let expected = [
        "config.toml",
        "episodes.parquet",
        "films",
        "manifest.json",
        "record.json",
        "timings.parquet",
    ];
    assert_eq!(names(&finished.dir), expected);
    assert_eq!(names(&finished.dir.join("films")).len(), 3);
    assert!(
        finished
            .dir
            .starts_with(folder.path().join("wall@1/knows-wall"))
    );
}

#[test]
fn a_run_that_departs_from_its_preset_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let preset = |settings: &[&str]| {
        let evaluation = evaluation(Policy::Oracle, settings);
        let finished = evaluate(&evaluation, &into(folder.path()), &Unobserved).unwrap();
        finished.record.planner.preset
    };
    assert_eq!(preset(&["episodes.count=1"]), "paper");
    assert_eq!(
        preset(&["episodes.count=1", "planner.iterations=5"]),
        "paper, changed"
    );
    assert_eq!(
        preset(&["episodes.count=1", "objective.steps=all"]),
        "paper, changed"
    );
}

#[test]
fn rows_hold_the_whole_episode() {
    let line = run_episode(&evaluation(Policy::Oracle, SMALL), 3, &|| false).unwrap();
    let row = line.row;
    assert_eq!((row.episode, row.seed, row.plans), (3, 4, 1));
    assert_eq!(
        (row.distances.len(), row.states.len(), row.actions.len()),
        (31, 62, 60)
    );
    assert_eq!(row.states[..2], row.init);
    assert_eq!(row.final_state, row.states[60..]);
    assert_eq!(row.final_distance, row.distances[30]);
    assert_eq!(row.success, row.final_distance < 4.5);
    assert_eq!(
        (
            row.cost_best.len(),
            row.world_model_calls,
            row.candidate_steps
        ),
        (5, 0, 900)
    );
}

#[test]
fn executed_actions_replay_to_the_same_states() {
    let evaluation = evaluation(model(), SMALL);
    let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
    let mut env = evaluation.config.environment.build().unwrap();
    env.reset_to(&row.init).unwrap();
    for (action, state) in row.actions.chunks(2).zip(row.states.chunks(2).skip(1)) {
        env.step(action).unwrap();
        assert_eq!(env.state(), state);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let run = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let finished = with_threads(threads, || {
            evaluate(
                &evaluation(model(), SMALL),
                &into(folder.path()),
                &Unobserved,
            )
            .unwrap()
        });
        episodes_file(&finished)
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn an_interrupted_run_continues_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let whole = evaluate(
        &evaluation(model(), SMALL),
        &into(folder.path()),
        &Unobserved,
    )
    .unwrap();
    let again = tempfile::tempdir().unwrap();
    let place = into(again.path());
    let evaluation = evaluation(model(), SMALL);
    let stopped = with_threads(2, || evaluate(&evaluation, &place, &StopAfter::new(2)));
    let Error::Interrupted { done, total: 7, .. } = stopped.unwrap_err() else {
        panic!("not interrupted")
    };
    assert!((2..7).contains(&done), "{done} done");
    let finished = evaluate(&evaluation, &place, &Unobserved).unwrap();
    assert_eq!(episodes_file(&finished), episodes_file(&whole));
    let folders = std::fs::read_dir(finished.dir.parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(folders, 1, "the run was not continued but started again");
}

#[test]
fn a_search_is_given_up_between_the_candidates_that_a_model_computes_at_once() {
    let settings = &["planner.candidates=20", "planner.iterations=3"];
    let in_parts = KnowsWall {
        at_a_time: 6,
        ..KnowsWall::new()
    };
    let whole = evaluation(model(), settings);
    let parts = evaluation(Policy::Model(Box::new(in_parts)), settings);
    let row = |evaluation: &Evaluation| run_episode(evaluation, 1, &|| false).unwrap().row;
    assert_eq!(row(&whole), row(&parts));

    // 20 candidates are four calls, and `stop` is asked before each of the twelve.
    for (asked, ends) in [(11, true), (12, false)] {
        let left = AtomicUsize::new(asked);
        let stop = || {
            let counted =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            counted.is_err()
        };
        let outcome = run_episode(&parts, 1, &stop);
        let interrupted = matches!(outcome, Err(Error::Interrupted { .. }));
        assert_eq!(interrupted, ends, "{asked}");
    }
}

#[test]
fn a_line_cut_off_by_a_crash_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = into(folder.path());
    let evaluation = evaluation(Policy::Random, SMALL);
    with_threads(1, || evaluate(&evaluation, &place, &StopAfter::new(3))).unwrap_err();
    let journal = find(folder.path(), "episodes.jsonl");
    let text = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, &text[..text.len() - 40]).unwrap();
    let finished = evaluate(&evaluation, &place, &Unobserved).unwrap();
    assert_eq!(Run::load(&finished.dir).unwrap().episodes.len(), 7);
}

#[test]
fn a_damaged_line_in_the_middle_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let place = into(folder.path());
    let evaluation = evaluation(Policy::Random, SMALL);
    with_threads(1, || evaluate(&evaluation, &place, &StopAfter::new(3))).unwrap_err();
    let journal = find(folder.path(), "episodes.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replacen("\"seed\"", "\"sead\"", 1)).unwrap();
    let error = evaluate(&evaluation, &place, &Unobserved).unwrap_err();
    assert!(error.to_string().contains("line 1 is damaged"), "{error}");
    let fresh = Destination {
        unfinished: Continue::Never,
        ..place
    };
    // Another second, another folder name.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    evaluate(&evaluation, &fresh, &Unobserved).unwrap();
}

/// The one file of this name below a folder.
fn find(folder: &Path, name: &str) -> PathBuf {
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with(name) {
                return path;
            }
        }
    }
    panic!("no {name}");
}

#[test]
fn two_processes_cannot_write_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let evaluation = evaluation(Policy::Noop, SMALL);
    let held = RunFolder::open(&evaluation, &into(folder.path())).unwrap();
    let error = evaluate(&evaluation, &into(folder.path()), &Unobserved).unwrap_err();
    assert!(
        error.to_string().contains("another process is writing it"),
        "{error}"
    );
    drop(held);
    evaluate(&evaluation, &into(folder.path()), &Unobserved).unwrap();
}

/// Runs every shard and returns their folders.
fn shards(folder: &Path, count: u32) -> Vec<PathBuf> {
    let run = |index| {
        let mut evaluation = evaluation(model(), SMALL);
        evaluation.shard = Some(Shard { index, count });
        evaluation.films = 1;
        evaluate(&evaluation, &into(folder), &Unobserved)
            .unwrap()
            .dir
    };
    (0..count).map(run).collect()
}

#[test]
fn merged_shards_are_the_unsharded_run() {
    let folder = tempfile::tempdir().unwrap();
    let whole = evaluate(
        &evaluation(model(), SMALL),
        &into(folder.path()),
        &Unobserved,
    )
    .unwrap();
    let shards = shards(folder.path(), 3);
    let merged = merge(&folder.path().join("merged"), &shards).unwrap();
    assert_eq!(episodes_file(&merged), episodes_file(&whole));
    let run = Run::load(&merged.dir).unwrap();
    assert_eq!(run.config_toml, Run::load(&whole.dir).unwrap().config_toml);
    assert_eq!(run.record.summary.successes, whole.record.summary.successes);
    assert_eq!(RunManifest::read(&merged.dir).unwrap().shard, None);
    assert!(merged.dir.join("films/index.json").exists());
}

#[test]
fn incomplete_or_foreign_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 2);
    let out = folder.path().join("merged");
    let refused = |shards: &[PathBuf]| merge(&out, shards).unwrap_err().to_string();
    assert!(refused(&shards[..1]).contains("shard 1/2 is missing"));
    assert!(refused(&[shards[0].clone(), shards[0].clone()]).contains("given twice"));
    assert!(refused(&[]).contains("no shards"));
    let mut other = evaluation(Policy::Noop, SMALL);
    other.shard = Some(Shard { index: 1, count: 2 });
    let foreign = evaluate(&other, &into(folder.path()), &Unobserved)
        .unwrap()
        .dir;
    assert!(refused(&[shards[0].clone(), foreign]).contains("another evaluation"));
    let whole = evaluate(
        &evaluation(model(), SMALL),
        &into(folder.path()),
        &Unobserved,
    )
    .unwrap();
    assert!(refused(&[whole.dir]).contains("not a shard"));
    assert!(!out.exists());
    merge(&out, &shards).unwrap();
    assert!(refused(&shards).contains("finished run already"));
}

#[test]
fn a_cost_that_is_not_finite_ends_the_run_with_its_episode() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = KnowsWall::new();
    broken.broken = true;
    let evaluation = evaluation(Policy::Model(Box::new(broken)), &["episodes.count=1"]);
    let error = evaluate(&evaluation, &into(folder.path()), &Unobserved)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("episode 0 (seed 1)") && error.contains("NaN"),
        "{error}"
    );
}

#[test]
fn estimates_are_what_an_episode_takes() {
    for settings in [
        &["planner.replan_every=2", "planner.iterations=3"][..],
        SMALL,
    ] {
        for policy in [model(), Policy::Oracle, Policy::Noop] {
            let evaluation = evaluation(policy, settings);
            let row = run_episode(&evaluation, 0, &|| false).unwrap().row;
            let taken = Estimate {
                plans: u64::from(row.plans),
                world_model_calls: row.world_model_calls,
                candidate_steps: row.candidate_steps,
            };
            assert_eq!(evaluation.estimate(), taken);
        }
    }
}

#[test]
fn the_floors_fail_and_the_oracle_succeeds_as_often_as_expected() {
    let successes = |policy| {
        let evaluation = evaluation(policy, &[]);
        let episodes = evaluation.episodes();
        assert_eq!(episodes.len(), 96);
        let outcomes: Vec<bool> = episodes
            .iter()
            .map(|&episode| {
                run_episode(&evaluation, episode, &|| false)
                    .unwrap()
                    .row
                    .success
            })
            .collect();
        success::rate(&outcomes).unwrap()
    };
    assert!(successes(Policy::Random).value < 0.05);
    assert_eq!(successes(Policy::Noop).value, 0.0);
    // 91.7% with the same planner and other random numbers.
    let oracle = successes(Policy::Oracle);
    assert!((0.86..=0.97).contains(&oracle.value), "{oracle:?}");
}

#[test]
fn passing_through_the_goal_is_a_success_at_any_step_and_not_at_the_end() {
    let evaluation = evaluation(
        Policy::find("floor:noop", jepa_models::Compute::Cpu).unwrap(),
        SMALL,
    );
    let mut env = evaluation.config.environment.build().unwrap();
    let start = env.sample(1).unwrap();
    env.reset_to(&start.init).unwrap();
    let finish = |at_goal: [bool; 3], rule| {
        let mut log = EpisodeLog::new(0, 1, &start, env.as_ref());
        log.visit(env.as_ref());
        log.visit(env.as_ref());
        log.at_goal = at_goal.to_vec();
        let row = log.finish(rule, 5).unwrap().row;
        (row.success, row.success_any)
    };
    let passing = [false, true, false];
    assert_eq!(finish(passing, SuccessRule::Final), (false, true));
    assert_eq!(finish(passing, SuccessRule::Any), (true, true));
    assert_eq!(
        finish([true, false, false], SuccessRule::Any),
        (false, false)
    );
    assert_eq!(
        finish([false, false, true], SuccessRule::Final),
        (true, true)
    );
}

#[test]
fn threads_shards_and_batches_do_not_change_a_bit() {
    let settings = [
        "episodes.count=9",
        "planner.candidates=24",
        "planner.iterations=3",
        "planner.replan_every=2",
    ];
    let run = |threads, batch, shards: u32| {
        let folder = tempfile::tempdir().unwrap();
        let part = |shard: Option<Shard>| {
            let mut evaluation = evaluation(pldm(), &settings);
            evaluation.batch = NonZeroUsize::new(batch);
            evaluation.shard = shard;
            with_threads(threads, || {
                evaluate(&evaluation, &into(folder.path()), &Unobserved).unwrap()
            })
        };
        if shards == 1 {
            return episodes_file(&part(None));
        }
        let parts = (0..shards).map(|index| format!("{index}/{shards}").parse().unwrap());
        let parts: Vec<PathBuf> = parts.map(|shard| part(Some(shard)).dir).collect();
        episodes_file(&merge(&folder.path().join("merged"), &parts).unwrap())
    };
    let alone = run(1, 0, 1);
    for (threads, batch, shards) in [
        (2, 0, 1),
        (1, 1, 1),
        (1, 8, 1),
        (2, 8, 1),
        (1, 0, 4),
        (2, 3, 4),
    ] {
        let found = run(threads, batch, shards);
        assert!(
            found == alone,
            "{threads} threads, {shards} shards, batches of {batch}"
        );
    }
}
