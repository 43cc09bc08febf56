//! Signed bundles as their users make, check and keep them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jepa_datasets::Stream;
use serde_json::Value;

use crate::support::{
    SMALL_MODEL, SMALL_PLANNER, collect, exits_with, killed_after, only_run, succeeds, text,
};

/// A key, and runs of Wall that cost nothing.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        succeeds(&[
            "key",
            "new",
            "--name",
            "lab",
            "--key",
            &lab.path("key.json"),
        ]);
        lab
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_string()
    }

    /// All episodes of `wall@1`; another noise seed is another run.
    fn run(&self, noise: u32) -> PathBuf {
        let runs = self.folder.path().join(format!("runs-{noise}"));
        let noise = format!("noise_seed={noise}");
        let out = text(&runs).to_string();
        succeeds(&[
            "eval",
            "--model",
            "floor:random",
            "--task",
            "wall",
            "--out",
            &out,
            "--set",
            &noise,
        ]);
        only_run(&runs)
    }

    fn submit(&self, run: &Path, name: &str) -> PathBuf {
        let bundle = self.folder.path().join(name);
        succeeds(&[
            "submit",
            text(run),
            "--to",
            text(&bundle),
            "--key",
            &self.path("key.json"),
            "--licence",
            "MIT",
        ]);
        bundle
    }
}

/// What the program says with `--json`.
fn json(args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    serde_json::from_str(&succeeds(&args)).unwrap()
}

#[test]
fn a_run_is_signed_checked_and_shown_with_its_level() {
    let lab = Lab::new();
    let run = lab.run(1);
    let checked = json(&[
        "submit",
        text(&run),
        "--check",
        "--key",
        &lab.path("key.json"),
    ]);
    assert_eq!(checked["level"], "V2");
    assert!(!checked["missing"].as_array().unwrap().is_empty());
    let bundle = lab.submit(&run, "a.jbs");
    let verified = json(&["verify", text(&bundle)]);
    assert_eq!(
        (&verified["level"], &verified["submitter"]),
        (&"V2".into(), &"lab".into())
    );
    let board = lab.path("board.sqlite");
    for is_new in [true, false] {
        let added = json(&["leaderboard", "--db", &board, "add", text(&bundle)]);
        assert_eq!(added[0]["is_new"], is_new);
    }
    let shown = json(&["leaderboard", "--db", &board, "show"]);
    let row = &shown["tasks"][0]["rows"][0];
    assert_eq!(
        (&row["level"], &row["submitter"]),
        (&"V2".into(), &"lab".into())
    );
    let table = succeeds(&["leaderboard", "--db", &board, "show"]);
    assert!(table.contains("V2") && table.contains("lab"), "{table}");
    let checked = json(&["leaderboard", "--db", &board, "check"]);
    assert_eq!(
        (&checked["events"], &checked["blobs"]),
        (&2.into(), &2.into())
    );
    for format in ["csv", "parquet", "every-eval-ever"] {
        let out = lab.path(format);
        let written = json(&[
            "leaderboard",
            "--db",
            &board,
            "results",
            "--format",
            format,
            "--out",
            &out,
        ]);
        assert_eq!(written["files"].as_array().unwrap().len(), 1, "{format}");
    }
}

#[test]
fn a_key_is_shown_and_never_overwritten() {
    let lab = Lab::new();
    let key = lab.path("key.json");
    let shown = json(&["key", "show", "--key", &key]);
    assert_eq!(shown["name"], "lab");
    let said = exits_with(2, &["key", "new", "--name", "other", "--key", &key]);
    assert!(said.contains("cannot create"), "{said}");
    assert_eq!(json(&["key", "show", "--key", &key]), shown);
    let said = exits_with(
        2,
        &[
            "key",
            "new",
            "--name",
            "Not A Name",
            "--key",
            &lab.path("k"),
        ],
    );
    assert!(
        said.contains("is not a name") && said.contains("hint:"),
        "{said}"
    );
    let said = exits_with(2, &["submit", "nowhere", "--key", &key]);
    assert!(said.contains("nowhere"), "{said}");
    let run = lab.run(1);
    let said = exits_with(2, &["submit", text(&run), "--key", &lab.path("none.json")]);
    assert!(said.contains("jepa-bench key new"), "{said}");
}

