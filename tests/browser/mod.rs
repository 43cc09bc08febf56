//! The board in a real browser: what is sorted, filtered, compared and played there, with and without scripts, with the
//! keyboard alone, in both themes, wide and narrow; nothing that fails in the console; nothing that axe-core finds.
//!
//! Needs Chromium and axe-core (`.ci/setup browser`). Pictures of every page are left in `target/board`.

mod devtools;
mod whole_way;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jepa_leaderboard::testing::{SyntheticReferee, SyntheticRun};
use jepa_leaderboard::{
    Board, Bundle, Claims, EpisodeRow, Erratum, Identity, Referee, Replay, Result, Rules, Run,
    RunRecord, Server, ServerOptions, SiteOptions, TaskRef, export_site, verify,
};
use serde_json::Value;

use devtools::{Browser, chromium};

/// Episodes of the made-up task.
const EPISODES: u32 = 24;
/// Models that are submitted, with the share of episodes in which they reach the goal.
const MODELS: [(&str, u64, f64); 6] = [
    ("ours", 1, 0.95),
    ("ours", 2, 0.9),
    ("ours", 3, 0.85),
    ("dino-wm", 1, 0.7),
    ("lewm", 1, 0.45),
    ("wrong-clock", 1, 0.4),
];
/// Most presses of Tab that reach the end of a page.
const MOST_TABS: usize = 400;

/// A referee whose films are plain pictures.
struct Projector(SyntheticReferee);

impl Referee for Projector {
    fn rules(&self, task: &TaskRef, data: Option<&str>) -> std::result::Result<Rules, String> {
        self.0.rules(task, data)
    }

    fn replay(
        &self,
        record: &RunRecord,
        data: Option<&str>,
        episodes: &[EpisodeRow],
    ) -> Result<Replay> {
        self.0.replay(record, data, episodes)
    }

    fn random_floor(
        &self,
        task: &TaskRef,
        data: Option<&str>,
        seeds: &[u64],
    ) -> Result<Option<Vec<EpisodeRow>>> {
        self.0.random_floor(task, data, seeds)
    }

    fn film(
        &self,
        _task: &TaskRef,
        _data: Option<&str>,
        _row: &EpisodeRow,
        frames: usize,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(Some(vec![PICTURE.to_vec(); frames + 1]))
    }
}

/// A PNG of one grey pixel.
const PICTURE: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3a, 0x7e, 0x9b,
    0x55, 0x00, 0x00, 0x00, 0x0a, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x98, 0x00, 0x00, 0x00,
    0x92, 0x00, 0x91, 0xbf, 0xaa, 0x81, 0xf6, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae,
    0x42, 0x60, 0x82,
];

fn referee() -> Arc<dyn Referee> {
    Arc::new(Projector(SyntheticReferee { episodes: EPISODES }))
}

/// A board with submissions, references, three training seeds of a recipe and an erratum.
fn make_board(folder: &Path) -> PathBuf {
    let path = folder.join("board.sqlite");
    let mut board = Board::open(&path).unwrap();
    let runs = folder.join("runs");
    for name in ["floor:random", "floor:noop", "oracle"] {
        let run = SyntheticRun::new(name, EPISODES).write(&runs).unwrap();
        board.add(&Run::load(&run).unwrap()).unwrap();
    }
    let identity = Identity::from_secret("lab-one", &[7; 32]).unwrap();
    let claims = Claims {
        licence: "MIT".into(),
        contact: "lab@example.org".into(),
        method:
            "# Method\n\nMade up.\n\n- planner: `cem`\n\n```\njepa-bench train --model ours\n```\n"
                .into(),
        code_url: Some("https://example.org/code".into()),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    };
    for (model, seed, share) in MODELS {
        let run = SyntheticRun::new(model, EPISODES)
            .reaching(share)
            .seeded(seed)
            .write(&runs)
            .unwrap();
        let bundle = Bundle::new(&Run::load(&run).unwrap(), &claims, &identity).unwrap();
        let verified = verify(&bundle, referee().as_ref()).unwrap();
        let added = board.submit(&bundle, &verified).unwrap();
        if model == "wrong-clock" {
            let erratum = Erratum {
                text: "the clock of this build ran backwards".into(),
                tasks: Vec::new(),
                commits: Vec::new(),
                versions: Vec::new(),
                runs: vec![added.id],
            };
            board.add_erratum(&erratum).unwrap();
        }
    }
    path
}

