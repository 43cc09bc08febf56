//! What the `meta` folder says: features, tasks, and where each episode is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::super::support::{files_in, sha256, sort_numerically};
use crate::container::mapped::impostor;
use crate::container::table::TableFile;
use crate::{Error, Result};

const INFO: &str = "meta/info.json";
/// Versions that can be read, for messages.
const KNOWN: &str = "v3.x, v2.1 and v2.0";

/// Which layout of files a version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One file of rows and one video per episode.
    V2,
    /// Many episodes per file.
    V3,
}

/// `meta/info.json` and the tasks.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) layout: Layout,
    pub(super) version: String,
    /// Rows per second.
    pub(super) fps: f64,
    pub(super) features: Vec<Feature>,
    /// Task strings by `task_index`.
    pub(super) tasks: BTreeMap<i64, String>,
    /// Hashes of the files read here.
    pub(super) inputs: BTreeMap<String, String>,
    /// What a user of the data should know.
    pub(super) notes: Vec<String>,
    data_path: String,
    video_path: Option<String>,
    chunk_size: i64,
    announced: Option<i64>,
}

/// One column, or one camera.
#[derive(Debug, Clone)]
pub(super) struct Feature {
    pub(super) name: String,
    /// `float32`, `bool`, `video`, `image`, `string`, ...
    pub(super) dtype: String,
    /// What the dimensions are called.
    pub(super) meaning: String,
    /// Height and width of a camera.
    pub(super) image_size: Option<[usize; 2]>,
    shape: Vec<usize>,
    is_depth: bool,
}

/// Where one episode is.
#[derive(Debug, Clone)]
pub(super) struct EpisodeEntry {
    /// Its number in the release.
    pub(super) index: i64,
    /// Number of rows.
    pub(super) length: usize,
    pub(super) tasks: Vec<String>,
    /// Videos by feature.
    pub(super) clips: BTreeMap<String, Clip>,
    data: FileIndex,
}

/// Chunk and file of a numbered file.
#[derive(Debug, Clone, Copy, Default)]
struct FileIndex {
    chunk: i64,
    file: i64,
}

/// The part of a video that is one episode.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    file: FileIndex,
    /// Seconds.
    from: f64,
    /// Seconds; nothing where the file is the episode's own.
    to: Option<f64>,
}

impl Clip {
    /// Number of the first frame in its file.
    pub(super) fn first_frame(&self, fps: f64) -> usize {
        (self.from * fps).round().max(0.0) as usize
    }

    /// Number of frames, as far as the times tell.
    pub(super) fn frames(&self, fps: f64) -> Option<usize> {
        let end = (self.to? * fps).round().max(0.0) as usize;
        Some(end.saturating_sub(self.first_frame(fps)))
    }
}

impl Feature {
    fn parse(name: &str, value: &Value) -> Self {
        let text = |key: &str| {
            value
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_string()
        };
        let shape: Vec<usize> = value
            .get("shape")
            .and_then(Value::as_array)
            .map(|shape| {
                shape
                    .iter()
                    .map(|d| d.as_u64().unwrap_or(0) as usize)
                    .collect()
            })
            .unwrap_or_default();
        let names = value.get("names").filter(|names| !names.is_null());
        let info = value.get("info").or_else(|| value.get("video_info"));
        let is_depth = info.is_some_and(|info| {
            ["is_depth_map", "video.is_depth_map"]
                .iter()
                .any(|key| info.get(key) == Some(&Value::Bool(true)))
        });
        Self {
            name: name.into(),
            dtype: text("dtype"),
            meaning: names.map_or_else(|| name.to_string(), Value::to_string),
            image_size: image_size(&shape),
            shape,
            is_depth,
        }
    }

    /// Numbers per row.
    pub(super) fn width(&self) -> usize {
        let sizes = self.shape.iter();
        sizes.fold(1_usize, |n, &d| n.saturating_mul(d))
    }

    pub(super) fn is_whole(&self) -> bool {
        let dtype = self.dtype.as_str();
        dtype == "bool" || dtype.starts_with("int") || dtype.starts_with("uint")
    }

