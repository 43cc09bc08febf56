//! Pickle files that hold one list: episode lengths, shape names (datasets.md section 1.2).

use std::path::Path;

use super::mapped::FileBytes;
use super::pickle::{Node, NodeId, Pickle, PickleError};
use crate::{Error, Result};

/// An open pickle file.
pub struct PickleFile {
    bytes: FileBytes,
}

impl PickleFile {
    /// Maps a file.
    ///
    /// # Errors
    /// When it is missing or empty.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            bytes: FileBytes::open(path)?,
        })
    }

    /// All bytes of the file, for its hash.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole numbers of a list, Python's or NumPy's.
    ///
    /// # Errors
    /// When the file is not a pickle of such a list. Nothing in it is executed.
    pub fn integers(&self) -> Result<Vec<i64>> {
        let pickle = self.parse()?;
        self.items(&pickle)?
            .iter()
            .enumerate()
            .map(|(k, &item)| {
                integer(&pickle, item)
                    .ok_or_else(|| self.fault(&format!("item {k} is not a whole number")))
            })
            .collect()
    }

    /// The texts of a list.
    ///
    /// # Errors
    /// When the file is not a pickle of such a list. Nothing in it is executed.
    pub fn texts(&self) -> Result<Vec<String>> {
        let pickle = self.parse()?;
        self.items(&pickle)?
            .iter()
            .enumerate()
            .map(|(k, &item)| {
                let text = pickle.text(item);
                text.map(String::from)
                    .ok_or_else(|| self.fault(&format!("item {k} is not text")))
            })
            .collect()
    }

    fn parse(&self) -> Result<Pickle<'_>> {
        Pickle::parse(&self.bytes).map_err(|error| match error {
            PickleError::Forbidden(name) => Error::ForbiddenGlobal {
                path: self.bytes.path().to_path_buf(),
                name,
            },
            PickleError::Malformed { at, detail } => self
                .bytes
                .unless_known(self.fault(&format!("byte {at}: {detail}"))),
        })
    }

    fn items<'p>(&self, pickle: &'p Pickle<'_>) -> Result<&'p [NodeId]> {
        match pickle.root() {
            Node::List(items) | Node::Tuple(items) => Ok(items),
            _ => Err(self.fault("it holds no list")),
        }
    }

    fn fault(&self, detail: &str) -> Error {
        Error::Format {
            path: self.bytes.path().to_path_buf(),
            expected: "a pickle of a list",
            detail: detail.into(),
        }
    }
}

/// A Python integer, or a NumPy scalar `scalar(dtype('<i8'), bytes)`.
fn integer(pickle: &Pickle<'_>, id: NodeId) -> Option<i64> {
    if let Some(value) = pickle.int(id) {
        return Some(value);
    }
    let [dtype, bytes] = called(pickle, id, "scalar")? else {
        return None;
    };
    let (kind, big_endian) = number_type(pickle, *dtype)?;
    let mut bytes = bytes_of(pickle, *bytes)?;
    if big_endian {
        bytes.reverse();
    }
    match (kind, bytes.len()) {
        ("i8", 8) => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        ("i4", 4) => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        ("i2", 2) => Some(i64::from(i16::from_le_bytes(bytes.try_into().ok()?))),
        ("i1", 1) => Some(i64::from(i8::from_le_bytes(bytes.try_into().ok()?))),
        ("u8", 8) => i64::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok(),
        ("u4", 4) => Some(i64::from(u32::from_le_bytes(bytes.try_into().ok()?))),
        ("u2", 2) => Some(i64::from(u16::from_le_bytes(bytes.try_into().ok()?))),
        ("u1", 1) => Some(i64::from(bytes[0])),
        _ => None,
    }
}

/// The arguments of a call of the function of that name.
fn called<'p>(pickle: &'p Pickle<'_>, id: NodeId, name: &str) -> Option<&'p [NodeId]> {
    let Node::Call { function, args, .. } = pickle.node(id) else {
        return None;
    };
    match pickle.node(*function) {
        Node::Global(_, found) if found == name => pickle.tuple(*args),
        _ => None,
    }
}

/// Kind and byte order of `dtype('i8')`, whose state is `(3, '<', ...)`.
fn number_type<'a>(pickle: &Pickle<'a>, id: NodeId) -> Option<(&'a str, bool)> {
    let kind = pickle.text(*called(pickle, id, "dtype")?.first()?)?;
    let Node::Call { state, .. } = pickle.node(id) else {
        return None;
    };
    let order = state.and_then(|state| pickle.text(*pickle.tuple(state)?.get(1)?));
    Some((kind, order == Some(">")))
}

/// Bytes as they are (protocol 3 and later), or as `_codecs.encode(text, 'latin1')` (protocol 2).
fn bytes_of(pickle: &Pickle<'_>, id: NodeId) -> Option<Vec<u8>> {
    if let Some(bytes) = pickle.bytes(id) {
        return Some(bytes.to_vec());
    }
    let args = called(pickle, id, "encode")?;
    let text = pickle.text(*args.first()?)?;
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(bytes: &[u8]) -> Result<Vec<i64>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lengths.pkl");
        std::fs::write(&path, bytes).unwrap();
        PickleFile::open(&path)?.integers()
    }

    #[test]
    fn plain_lists_are_read_in_every_protocol() {
        // pickle.dumps([61, 300, -1], protocol) for protocols 2 and 4.
        let second = b"\x80\x02]q\x00(K=M,\x01J\xff\xff\xff\xffe.";
        let fourth = b"\x80\x04\x95\x0e\0\0\0\0\0\0\0]\x94(K=M,\x01J\xff\xff\xff\xffe.";
        assert_eq!(integers(second).unwrap(), [61, 300, -1]);
        assert_eq!(integers(fourth).unwrap(), [61, 300, -1]);
    }

    #[test]
    fn numpy_scalars_are_read_in_protocols_2_and_4() {
        // pickle.dumps([numpy.int64(61)], protocol) of NumPy 2.
        let second = b"\x80\x02]q\x00cnumpy._core.multiarray\nscalar\nq\x01cnumpy\ndtype\nq\x02X\x02\x00\x00\x00i8q\x03\
            \x89\x88\x87q\x04Rq\x05(K\x03X\x01\x00\x00\x00<q\x06NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x07bc_codecs\nencode\nq\x08\
            X\x08\x00\x00\x00=\x00\x00\x00\x00\x00\x00\x00q\tX\x06\x00\x00\x00latin1q\n\x86q\x0bRq\x0c\x86q\rRq\x0ea.";
        assert_eq!(integers(second).unwrap(), [61]);
        let mut fourth = b"\x80\x04]\x94\x8c\x16numpy._core.multiarray\x94\x8c\x06scalar\x94\x93\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\
            \x8c\x02i4\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01>\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94bC\x04".to_vec();
        fourth.extend_from_slice(b"\x00\x00\x01\x00\x94\x86\x94R\x94a.");
        assert_eq!(integers(&fourth).unwrap(), [256]);
    }

    #[test]
    fn other_things_are_refused() {
        let text = b"\x80\x02]q\x00X\x01\x00\x00\x00aa.";
        assert!(matches!(integers(text), Err(Error::Format { .. })));
        assert!(matches!(
            integers(b"\x80\x02K\x01."),
            Err(Error::Format { .. })
        ));
        assert!(matches!(integers(b"<html>"), Err(Error::WebPage { .. })));
        let call = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00true\x85R.";
        assert!(matches!(integers(call), Err(Error::ForbiddenGlobal { .. })));
    }
}