/// A board that is served, and a browser.
struct Visit {
    browser: Browser,
    server: Server,
    folder: tempfile::TempDir,
}

/// The browser; `None`, with a word about it, where there is none.
fn installed() -> Option<PathBuf> {
    let program = chromium();
    if program.is_none() {
        eprintln!("skipped: no Chromium found; run `.ci/setup browser`");
        assert!(
            std::env::var_os("CI").is_none(),
            "continuous integration has a browser"
        );
    }
    program
}

impl Visit {
    /// `None`, with a word about it, where there is no browser.
    fn begin() -> Option<Self> {
        let program = installed()?;
        let folder = tempfile::tempdir().unwrap();
        let board = Board::open_existing(&make_board(folder.path())).unwrap();
        let options = ServerOptions {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            requests: None,
            ..ServerOptions::default()
        };
        let server = Server::start(board, referee(), options).unwrap();
        let mut browser = Browser::start(&program);
        browser.resize(1_400, 900);
        Some(Self {
            browser,
            server,
            folder,
        })
    }

    fn open(&mut self, path: &str) {
        let address = format!("http://{}{path}", self.server.address());
        self.browser.open(&address);
    }

    /// Path of the page that is shown.
    fn path(&mut self) -> String {
        self.browser.text("location.pathname + location.search")
    }

    /// Addresses of one page of every kind.
    fn kinds(&mut self) -> Vec<(&'static str, String)> {
        self.open("/task/wall@1");
        let run = |label: &str| {
            format!(
                "[...document.querySelectorAll('td.model a')].find((a) => a.textContent.startsWith('{label}')).pathname"
            )
        };
        let struck = self.browser.text(&run("wrong-clock"));
        let floor = self.browser.text(&run("Random"));
        let weak = self.browser.text(&run("lewm"));
        let pair = self
            .browser
            .text("document.querySelector('td a[href*=\"/compare/\"]').pathname");
        vec![
            ("index", "/".into()),
            ("board", "/task/wall@1".into()),
            (
                "board-asked",
                "/task/wall@1?sort=distance&desc=1&q=ours&level=2".into(),
            ),
            ("rules", "/task/wall@1/rules".into()),
            ("run", weak.clone()),
            ("run-struck", struck),
            ("run-floor", floor),
            ("episode", format!("{weak}/episode/3")),
            ("compare", pair),
            ("submit", "/submit".into()),
            ("keys", "/keys".into()),
            ("log", "/log".into()),
            ("missing", "/nowhere".into()),
        ]
    }
}

/// Where pictures go.
fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let folder = target.join("board");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The text of axe-core: `JEPA_BENCH_AXE`, or where `.ci/setup browser` puts it.
fn axe() -> Option<String> {
    let cache = || {
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or(home)?;
        Some(cache.join("jepa-bench/axe-core/node_modules/axe-core/axe.min.js"))
    };
    let path = std::env::var_os("JEPA_BENCH_AXE")
        .map(PathBuf::from)
        .or_else(cache)?;
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        eprintln!("skipped: no axe-core found; run `.ci/setup browser`");
        assert!(
            std::env::var_os("CI").is_none(),
            "continuous integration has axe-core"
        );
    }
    text
}

/// What axe-core finds on the page: rule, element, why.
fn violations(browser: &mut Browser, axe: &str) -> Vec<String> {
    browser.evaluate(&format!("{axe}; 0"));
    let found = browser.text(
        "axe.run(document, { resultTypes: ['violations'], preload: false }).then((r) => JSON.stringify(r.violations.flatMap(
            (v) => v.nodes.map((n) => v.id + ' at ' + n.html + ': ' + n.failureSummary))))",
    );
    serde_json::from_str(&found).unwrap()
}

/// The labels of the rows that are shown, in order.
fn shown(browser: &mut Browser) -> Vec<String> {
    let labels = browser.text(
        "JSON.stringify([...document.querySelectorAll('table[data-board] tbody tr')]
            .filter((row) => !row.hidden).map((row) => row.querySelector('td.model a').textContent))",
    );
    serde_json::from_str(&labels).unwrap()
}

fn click(browser: &mut Browser, selector: &str) {
    browser.evaluate(&format!("document.querySelector({selector:?}).click()"));
}

