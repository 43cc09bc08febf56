use std::io::Read as _;

use super::archive::is_video;
use super::*;
use crate::key::Identity;
use crate::run::Run;
use crate::testing::SyntheticRun;
use proptest::prelude::*;

fn identity() -> Identity {
    Identity::from_secret("lab", &[7; 32]).unwrap()
}

fn claims() -> Claims {
    Claims {
        licence: "MIT".into(),
        contact: "lab@example.org".into(),
        method: "# Method\n\nA latent model.\n".into(),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    }
}

fn bundle_with(claims: &Claims) -> Result<Bundle> {
    let folder = tempfile::tempdir().unwrap();
    let run = SyntheticRun::new("pldm", 6).write(folder.path()).unwrap();
    Bundle::new(&Run::load(&run).unwrap(), claims, &identity())
}

fn bundle() -> Bundle {
    bundle_with(&claims()).unwrap()
}

fn read(bytes: &[u8]) -> Result<Bundle> {
    Bundle::read(bytes, &Limits::default())
}

/// What reading says of these files, signed anew: as a forger with a key of their own would.
fn refusal_of(change: impl Fn(&mut BTreeMap<String, Vec<u8>>)) -> String {
    let mut files = bundle().files;
    change(&mut files);
    let packed = Bundle { files, ..bundle() }.to_bytes().unwrap();
    read(&packed).expect_err("it was read").to_string()
}

/// An archive of these entries, whatever they are.
fn archive(entries: &[(tar::Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, content) in entries {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    zstd::encode_all(bytes.as_slice(), 3).unwrap()
}

fn header(name: &str, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    // As bytes: the library refuses to write what it would refuse to read.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

#[test]
fn a_bundle_survives_its_bytes() {
    let mut claims = claims();
    claims.code_url = Some("https://example.org/code".into());
    claims.videos = vec![Video {
        name: "episode_3.gif".into(),
        bytes: b"GIF89a".to_vec(),
    }];
    let bundle = bundle_with(&claims).unwrap();
    let bytes = bundle.to_bytes().unwrap();
    let back = read(&bytes).unwrap();
    assert_eq!(back, bundle);
    assert_eq!(bundle_with(&claims).unwrap().to_bytes().unwrap(), bytes);
    assert_eq!(back.method(), claims.method);
    assert_eq!(back.videos().collect::<Vec<_>>(), ["episode_3.gif"]);
    assert_eq!(back.id.len(), 64);
    assert_eq!(
        back.submission.seeds,
        Seeds {
            first: 2,
            stride: 1,
            count: 6
        }
    );
    let names: Vec<&str> = back.files().map(|(name, _)| name).collect();
    for name in [
        "submission.json",
        "episodes.parquet",
        "env.json",
        "METHOD.md",
        "signature.json",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn the_example_of_the_documentation_is_a_submission() {
    let example: Submission = serde_json::from_str(include_str!("example.json")).unwrap();
    example.check().unwrap();
    assert_eq!(example.schema, SUBMISSION_SCHEMA);
}

#[test]
fn truncated_bundles_are_refused_wherever_they_end() {
    let bytes = bundle().to_bytes().unwrap();
    for end in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(read(&bytes[..end]).is_err(), "{end} of {}", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&zstd::encode_all(&b"more"[..], 1).unwrap());
    assert!(read(&longer).is_err());
}

#[test]
fn a_changed_file_or_claim_breaks_the_signature() {
    let said = refusal_of(|files| files.get_mut(METHOD_FILE).unwrap()[0] = b'!');
    assert!(
        said.contains("`METHOD.md` is not the file that was signed"),
        "{said}"
    );
    let said = refusal_of(|files| {
        let claims = files.get_mut(SUBMISSION_FILE).unwrap();
        let text = String::from_utf8(claims.clone()).unwrap();
        *claims = text.replace("\"MIT\"", "\"GPL\"").into_bytes();
    });
    assert!(said.contains("signature"), "{said}");
    let said = refusal_of(|files| {
        files.insert("videos/extra.png".into(), vec![1]);
    });
    assert!(said.contains("not among the signed files"), "{said}");
    let said = refusal_of(|files| {
        files.remove("timings.parquet");
    });
    assert!(said.contains("no `timings.parquet`"), "{said}");
    for name in [SUBMISSION_FILE, SIGNATURE_FILE] {
        assert!(refusal_of(|files| files.get_mut(name).unwrap().clear()).contains(name));
    }
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let thief = Identity::from_secret("thief", &[9; 32]).unwrap();
    let said = refusal_of(|files| {
        let signature = SignatureFile {
            algorithm: "ed25519".into(),
            key: thief.public(),
            signature: thief.sign(Purpose::Submission, &files[SUBMISSION_FILE]),
        };
        files.insert(
            SIGNATURE_FILE.into(),
            serde_json::to_vec(&signature).unwrap(),
        );
    });
    assert!(said.contains("another key than it names"), "{said}");
}

#[test]
fn only_plain_files_of_known_names_are_taken() {
    use tar::EntryType as Kind;
    let cases = [
        ("../submission.json", Kind::Regular, "no file of a bundle"),
        ("/etc/passwd", Kind::Regular, "no file of a bundle"),
        ("videos/../../x.png", Kind::Regular, "no file of a bundle"),
        ("videos/.png", Kind::Regular, "no file of a bundle"),
        ("videos/a.sh", Kind::Regular, "no file of a bundle"),
        ("videos/a/b.png", Kind::Regular, "no file of a bundle"),
        ("run.sh", Kind::Regular, "no file of a bundle"),
        ("METHOD.md", Kind::Symlink, "not a plain file"),
        ("METHOD.md", Kind::Link, "not a plain file"),
        ("METHOD.md", Kind::Directory, "not a plain file"),
        ("METHOD.md", Kind::Fifo, "not a plain file"),
        ("METHOD.md", Kind::GNUSparse, "not a plain file"),
        ("METHOD.md", Kind::GNULongName, "not a plain file"),
        ("METHOD.md", Kind::XHeader, "not a plain file"),
    ];
    for (name, kind, words) in cases {
        let said = read(&archive(&[(header(name, 2, kind), b"ab".to_vec())])).unwrap_err();
        assert!(said.to_string().contains(words), "{name} {kind:?}: {said}");
    }
    let twice = (header("METHOD.md", 2, Kind::Regular), b"ab".to_vec());
    let said = read(&archive(&[twice.clone(), twice]))
        .unwrap_err()
        .to_string();
    assert!(said.contains("twice"), "{said}");
    assert!(is_video("videos/a-b_1.mp4") && !is_video("videos/a b.mp4"));
}

#[test]
fn sizes_counts_and_bombs_are_limited() {
    use tar::EntryType::Regular;
    let method = |size: usize| (header("METHOD.md", size as u64, Regular), vec![b'a'; size]);
    let limits = Limits {
        compressed: 10_000,
        unpacked: 3_000_000,
        files: 2,
        text: 1_000,
        data: 2_000_000,
        time: std::time::Duration::from_secs(5),
    };
    let said = |bytes: &[u8]| Bundle::read(bytes, &limits).unwrap_err().to_string();
    assert!(said(&archive(&[method(1_001)])).contains("more than are accepted"));
    // A file that claims to be short and is long, and one that claims to be huge.
    let (mut short, content) = method(900);
    short.set_size(10);
    short.set_cksum();
    assert!(read(&archive(&[(short, content)])).is_err());
    let huge = (header("METHOD.md", u64::MAX >> 1, Regular), Vec::new());
    assert!(said(&archive(&[huge])).contains("more than are accepted"));
    let video = |name: &str, size: usize| (header(name, size as u64, Regular), vec![0; size]);
    let two = [
        video("videos/a.png", 1_900_000),
        video("videos/b.png", 1_900_000),
    ];
    let bomb = archive(&two);
    assert!(bomb.len() < 2_000, "{}", bomb.len());
    assert!(said(&bomb).contains("more than are accepted"));
    let three = [
        video("videos/a.png", 1),
        video("videos/b.png", 1),
        video("videos/c.png", 1),
    ];
    assert!(said(&archive(&three)).contains("more than 2 files"));
    // A gigabyte of zeros where the archive should be.
    let zeros = zstd::encode_all(std::io::repeat(0).take(1 << 30), 3).unwrap();
    assert!(zeros.len() < 100_000 && read(&zeros).is_err());
    let noise: Vec<u8> = (0..20_000_u32)
        .flat_map(|k| blake3::hash(&k.to_le_bytes()).as_bytes()[..4].to_vec())
        .collect();
    let long = archive(&[(header("METHOD.md", 80_000, Regular), noise)]);
    let wide = Limits {
        text: 100_000,
        ..limits
    };
    let error = Bundle::read(long.as_slice(), &wide)
        .unwrap_err()
        .to_string();
    assert!(error.contains("the file has more bytes"), "{error}");
}

#[test]
fn a_window_that_needs_much_memory_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &vec![1; 1 << 28]).unwrap();
    assert!(read(&encoder.finish().unwrap()).is_err());
}

#[test]
fn a_slow_sender_is_given_up() {
    struct Slow;
    impl std::io::Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(20));
            buffer[0] = 0x28;
            Ok(1)
        }
    }
    let limits = Limits {
        time: std::time::Duration::from_millis(10),
        ..Limits::default()
    };
    let error = Bundle::read(Slow, &limits).unwrap_err().to_string();
    assert!(error.contains("takes too long"), "{error}");
}