#[test]
fn bundles_that_were_touched_are_refused() {
    let lab = Lab::new();
    let bundle = lab.submit(&lab.run(1), "a.jbs");
    let bytes = std::fs::read(&bundle).unwrap();
    let touched = lab.folder.path().join("touched.jbs");
    let mut stream = Stream::new(0, &["touched"]);
    for _ in 0..12 {
        let mut changed = bytes.clone();
        let place = stream.below(bytes.len() as u64) as usize;
        changed[place] ^= 1 << stream.below(8);
        std::fs::write(&touched, &changed).unwrap();
        let said = exits_with(2, &["verify", text(&touched)]);
        assert!(
            said.contains("the bundle is refused"),
            "byte {place}: {said}"
        );
    }
    std::fs::write(&touched, &bytes[..bytes.len() / 2]).unwrap();
    let said = exits_with(2, &["verify", text(&touched)]);
    assert!(said.contains("ends in the middle"), "{said}");
    std::fs::write(&touched, "not a bundle").unwrap();
    exits_with(2, &["verify", text(&touched)]);
    let board = lab.path("board.sqlite");
    exits_with(2, &["leaderboard", "--db", &board, "add", text(&touched)]);
}

#[test]
fn some_episodes_are_not_the_task() {
    let lab = Lab::new();
    let runs = lab.folder.path().join("few");
    succeeds(&[
        "eval",
        "--model",
        "floor:random",
        "--task",
        "wall",
        "--out",
        text(&runs),
        "--episodes",
        "5",
    ]);
    let bundle = lab.submit(&only_run(&runs), "few.jbs");
    let output = crate::support::program()
        .args(["verify", text(&bundle)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("91 of 96 are missing"), "{said}");
    let board = lab.path("board.sqlite");
    let said = exits_with(2, &["leaderboard", "--db", &board, "add", text(&bundle)]);
    assert!(said.contains("91 of 96 are missing"), "{said}");
}

#[test]
fn a_revoked_key_is_told_on_the_board() {
    let lab = Lab::new();
    let board = lab.path("board.sqlite");
    let first = lab.submit(&lab.run(1), "a.jbs");
    succeeds(&["leaderboard", "--db", &board, "add", text(&first)]);
    let statement = succeeds(&[
        "key",
        "revoke",
        "--reason",
        "it was lost",
        "--key",
        &lab.path("key.json"),
    ]);
    let file = lab.path("revocation.json");
    std::fs::write(&file, statement.replace("lost", "last")).unwrap();
    let said = exits_with(2, &["leaderboard", "--db", &board, "revoke", &file]);
    assert!(said.contains("signature"), "{said}");
    std::fs::write(&file, &statement).unwrap();
    succeeds(&["leaderboard", "--db", &board, "revoke", &file]);
    let table = succeeds(&["leaderboard", "--db", &board, "show"]);
    assert!(
        table.contains("its key was revoked: it was lost"),
        "{table}"
    );
    let second = lab.submit(&lab.run(2), "b.jbs");
    let said = exits_with(2, &["leaderboard", "--db", &board, "add", text(&second)]);
    assert!(said.contains("was revoked"), "{said}");
    let marked = json(&[
        "leaderboard",
        "--db",
        &board,
        "erratum",
        "--text",
        "wrong unit",
        "--task",
        "wall@1",
    ]);
    assert_eq!(marked["touched"], 1);
    assert!(succeeds(&["leaderboard", "--db", &board, "show"]).contains("wrong unit"));
}

#[test]
fn boards_merge_and_bundles_of_others_are_checked_again() {
    let lab = Lab::new();
    let (one, two) = (lab.path("one.sqlite"), lab.path("two.sqlite"));
    for (board, noise) in [(&one, 1), (&two, 2)] {
        let bundle = lab.submit(&lab.run(noise), &format!("{noise}.jbs"));
        succeeds(&["leaderboard", "--db", board, "add", text(&bundle)]);
    }
    succeeds(&["leaderboard", "--db", &one, "import", &two]);
    succeeds(&["leaderboard", "--db", &two, "import", &one]);
    for board in [&one, &two] {
        let shown = json(&["leaderboard", "--db", board, "show"]);
        assert_eq!(shown["tasks"][0]["rows"].as_array().unwrap().len(), 2);
    }
    let copy = lab.path("copy.sqlite");
    succeeds(&["leaderboard", "--db", &one, "backup", &copy]);
    // A bundle that is gone cannot be checked.
    std::fs::remove_dir_all(format!("{two}.blobs")).unwrap();
    let said = exits_with(
        2,
        &[
            "leaderboard",
            "--db",
            &lab.path("three.sqlite"),
            "import",
            &two,
        ],
    );
    assert!(said.contains("its bundle is missing"), "{said}");
    let shown = json(&["leaderboard", "--db", &copy, "show"]);
    assert_eq!(shown["tasks"][0]["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn kill_minus_nine_during_a_commit_leaves_a_board_that_goes_on() {
    let lab = Lab::new();
    let bundles: Vec<PathBuf> = (1..=5)
        .map(|noise| lab.submit(&lab.run(noise), &format!("{noise}.jbs")))
        .collect();
    let command = |board: &str| {
        let mut args: Vec<String> = ["leaderboard", "--db", board, "add"]
            .map(String::from)
            .to_vec();
        args.extend(bundles.iter().map(|bundle| text(bundle).to_string()));
        args
    };
    let started = std::time::Instant::now();
    succeeds(&command(&lab.path("whole.sqlite")));
    let takes = started.elapsed().as_secs_f64();
    let mut stream = Stream::new(0, &["kill", "board"]);
    let mut hits = 0;
    for round in 0..40 {
        let board = lab.path(&format!("killed-{round}.sqlite"));
        for _ in 0..3 {
            // Verification is the first part; the commits come at the end.
            let share = 0.3 + 0.7 * stream.uniform();
            if killed_after(&command(&board), Duration::from_secs_f64(takes * share)) {
                break;
            }
            hits += 1;
            if Path::new(&board).exists() {
                succeeds(&["leaderboard", "--db", &board, "show"]);
            }
        }
        succeeds(&command(&board));
        let checked = json(&["leaderboard", "--db", &board, "check"]);
        assert_eq!(
            (&checked["events"], &checked["blobs"]),
            (&10.into(), &10.into()),
            "round {round}"
        );
        if hits >= 8 {
            return;
        }
    }
    panic!("only {hits} of 8 kills hit");
}

#[test]
fn a_maintainer_runs_the_weights_on_the_same_and_on_fresh_episodes() {
    let lab = Lab::new();
    let data = collect(lab.folder.path(), 12);
    let trained = lab.path("model");
    let mut args = vec![
        "train",
        "--model",
        "pldm",
        "--data",
        text(&data),
        "--out",
        &trained,
        "--steps",
        "10",
    ];
    args.extend(SMALL_MODEL);
    succeeds(&args);
    let runs = lab.folder.path().join("runs");
    let mut args = vec![
        "eval",
        "--model",
        &trained,
        "--task",
        "wall",
        "--out",
        text(&runs),
    ];
    args.extend(SMALL_PLANNER);
    succeeds(&args);
    let bundle = lab.submit(&only_run(&runs), "a.jbs");
    let board = lab.path("board.sqlite");
    succeeds(&["leaderboard", "--db", &board, "add", text(&bundle)]);
    let out = lab.path("verify");
    let rerun = |more: &[&str]| {
        let mut args = vec![
            "verify",
            text(&bundle),
            "--weights",
            &trained,
            "--out",
            &out,
            "--db",
            &board,
        ];
        args.extend(more);
        json(&args)
    };
    let level = || {
        let shown = json(&["leaderboard", "--db", &board, "show"]);
        shown["tasks"][0]["rows"][0]["level"].clone()
    };
    assert_eq!(level(), "V2");
    let same = rerun(&[]);
    assert!(
        same["rerun"]["detail"]
            .as_str()
            .unwrap()
            .contains("bit for bit"),
        "{same}"
    );
    assert_eq!(level(), "V3");
    let fresh = rerun(&["--fresh", "--by", "maintainer"]);
    assert_eq!(
        (&fresh["rerun"]["level"], &fresh["rerun"]["holds"]),
        (&"V4".into(), &true.into())
    );
    assert_eq!(level(), "V4");
    // Other weights are not those of the submission.
    let other = lab.path("other");
    let mut args = vec![
        "train",
        "--model",
        "pldm",
        "--data",
        text(&data),
        "--out",
        &other,
        "--steps",
        "5",
    ];
    args.extend(SMALL_MODEL);
    succeeds(&args);
    let said = exits_with(
        2,
        &["verify", text(&bundle), "--weights", &other, "--out", &out],
    );
    assert!(said.contains("its weights have hash"), "{said}");
}
