use super::*;
use crate::testing::SyntheticRun;

struct Scene {
    folder: tempfile::TempDir,
    run: Run,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::load(&SyntheticRun::new("pldm", 12).write(folder.path()).unwrap()).unwrap();
        Self { folder, run }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("board.sqlite")
    }

    /// A board with one run, then changed behind its back.
    fn tampered(&self, statement: &str) -> Error {
        Board::open(&self.file()).unwrap().add(&self.run).unwrap();
        Connection::open(self.file())
            .unwrap()
            .execute_batch(statement)
            .unwrap();
        Board::open(&self.file()).unwrap_err()
    }
}

#[test]
fn a_run_comes_back_as_it_was_added() {
    let scene = Scene::new();
    let added = Board::open(&scene.file()).unwrap().add(&scene.run).unwrap();
    let board = Board::open(&scene.file()).unwrap();
    assert!(added.is_new && added.head == board.head().unwrap());
    let tasks = board.tasks().unwrap();
    assert_eq!(
        (tasks.len(), tasks[0].runs, tasks[0].task.id().as_str()),
        (1, 1, "wall@1")
    );
    let runs = board.runs(&tasks[0].task).unwrap();
    assert_eq!(runs[0].record, scene.run.record);
    assert_eq!(
        runs[0].scored("x".into()).scores,
        Scored::new(&scene.run, "x".into()).scores
    );
}

#[test]
fn adding_a_run_twice_changes_nothing() {
    let scene = Scene::new();
    let mut board = Board::open(&scene.file()).unwrap();
    let first = board.add(&scene.run).unwrap();
    let second = board.add(&scene.run).unwrap();
    assert_eq!(
        (second.is_new, &second.id, &second.head),
        (false, &first.id, &first.head)
    );
    assert_eq!(board.events().unwrap().len(), 1);
}

#[test]
fn events_chain_and_their_head_moves() {
    let scene = Scene::new();
    let mut board = Board::open(&scene.file()).unwrap();
    assert_eq!(board.head().unwrap(), GENESIS);
    let first = board.add(&scene.run).unwrap();
    let other = SyntheticRun::new("oracle", 12)
        .write(scene.folder.path())
        .unwrap();
    let second = board.add(&Run::load(&other).unwrap()).unwrap();
    let events = board.events().unwrap();
    assert_eq!(
        (events[1].previous.as_str(), events[1].hash.as_str()),
        (first.head.as_str(), second.head.as_str())
    );
}

#[test]
fn tampering_is_found() {
    let cases = [
        (
            "UPDATE episodes SET success = 1 - success WHERE episode = 3",
            "changed since",
        ),
        ("DELETE FROM episodes WHERE episode = 3", "changed since"),
        (
            "UPDATE runs SET record = replace(record, 'PLDM', 'BEST')",
            "changed since",
        ),
        (
            "DROP TRIGGER events_are_not_changed; UPDATE events SET utc = '2020-01-01T00:00:00Z'",
            "was changed",
        ),
        (
            "DROP TRIGGER events_are_not_deleted; DELETE FROM events",
            "without an event",
        ),
    ];
    for (statement, words) in cases {
        let error = Scene::new().tampered(statement);
        assert!(error.to_string().contains(words), "{statement}: {error}");
    }
}

#[test]
fn an_event_written_anew_breaks_the_chain_behind_it() {
    let scene = Scene::new();
    let mut board = Board::open(&scene.file()).unwrap();
    board.add(&scene.run).unwrap();
    let other = SyntheticRun::new("oracle", 12)
        .write(scene.folder.path())
        .unwrap();
    board.add(&Run::load(&other).unwrap()).unwrap();
    let mut forged = board.events().unwrap().remove(0);
    drop(board);
    forged.utc = "2020-01-01T00:00:00Z".into();
    forged.hash = forged.digest();
    let connection = Connection::open(scene.file()).unwrap();
    connection
        .execute_batch("DROP TRIGGER events_are_not_changed")
        .unwrap();
    connection
        .execute(
            "UPDATE events SET utc = ?1, hash = ?2 WHERE number = ?3",
            rusqlite::params![forged.utc, forged.hash, forged.number as i64],
        )
        .unwrap();
    drop(connection);
    let error = Board::open(&scene.file()).unwrap_err().to_string();
    assert!(error.contains("event 2 was changed"), "{error}");
}

#[test]
fn the_file_itself_refuses_to_change_events() {
    let scene = Scene::new();
    Board::open(&scene.file()).unwrap().add(&scene.run).unwrap();
    let connection = Connection::open(scene.file()).unwrap();
    let error = connection
        .execute("UPDATE events SET utc = 'x'", [])
        .unwrap_err();
    assert!(error.to_string().contains("append-only"));
}

