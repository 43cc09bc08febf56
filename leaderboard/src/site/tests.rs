//! Exports of small boards.

use std::collections::BTreeMap;

use super::*;
use crate::run::Run;
use crate::testing::{SyntheticReferee, SyntheticRun};

/// A referee whose films are one picture each.
struct Projector(SyntheticReferee);

impl Referee for Projector {
    fn rules(
        &self,
        task: &crate::record::TaskRef,
        data: Option<&str>,
    ) -> std::result::Result<crate::referee::Rules, String> {
        self.0.rules(task, data)
    }

    fn replay(
        &self,
        record: &crate::record::RunRecord,
        data: Option<&str>,
        episodes: &[EpisodeRow],
    ) -> Result<crate::referee::Replay> {
        self.0.replay(record, data, episodes)
    }

    fn random_floor(
        &self,
        task: &crate::record::TaskRef,
        data: Option<&str>,
        seeds: &[u64],
    ) -> Result<Option<Vec<EpisodeRow>>> {
        self.0.random_floor(task, data, seeds)
    }

    fn film(
        &self,
        _task: &crate::record::TaskRef,
        _data: Option<&str>,
        row: &EpisodeRow,
        frames: usize,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let picture = |k: usize| format!("picture {k} of {}", row.episode).into_bytes();
        Ok(Some((0..=frames).map(picture).collect()))
    }
}

fn referee() -> Arc<dyn Referee> {
    Arc::new(Projector(SyntheticReferee { episodes: 12 }))
}

fn board(folder: &Path) -> PathBuf {
    let path = folder.join("board.sqlite");
    let mut board = Board::open(&path).unwrap();
    for synthetic in [
        SyntheticRun::new("good", 12).reaching(0.9),
        SyntheticRun::new("weak", 12).reaching(0.3),
        SyntheticRun::new("floor:random", 12),
        SyntheticRun::new("oracle", 12),
    ] {
        let run = Run::load(&synthetic.write(&folder.join("runs")).unwrap()).unwrap();
        board.add(&run).unwrap();
    }
    path
}

fn export(board: &Path, out: &Path, options: SiteOptions) -> Result<WrittenSite> {
    export_site(
        Board::open_existing(board).unwrap(),
        referee(),
        out,
        options,
    )
}

/// Every file below a folder with its bytes.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn is_page(name: &str) -> bool {
    Path::new(name).extension() == Some("html".as_ref())
}

/// Addresses in `href` and `src` of a page.
fn addresses(page: &str) -> Vec<String> {
    let parts = page.split(['<', '>', ' ']);
    let attribute = |part: &str| {
        let value = part
            .strip_prefix("href=\"")
            .or_else(|| part.strip_prefix("src=\""))?;
        Some(value.split('"').next()?.to_string())
    };
    parts.filter_map(attribute).collect()
}

/// The file that an address on the page `from` leads to.
fn resolve(from: &str, address: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in address.split('/') {
        match part {
            ".." => assert!(
                parts.pop().is_some(),
                "{address} on {from} leaves the export"
            ),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn every_link_of_every_page_leads_to_a_file_of_the_export() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("site");
    let exported = export(&board(folder.path()), &out, SiteOptions::default()).unwrap();
    let files = tree(&out);
    assert_eq!(exported.files, files.len() as u64);
    assert!(files.keys().filter(|name| is_page(name)).count() > 4 * 12);
    let mut followed = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| is_page(name)) {
        for address in addresses(std::str::from_utf8(bytes).unwrap()) {
            let file = address.split(['?', '#']).next().unwrap_or_default();
            assert!(
                !address.contains("://") && !address.starts_with('/'),
                "{address} on {name}"
            );
            if !file.is_empty() {
                let target = resolve(name, file);
                assert!(
                    files.contains_key(&target),
                    "{address} on {name} leads to {target}"
                );
                followed += 1;
            }
        }
    }
    assert!(followed > 500, "{followed}");
    assert!(files.keys().any(|name| name.contains("/film/")));
}

#[test]
fn the_same_board_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path());
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    export(&board, &one, SiteOptions::default()).unwrap();
    export(&board, &two, SiteOptions::default()).unwrap();
    assert!(tree(&one) == tree(&two));
}

#[test]
fn an_export_is_replaced_and_another_folder_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path());
    let out = folder.path().join("site");
    export(&board, &out, SiteOptions::default()).unwrap();
    std::fs::write(out.join("run/left-over.html"), "old").unwrap();
    export(
        &board,
        &out,
        SiteOptions {
            episodes: 0,
            films: false,
        },
    )
    .unwrap();
    let files = tree(&out);
    assert!(!files.contains_key("run/left-over.html"));
    assert!(
        !files
            .keys()
            .any(|name| name.contains("/episode/") || name.contains("/film/"))
    );

    let precious = folder.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.tex"), "years").unwrap();
    let error = export(&board, &precious, SiteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("cannot replace"), "{error}");
    assert_eq!(tree(&precious).len(), 1);
    let hidden = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = hidden.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().starts_with('.')),
        "{names:?}"
    );
}

#[test]
fn an_empty_board_is_a_site_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.sqlite");
    drop(Board::open(&path).unwrap());
    let out = folder.path().join("site");
    export(&path, &out, SiteOptions::default()).unwrap();
    let page = std::fs::read_to_string(out.join("index.html")).unwrap();
    assert!(page.contains("The board is empty"), "{page}");
}
