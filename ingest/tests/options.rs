//! What can be asked of a source, and what cannot.

use jepa_ingest::SourceOptions;
use jepa_ingest::source::window::FpsMode;
use jepa_ingest::source::{SOURCES, SPECIAL_OPTIONS};

use crate::support::{cameras, fixture, open, refused};

const FILES: [(&str, &str); 4] = [
    ("droid", "DROID/droid_paths.csv"),
    ("franka", "franka_custom"),
    ("robocasa", "robocasa"),
    ("swm", "swm_h5/pusht_expert_train.h5"),
];

#[test]
fn every_source_is_registered_under_its_name() {
    for (name, file) in FILES {
        assert!(SOURCES.iter().any(|entry| entry.name == name));
        let source = open(name, &fixture(file), SourceOptions::default()).expect("a release");
        assert_eq!(source.manifest().source.name, name);
        assert!(source.bytes() > 0);
    }
}

/// The sources that have a use for an option, and the option.
type Use = (&'static [&'static str], SourceOptions);

#[test]
fn options_without_a_meaning_are_refused_by_every_source() {
    let none = SourceOptions::default;
    let uses: [Use; 5] = [
        (
            &["droid"],
            SourceOptions {
                fps_mode: Some(FpsMode::ControlHz),
                ..none()
            },
        ),
        (
            &["droid", "franka", "robocasa", "swm"],
            SourceOptions {
                frames_per_clip: Some(4),
                ..none()
            },
        ),
        (
            &["robocasa"],
            SourceOptions {
                compat_quaternion: true,
                ..none()
            },
        ),
        (
            &["npz"],
            SourceOptions {
                compat_poses: true,
                ..none()
            },
        ),
        (
            &["robocasa"],
            SourceOptions {
                simulator_states: true,
                ..none()
            },
        ),
    ];
    for entry in SOURCES {
        for (sources, options) in &uses {
            let error = refused(entry.name, &fixture("no such release"), options.clone());
            let is_meaningless = error.to_string().contains("has no use for it");
            assert_eq!(is_meaningless, !sources.contains(&entry.name), "{error}");
        }
    }
}

#[test]
fn every_source_says_what_it_takes_on_lines_that_fit() {
    for entry in SOURCES {
        let example = format!("jepa-bench ingest {} ", entry.name);
        assert!(entry.details.contains(&example), "{}", entry.name);
        for line in entry.details.lines().chain([entry.summary]) {
            assert!(line.chars().count() <= 98, "{}: {line}", entry.name);
        }
        for option in entry.options {
            assert!(SPECIAL_OPTIONS.contains(option), "{}: {option}", entry.name);
        }
    }
}

#[test]
fn nothing_opens_where_nothing_is() {
    for entry in SOURCES {
        let error = refused(
            entry.name,
            &fixture("no such release"),
            SourceOptions::default(),
        );
        assert_eq!(error.code(), "missing_file", "{}: {error}", entry.name);
    }
}

#[test]
fn recordings_without_tasks_cannot_be_asked_for_one() {
    let tasks = SourceOptions {
        tasks: vec!["pick".into()],
        ..SourceOptions::default()
    };
    for (name, file) in FILES {
        let error = refused(name, &fixture(file), tasks.clone());
        assert_eq!(error.code(), "not_attempted", "{name}: {error}");
    }
}

/// Frames are resized one by one, some at a time or all at once: they come out alike.
#[test]
fn resizing_to_the_native_size_and_by_blocks_changes_nothing_else() {
    for (name, camera) in [
        ("robocasa", "robot0_rightview"),
        ("robocasa", "robot0_leftview"),
    ] {
        let read = |size| {
            let options = SourceOptions {
                size,
                ..cameras(&[camera])
            };
            let source = open(name, &fixture("robocasa"), options).expect("a release");
            source.read(0).expect("an episode")
        };
        let (native, same, half) = (read(None), read(Some([32, 32])), read(Some([16, 16])));
        assert_eq!(native.cameras, same.cameras);
        assert_eq!(
            native.source_hash, half.source_hash,
            "the hash is of what was read"
        );
        assert_eq!((half.cameras[0].height, half.cameras[0].count), (16, 34));
        // Halving without antialias averages each 2x2 block.
        let (large, small) = (pixels(&native), pixels(&half));
        for frame in [0, 33] {
            for (y, x, c) in [(0, 0, 0), (7, 3, 1), (15, 15, 2)] {
                let at = |y: usize, x: usize| u32::from(large[((frame * 32 + y) * 32 + x) * 3 + c]);
                let sum = at(2 * y, 2 * x)
                    + at(2 * y, 2 * x + 1)
                    + at(2 * y + 1, 2 * x)
                    + at(2 * y + 1, 2 * x + 1);
                let found = f64::from(small[((frame * 16 + y) * 16 + x) * 3 + c]);
                assert!(
                    (found - f64::from(sum) / 4.0).abs() <= 0.5,
                    "{camera}, frame {frame}"
                );
            }
        }
    }
}

fn pixels(episode: &jepa_datasets::Episode) -> &[u8] {
    match &episode.cameras[0].pixels {
        jepa_datasets::Pixels::U8(pixels) => pixels,
        jepa_datasets::Pixels::F32(_) => panic!("bytes"),
    }
}
