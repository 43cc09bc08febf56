//! ZIP archives: names that leave, links, twins, sizes that are not true.

use std::path::Path;

use jepa_ingest::Error;
use jepa_ingest::container::mapped::FileBytes;
use jepa_ingest::container::npy::Npz;
use jepa_ingest::container::zip::Zip;
use jepa_ingest::container::zip_archive::ZipArchive;

use super::memory::within;
use super::{Dice, Scratch};
use crate::support::zip::{Member, archive, deflate, stored};

fn zip(bytes: Vec<u8>) -> Result<Zip, Error> {
    Zip::read(FileBytes::inside(Path::new("x.zip"), bytes))
}

#[test]
fn names_that_leave_the_folder_and_links_are_refused() {
    let scratch = Scratch::new("x.zip");
    let names = [
        "../evil",
        "a/../../evil",
        "/tmp/jepa_bench_evil",
        "\\evil",
        "..\\evil",
        "C:\\evil",
        "C:/evil",
        "a/..",
        "..",
        "a\0b",
    ];
    for name in names {
        let bytes = stored(&[("good", b"data"), (name, b"evil")]);
        let refused = ZipArchive::open(scratch.write(&bytes)).map(|_| ());
        assert!(
            matches!(&refused, Err(Error::UnsafeMember { member, .. }) if member == name),
            "{name}: {refused:?}"
        );
        let bytes = stored(&[("good.npy", b"data"), (&format!("{name}/x.npy"), b"evil")]);
        let refused = Npz::open(scratch.write(&bytes)).map(|_| ());
        assert!(matches!(refused, Err(Error::UnsafeMember { .. })), "{name}");
    }
    let link = Member {
        mode: 0o120_777,
        ..Member::stored("link", b"/etc/passwd")
    };
    let refused = ZipArchive::open(scratch.write(&archive(&[link]))).map(|_| ());
    assert!(
        matches!(refused, Err(Error::UnsafeMember { .. })),
        "{refused:?}"
    );
    scratch.holds_nothing_else();
    assert!(!Path::new("/tmp/jepa_bench_evil").exists());
}

#[test]
fn what_macos_adds_is_no_data() {
    let scratch = Scratch::new("x.zip");
    let bytes = stored(&[
        ("__MACOSX/", b""),
        ("__MACOSX/data/._a", b"1"),
        ("data/", b""),
        ("data/._a", b"2"),
        ("data/.DS_Store", b"3"),
        (".DS_Store", b"4"),
        ("data/a", b"5"),
    ]);
    let archive = ZipArchive::open(scratch.write(&bytes)).expect("an archive");
    assert_eq!(archive.names().collect::<Vec<_>>(), ["data/a"]);
}

#[test]
fn two_members_of_one_name_are_refused() {
    let bytes = stored(&[("a", b"one"), ("b", b"two"), ("a", b"three")]);
    let refused = zip(bytes).map(|_| ());
    assert!(
        matches!(refused, Err(Error::Duplicate { .. })),
        "{refused:?}"
    );
}

/// 64 MiB of zeros in 64 KiB, under true and false sizes.
#[test]
fn bombs_are_refused_by_what_they_announce_and_cut_by_what_they_hold() {
    let zeros = vec![0; 64 << 20];
    let packed = deflate(&zeros);
    let scratch = Scratch::new("x.zip");
    let honest = archive(&[Member::deflated("a.npy", &packed, &zeros)]);
    let opened = ZipArchive::open(scratch.write(&honest)).expect("an archive");
    let refused = within(1 << 20, || opened.read("a.npy", 1 << 20));
    assert!(matches!(refused, Err(Error::Decode { .. })), "{refused:?}");
    for size in [0, 1000, 1 << 20] {
        let lie = Member {
            size,
            ..Member::deflated("a.npy", &packed, &zeros)
        };
        let found = zip(archive(&[lie])).expect("an archive");
        let refused = within(4 << 20, || found.content("a.npy").map(|_| ()));
        assert!(matches!(refused, Err(Error::Length { .. })), "{refused:?}");
    }
    for (size, wide) in [((1 << 32) - 2, false), (1 << 40, true), (u64::MAX, true)] {
        let lie = Member {
            size,
            wide,
            ..Member::deflated("a.npy", &packed[..1000], &zeros)
        };
        let found = zip(archive(&[lie])).expect("an archive");
        let refused = within(1 << 20, || found.content("a.npy").map(|_| ()));
        assert!(matches!(refused, Err(Error::Range { .. })), "{refused:?}");
    }
}