    pub(super) fn is_numeric(&self) -> bool {
        self.is_whole() || self.dtype.starts_with("float")
    }

    /// Whether every value is exactly an `f32`.
    pub(super) fn fits_f32(&self) -> bool {
        const NARROW: [&str; 7] = [
            "float32", "float16", "bool", "int8", "uint8", "int16", "uint16",
        ];
        NARROW.contains(&self.dtype.as_str())
    }

    /// Whether it has frames that are stored. Depth is not colour.
    pub(super) fn is_camera(&self) -> bool {
        matches!(self.dtype.as_str(), "video" | "image") && !self.is_depth
    }
}

/// Height and width of `[h, w, c]` or `[c, h, w]`.
fn image_size(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [h, w, 1 | 3 | 4] | [1 | 3 | 4, h, w] if h > 0 && w > 0 => Some([h, w]),
        _ => None,
    }
}

impl Meta {
    /// Reads `info.json` and the tasks.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join(INFO);
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let info = parse_json(&path, &bytes)?;
        let version = info
            .get("codebase_version")
            .and_then(Value::as_str)
            .unwrap_or("unknown");
        let layout = layout(version).ok_or_else(|| Error::Version {
            path: path.clone(),
            found: version.into(),
            known: KNOWN,
        })?;
        let missing = |key: &str| Error::MissingKey {
            path: path.clone(),
            key: key.into(),
        };
        let features = info
            .get("features")
            .and_then(Value::as_object)
            .ok_or_else(|| missing("features"))?;
        let features: Vec<Feature> = features
            .iter()
            .map(|(name, value)| Feature::parse(name, value))
            .collect();
        let fps = info
            .get("fps")
            .and_then(Value::as_f64)
            .ok_or_else(|| missing("fps"))?;
        if !(fps > 0.0 && fps.is_finite()) {
            return Err(Error::Range {
                path,
                detail: format!("its rate is {fps} frames per second"),
            });
        }
        let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_string);
        let data_path = text("data_path").unwrap_or_else(|| match layout {
            Layout::V2 => {
                "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet".into()
            }
            Layout::V3 => "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet".into(),
        });
        let depth = features
            .iter()
            .filter(|feature| feature.is_depth)
            .map(|feature| feature.name.as_str());
        let depth: Vec<&str> = depth.collect();
        let mut meta = Self {
            layout,
            version: version.into(),
            fps,
            tasks: BTreeMap::new(),
            inputs: BTreeMap::from([(INFO.into(), sha256(&bytes))]),
            notes: Vec::new(),
            data_path,
            video_path: text("video_path"),
            chunk_size: info
                .get("chunks_size")
                .and_then(Value::as_i64)
                .filter(|&n| n > 0)
                .unwrap_or(1000),
            announced: info.get("total_episodes").and_then(Value::as_i64),
            features: Vec::new(),
        };
        if !depth.is_empty() {
            meta.notes
                .push(format!("depth is not stored: {}", depth.join(", ")));
        }
        meta.features = features;
        meta.read_tasks(root)?;
        Ok(meta)
    }

    /// Whether there is a feature of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature.name == name)
    }

    fn read_tasks(&mut self, root: &Path) -> Result<()> {
        let rows = match self.layout {
            Layout::V3 => tasks_of_table(&root.join("meta/tasks.parquet"))?,
            Layout::V2 => {
                let path = root.join("meta/tasks.jsonl");
                let lines = read_lines(&path)?;
                let task = |line: &Value| {
                    Some((
                        line.get("task_index")?.as_i64()?,
                        line.get("task")?.as_str()?.to_string(),
                    ))
                };
                let rows: Option<Vec<_>> = lines.iter().map(task).collect();
                rows.ok_or_else(|| Error::MissingKey {
                    path,
                    key: "task_index` or `task".into(),
                })?
            }
        };
        let in_order = rows
            .iter()
            .enumerate()
            .all(|(k, (index, _))| *index == k as i64);
        if !in_order {
            self.notes.push(
                "the table of tasks is not in the order of `task_index`; tasks are looked up by it"
                    .into(),
            );
        }
        self.tasks = rows.into_iter().collect();
        Ok(())
    }

    /// Every episode by its number, and the files that cannot be used.
    ///
    /// # Errors
    /// When no file can be used, or two episodes have one number.
    pub(super) fn episodes(&self, root: &Path) -> Result<(Vec<EpisodeEntry>, Vec<PathBuf>)> {
        let paths = match self.layout {
            Layout::V2 => vec![root.join("meta/episodes.jsonl")],
            Layout::V3 => tables_under(&root.join("meta/episodes"))?,
        };
        let mut entries: Vec<(EpisodeEntry, PathBuf)> = Vec::new();
        let mut broken = Vec::new();
        let mut first_fault = None;
        for path in paths {
            match self.episodes_of(&path) {
                Ok(found) => entries.extend(found.into_iter().map(|entry| (entry, path.clone()))),
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                    broken.push(path);
                }
            }
        }
        if let Some(fault) = first_fault.filter(|_| entries.is_empty()) {
            return Err(fault);
        }
        entries.sort_by_key(|(entry, _)| entry.index);
        let twice: Vec<&(EpisodeEntry, PathBuf)> = entries
            .windows(2)
            .filter(|pair| pair[0].0.index == pair[1].0.index)
            .map(|pair| &pair[1])
            .collect();
        if let Some((_, path)) = twice.first() {
            let numbers: Vec<String> = twice
                .iter()
                .map(|(entry, _)| entry.index.to_string())
                .collect();
            return Err(Error::Duplicate {
                path: path.clone(),
                detail: format!("episodes {} are listed more than once", numbers.join(", ")),
            });
        }
        let entries: Vec<EpisodeEntry> = entries.into_iter().map(|(entry, _)| entry).collect();
        Ok((entries, broken))
    }

    /// Remarks on the numbers of the episodes.
    pub(super) fn remarks(&self, episodes: &[EpisodeEntry]) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(announced) = self.announced.filter(|&n| n != episodes.len() as i64) {
            notes.push(format!(
                "`{INFO}` announces {announced} episodes, {} are listed",
                episodes.len()
            ));
        }
        let has_gaps = episodes
            .iter()
            .enumerate()
            .any(|(k, entry)| entry.index != k as i64);
        if has_gaps {
            notes.push("episode numbers have gaps; episodes are numbered anew, their own numbers are kept with them".into());
        }
        notes
    }

    /// The episodes that one file lists.
    pub(super) fn episodes_of(&self, path: &Path) -> Result<Vec<EpisodeEntry>> {
        match self.layout {
            Layout::V2 => self.episodes_of_lines(path),
            Layout::V3 => self.episodes_of_table(path),
        }
    }

    fn episodes_of_lines(&self, path: &Path) -> Result<Vec<EpisodeEntry>> {
        let entry = |line: &Value| {
            let index = line.get("episode_index")?.as_i64()?;
            let tasks = line.get("tasks").and_then(Value::as_array);
            let tasks = tasks.into_iter().flatten().filter_map(Value::as_str);
            let file = FileIndex {
                chunk: index.div_euclid(self.chunk_size),
                file: index,
            };
            let clip = Clip {
                file,
                from: 0.0,
                to: None,
            };
            let videos = self
                .features
                .iter()
                .filter(|feature| feature.dtype == "video");
            Some(EpisodeEntry {
                index,
                length: usize::try_from(line.get("length")?.as_u64()?).ok()?,
                tasks: tasks.map(str::to_string).collect(),
                clips: videos
                    .map(|feature| (feature.name.clone(), clip.clone()))
                    .collect(),
                data: file,
            })
        };
        let entries: Option<Vec<EpisodeEntry>> = read_lines(path)?.iter().map(entry).collect();
        entries.ok_or_else(|| Error::MissingKey {
            path: path.to_path_buf(),
            key: "episode_index` or `length".into(),
        })
    }

    fn episodes_of_table(&self, path: &Path) -> Result<Vec<EpisodeEntry>> {
        const PLACE: [&str; 4] = [
            "episode_index",
            "length",
            "data/chunk_index",
            "data/file_index",
        ];
        let table = TableFile::open(path)?;
        let videos = self
            .features
            .iter()
            .filter(|feature| feature.dtype == "video");
        let videos: Vec<(&str, [String; 4])> = videos
            .map(|feature| {
                let of = |what: &str| format!("videos/{}/{what}", feature.name);
                let columns = [
                    "chunk_index",
                    "file_index",
                    "from_timestamp",
                    "to_timestamp",
                ]
                .map(of);
                (feature.name.as_str(), columns)
            })
            .filter(|(_, columns)| columns.iter().all(|column| table.has(column)))
            .collect();
        let mut columns: Vec<&str> = PLACE.to_vec();
        columns.extend(table.has("tasks").then_some("tasks"));
        columns.extend(
            videos
                .iter()
                .flat_map(|(_, columns)| columns.iter().map(String::as_str)),
        );
        let rows = table.read(&columns, 0..table.rows())?;
        let [indices, lengths, chunks, files] = PLACE.map(|column| rows.integers(column));
        let (indices, lengths, chunks, files) = (indices?, lengths?, chunks?, files?);
        let mut tasks = if table.has("tasks") {
            rows.text_lists("tasks")?.into_iter()
        } else {
            Vec::new().into_iter()
        };
        let mut entries = Vec::with_capacity(indices.len());
        for row in 0..indices.len() {
            let length = usize::try_from(lengths[row]).map_err(|_| Error::Length {
                path: path.to_path_buf(),
                detail: format!("episode {} has {} rows", indices[row], lengths[row]),
            })?;
            entries.push(EpisodeEntry {
                index: indices[row],
                length,
                tasks: tasks.next().unwrap_or_default(),
                clips: BTreeMap::new(),
                data: FileIndex {
                    chunk: chunks[row],
                    file: files[row],
                },
            });
        }
        for (name, [chunk, file, from, to]) in &videos {
            let (chunks, files) = (rows.integers(chunk)?, rows.integers(file)?);
            let (from, to) = (rows.numbers(from)?.values, rows.numbers(to)?.values);
            let places = chunks.into_iter().zip(files).zip(from.into_iter().zip(to));
            for (entry, ((chunk, file), (from, to))) in entries.iter_mut().zip(places) {
                let clip = Clip {
                    file: FileIndex { chunk, file },
                    from,
                    to: Some(to),
                };
                entry.clips.insert((*name).to_string(), clip);
            }
        }
        Ok(entries)
    }

    /// File of an episode's rows.
    pub(super) fn data_path(&self, root: &Path, episode: &EpisodeEntry) -> Result<PathBuf> {
        fill(root, &self.data_path, episode.index, episode.data, "")
    }

    /// File of an episode's frames.
    pub(super) fn video_path(
        &self,
        root: &Path,
        feature: &Feature,
        episode: &EpisodeEntry,
        clip: &Clip,
    ) -> Result<PathBuf> {
        let template = self
            .video_path
            .as_deref()
            .ok_or_else(|| Error::MissingKey {
                path: root.join(INFO),
                key: "video_path".into(),
            })?;
        fill(root, template, episode.index, clip.file, &feature.name)
    }
}