#[test]
fn a_changed_task_file_needs_a_new_version() {
    let mut scene = Scene::new();
    let mut board = Board::open(&scene.file()).unwrap();
    board.add(&scene.run).unwrap();
    scene.run.record.task.hash = "f".repeat(64);
    assert!(matches!(
        board.add(&scene.run),
        Err(Error::TaskChanged { .. })
    ));
    scene.run.record.task.version = 2;
    assert!(board.add(&scene.run).unwrap().is_new);
    assert_eq!(board.tasks().unwrap().len(), 2);
}

#[test]
fn looking_at_a_board_does_not_make_one() {
    let scene = Scene::new();
    assert!(matches!(
        Board::open_existing(&scene.file()),
        Err(Error::NoBoard { .. })
    ));
    assert!(!scene.file().exists());
}

#[test]
fn foreign_files_are_left_alone() {
    let scene = Scene::new();
    let other = Connection::open(scene.file()).unwrap();
    other
        .execute_batch("CREATE TABLE notes (text TEXT)")
        .unwrap();
    drop(other);
    assert!(matches!(
        Board::open(&scene.file()),
        Err(Error::Board { .. })
    ));
    std::fs::write(scene.folder.path().join("text"), "x".repeat(200)).unwrap();
    assert!(matches!(
        Board::open(&scene.folder.path().join("text")),
        Err(Error::Database { .. })
    ));
}

