//! Writes tensors as `torch.save` does, so that tests can make inputs of any size.

use std::path::Path;

/// Element types that the tests need.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    F32,
    F64,
}

/// The pickle of one contiguous tensor, protocol 2, with `class` as its storage class.
fn pickle(class: &str, shape: &[u32], numel: u32) -> Vec<u8> {
    let mut p = vec![0x80, 2];
    let global = |p: &mut Vec<u8>, module: &str, name: &str| {
        p.push(b'c');
        p.extend(format!("{module}\n{name}\n").bytes());
    };
    let text = |p: &mut Vec<u8>, value: &str| {
        p.push(b'X');
        p.extend((value.len() as u32).to_le_bytes());
        p.extend(value.bytes());
    };
    let int = |p: &mut Vec<u8>, value: u32| {
        p.push(b'J');
        p.extend(value.to_le_bytes());
    };
    global(&mut p, "torch._utils", "_rebuild_tensor_v2");
    p.extend(*b"((");
    text(&mut p, "storage");
    global(&mut p, "torch", class);
    text(&mut p, "0");
    text(&mut p, "cpu");
    int(&mut p, numel);
    p.extend(*b"tQ");
    int(&mut p, 0);
    p.push(b'(');
    for n in shape {
        int(&mut p, *n);
    }
    p.extend(*b"t(");
    for axis in 0..shape.len() {
        int(&mut p, shape[axis + 1..].iter().product());
    }
    p.push(b't');
    p.push(0x89);
    global(&mut p, "collections", "OrderedDict");
    p.extend(*b")RtR.");
    p
}

/// Writes a tensor of `values` with `shape` to `path`.
pub(crate) fn save(path: &Path, kind: Kind, shape: &[u32], values: &[f64]) {
    let class = match kind {
        Kind::F32 => "FloatStorage",
        Kind::F64 => "DoubleStorage",
    };
    let data: Vec<u8> = match kind {
        Kind::F32 => values
            .iter()
            .flat_map(|v| (*v as f32).to_le_bytes())
            .collect(),
        Kind::F64 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    let pickle = pickle(class, shape, values.len() as u32);
    save_pickle(path, &pickle, &data);
}

/// Writes a file with this very pickle; what it names is up to the caller.
pub(crate) fn save_pickle(path: &Path, pickle: &[u8], data: &[u8]) {
    let members: [(&str, &[u8]); 4] = [
        ("t/data.pkl", pickle),
        ("t/byteorder", b"little"),
        ("t/data/0", data),
        ("t/version", b"3\n"),
    ];
    std::fs::write(path, stored_zip(&members)).unwrap();
}

/// Writes a dict of `times` tensors that are all the same numbers of the file.
pub(crate) fn save_repeated(path: &Path, times: u32, values: &[f32]) {
    let count = values.len() as u32;
    let one = pickle("FloatStorage", &[count], count);
    let mut pickle = b"\x80\x02}(".to_vec();
    for k in 0..times {
        let name = format!("name{k}");
        pickle.push(b'X');
        pickle.extend((name.len() as u32).to_le_bytes());
        pickle.extend(name.bytes());
        // Without the beginning and the end of a pickle of its own.
        pickle.extend(&one[2..one.len() - 1]);
    }
    pickle.extend(*b"u.");
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    save_pickle(path, &pickle, &data);
}

/// A ZIP archive of uncompressed members.
fn stored_zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in members {
        let offset = zip.len() as u32;
        let mut fields = Vec::new();
        // Version, flags, method, time, date; then checksum and sizes; then name and extra lengths.
        fields.extend([10u16, 0, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
        let sizes = [crc32fast::hash(data), data.len() as u32, data.len() as u32];
        fields.extend(sizes.iter().flat_map(|v| v.to_le_bytes()));
        fields.extend([name.len() as u16, 0].iter().flat_map(|v| v.to_le_bytes()));
        zip.extend(*b"PK\x03\x04");
        zip.extend(&fields);
        zip.extend(name.bytes());
        zip.extend(*data);
        directory.extend(*b"PK\x01\x02");
        directory.extend(10u16.to_le_bytes());
        directory.extend(&fields);
        // Comment length, disk, internal attributes; external attributes; offset.
        directory.extend([0u16; 3].iter().flat_map(|v| v.to_le_bytes()));
        directory.extend(0u32.to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let start = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(*b"PK\x05\x06");
    let count = members.len() as u16;
    zip.extend([0u16, 0, count, count].iter().flat_map(|v| v.to_le_bytes()));
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend(0u16.to_le_bytes());
    zip
}

/// A folder in the released Wall layout: `episodes` of `steps` rows, frames of `side` pixels.
pub(crate) fn wall_release(folder: &Path, episodes: u32, steps: u32, side: u32) {
    let root = folder.join("wall_single");
    std::fs::create_dir_all(root.join("obses")).unwrap();
    let number = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) >> 16) / 4096.0;
    let wide = |width: u32, salt: u32| -> Vec<f64> {
        (0..episodes * steps * width)
            .map(|i| number(i + salt))
            .collect()
    };
    save(
        &root.join("states.pth"),
        Kind::F32,
        &[episodes, steps, 2],
        &wide(2, 1),
    );
    save(
        &root.join("actions.pth"),
        Kind::F32,
        &[episodes, steps, 2],
        &wide(2, 7),
    );
    let constant = |value: f64| vec![value; (episodes * steps) as usize];
    save(
        &root.join("door_locations.pth"),
        Kind::F64,
        &[episodes, steps, 1],
        &constant(30.0),
    );
    save(
        &root.join("wall_locations.pth"),
        Kind::F64,
        &[episodes, steps, 1],
        &constant(32.0),
    );
    for episode in 0..episodes {
        let count = (steps + 1) * 3 * side * side;
        let frames: Vec<f64> = (0..count).map(|i| number(i + episode) * 15.9).collect();
        let path = root.join(format!("obses/episode_{episode:03}.pth"));
        save(&path, Kind::F32, &[steps + 1, 3, side, side], &frames);
    }
}
