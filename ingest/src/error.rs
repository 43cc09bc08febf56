//! What can go wrong with a raw release, and what to try next.

use std::io;
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of containers and sources. [`Error::code`] is the reason code written to the ledger.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read something.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder that has to be there is not.
    #[error("`{}` is missing", path.display())]
    Missing {
        /// Which one.
        path: PathBuf,
    },
    /// Several files claim to be the same episode.
    #[error("`{}` and `{}` are both episode {episode}", first.display(), second.display())]
    Ambiguous {
        /// The episode.
        episode: u64,
        /// One file.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// A file of no bytes.
    #[error("`{}` is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file that ends too early.
    #[error("`{}` is cut short: {detail}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The content of an archive member is not what its checksum says.
    #[error("`{}`: the checksum of `{member}` does not match", path.display())]
    Checksum {
        /// The archive.
        path: PathBuf,
        /// The member.
        member: String,
    },
    /// A Git LFS pointer instead of the file itself.
    #[error("`{}` is a Git LFS pointer; the file itself, {size} bytes, was not downloaded", path.display())]
    LfsPointer {
        /// The pointer.
        path: PathBuf,
        /// Size of the real file.
        size: u64,
    },
    /// A web page or an API answer saved under the name of a data file.
    #[error("`{}` holds a web page or JSON instead of data: it starts with `{head}`", path.display())]
    WebPage {
        /// The file.
        path: PathBuf,
        /// Its first characters.
        head: String,
    },
    /// A file of the torch format before version 1.6.
    #[error("`{}` is a torch file from before torch 1.6", path.display())]
    LegacyTorch {
        /// The file.
        path: PathBuf,
    },
    /// A file that is not of the expected format.
    #[error("`{}` is not {expected}: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format expected, with an article.
        expected: &'static str,
        /// What does not fit.
        detail: String,
    },
    /// A pickle asks for a function or class outside the allow-list. Nothing was executed.
    #[error("`{}` asks for `{name}`, which no data file needs; nothing was executed", path.display())]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// `module.name` as written in the pickle.
        name: String,
    },
    /// A tensor that addresses bytes outside its storage.
    #[error("`{}`: the tensor lies outside its storage: {detail}", path.display())]
    ViewOutOfBounds {
        /// The file.
        path: PathBuf,
        /// Shape, strides, offset and storage length.
        detail: String,
    },
    /// A video stream that cannot be decoded.
    #[error("`{}` cannot be decoded: {detail}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        detail: String,
    },
    /// A video that cannot be written.
    #[error("`{}` cannot be written: {detail}", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        detail: String,
    },
    /// A media file without a video stream.
    #[error("`{}` has no video stream", path.display())]
    NoVideo {
        /// The file.
        path: PathBuf,
    },
    /// A key, column or data set that has to be there is not.
    #[error("`{}` has no `{key}`", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// What is missing.
        key: String,
    },
    /// An episode too short for the window that was asked for.
    #[error("`{}` is too short: {detail}", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length and the length needed.
        detail: String,
    },
    /// JSON that cannot be read.
    #[error("`{}` is not valid JSON: {detail}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        detail: String,
    },
    /// A format version that this build does not read.
    #[error("`{}` is of version {found}; this build reads {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: String,
        /// The versions that can be read.
        known: &'static str,
    },
    /// A compression filter that this build does not have.
    #[error("`{}`: `{dataset}` is compressed by filter {filter}, which this build does not have", path.display())]
    Filter {
        /// The file.
        path: PathBuf,
        /// The data set.
        dataset: String,
        /// HDF5's registered number of the filter.
        filter: i32,
    },
    /// A compression or filter of a Zarr array that this build does not have.
    #[error("`{}`: `{array}` is packed by `{codec}`, which this build does not have", path.display())]
    UnknownCodec {
        /// The metadata of the array.
        path: PathBuf,
        /// The array.
        array: String,
        /// Name of the codec.
        codec: String,
    },
    /// A data set of no episodes.
    #[error("`{}` has no episodes", path.display())]
    EmptyDataset {
        /// The release.
        path: PathBuf,
    },
    /// An archive member whose name points outside the archive.
    #[error("`{}`: the name of member `{member}` points outside the archive; nothing was written", path.display())]
    UnsafeMember {
        /// The archive.
        path: PathBuf,
        /// The name of the member.
        member: String,
    },
    /// An array of pickled objects.
    #[error("`{}`: array `{array}` holds pickled objects; nothing was executed", path.display())]
    ObjectArray {
        /// The file.
        path: PathBuf,
        /// The array.
        array: String,
    },
    /// Two episodes with one identity.
    #[error("`{}`: {detail}", path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// Which ones.
        detail: String,
    },
    /// Nothing is left to ingest.
    #[error("nothing to ingest in `{}`: {detail}", path.display())]
    Nothing {
        /// The release.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// An episode of no rows: it keeps its number and yields no slices.
    #[error("episode {episode} of `{}` has no rows", path.display())]
    EmptyEpisode {
        /// The file.
        path: PathBuf,
        /// Which one.
        episode: u64,
    },
    /// A length that its data do not have.
    #[error("`{}`: {detail}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// The length and what there is.
        detail: String,
    },
    /// A number type that cannot be used here without losing something.
    #[error("`{}`: number type {found} cannot be used for {wanted}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The type in the file.
        found: String,
        /// What it was wanted for.
        wanted: &'static str,
    },
    /// Two counts that must agree do not.
    #[error("`{}`: {detail}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// The two counts.
        detail: String,
    },
    /// A number outside the range its meaning allows.
    #[error("`{}`: {detail}", path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The number and the range.
        detail: String,
    },
    /// A number that is not finite.
    #[error("`{}`: {what} is not finite at row {row}, dimension {dim}", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// Which quantity.
        what: &'static str,
        /// Row within the episode.
        row: usize,
        /// Dimension.
        dim: usize,
    },
    /// A source name that this build does not read.
    #[error("there is no source `{name}`{}", if *planned { " in this build" } else { "" })]
    UnknownSource {
        /// The name as typed.
        name: String,
        /// Whether it is a known dataset format.
        planned: bool,
        /// The sources that exist.
        known: Vec<&'static str>,
    },
    /// An option that does not make sense for this source.
    #[error("{what} `{value}` is not valid: {detail}")]
    Invalid {
        /// The option.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The user asked to stop.
    #[error("interrupted after {done} of {total} episodes")]
    Interrupted {
        /// Episodes in the ledger.
        done: u64,
        /// Episodes asked for.
        total: u64,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] jepa_datasets::Error),
}

