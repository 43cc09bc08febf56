//! Addresses: one name for everything that has a page, resolved for the server or for files on disk.
//!
//! ```text
//!                 server                         static export
//! index           /                              index.html
//! board           /task/wall@1                   task/wall@1.html
//! rules           /task/wall@1/rules             task/wall@1/rules.html
//! run             /run/HASH                      run/HASH.html
//! episode         /run/HASH/episode/3            run/HASH/episode/3.html
//! comparison      /compare/HASH/HASH             compare/HASH/HASH.html
//! data            the same with .json or .csv in place of .html
//! ```

use std::collections::BTreeSet;
use std::fmt::Write;

/// Something that has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The tasks of the board.
    Index,
    /// The ranked runs of a task, by the task's slug.
    Board(String),
    /// The rules of a task, by the task's slug.
    Rules(String),
    /// A run, by its identity.
    Run(String),
    /// An episode of a run.
    Episode(String, u32),
    /// A frame of the film of an episode: 0 is the goal.
    Frame(String, u32, u32),
    /// A video of the bundle of a run, by its file name.
    Video(String, String),
    /// The bundle of a run.
    Bundle(String),
    /// Two runs on the same episodes.
    Compare(String, String),
    /// How to submit.
    Submit,
    /// The keys.
    Keys,
    /// The log of events.
    Log,
    /// The Atom feed.
    Feed,
    /// The style sheet.
    Style,
    /// The script.
    Script,
}

/// In which form a place is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    /// A page to read, or the bytes of a place that is no page.
    Page,
    /// The same content as JSON.
    Json,
    /// The same content as comma-separated values.
    Csv,
}

impl Place {
    /// The address below the root, without a leading slash and without a suffix.
    fn stem(&self) -> String {
        match self {
            Self::Index => "index".into(),
            Self::Board(task) => format!("task/{task}"),
            Self::Rules(task) => format!("task/{task}/rules"),
            Self::Run(run) => format!("run/{run}"),
            Self::Episode(run, episode) => format!("run/{run}/episode/{episode}"),
            Self::Frame(run, episode, frame) => format!("run/{run}/film/{episode}-{frame}.png"),
            Self::Video(run, name) => format!("run/{run}/video/{}", slug(name)),
            Self::Bundle(run) => format!("run/{run}/bundle.jbs"),
            Self::Compare(first, second) => format!("compare/{first}/{second}"),
            Self::Submit => "submit".into(),
            Self::Keys => "keys".into(),
            Self::Log => "log".into(),
            Self::Feed => "feed.atom".into(),
            Self::Style => format!("asset/{}.css", asset_hash(super::STYLE)),
            Self::Script => format!("asset/{}.js", asset_hash(super::SCRIPT)),
        }
    }

    /// Whether the place is a page with HTML, JSON and CSV forms.
    pub(crate) fn is_page(&self) -> bool {
        !matches!(
            self,
            Self::Frame(..)
                | Self::Video(..)
                | Self::Bundle(_)
                | Self::Feed
                | Self::Style
                | Self::Script
        )
    }

    /// Name of the file in a static export, relative to its root.
    pub(crate) fn file(&self, form: Form) -> String {
        let suffix = match form {
            _ if !self.is_page() => "",
            Form::Page => ".html",
            Form::Json => ".json",
            Form::Csv => ".csv",
        };
        self.stem() + suffix
    }

    /// The place and form behind the path of a request, by its shape alone.
    pub(crate) fn parse(path: &str) -> Option<(Self, Form)> {
        let path = path.strip_prefix('/')?;
        let (stem, form) = if let Some(stem) = path.strip_suffix(".json") {
            (stem, Form::Json)
        } else if let Some(stem) = path.strip_suffix(".csv") {
            (stem, Form::Csv)
        } else {
            (path, Form::Page)
        };
        let place = Self::of_stem(stem)?;
        // `feed.atom.json` and the like are nothing.
        (place.is_page() || form == Form::Page).then_some((place, form))
    }

    fn of_stem(stem: &str) -> Option<Self> {
        let parts: Vec<&str> = stem.split('/').collect();
        let text = |part: &str| (!part.is_empty()).then(|| part.to_string());
        let place = match parts.as_slice() {
            ["" | "index"] => Self::Index,
            ["task", task] => Self::Board(text(task)?),
            ["task", task, "rules"] => Self::Rules(text(task)?),
            ["run", run] => Self::Run(text(run)?),
            ["run", run, "episode", episode] => Self::Episode(text(run)?, number(episode)?),
            ["run", run, "film", name] => {
                let (episode, frame) = name.strip_suffix(".png")?.split_once('-')?;
                Self::Frame(text(run)?, number(episode)?, number(frame)?)
            }
            ["run", run, "video", name] => Self::Video(text(run)?, unslug(name)?),
            ["run", run, "bundle.jbs"] => Self::Bundle(text(run)?),
            ["compare", first, second] => Self::Compare(text(first)?, text(second)?),
            ["submit"] => Self::Submit,
            ["keys"] => Self::Keys,
            ["log"] => Self::Log,
            ["feed.atom"] => Self::Feed,
            _ if stem == Self::Style.stem() => Self::Style,
            _ if stem == Self::Script.stem() => Self::Script,
            _ => return None,
        };
        Some(place)
    }
}