#[test]
fn every_page_is_accessible_and_nothing_on_it_fails_in_both_themes_wide_and_narrow() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    let axe = axe();
    let folder = pictures();
    for (name, path) in visit.kinds() {
        for scheme in ["light", "dark"] {
            for (size, width) in [("wide", 1_400), ("narrow", 390)] {
                visit.browser.prefer(scheme);
                visit.browser.resize(width, 900);
                visit.open(&path);
                visit
                    .browser
                    .picture(&folder.join(format!("{name}-{scheme}-{size}.png")));
                let overflow = visit
                    .browser
                    .evaluate("document.documentElement.scrollWidth - innerWidth");
                assert!(
                    overflow.as_f64() <= Some(0.0),
                    "{name}, {size}: the page itself scrolls by {overflow} pixels"
                );
                if let Some(axe) = &axe {
                    let found = violations(&mut visit.browser, axe);
                    assert!(
                        found.is_empty(),
                        "{name}, {scheme}, {size}: {}",
                        found.join("\n")
                    );
                }
                let problems = visit.browser.problems();
                let expected = usize::from(name == "missing");
                assert!(
                    problems.len() <= 2 * expected,
                    "{name}, {scheme}: {}",
                    problems.join("\n")
                );
            }
        }
    }
}

#[test]
fn rows_are_sorted_and_filtered_at_once_with_scripts() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    visit.open("/task/wall@1");
    visit.browser.evaluate("window.stays = true");
    let ranked = shown(&mut visit.browser);
    assert_eq!(ranked.len(), MODELS.len() + 3);
    click(&mut visit.browser, "th[data-key=distance] a");
    let nearest = shown(&mut visit.browser);
    assert_ne!(nearest, ranked);
    click(&mut visit.browser, "th[data-key=distance] a");
    let mut farthest = shown(&mut visit.browser);
    farthest.reverse();
    assert_eq!(farthest, nearest);
    let sort = visit
        .browser
        .text("document.querySelector('th[data-key=distance]').getAttribute('aria-sort')");
    assert_eq!(sort, "descending");
    click(&mut visit.browser, "th[data-key=rank] a");
    assert_eq!(shown(&mut visit.browser), ranked);

    visit
        .browser
        .evaluate("document.querySelector('input[name=q]').focus()");
    visit.browser.type_text("ours");
    assert!(
        shown(&mut visit.browser)
            .iter()
            .all(|label| label.starts_with("ours"))
    );
    assert_eq!(
        visit
            .browser
            .text("document.getElementById('shown').textContent"),
        "3 of 9 runs"
    );
    assert!(visit.path().contains("q=ours"));
    let level = "const s = document.querySelector('select[name=level]'); s.value = '3'; s.dispatchEvent(new Event('input', { bubbles: true }))";
    visit.browser.evaluate(&format!("{{ {level} }}"));
    assert_eq!(shown(&mut visit.browser).len(), 0);
    assert_eq!(
        visit.browser.evaluate("window.stays"),
        true,
        "no page was loaded for that"
    );
    assert_eq!(visit.browser.problems(), [""; 0]);
}

#[test]
fn the_same_is_there_without_scripts() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    visit.open("/task/wall@1");
    let ranked = shown(&mut visit.browser);
    click(&mut visit.browser, "th[data-key=distance] a");
    let nearest = shown(&mut visit.browser);
    visit.browser.allow_scripts(false);
    visit.open("/task/wall@1?sort=distance");
    assert_eq!(shown(&mut visit.browser), nearest);
    visit.open("/task/wall@1?q=ours&sort=success");
    assert_eq!(shown(&mut visit.browser).len(), 3);
    assert_eq!(
        visit
            .browser
            .evaluate("document.getElementById('theme').hidden"),
        true
    );
    // The heading is a link, and following it asks the server.
    visit.open("/task/wall@1");
    click(&mut visit.browser, "th[data-key=distance] a");
    visit.browser.loaded();
    assert_eq!(visit.path(), "/task/wall@1?sort=distance");
    assert_eq!(shown(&mut visit.browser), nearest);
    visit.open("/task/wall@1");
    assert_eq!(shown(&mut visit.browser), ranked);
}