impl Error {
    /// The reason code of the ledger.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "read_error",
            Self::Missing { .. } => "missing_file",
            Self::Empty { .. } => "empty_file",
            Self::Truncated { .. } => "truncated_file",
            Self::Checksum { .. } => "checksum_mismatch",
            Self::LfsPointer { .. } => "lfs_pointer",
            Self::WebPage { .. } => "html_or_json_instead_of_data",
            Self::LegacyTorch { .. } => "unsupported_legacy_torch",
            Self::Format { .. } => "invalid_header",
            Self::ForbiddenGlobal { .. } => "forbidden_pickle_global",
            Self::ViewOutOfBounds { .. } => "tensor_view_out_of_bounds",
            Self::Decode { .. } => "decode_error",
            Self::Encode { .. } => "encode_error",
            Self::NoVideo { .. } => "no_video_stream",
            Self::MissingKey { .. } => "missing_key",
            Self::TooShort { .. } => "too_short",
            Self::Json { .. } => "invalid_json",
            Self::Version { .. } => "unsupported_version",
            Self::Filter { .. } | Self::UnknownCodec { .. } => "unsupported_filter",
            Self::EmptyDataset { .. } => "empty_dataset",
            Self::UnsafeMember { .. } => "unsafe_member_name",
            Self::ObjectArray { .. } => "object_array",
            Self::Ambiguous { .. } | Self::Duplicate { .. } => "duplicate_id",
            Self::Nothing { .. } => "empty_filter_result",
            Self::EmptyEpisode { .. } => "empty_episode",
            Self::Length { .. } => "length_out_of_range",
            Self::Dtype { .. } => "unsupported_dtype",
            Self::Count { .. } => "count_mismatch",
            Self::Range { .. } => "out_of_range",
            Self::NonFinite { .. } => "non_finite",
            Self::UnknownSource { .. } | Self::Invalid { .. } | Self::Interrupted { .. } => {
                "not_attempted"
            }
            Self::Store(jepa_datasets::Error::Episode { code, .. }) => code,
            Self::Store(_) => "store_error",
        }
    }

    /// The next thing to try, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownSource { known, .. } => {
                Some(format!("this build reads: {}", known.join(", ")))
            }
            Self::Count { .. } => Some(
                "compare it with the release; `jepa-bench ingest --help` says what it holds".into(),
            ),
            Self::Missing { .. } => {
                Some("check the path; `jepa-bench ingest --help` says what a source holds".into())
            }
            Self::LfsPointer { .. } => {
                Some("run `git lfs pull`, or download the file by hand".into())
            }
            Self::WebPage { .. } => {
                Some("download it again; a gated repository needs a login".into())
            }
            Self::Truncated { .. } | Self::Checksum { .. } | Self::Empty { .. } => {
                Some("download the file again".into())
            }
            Self::LegacyTorch { .. } => {
                Some("load it in torch and save it again, or download the released file".into())
            }
            Self::ForbiddenGlobal { .. } => {
                Some("do not open this file with other programs; download it again".into())
            }
            Self::Interrupted { .. } => Some("run the same command again to continue".into()),
            Self::Store(error) => error.hint(),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { path, source },
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    pub(crate) fn truncated(path: &Path, detail: impl ToString) -> Self {
        Self::Truncated {
            path: path.to_path_buf(),
            detail: detail.to_string(),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    pub(crate) fn torch(path: &Path, detail: impl ToString) -> Self {
        Self::Format {
            path: path.to_path_buf(),
            expected: "a torch file",
            detail: detail.to_string(),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over errors and literals alike"
    )]
    pub(crate) fn count(path: &Path, detail: impl ToString) -> Self {
        Self::Count {
            path: path.to_path_buf(),
            detail: detail.to_string(),
        }
    }
}
