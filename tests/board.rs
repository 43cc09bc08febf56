//! The board as a program: served, written to and stopped; exported.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jepa_leaderboard::{Bundle, Claims, Identity, Run};
use serde_json::Value;

use crate::support::{only_run, succeeds, text, tree};

/// Episodes of `wall@1`.
const EPISODES: u64 = 96;
/// Uploads at the same time.
const MANY: usize = 1_000;

/// A server that is killed when a test fails before it stops it.
pub(crate) struct Served {
    process: Child,
    pub(crate) host: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Served {
    pub(crate) fn start(board: &Path, options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_jepa-bench-under-test"))
            .args([
                "leaderboard",
                "serve",
                "--db",
                text(board),
                "--address",
                "127.0.0.1:0",
            ])
            .args(options)
            .env("NO_PROGRESS", "1")
            .env_remove("JEPA_BENCH_HOME")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let host = line
            .trim()
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_string();
        assert!(host.contains(':'), "{line}");
        Self { process, host }
    }

    /// Status and body of an answer.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(5)))
            .unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: board\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let status = std::str::from_utf8(&answer[9..12])
            .unwrap()
            .parse()
            .unwrap();
        (status, answer.split_off(end + 4))
    }

    fn page(&self, path: &str) -> String {
        let (status, body) = self.ask("GET", path, b"");
        assert_eq!(status, 200, "{path}");
        String::from_utf8(body).unwrap()
    }

    /// The most memory that the server has taken, in MiB.
    fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// Ctrl-C; the exit status.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.process.wait().unwrap().code()
    }
}

fn evaluate(folder: &Path, model: &str, episodes: u64) -> PathBuf {
    let out = folder.join(model.replace(':', "-"));
    let episodes = episodes.to_string();
    succeeds(&[
        "eval",
        "--model",
        model,
        "--task",
        "wall",
        "--out",
        text(&out),
        "--episodes",
        &episodes,
    ]);
    only_run(&out)
}

/// A board with two floors.
fn board(folder: &Path) -> PathBuf {
    let board = folder.join("board.sqlite");
    for model in ["floor:random", "floor:noop"] {
        let run = evaluate(folder, model, 3);
        succeeds(&["leaderboard", "add", "--db", text(&board), text(&run)]);
    }
    board
}

/// A whole run of the task as a bundle.
fn bundle(folder: &Path) -> Vec<u8> {
    let run = Run::load(&evaluate(&folder.join("whole"), "floor:noop", EPISODES)).unwrap();
    let claims = Claims {
        licence: "MIT".into(),
        contact: "lab@example.org".into(),
        method: "Nothing is done.".into(),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    };
    let identity = Identity::from_secret("lab", &[7; 32]).unwrap();
    Bundle::new(&run, &claims, &identity)
        .unwrap()
        .to_bytes()
        .unwrap()
}

#[test]
fn a_board_is_served_takes_a_bundle_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&board(folder.path()), &[]);
    assert!(served.page("/").contains("wall@1"));
    let rules = served.page("/task/wall@1/rules");
    assert!(rules.contains("success_distance = 4.5"), "{rules}");

    let (status, answer) = served.ask("POST", "/api/v1/submissions", &bundle(folder.path()));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(
        (status, answer["level"].as_str()),
        (201, Some("V2")),
        "{answer}"
    );
    let url = answer["url"].as_str().unwrap();
    assert!(served.page(url).contains("episodes played again"));
    let (status, frame) = served.ask("GET", &format!("{url}/film/0-1.png"), b"");
    assert_eq!(status, 200);
    assert!(frame.starts_with(b"\x89PNG"), "a frame of the simulator");
    assert_eq!(served.interrupt(), Some(0));
}

#[test]
fn an_export_of_the_program_is_the_same_twice_and_touches_no_other_folder() {
    let folder = tempfile::tempdir().unwrap();
    let board = board(folder.path());
    let export = |name: &str| {
        let out = folder.path().join(name);
        succeeds(&[
            "leaderboard",
            "export",
            "--db",
            text(&board),
            "--out",
            text(&out),
        ]);
        tree(&out)
    };
    let one = export("one");
    assert!(one == export("two"));
    assert!(one == export("one"), "written over itself");
    assert!(
        one.keys().any(|name| name.ends_with("-1.png")),
        "films are drawn"
    );
    let precious = folder.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.tex"), "years").unwrap();
    let out = text(&precious);
    let error = crate::support::exits_with(
        2,
        &["leaderboard", "export", "--db", text(&board), "--out", out],
    );
    assert!(error.contains("something else than an export"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_uploads_at_once_take_little_memory_and_are_one_submission() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&board(folder.path()), &["--submissions-per-minute", "0"]);
    let bundle = bundle(folder.path());
    let taken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let (status, _) = served.ask("POST", "/api/v1/submissions", &bundle);
                taken.lock().unwrap().push(status);
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    let count = |wanted: u16| taken.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(200)), (1, MANY - 1));
    let memory = served.memory();
    assert!(memory < 300, "the server took {memory} MiB");
    assert_eq!(served.interrupt(), Some(0));
}