#[test]
fn two_picked_runs_are_compared() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    visit.open("/task/wall@1");
    assert_eq!(
        visit
            .browser
            .evaluate("document.getElementById('compare').disabled"),
        true
    );
    for row in [0, 3] {
        visit.browser.evaluate(&format!(
            "document.querySelectorAll('input[name=run]')[{row}].click()"
        ));
    }
    let others =
        "[...document.querySelectorAll('input[name=run]')].filter((box) => box.disabled).length";
    assert_eq!(visit.browser.evaluate(others), MODELS.len() as u64 + 1);
    click(&mut visit.browser, "#compare");
    visit.browser.loaded();
    assert!(visit.path().starts_with("/compare/"));
    let lead = visit
        .browser
        .text("document.querySelector('p.lead').textContent");
    assert!(
        lead.contains(&format!("On {EPISODES} shared episodes")),
        "{lead}"
    );
    // Episodes in which only one succeeded stand first.
    let rows = visit.browser.text(
        "JSON.stringify([...document.querySelectorAll('section, table')].at(-1).tBodies[0].rows.length)",
    );
    assert_eq!(rows, EPISODES.to_string());
    let outcomes = visit.browser.text(
        "[...document.querySelectorAll('table')].at(-1).tBodies[0].textContent.replaceAll(/[^a-z]+/g, ' ').trim()",
    );
    let disagree = |pair: &[&str]| pair[0] != pair[1];
    let words: Vec<&str> = outcomes
        .split(' ')
        .filter(|word| matches!(*word, "yes" | "no"))
        .collect();
    let pairs: Vec<bool> = words.chunks(2).map(disagree).collect();
    assert!(pairs[0] && pairs.is_sorted_by(|a, b| a >= b), "{pairs:?}");
    assert_eq!(visit.browser.problems(), [""; 0]);
}

#[test]
fn an_episode_is_played_with_the_keyboard() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    let episode = visit
        .kinds()
        .into_iter()
        .find(|(name, _)| *name == "episode")
        .unwrap()
        .1;
    visit.open(&episode);
    let place = "document.querySelector('svg.path .at').getAttribute('cx') + ' ' + document.querySelector('svg.curve .at').getAttribute('cx')";
    let end = visit.browser.text(place);
    visit
        .browser
        .evaluate("document.getElementById('step').focus()");
    visit.browser.press("Home");
    let start = visit.browser.text(place);
    assert_ne!(start, end);
    let says = visit
        .browser
        .text("document.querySelector('output').textContent");
    assert!(says.starts_with("0 of 30: distance "), "{says}");
    for _ in 0..30 {
        visit.browser.press("ArrowRight");
    }
    assert_eq!(visit.browser.text(place), end);
    let says = visit
        .browser
        .text("document.querySelector('output').textContent");
    assert!(says.starts_with("30 of 30: distance "), "{says}");
    let films = "[...document.images].every((image) => { image.loading = 'eager'; return true; })";
    visit.browser.evaluate(films);
    visit
        .browser
        .evaluate("Promise.all([...document.images].map((image) => image.decode()))");
    assert_eq!(visit.browser.evaluate("document.images.length"), 7);
    assert_eq!(visit.browser.problems(), [""; 0]);
}

#[test]
fn a_chosen_theme_is_kept() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    let ground = "getComputedStyle(document.body).backgroundColor";
    visit.browser.prefer("light");
    visit.open("/");
    let light = visit.browser.text(ground);
    visit.browser.prefer("dark");
    let dark = visit.browser.text(ground);
    assert_ne!(light, dark, "the system's preference counts first");
    click(&mut visit.browser, "#theme");
    assert_eq!(
        visit.browser.text(ground),
        light,
        "a choice of the reader counts more"
    );
    visit.open("/submit");
    assert_eq!(visit.browser.text(ground), light, "on every page");
    assert_eq!(
        visit
            .browser
            .text("document.getElementById('theme').textContent"),
        "Theme: light"
    );
    click(&mut visit.browser, "#theme");
    visit.browser.prefer("light");
    assert_eq!(visit.browser.text(ground), dark);
}

/// A name for the element that has the focus, and whether a reader sees that it has.
const FOCUSED: &str = "(() => {
    const e = document.activeElement;
    if (!e || e === document.body) return '';
    const s = getComputedStyle(e);
    const visible = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
    const box = e.getBoundingClientRect();
    const seen = box.right > 0 && box.width > 0;
    const all = [...document.querySelectorAll('*')];
    return all.indexOf(e) + (visible && seen ? '' : ' invisible: ' + e.outerHTML.slice(0, 200));
})()";
/// Everything that can be worked with.
const WORKABLE: &str = "(() => {
    const all = [...document.querySelectorAll('*')];
    const wanted = 'a[href], button, input, select, summary, [tabindex=\"0\"]';
    const open = (e) => !e.closest('details:not([open])') || e.matches('summary');
    return JSON.stringify([...document.querySelectorAll(wanted)]
        .filter((e) => !e.disabled && e.type !== 'hidden' && !e.closest('[hidden]') && open(e))
        .map((e) => String(all.indexOf(e))));
})()";