#[test]
fn deeply_nested_claims_are_refused() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let said = refusal_of(|files| {
        let claims = files.get_mut(SUBMISSION_FILE).unwrap();
        let text = String::from_utf8(claims.clone()).unwrap();
        assert!(text.contains("\"candidates\": 300"));
        *claims = text
            .replace("\"candidates\": 300", &format!("\"candidates\": {deep}"))
            .into_bytes();
    });
    assert!(said.contains("recursion limit"), "{said}");
}

#[test]
fn texts_that_deceive_are_refused_when_the_bundle_is_made() {
    let refused = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        bundle_with(&claims).expect_err("it was made").to_string()
    };
    assert!(refused(|c| c.licence.clear()).contains("`licence` is empty"));
    assert!(refused(|c| c.contact = "a\u{202e}b".into()).contains("cannot be seen"));
    assert!(refused(|c| c.contact = "a\nb".into()).contains("cannot be seen"));
    assert!(refused(|c| c.contact = "a".repeat(129)).contains("more than 128"));
    assert!(refused(|c| c.code_url = Some("javascript:alert(1)".into())).contains("https://"));
    assert!(refused(|c| c.code_url = Some("https://x/\"onclick=".into())).contains("https://"));
    assert!(refused(|c| c.created_utc = "yesterday".into()).contains("created_utc"));
    assert!(
        refused(|c| c.videos.push(Video {
            name: "../x.png".into(),
            bytes: Vec::new()
        }))
        .contains("no name of a video")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever a stranger sends: a refusal or a bundle, never a panic.
    #[test]
    fn damaged_archives_are_refused(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), again in any::<bool>()) {
        let bytes = bundle().to_bytes().unwrap();
        let mut plain = if again { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes };
        for (place, value) in places {
            let place = place.index(plain.len());
            plain[place] = value;
        }
        let sent = if again { zstd::encode_all(plain.as_slice(), 1).unwrap() } else { plain };
        let _ = read(&sent);
    }
}