/// `v3.0` and later ones of that major version, `v2.1`, `v2.0`.
fn layout(version: &str) -> Option<Layout> {
    let (major, minor) = version.strip_prefix('v')?.split_once('.')?;
    match (major, minor) {
        ("3", _) => Some(Layout::V3),
        ("2", "0" | "1") => Some(Layout::V2),
        _ => None,
    }
}

/// Puts numbers and a camera into a template such as `data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet`.
///
/// # Errors
/// When the template has other parts, or leads out of the release.
fn fill(
    root: &Path,
    template: &str,
    episode: i64,
    file: FileIndex,
    video_key: &str,
) -> Result<PathBuf> {
    let fault = |detail: String| Error::Format {
        path: root.join(INFO),
        expected: "a description of paths",
        detail: format!("`{template}`: {detail}"),
    };
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (part, after) = after
            .split_once('}')
            .ok_or_else(|| fault("a brace is open".into()))?;
        let (name, format) = part.split_once(':').unwrap_or((part, ""));
        let number = match name {
            "video_key" => {
                out.push_str(video_key);
                rest = after;
                continue;
            }
            "chunk_index" | "episode_chunk" => file.chunk,
            "file_index" => file.file,
            "episode_index" => episode,
            other => return Err(fault(format!("`{other}` is not known"))),
        };
        let width = format
            .trim_end_matches('d')
            .parse::<usize>()
            .unwrap_or(0)
            .min(20);
        // Writing to a `String` cannot fail.
        let _ = write!(out, "{number:0width$}");
        rest = after;
    }
    out.push_str(rest);
    let is_inside = Path::new(&out)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(fault("it leads out of the release".into()));
    }
    Ok(root.join(out))
}

