//! Pickles on their own, and files that are one.

#![no_main]

use jepa_bench_fuzz::file;
use jepa_ingest::container::pickle::{Node, Pickle};
use jepa_ingest::container::pickle_file::PickleFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(pickle) = Pickle::parse(input) {
        match pickle.root() {
            Node::List(items) | Node::Tuple(items) => items.iter().for_each(|&item| {
                let _ = (pickle.node(item), pickle.int(item), pickle.tuple(item));
                let _ = (pickle.text(item), pickle.bytes(item));
            }),
            Node::Dict(pairs) => pairs.iter().for_each(|&(key, value)| {
                let _ = (pickle.text(key), pickle.node(value));
            }),
            _ => {}
        }
    }
    if let Ok(found) = PickleFile::open(&file(input)) {
        let _ = (found.integers(), found.texts());
    }
});
