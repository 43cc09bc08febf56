//! From training to a page and to a folder, with the program itself.

use serde_json::Value;

use super::devtools::Browser;
use super::{installed, pictures, shown};
use crate::board::Served;
use crate::support::{SMALL_MODEL, SMALL_PLANNER, collect, only_run, succeeds, text};

#[test]
fn a_model_goes_from_training_over_http_to_a_page_and_to_a_folder_that_opens_from_disk() {
    let Some(program) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name)).to_string();
    let (data, model) = (collect(folder.path(), 12), path("model"));
    let mut train = vec!["train", "--model", "pldm", "--data", text(&data)];
    train.extend(["--out", &model, "--steps", "10"]);
    train.extend(SMALL_MODEL);
    succeeds(&train);
    let runs = folder.path().join("runs");
    let mut eval = vec!["eval", "--model", &model, "--task", "wall"];
    eval.extend(["--out", text(&runs)]);
    eval.extend(SMALL_PLANNER);
    succeeds(&eval);
    let (key, board) = (path("key.json"), path("board.sqlite"));
    succeeds(&["key", "new", "--name", "lab", "--key", &key]);

    let served = Served::start(board.as_ref(), &[]);
    let address = format!("http://{}", served.host);
    let run = only_run(&runs);
    let submit = [
        "submit",
        text(&run),
        "--key",
        &key,
        "--to",
        &address,
        "--json",
    ];
    let sent: Value = serde_json::from_str(&succeeds(&submit)).unwrap();
    assert_eq!(
        (&sent["status"], &sent["answer"]["level"]),
        (&201.into(), &"V2".into())
    );
    // Signed in another second it is another submission of a run that is there already; in the same one it is the same.
    let again = crate::support::program().args(submit).output().unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again["status"] == 409 || again["status"] == 200, "{again}");

    let mut browser = Browser::start(&program);
    browser.resize(1_400, 900);
    browser.open(&format!("{address}/task/wall@1"));
    let rows = shown(&mut browser);
    assert!(rows.len() == 1 && rows[0].starts_with("pldm"), "{rows:?}");
    let row = browser.text("document.querySelector('table[data-board] tbody tr').textContent");
    assert!(
        row.contains("V2") && row.contains("lab") && row.contains("96"),
        "{row}"
    );
    let page = sent["answer"]["url"].as_str().unwrap().to_string();
    browser.open(&format!("{address}{page}"));
    let said = browser.text("document.querySelector('main').textContent");
    assert!(
        said.contains("96 of 96 gave every state and outcome"),
        "{said}"
    );
    browser.open(&format!("{address}{page}/episode/3"));
    let film = "Promise.all([...document.querySelectorAll('main img')].map(
        (img) => img.decode().then(() => img.naturalWidth))).then(JSON.stringify)";
    let widths: Vec<u32> = serde_json::from_str(&browser.text(film)).unwrap();
    assert!(
        widths.len() > 3 && widths.iter().all(|&width| width == 224),
        "{widths:?}"
    );
    browser.picture(&pictures().join("whole-way-episode.png"));
    assert_eq!(browser.problems(), [""; 0]);
    assert_eq!(served.interrupt(), Some(0));

    let site = path("site");
    succeeds(&["leaderboard", "export", "--db", &board, "--out", &site]);
    browser.open(&format!("file://{site}/task/wall@1.html"));
    assert_eq!(shown(&mut browser), rows);
    browser.open(&format!("file://{site}/index.html"));
    assert!(
        browser
            .text("document.querySelector('main').textContent")
            .contains("wall@1")
    );
    assert_eq!(browser.problems(), [""; 0]);
}