/// A thousand members over the same bytes: each is unpacked on its own, and only when asked for.
#[test]
fn members_that_share_their_bytes_are_not_added_up() {
    let zeros = vec![0; 1 << 20];
    let packed = deflate(&zeros);
    let names: Vec<String> = (0..1000).map(|k| format!("a{k:03}")).collect();
    let members: Vec<Member<'_>> = names
        .iter()
        .enumerate()
        .map(|(k, name)| Member {
            same_place_as: (k > 0).then_some(0),
            ..Member::deflated(name, &packed, &zeros)
        })
        .collect();
    let scratch = Scratch::new("x.zip");
    let bytes = archive(&members);
    scratch.write(&bytes);
    within(8 << 20, || {
        if let Ok(archive) = ZipArchive::open(&scratch.path) {
            for name in archive.names() {
                let content = archive.read(name, 1 << 20).expect("content");
                assert_eq!(content.map(|bytes| bytes.len()), Some(1 << 20));
            }
        }
    });
}

#[test]
fn zip64_records_are_read_and_their_lies_are_not_believed() {
    let content = b"what is in the archive".as_slice();
    let wide = Member {
        wide: true,
        ..Member::stored("a", content)
    };
    let good = archive(&[wide]);
    let found = zip(good.clone()).expect("an archive");
    assert_eq!(found.stored("a").expect("content"), Some(content));
    // The last records: end record of 22 bytes, locator of 20, ZIP64 end record of 56.
    let record = good.len() - 22 - 20 - 56;
    let numbers = [
        record + 24,
        record + 32,
        record + 40,
        record + 48,
        good.len() - 22 - 20 + 8,
    ];
    for at in numbers {
        for lie in [0, 1, 1 << 31, 1 << 32, 1 << 40, 1 << 63, u64::MAX] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&u64::to_le_bytes(lie));
            let read = within(64 << 10, || zip(bad).map(|zip| zip.names().count()));
            assert!(!matches!(read, Ok(2..)), "{lie} at {at}: {read:?}");
        }
    }
    // Sizes and places inside the directory.
    let extra = record - 24;
    for at in [extra, extra + 8, extra + 16] {
        for lie in [1 << 31, 1 << 32, 1 << 63, u64::MAX] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&u64::to_le_bytes(lie));
            let read = within(64 << 10, || {
                zip(bad).and_then(|zip| zip.stored("a").map(|_| ()))
            });
            assert!(read.is_err(), "{lie} at {at}");
        }
    }
}

/// Members beyond 4 GiB: a file with a hole, of which only the ends take room.
#[test]
#[cfg(unix)]
fn a_member_beyond_4_gib_is_found() {
    use std::os::unix::fs::FileExt;

    const HOLE: u64 = (4 << 30) + 7;
    let scratch = Scratch::new("x.zip");
    let file = std::fs::File::create(&scratch.path).expect("a file");
    // A first member that is all hole, then a small one behind it.
    let content = b"behind four gibibytes".as_slice();
    let tail = archive(&[Member {
        wide: true,
        ..Member::stored("a", content)
    }]);
    let local = 4 + 26 + 1 + 20;
    let end = local + content.len();
    file.write_all_at(b"PK\x03\x04", 0).expect("a head");
    file.write_all_at(&tail[..end], HOLE).expect("a member");
    // The directory, with the place of the member moved, and the records that lead to it.
    let mut rest = tail[end..].to_vec();
    let directory = 46 + 1 + 28;
    rest[directory - 8..directory].copy_from_slice(&HOLE.to_le_bytes());
    let record = directory;
    let start = HOLE + end as u64;
    rest[record + 48..record + 56].copy_from_slice(&start.to_le_bytes());
    let locator = record + 56;
    rest[locator + 8..locator + 16].copy_from_slice(&(start + directory as u64).to_le_bytes());
    file.write_all_at(&rest, start).expect("a directory");
    drop(file);
    let found = Zip::read(FileBytes::open(&scratch.path).expect("a file")).expect("an archive");
    assert_eq!(found.stored("a").expect("content"), Some(content));
}

#[test]
fn no_damage_of_an_archive_does_more_than_an_error() {
    let content: Vec<u8> = (0..3000_u32).flat_map(|v| (v / 7).to_le_bytes()).collect();
    let packed = deflate(&content);
    let wide = Member {
        wide: true,
        ..Member::deflated("c", &packed, &content)
    };
    let plain = [
        Member::deflated("a", &packed, &content),
        Member::stored("b", b"text"),
    ];
    let mut dice = Dice(2);
    for good in [archive(&plain), archive(&[wide])] {
        for _ in 0..3000 {
            let bad = dice.damage(&good);
            within(8 << 20, || {
                let Ok(found) = zip(bad) else { return };
                for name in found.names() {
                    if let Ok(Some(read)) = found.content(name) {
                        let known = read.as_ref() == content || read.as_ref() == b"text";
                        assert!(known || read.is_empty(), "damage went unnoticed");
                    }
                }
            });
        }
    }
}