#[test]
fn a_board_of_layout_1_is_brought_up_to_date() {
    let scene = Scene::new();
    let id = Board::open(&scene.file())
        .unwrap()
        .add(&scene.run)
        .unwrap()
        .id;
    let old = Connection::open(scene.file()).unwrap();
    // What layout 1 was.
    old.execute_batch(
        "PRAGMA foreign_keys = 0; PRAGMA legacy_alter_table = 1;
         DROP TABLE submissions; DROP INDEX events_by_subject;
         CREATE TABLE old (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL,
             hash TEXT NOT NULL, UNIQUE (name, version)) STRICT;
         INSERT INTO old SELECT id, name, version, hash FROM tasks;
         DROP TABLE tasks; ALTER TABLE old RENAME TO tasks; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    std::fs::remove_dir_all(format!("{}.blobs", scene.file().display())).unwrap();
    let mut board = Board::open(&scene.file()).unwrap();
    let task = board.tasks().unwrap().remove(0).task;
    let runs = board.runs(&task).unwrap();
    assert_eq!((runs.len(), &runs[0].id), (1, &id));
    assert_eq!(board.episodes_of(&id).unwrap(), None);
    // Adding the run again brings its table.
    assert!(!board.add(&scene.run).unwrap().is_new);
    assert_eq!(board.episodes_of(&id).unwrap().unwrap(), scene.run.episodes);
    drop(board);
    assert_eq!(
        Board::open(&scene.file()).unwrap().runs(&task).unwrap(),
        runs
    );
}

mod submitted {
    use super::*;
    use crate::key::Identity;
    use crate::submission::{Bundle, Claims};
    use crate::testing::SyntheticReferee;
    use crate::verification::{Level, Verified, verify};
    use crate::{ImportStatus, ImportedFrom, ImportedRow, Purpose, Refusal};

    const REFEREE: SyntheticReferee = SyntheticReferee { episodes: 12 };

    fn identity(name: &str, secret: u8) -> Identity {
        Identity::from_secret(name, &[secret; 32]).unwrap()
    }

    fn bundle(run: &SyntheticRun, identity: &Identity, method: &str) -> Bundle {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::load(&run.write(folder.path()).unwrap()).unwrap();
        let claims = Claims {
            licence: "MIT".into(),
            contact: "lab@example.org".into(),
            method: method.into(),
            created_utc: "2026-01-31T12:00:00Z".into(),
            ..Claims::default()
        };
        Bundle::new(&run, &claims, identity).unwrap()
    }

    fn checked(bundle: &Bundle) -> Verified {
        verify(bundle, &REFEREE).unwrap()
    }

    fn board() -> (tempfile::TempDir, Board) {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::open(&folder.path().join("board.sqlite")).unwrap();
        (folder, board)
    }

    fn submit(board: &mut Board, run: &SyntheticRun, identity: &Identity) -> Result<Added> {
        let bundle = bundle(run, identity, "text");
        board.submit(&bundle, &checked(&bundle))
    }

    fn reason(error: &Error) -> Refusal {
        match error {
            Error::Refused { reason, .. } => *reason,
            other => panic!("{other}"),
        }
    }

    fn only_task(board: &Board) -> TaskRef {
        board.tasks().unwrap().remove(0).task
    }

    #[test]
    fn a_submission_comes_back_with_its_claims_checks_episodes_and_bundle() {
        let (_folder, mut board) = board();
        let bundle = bundle(
            &SyntheticRun::new("pldm", 12),
            &identity("lab", 1),
            "<b>words</b>",
        );
        let verified = checked(&bundle);
        let added = board.submit(&bundle, &verified).unwrap();
        assert!(added.is_new);
        let mut runs = board.runs(&only_task(&board)).unwrap();
        let run = runs.remove(0);
        let submission = run.submission.unwrap();
        assert_eq!(
            (&submission.id, &submission.submission),
            (&bundle.id, &bundle.submission)
        );
        assert_eq!(submission.method, "<b>words</b>");
        assert_eq!(
            (&submission.verdict, submission.level()),
            (&verified.verdict, Some(Level::V2))
        );
        let kept = std::fs::read(board.blob(&submission.bundle).unwrap()).unwrap();
        assert_eq!(kept, bundle.to_bytes().unwrap());
        let episodes = board.episodes_of(&added.id).unwrap().unwrap();
        assert_eq!(episodes, verified.run.unwrap().episodes);
        board.verify().unwrap();
    }

    #[test]
    fn the_same_upload_again_changes_nothing() {
        let (_folder, mut board) = board();
        let first = submit(
            &mut board,
            &SyntheticRun::new("pldm", 12),
            &identity("lab", 1),
        )
        .unwrap();
        let again = submit(
            &mut board,
            &SyntheticRun::new("pldm", 12),
            &identity("lab", 1),
        )
        .unwrap();
        assert_eq!(
            (again.is_new, again.id, again.head),
            (false, first.id, first.head)
        );
    }

    #[test]
    fn a_name_belongs_to_the_key_that_used_it_first() {
        let (_folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let thief =
            submit(&mut board, &SyntheticRun::new("b", 12), &identity("lab", 2)).unwrap_err();
        assert_eq!(reason(&thief), Refusal::Name);
        submit(
            &mut board,
            &SyntheticRun::new("b", 12),
            &identity("other", 2),
        )
        .unwrap();
        submit(&mut board, &SyntheticRun::new("c", 12), &identity("lab", 1)).unwrap();
        let keys = board.keys().unwrap();
        let names: Vec<_> = keys
            .iter()
            .map(|key| (key.name.as_str(), key.submissions))
            .collect();
        assert_eq!(names, [("lab", 2), ("other", 1)]);
    }

    #[test]
    fn episodes_of_somebody_else_are_a_copy() {
        let (_folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let copied = submit(
            &mut board,
            &SyntheticRun::new("a", 12),
            &identity("thief", 2),
        );
        assert_eq!(reason(&copied.unwrap_err()), Refusal::Copy);
        let words = bundle(
            &SyntheticRun::new("a", 12),
            &identity("lab", 1),
            "other words",
        );
        let again = board.submit(&words, &checked(&words)).unwrap_err();
        assert_eq!(reason(&again), Refusal::Copy);
        assert_eq!(board.events().unwrap().len(), 2);
    }

    #[test]
    fn the_same_episodes_under_another_label_are_a_copy_too() {
        let (folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let dir = SyntheticRun::new("a", 12).write(folder.path()).unwrap();
        let mut run = Run::load(&dir).unwrap();
        run.record.model.label = "our own".into();
        run.record.write(&dir.join(crate::RECORD_FILE)).unwrap();
        let claims = Claims {
            licence: "MIT".into(),
            contact: "thief@example.org".into(),
            method: "text".into(),
            created_utc: "2026-01-31T12:00:00Z".into(),
            ..Claims::default()
        };
        let bundle = Bundle::new(&run, &claims, &identity("thief", 2)).unwrap();
        let copied = board.submit(&bundle, &checked(&bundle));
        assert_eq!(reason(&copied.unwrap_err()), Refusal::Copy);
    }

    #[test]
    fn a_bundle_whose_check_failed_is_not_taken() {
        let (_folder, mut board) = board();
        let incomplete = submit(&mut board, &SyntheticRun::new("a", 11), &identity("lab", 1));
        let error = incomplete.unwrap_err();
        assert_eq!(reason(&error), Refusal::Check);
        assert!(error.to_string().contains("1 of 12 are missing"), "{error}");
        assert!(board.events().unwrap().is_empty());
    }

    #[test]
    fn a_revoked_key_submits_no_more_and_its_runs_are_marked() {
        let (_folder, mut board) = board();
        let lab = identity("lab", 1);
        submit(&mut board, &SyntheticRun::new("a", 12), &lab).unwrap();
        let thief = identity("thief", 3);
        let forged = thief.sign(Purpose::Revocation, b"lost");
        assert!(board.revoke(&lab.public(), "lost", Some(&forged)).is_err());
        let signature = lab.sign(Purpose::Revocation, b"lost");
        board
            .revoke(&lab.public(), "lost", Some(&signature))
            .unwrap();
        let error = submit(&mut board, &SyntheticRun::new("b", 12), &lab).unwrap_err();
        assert_eq!(reason(&error), Refusal::Revoked);
        let run = board.runs(&only_task(&board)).unwrap().remove(0);
        let revoked = run.submission.unwrap().revoked.unwrap();
        assert_eq!(
            (revoked.by.as_str(), revoked.reason.as_str()),
            ("owner", "lost")
        );
        assert!(board.keys().unwrap()[0].revoked.is_some());
    }

    #[test]
    fn errata_mark_the_runs_that_they_touch_and_no_others() {
        let (_folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let touched = |board: &Board| board.runs(&only_task(board)).unwrap()[0].errata.len();
        let erratum = |commit: &str, task: &str| Erratum {
            text: "distances were in cm".into(),
            tasks: vec![task.into()],
            commits: vec![commit.into()],
            versions: Vec::new(),
            runs: Vec::new(),
        };
        board.add_erratum(&erratum("ffff", "wall@1")).unwrap();
        board.add_erratum(&erratum("0123", "wall@2")).unwrap();
        assert_eq!(touched(&board), 0);
        board.add_erratum(&erratum("0123", "wall@1")).unwrap();
        board.add_erratum(&erratum("0123", "wall@1")).unwrap();
        assert_eq!((touched(&board), board.errata().unwrap().len()), (1, 3));
    }

    #[test]
    fn what_maintainers_find_moves_the_level() {
        let (_folder, mut board) = board();
        let bundle = bundle(&SyntheticRun::new("a", 12), &identity("lab", 1), "text");
        board.submit(&bundle, &checked(&bundle)).unwrap();
        let rerun = |level, holds| Rerun {
            level,
            holds,
            by: "maintainer".into(),
            detail: "the same bits".into(),
            run: "0".repeat(64),
        };
        let found = |board: &Board| {
            board
                .runs(&only_task(board))
                .unwrap()
                .remove(0)
                .submission
                .unwrap()
        };
        assert!(board.add_rerun("nothing", &rerun(Level::V3, true)).is_err());
        assert!(
            board
                .add_rerun(&bundle.id, &rerun(Level::V2, true))
                .is_err()
        );
        board
            .add_rerun(&bundle.id, &rerun(Level::V3, true))
            .unwrap();
        assert_eq!(found(&board).level(), Some(Level::V3));
        board
            .add_rerun(&bundle.id, &rerun(Level::V4, false))
            .unwrap();
        assert_eq!(found(&board).level(), Some(Level::V3));
        assert!(found(&board).contradicted().is_some());
        let challenge = board.challenge(&bundle.id).unwrap();
        assert_eq!(board.challenge(&bundle.id).unwrap(), challenge);
        assert!(challenge.first_seed() < 1 << 31 && challenge.nonce.len() == 64);
        assert!(board.challenge("nothing").is_err());
    }

    fn imported() -> ImportedRow {
        ImportedRow {
            source: ImportedFrom::ClearLewm,
            status: ImportStatus::Unverified,
            task: "pusht".into(),
            model: "lewm".into(),
            metric: "success_rate".into(),
            value: 0.5,
            n: 50,
            interval: None,
            date: None,
            url: None,
            raw_hash: "0".repeat(64),
        }
    }

    #[test]
    fn merging_is_a_union_whichever_board_takes_the_other() {
        let (_a, mut first) = board();
        let (_b, mut second) = board();
        let (lab, other) = (identity("lab", 1), identity("lab", 2));
        submit(&mut first, &SyntheticRun::new("shared", 12), &lab).unwrap();
        submit(&mut second, &SyntheticRun::new("shared", 12), &lab).unwrap();
        submit(&mut first, &SyntheticRun::new("a", 12), &lab).unwrap();
        submit(&mut second, &SyntheticRun::new("b", 12), &other).unwrap_err();
        submit(
            &mut second,
            &SyntheticRun::new("b", 12),
            &identity("else", 3),
        )
        .unwrap();
        second
            .revoke(&identity("else", 3).public(), "lost", None)
            .unwrap();
        first.add_imported(&imported()).unwrap();
        first.add_imported(&imported()).unwrap();
        let (_c, mut third) = board();
        assert_eq!(
            third.merge(&first).unwrap(),
            Merged {
                runs: 2,
                submissions: 2,
                notes: 1
            }
        );
        third.merge(&second).unwrap();
        second.merge(&first).unwrap();
        first.merge(&second).unwrap();
        let content = first.content_hash().unwrap();
        assert_eq!(second.content_hash().unwrap(), content);
        assert_eq!(third.content_hash().unwrap(), content);
        assert_eq!(first.merge(&third).unwrap(), Merged::default());
        for board in [&first, &second, &third] {
            let checked = board.check().unwrap();
            assert!(
                checked.damaged.is_empty() && checked.unnamed.is_empty(),
                "{checked:?}"
            );
            assert_eq!(board.runs(&only_task(board)).unwrap().len(), 3);
            assert_eq!(board.imported().unwrap(), [imported()]);
        }
    }

    #[test]
    fn one_name_with_two_keys_stays_with_both_after_a_merge() {
        let (_a, mut first) = board();
        let (_b, mut second) = board();
        let (one, two) = (identity("lab", 1), identity("lab", 2));
        submit(&mut first, &SyntheticRun::new("a", 12), &one).unwrap();
        submit(&mut second, &SyntheticRun::new("b", 12), &two).unwrap();
        first.merge(&second).unwrap();
        assert_eq!(first.keys().unwrap().len(), 2);
        submit(&mut first, &SyntheticRun::new("c", 12), &one).unwrap();
        submit(&mut first, &SyntheticRun::new("d", 12), &two).unwrap();
        submit(&mut first, &SyntheticRun::new("e", 12), &identity("lab", 3)).unwrap_err();
    }

    #[test]
    fn submissions_changed_behind_the_back_of_the_board_are_found() {
        for statement in [
            "UPDATE submissions SET claims = replace(claims, 'MIT', 'GPL')",
            "UPDATE submissions SET method = 'other'",
            "UPDATE submissions SET bundle = 'other'",
            "DELETE FROM submissions",
        ] {
            let (folder, mut board) = board();
            submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
            drop(board);
            let file = folder.path().join("board.sqlite");
            Connection::open(&file)
                .unwrap()
                .execute_batch(statement)
                .unwrap();
            let error = Board::open(&file).unwrap_err();
            assert!(
                matches!(error, Error::BrokenChain { .. }),
                "{statement}: {error}"
            );
        }
    }

    #[test]
    fn a_damaged_or_missing_blob_is_named() {
        let (_folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let run = board.runs(&only_task(&board)).unwrap().remove(0);
        let hash = run.submission.unwrap().bundle;
        let path = board.blob(&hash).unwrap();
        std::fs::write(&path, "x").unwrap();
        assert_eq!(board.check().unwrap().damaged, std::slice::from_ref(&hash));
        std::fs::write(path.with_file_name("0".repeat(64)), "left by a crash").unwrap();
        assert_eq!(board.check().unwrap().unnamed, ["0".repeat(64)]);
        assert_eq!(board.blob("../../etc/passwd"), None);
    }

    #[test]
    fn a_backup_is_the_board_with_its_blobs() {
        let (folder, mut board) = board();
        submit(&mut board, &SyntheticRun::new("a", 12), &identity("lab", 1)).unwrap();
        let to = folder.path().join("copy.sqlite");
        board.backup(&to).unwrap();
        assert!(board.backup(&to).is_err());
        submit(&mut board, &SyntheticRun::new("b", 12), &identity("lab", 1)).unwrap();
        let copy = Board::open_existing(&to).unwrap();
        assert_eq!(copy.runs(&only_task(&copy)).unwrap().len(), 1);
        assert!(copy.check().unwrap().damaged.is_empty());
    }

    #[test]
    fn many_writers_lose_nothing_and_double_nothing() {
        let (folder, board) = board();
        drop(board);
        let file = folder.path().join("board.sqlite");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let file = &file;
                scope.spawn(move || {
                    let mut board = Board::open(file).unwrap();
                    for k in 0..6 {
                        // Two writers send each bundle.
                        let name = format!("model-{}-{k}", writer / 2);
                        let lab = identity(&format!("lab-{}", writer / 2), writer / 2 + 1);
                        submit(&mut board, &SyntheticRun::new(&name, 12), &lab).unwrap();
                    }
                });
            }
        });
        let board = Board::open(&file).unwrap();
        assert_eq!(board.runs(&only_task(&board)).unwrap().len(), 12);
        assert_eq!(board.events().unwrap().len(), 24);
    }
}