/// The tables in the folders of a folder, in the order of their numbers.
fn tables_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let chunk = entry.map_err(|e| Error::io(folder, e))?.path();
        if chunk.is_dir() {
            paths.extend(files_in(&chunk, &["parquet"])?);
        }
    }
    sort_numerically(&mut paths);
    if paths.is_empty() {
        return Err(Error::Missing {
            path: folder.join("chunk-000/file-000.parquet"),
        });
    }
    Ok(paths)
}

/// Number and text of every task. The text is the index of a pandas table, with or without a name.
fn tasks_of_table(path: &Path) -> Result<Vec<(i64, String)>> {
    let table = TableFile::open(path)?;
    let text = ["task", "__index_level_0__"]
        .into_iter()
        .find(|column| table.has(column));
    let text = text.ok_or_else(|| Error::MissingKey {
        path: path.to_path_buf(),
        key: "task".into(),
    })?;
    let rows = table.read(&["task_index", text], 0..table.rows())?;
    let indices = rows.integers("task_index")?;
    Ok(indices.into_iter().zip(rows.texts(text)?).collect())
}

fn parse_json(path: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|e| {
        let other = Error::Json {
            path: path.to_path_buf(),
            detail: e.to_string(),
        };
        // A file that starts as JSON is what it should be, though damaged.
        match impostor(path, bytes) {
            Some(found @ Error::LfsPointer { .. }) => found,
            _ => other,
        }
    })
}

