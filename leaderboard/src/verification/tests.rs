use super::*;
use crate::episodes::{read_episodes, write_episodes};
use crate::files::hash_file;
use crate::key::Identity;
use crate::record::{EpisodeRow, RunRecord};
use crate::submission::Claims;
use crate::testing::{SyntheticReferee, SyntheticRun};

const EPISODES: u32 = 12;

fn identity() -> Identity {
    Identity::from_secret("lab", &[7; 32]).unwrap()
}

/// A run whose files were changed and whose numbers were then made to fit, bundled and signed: what a careful forger sends.
fn forged(change: impl FnOnce(&mut Vec<EpisodeRow>), edit: impl FnOnce(&mut RunRecord)) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    let dir = SyntheticRun::new("pldm", EPISODES)
        .write(folder.path())
        .unwrap();
    let table = dir.join(EPISODES_FILE);
    let mut rows = read_episodes(&table).unwrap();
    change(&mut rows);
    write_episodes(&table, &rows).unwrap();
    let mut run = Run::load_unchecked(&dir);
    let timings = run
        .timings
        .iter()
        .take(rows.len())
        .copied()
        .collect::<Vec<_>>();
    crate::episodes::write_timings(&dir.join(TIMINGS_FILE), &timings).unwrap();
    if let Some(summary) = crate::record::Summary::from_episodes(&rows, &timings) {
        run.record.summary = summary;
    }
    for name in [EPISODES_FILE, TIMINGS_FILE] {
        run.record
            .files
            .insert(name.into(), hash_file(&dir.join(name)).unwrap());
    }
    edit(&mut run.record);
    run.record.write(&dir.join(RECORD_FILE)).unwrap();
    let claims = Claims {
        licence: "MIT".into(),
        contact: "lab@example.org".into(),
        method: "text".into(),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    };
    Bundle::new(&run, &claims, &identity()).unwrap()
}

fn verdict_of(bundle: &Bundle) -> Verdict {
    verify(bundle, &SyntheticReferee { episodes: EPISODES })
        .unwrap()
        .verdict
}

fn refusal(change: impl FnOnce(&mut Vec<EpisodeRow>)) -> String {
    let verdict = verdict_of(&forged(change, |_| ()));
    assert_eq!(verdict.level, None);
    let (name, why) = verdict.failure().expect("it was believed");
    format!("{name}: {why}")
}

#[test]
fn an_honest_run_reaches_v2() {
    let verdict = verdict_of(&forged(|_| (), |_| ()));
    assert_eq!(verdict.level, Some(Level::V2), "{:?}", verdict.checks);
    assert_eq!(verdict.failure(), None);
    assert!(verdict.above_random.unwrap().mean > 0.5);
    let names: Vec<&str> = verdict
        .checks
        .iter()
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "parsed and signed",
            "every number recomputed",
            "claims",
            "task",
            "each episode once",
            "episodes of the task",
            "paired random floor",
            "episodes played again"
        ]
    );
}

#[test]
fn forged_episodes_are_refused() {
    // A failure made a success, everywhere that it shows.
    let said = refusal(|rows| {
        let row = rows.iter_mut().find(|row| !row.success).unwrap();
        (row.success, row.success_any) = (true, true);
    });
    assert!(said.contains("another outcome"), "{said}");
    let said = refusal(|rows| rows[3].actions[8] += 0.01);
    assert!(
        said.contains("episode 3 has states that its actions do not lead to"),
        "{said}"
    );
    let said = refusal(|rows| {
        rows.remove(11);
    });
    assert!(
        said.contains("1 of 12 are missing, the first with seed 13"),
        "{said}"
    );
    let said = refusal(|rows| {
        // One episode in place of another.
        let mut copy = rows[2].clone();
        (copy.episode, copy.seed) = (rows[7].episode, rows[7].seed);
        rows[7] = copy;
    });
    assert!(
        said.contains("episode 7 begins and ends like episode 2"),
        "{said}"
    );
    let said = refusal(|rows| rows[1].seed += 100);
    assert!(said.contains("its position asks for"), "{said}");
    let said = refusal(|rows| {
        rows[4].goal[0] += 0.5;
    });
    assert!(
        said.contains("begins or ends elsewhere than that of the task"),
        "{said}"
    );
    let said = refusal(|rows| rows.push(rows[0].clone()));
    assert!(said.contains("appears twice"), "{said}");
    let said = refusal(|rows| rows.reverse());
    assert!(said.contains("another order"), "{said}");
}

#[test]
fn claims_that_the_record_does_not_make_are_refused() {
    let honest = forged(|_| (), |_| ());
    let mut claims = honest.submission.clone();
    assert_eq!(claims.departs_from(&record_of(&honest)), None);
    claims.summary.successes += 1;
    assert_eq!(claims.departs_from(&record_of(&honest)), Some("summary"));
    claims = honest.submission.clone();
    claims.model.weights_hash = None;
    assert_eq!(claims.departs_from(&record_of(&honest)), Some("model"));
    claims = honest.submission.clone();
    claims.budget.candidate_steps = 1;
    assert_eq!(claims.departs_from(&record_of(&honest)), Some("budget"));
}