#[test]
fn everything_can_be_reached_and_used_with_the_keyboard_alone() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    for (name, path) in visit.kinds() {
        visit.open(&path);
        let wanted: BTreeSet<String> = serde_json::from_str(&visit.browser.text(WORKABLE)).unwrap();
        let mut reached = BTreeSet::new();
        for _ in 0..MOST_TABS {
            visit.browser.press("Tab");
            let focused = visit.browser.text(FOCUSED);
            assert!(
                !focused.contains("invisible"),
                "{name}: focus is not seen on {focused}"
            );
            if focused.is_empty() || !reached.insert(focused) {
                break;
            }
        }
        let missed: Vec<&String> = wanted.difference(&reached).collect();
        assert!(
            missed.is_empty(),
            "{name}: Tab does not reach elements {missed:?} of {wanted:?}"
        );
    }
    // The first stop leads past the navigation.
    visit.open("/task/wall@1");
    visit.browser.press("Tab");
    visit.browser.press("Enter");
    assert_eq!(visit.browser.text("document.activeElement.id"), "content");
    // A heading sorts with Enter, a box is ticked with Space.
    visit
        .browser
        .evaluate("document.querySelector('th[data-key=distance] a').focus()");
    visit.browser.press("Enter");
    assert!(visit.path().contains("sort=distance"));
    visit
        .browser
        .evaluate("document.querySelector('input[name=run]').focus()");
    visit.browser.press("Space");
    assert_eq!(
        visit
            .browser
            .evaluate("document.querySelector('input[name=run]').checked"),
        true
    );
}

#[test]
fn an_export_works_from_disk() {
    let Some(mut visit) = Visit::begin() else {
        return;
    };
    let out = visit.folder.path().join("site");
    let board = Board::open_existing(&visit.folder.path().join("board.sqlite")).unwrap();
    export_site(board, referee(), &out, SiteOptions::default()).unwrap();
    let axe = axe();
    let root = format!("file://{}", out.display());
    let served = {
        visit.open("/task/wall@1?sort=distance");
        shown(&mut visit.browser)
    };
    visit.browser.open(&format!("{root}/index.html"));
    click(&mut visit.browser, "main table a");
    visit.browser.loaded();
    assert!(visit.path().ends_with("/task/wall@1.html"));
    click(&mut visit.browser, "th[data-key=distance] a");
    assert_eq!(shown(&mut visit.browser), served);
    visit
        .browser
        .open(&format!("{root}/task/wall@1.html?sort=distance&q=ours"));
    assert_eq!(
        shown(&mut visit.browser).len(),
        3,
        "a question in the address is answered by the script"
    );
    visit.browser.picture(&pictures().join("export-board.png"));
    let mut pages: Vec<String> = ["", "/task/wall@1/rules", "/submit", "/keys", "/log"]
        .map(String::from)
        .into();
    visit.browser.open(&format!("{root}/task/wall@1.html"));
    for selector in ["td.model a", "td a[href*='compare/']"] {
        let address = visit
            .browser
            .text(&format!("document.querySelector({selector:?}).href"));
        pages.push(
            address
                .trim_start_matches(&root)
                .trim_end_matches(".html")
                .to_string(),
        );
    }
    let run = pages[5].clone();
    pages.push(format!("{run}/episode/0"));
    pages[0] = "/index".into();
    for page in pages {
        visit.browser.open(&format!("{root}{page}.html"));
        if let Some(axe) = &axe {
            let found = violations(&mut visit.browser, axe);
            assert!(found.is_empty(), "{page}: {}", found.join("\n"));
        }
        assert_eq!(visit.browser.problems(), [""; 0], "{page}");
    }
    visit
        .browser
        .evaluate("document.getElementById('step').focus()");
    visit.browser.press("Home");
    let says: Value = visit
        .browser
        .evaluate("document.querySelector('output').textContent.startsWith('0 of 30')");
    assert_eq!(says, true);
}