/// A number as this module writes it: no sign, no leading zeros.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Turns places into links of one page.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    /// From the page to the root: `/`, or one `../` per folder.
    base: String,
    /// The pages that exist; `None` when all of them do.
    exported: Option<BTreeSet<Place>>,
}

impl Links {
    /// Links of a server's pages.
    pub(crate) fn server() -> Self {
        Self {
            base: "/".into(),
            exported: None,
        }
    }

    /// Links between files of which only `exported` exist; see [`Links::seen_from`].
    pub(crate) fn files(exported: BTreeSet<Place>) -> Self {
        Self {
            base: String::new(),
            exported: Some(exported),
        }
    }

    /// The same links as they have to be written in the file of `place`.
    pub(crate) fn move_to(&mut self, place: &Place) {
        if self.exported.is_some() {
            self.base = "../".repeat(place.stem().matches('/').count());
        }
    }

    /// Whether the pages are files that are read from disk.
    pub(crate) fn is_export(&self) -> bool {
        self.exported.is_some()
    }

    /// Whether there is something at that place.
    pub(crate) fn has(&self, place: &Place) -> bool {
        self.exported
            .as_ref()
            .is_none_or(|exported| exported.contains(place))
    }

    /// The address of a place.
    pub(crate) fn to(&self, place: &Place) -> String {
        self.as_form(place, Form::Page)
    }

    /// The address of a place in another form.
    pub(crate) fn as_form(&self, place: &Place, form: Form) -> String {
        let base = &self.base;
        if self.is_export() || form != Form::Page {
            format!("{base}{}", place.file(form))
        } else if *place == Place::Index {
            base.clone()
        } else {
            format!("{base}{}", place.stem())
        }
    }
}

/// A name as part of an address and of a file name: bytes other than letters, digits, `@`, `_`, `-`
/// and inner points become `~` and two hexadecimal digits.
pub(crate) fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for (position, byte) in name.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric()
            || b"@_-".contains(&byte)
            || (byte == b'.' && position > 0);
        if is_plain {
            slug.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(slug, "~{byte:02x}");
        }
    }
    slug
}

/// The name behind a slug; `None` for what [`slug`] does not write.
fn unslug(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'~' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (slug(&name) == text).then_some(name)
}

/// The name of an asset tells its content, so that it may be cached for ever.
fn asset_hash(content: &str) -> String {
    blake3::hash(content.as_bytes()).to_hex()[..16].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Vec<Place> {
        let run = "ab".repeat(32);
        vec![
            Place::Index,
            Place::Board("wall@1".into()),
            Place::Rules("wall@1".into()),
            Place::Run(run.clone()),
            Place::Episode(run.clone(), 12),
            Place::Frame(run.clone(), 12, 0),
            Place::Video(run.clone(), "a film ~1.mp4".into()),
            Place::Bundle(run.clone()),
            Place::Compare(run.clone(), "cd".repeat(32)),
            Place::Submit,
            Place::Keys,
            Place::Log,
            Place::Feed,
            Place::Style,
            Place::Script,
        ]
    }

    #[test]
    fn every_link_of_the_server_leads_back_to_its_place() {
        let links = Links::server();
        for place in places() {
            assert_eq!(
                Place::parse(&links.to(&place)),
                Some((place.clone(), Form::Page))
            );
            if place.is_page() {
                for form in [Form::Json, Form::Csv] {
                    let path = links.as_form(&place, form);
                    assert_eq!(Place::parse(&path), Some((place.clone(), form)), "{path}");
                }
            }
        }
    }

    #[test]
    fn links_between_files_are_relative_to_the_page_they_stand_on() {
        let mut links = Links::files(places().into_iter().collect());
        links.move_to(&Place::Episode("aa".into(), 3));
        assert_eq!(links.to(&Place::Index), "../../../index.html");
        assert_eq!(
            links.as_form(&Place::Board("wall@1".into()), Form::Csv),
            "../../../task/wall@1.csv"
        );
        links.move_to(&Place::Index);
        assert_eq!(links.to(&Place::Run("aa".into())), "run/aa.html");
        assert!(links.has(&Place::Log) && !links.has(&Place::Run("aa".into())));
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for name in ["../../etc/passwd", "..", "/", "a/b", "\0", "ä ö", "x\\y"] {
            let slug = slug(name);
            assert!(
                !slug.contains(['/', '\\', '\0', ' ']) && !slug.starts_with('.'),
                "{slug}"
            );
            assert_eq!(unslug(&slug).as_deref(), Some(name));
        }
        assert_eq!(unslug("a/b"), None);
        assert_eq!(unslug("~4"), None);
        assert_eq!(unslug("~41"), None, "a plain letter has one spelling");
    }

    #[test]
    fn paths_of_other_shapes_are_nothing() {
        for path in [
            "",
            "task",
            "/task/",
            "/run/x/episode/",
            "/run/x/episode/-1",
            "/run/x/episode/007",
            "/run/x/film/1.png",
            "/feed.atom.json",
            "/../x",
            "/compare/a",
            "/asset/x.js",
        ] {
            assert_eq!(Place::parse(path), None, "{path}");
        }
    }
}