fn record_of(bundle: &Bundle) -> RunRecord {
    serde_json::from_slice(bundle.file(RECORD_FILE).unwrap()).unwrap()
}

#[test]
fn a_record_that_claims_more_than_its_episodes_is_refused() {
    let bundle = forged(|_| (), |record| record.summary.successes += 1);
    let verdict = verdict_of(&bundle);
    let (name, why) = verdict.failure().unwrap();
    assert!(
        name == "every number recomputed" && why.contains("`successes`"),
        "{why}"
    );
    assert!(!why.contains("/tmp"), "{why}");
}

#[test]
fn another_task_or_another_hash_is_refused() {
    let verdict = verdict_of(&forged(|_| (), |record| record.task.hash = "0".repeat(64)));
    assert_eq!(
        verdict.failure().unwrap(),
        ("task", "`wall@1` is another task here")
    );
    let verdict = verdict_of(&forged(|_| (), |record| record.task.name = "moon".into()));
    assert!(verdict.failure().unwrap().1.contains("no task `moon@1`"));
}

#[test]
fn what_cannot_be_played_again_stays_at_v1() {
    struct NoSimulator(SyntheticReferee);
    impl Referee for NoSimulator {
        fn rules(
            &self,
            task: &crate::TaskRef,
            data: Option<&str>,
        ) -> std::result::Result<crate::Rules, String> {
            self.0.rules(task, data)
        }
        fn replay(&self, _: &RunRecord, _: Option<&str>, _: &[EpisodeRow]) -> Result<Replay> {
            Ok(Replay::NotHere("its simulator is not here".into()))
        }
        fn random_floor(
            &self,
            _: &crate::TaskRef,
            _: Option<&str>,
            _: &[u64],
        ) -> Result<Option<Vec<EpisodeRow>>> {
            Ok(None)
        }
        fn film(
            &self,
            _: &crate::TaskRef,
            _: Option<&str>,
            _: &EpisodeRow,
            _: usize,
        ) -> Result<Option<Vec<Vec<u8>>>> {
            Ok(None)
        }
    }
    let referee = NoSimulator(SyntheticReferee { episodes: EPISODES });
    let verdict = verify(&forged(|_| (), |_| ()), &referee).unwrap().verdict;
    assert_eq!(
        (verdict.level, verdict.above_random),
        (Some(Level::V1), None)
    );
    let last = verdict.checks.last().unwrap();
    assert_eq!(
        last.outcome,
        Outcome::NotRun("its simulator is not here".into())
    );
}

#[test]
fn episodes_drawn_from_a_dataset_may_begin_alike() {
    struct Drawn(SyntheticReferee);
    impl Referee for Drawn {
        fn rules(
            &self,
            task: &crate::TaskRef,
            data: Option<&str>,
        ) -> std::result::Result<crate::Rules, String> {
            let rules = self.0.rules(task, data)?;
            Ok(crate::Rules {
                may_repeat: true,
                ..rules
            })
        }
        fn replay(&self, _: &RunRecord, _: Option<&str>, _: &[EpisodeRow]) -> Result<Replay> {
            Ok(Replay::Reproduced(None))
        }
        fn random_floor(
            &self,
            _: &crate::TaskRef,
            _: Option<&str>,
            _: &[u64],
        ) -> Result<Option<Vec<EpisodeRow>>> {
            Ok(None)
        }
        fn film(
            &self,
            _: &crate::TaskRef,
            _: Option<&str>,
            _: &EpisodeRow,
            _: usize,
        ) -> Result<Option<Vec<Vec<u8>>>> {
            Ok(None)
        }
    }
    let repeated = |rows: &mut Vec<EpisodeRow>| {
        let mut copy = rows[2].clone();
        (copy.episode, copy.seed) = (rows[7].episode, rows[7].seed);
        rows[7] = copy;
    };
    let bundle = forged(repeated, |_| ());
    assert_eq!(verdict_of(&bundle).level, None);
    let verdict = verify(&bundle, &Drawn(SyntheticReferee { episodes: EPISODES }))
        .unwrap()
        .verdict;
    assert_eq!(verdict.level, Some(Level::V2), "{:?}", verdict.checks);
}

#[test]
fn the_level_is_the_highest_without_a_gap() {
    let check = |level, outcome| Check {
        level,
        name: "x".into(),
        outcome,
    };
    let passed = || Outcome::Passed(String::new());
    let not_run = || Outcome::NotRun(String::new());
    assert_eq!(highest(&[]), None);
    assert_eq!(highest(&[check(Level::V0, passed())]), Some(Level::V0));
    let gap = [
        check(Level::V0, passed()),
        check(Level::V1, not_run()),
        check(Level::V2, passed()),
    ];
    assert_eq!(highest(&gap), Some(Level::V0));
    let failed = [
        check(Level::V0, passed()),
        check(Level::V2, Outcome::Failed(String::new())),
    ];
    assert_eq!(highest(&failed), None);
}