/// A JSON document per line.
fn read_lines(path: &Path) -> Result<Vec<Value>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let lines = bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| parse_json(path, line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_stay_inside() {
        let file = FileIndex {
            chunk: 7,
            file: 1234,
        };
        let fill =
            |template: &str| fill(Path::new("r"), template, 56, file, "observation.images.top");
        let path = fill("videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")
            .expect("a path");
        assert_eq!(
            path,
            Path::new("r/videos/observation.images.top/chunk-007/file-1234.mp4")
        );
        let path = fill("data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet")
            .expect("a path");
        assert_eq!(path, Path::new("r/data/chunk-007/episode_000056.parquet"));
        for bad in [
            "../x",
            "/etc/passwd",
            "a/{other}",
            "a/{chunk_index",
            "a/../../b",
        ] {
            assert!(fill(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_have_their_layouts() {
        assert_eq!(layout("v3.0"), Some(Layout::V3));
        assert_eq!(layout("v2.1"), Some(Layout::V2));
        assert_eq!(layout("v2.0"), Some(Layout::V2));
        for old in ["v1.6", "v2.2", "3.0", "v30", ""] {
            assert_eq!(layout(old), None, "{old}");
        }
    }

    #[test]
    fn times_become_frames_by_rounding() {
        let clip = Clip {
            file: FileIndex::default(),
            from: 2.3,
            to: Some(5.4),
        };
        assert_eq!((clip.first_frame(10.0), clip.frames(10.0)), (23, Some(31)));
        // 0.1 * 3 is above 0.3: the products are rounded, not cut.
        let clip = Clip {
            from: 0.1 * 3.0,
            ..clip
        };
        assert_eq!(clip.first_frame(10.0), 3);
    }
}
