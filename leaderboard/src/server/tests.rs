//! The server over real connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::key::Identity;
use crate::run::Run;
use crate::submission::{Bundle, Claims};
use crate::testing::{SyntheticReferee, SyntheticRun};

/// Episodes of the made-up task.
const EPISODES: u32 = 6;

/// A server with its board in a folder that lives as long.
struct Running {
    server: Server,
    folder: tempfile::TempDir,
}

impl Running {
    fn new(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::open(&folder.path().join("board.sqlite")).unwrap();
        let referee = Arc::new(SyntheticReferee { episodes: EPISODES });
        let server = Server::start(board, referee, options).unwrap();
        Self { server, folder }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        stream
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream
            .write_all(&head(method, path, headers, body.len()))
            .unwrap();
        // The server may answer before it has read everything.
        let _ = stream.write_all(body);
        Answer::read(&mut stream)
    }

    fn submit(&self, bundle: &[u8]) -> Answer {
        self.ask("POST", "/api/v1/submissions", &[], bundle)
    }

    fn order(&self, action: &str, token: &str, document: &Value) -> Answer {
        let token = format!("Bearer {token}");
        let headers = [("authorization", token.as_str())];
        let path = format!("/api/v1/admin/{action}");
        self.ask("POST", &path, &headers, document.to_string().as_bytes())
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    use std::fmt::Write as _;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: board\r\nconnection: close\r\n");
    if method == "POST" {
        let _ = write!(head, "content-length: {length}\r\n");
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    (head + "\r\n").into_bytes()
}

/// What a server answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset after the answer has said what there is to say.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head in {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes[end + 4..].to_vec();
        Self { status, head, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Without limits per address, on any port.
fn open() -> Options {
    Options {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        requests: None,
        uploads: None,
        ..Options::default()
    }
}

fn bundle_of(model: &str, episodes: u32, who: &Identity) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticRun::new(model, episodes).reaching(0.6);
    let run = Run::load(&synthetic.write(folder.path()).unwrap()).unwrap();
    let claims = Claims {
        licence: "MIT".into(),
        contact: "lab@example.org".into(),
        method: "# Method\n\nNothing.".into(),
        created_utc: "2026-01-31T12:00:00Z".into(),
        ..Claims::default()
    };
    Bundle::new(&run, &claims, who).unwrap().to_bytes().unwrap()
}

fn lab() -> Identity {
    Identity::from_secret("lab", &[7; 32]).unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

#[test]
fn pages_may_load_nothing_from_elsewhere_and_run_nothing_inline() {
    let running = Running::new(open());
    for path in [
        "/",
        "/submit",
        "/keys",
        "/log",
        "/index.json",
        "/no/such/page",
        "/healthz",
    ] {
        let answer = running.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains("http"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(
            answer.header("cross-origin-opener-policy"),
            Some("same-origin")
        );
    }
}

#[test]
fn a_page_is_sent_once_and_compressed_for_those_who_ask() {
    let running = Running::new(open());
    let plain = running.get("/submit");
    assert_eq!(
        (plain.status, plain.header("content-encoding")),
        (200, None)
    );
    let small = running.ask("GET", "/submit", &[("accept-encoding", "br, gzip")], b"");
    assert_eq!(small.header("content-encoding"), Some("gzip"));
    assert_eq!(gunzip(&small.body), plain.body);
    assert!(small.body.len() * 2 < plain.body.len());
    assert_ne!(small.header("etag"), plain.header("etag"));
    for tag in [small.header("etag").unwrap(), plain.header("etag").unwrap()] {
        let again = running.ask("GET", "/submit", &[("if-none-match", tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    let other = running.ask("GET", "/submit", &[("if-none-match", "\"x\"")], b"");
    assert_eq!((other.status, &other.body), (200, &plain.body));
    let style = plain
        .text()
        .split("href=\"/asset/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_string();
    let style = running.get(&format!("/asset/{style}"));
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert!(style.header("cache-control").unwrap().contains("immutable"));
}

#[test]
fn what_is_not_there_or_not_allowed_is_said() {
    let running = Running::new(open());
    for path in [
        "/task/none@1",
        "/run/00",
        "/../../etc/passwd",
        "/%2e%2e/x",
        "/run/x/bundle.jbs",
        "/run/x/film/1-2.png",
        "/run/x/video/a.mp4",
        "/asset/none.js",
        "/compare/a/b",
        "/api/v1/none",
        "//",
    ] {
        assert_eq!(running.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(running.ask(method, "/", &[], b"").status, 405, "{method}");
    }
    assert_eq!(running.get("/api/v1/submissions").status, 405);
    let only_head = running.ask("HEAD", "/", &[], b"");
    assert_eq!((only_head.status, only_head.body.len()), (200, 0));
    assert_eq!(running.get("/compare?run=00").status, 400);
    let pair = running.get("/compare?run=00&run=11");
    assert_eq!(
        (pair.status, pair.header("location")),
        (303, Some("/compare/00/11"))
    );
    assert_eq!(running.get("/compare?run=//evil&run=11").status, 400);
}

#[test]
fn a_bundle_is_taken_once_and_its_page_is_there_at_once() {
    let running = Running::new(open());
    let bundle = bundle_of("mine", EPISODES, &lab());
    let first = running.submit(&bundle);
    assert_eq!(first.status, 201, "{}", first.text());
    let document = first.json();
    assert_eq!(document["level"], "V2");
    assert!(document["checks"].as_array().unwrap().len() >= 4);
    let url = document["url"].as_str().unwrap();
    assert_eq!(first.header("location"), Some(url));

    let page = running.get(url);
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("submitted by <strong>lab</strong>"),
        "{}",
        page.text()
    );
    assert!(running.get("/task/wall@1").text().contains("mine"));
    let sent = running.get(&format!("{url}/bundle.jbs"));
    assert_eq!((sent.status, sent.body.len()), (200, bundle.len()));
    assert!(
        sent.header("content-disposition")
            .unwrap()
            .starts_with("attachment")
    );
    assert!(
        sent.header("content-security-policy")
            .unwrap()
            .contains("sandbox")
    );
    let episode = running.get(&format!("{url}/episode/2"));
    assert!(
        episode.text().contains("type=\"range\""),
        "{}",
        episode.text()
    );

    let again = running.submit(&bundle);
    assert_eq!(
        (again.status, again.json()["is_new"].clone()),
        (200, Value::Bool(false))
    );
    assert_eq!(again.json()["head"], document["head"]);
}

#[test]
fn names_and_episodes_of_others_are_refused() {
    let running = Running::new(open());
    assert_eq!(
        running.submit(&bundle_of("mine", EPISODES, &lab())).status,
        201
    );
    let impostor = Identity::from_secret("lab", &[8; 32]).unwrap();
    let answer = running.submit(&bundle_of("other", EPISODES, &impostor));
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.json()["hint"].is_string());
    let thief = Identity::from_secret("thief", &[9; 32]).unwrap();
    let answer = running.submit(&bundle_of("mine", EPISODES, &thief));
    assert_eq!(answer.status, 409, "{}", answer.text());
}

#[test]
fn what_is_no_bundle_or_fails_a_check_is_refused_and_leaves_nothing() {
    let running = Running::new(open());
    let before = running.get("/healthz").json();
    let bundle = bundle_of("mine", EPISODES, &lab());
    for (bytes, what) in [
        (&b"nonsense"[..], "nonsense"),
        (&b""[..], "nothing"),
        (&bundle[..bundle.len() / 2], "half"),
    ] {
        let answer = running.submit(bytes);
        assert_eq!(answer.status, 422, "{what}: {}", answer.text());
    }
    let too_few = running.submit(&bundle_of("mine", EPISODES - 1, &lab()));
    assert_eq!(too_few.status, 422);
    let document = too_few.json();
    let failed = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .any(|check| check["outcome"] == "failed");
    assert!(failed, "{document}");
    assert_eq!(running.get("/healthz").json(), before);
}

#[test]
fn a_bundle_that_ends_early_or_is_too_large_is_not_read_to_the_end() {
    let limit = 100_000;
    let running = Running::new(Options {
        limits: Limits {
            compressed: limit,
            ..Limits::default()
        },
        ..open()
    });
    let mut stream = running.connect();
    stream
        .write_all(&head("POST", "/api/v1/submissions", &[], 5_000))
        .unwrap();
    stream.write_all(&[0; 1_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut left = Vec::new();
    let _ = stream.read_to_end(&mut left);
    assert!(
        left.is_empty() || left.starts_with(b"HTTP/1.1 400"),
        "{}",
        String::from_utf8_lossy(&left)
    );

    let announced = running.ask(
        "POST",
        "/api/v1/submissions",
        &[],
        &vec![0; limit as usize + 1],
    );
    assert_eq!(announced.status, 413);
    let mut stream = running.connect();
    stream
        .write_all(b"POST /api/v1/submissions HTTP/1.1\r\nhost: board\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"8000\r\n".as_slice(), &vec![1; 0x8000], b"\r\n"].concat();
    for _ in 0..8 {
        let _ = stream.write_all(&chunk);
    }
    assert_eq!(Answer::read(&mut stream).status, 413);
    assert_eq!(running.get("/healthz").status, 200);
}

#[test]
fn an_address_that_asks_too_much_is_told_when_to_come_back() {
    let slow = Rate {
        burst: 3.0,
        per_second: 0.01,
    };
    let running = Running::new(Options {
        requests: Some(slow),
        uploads: Some(slow),
        ..open()
    });
    for _ in 0..3 {
        assert_eq!(running.get("/").status, 200);
    }
    let answer = running.get("/");
    assert_eq!(answer.status, 429);
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((90..=100).contains(&seconds), "{seconds}");
    for _ in 0..3 {
        assert_eq!(
            running.submit(b"x").status,
            422,
            "uploads have a bucket of their own"
        );
    }
    assert_eq!(running.submit(b"x").status, 429);
}

#[test]
fn behind_a_proxy_the_address_is_what_the_proxy_says() {
    let slow = Rate {
        burst: 1.0,
        per_second: 0.01,
    };
    let status = |running: &Running, list: &str| {
        running
            .ask("GET", "/", &[("x-forwarded-for", list)], b"")
            .status
    };
    let direct = Running::new(Options {
        requests: Some(slow),
        ..open()
    });
    assert_eq!(
        (status(&direct, "192.0.2.1"), status(&direct, "192.0.2.2")),
        (200, 429)
    );
    let behind = Running::new(Options {
        requests: Some(slow),
        is_behind_proxy: true,
        ..open()
    });
    assert_eq!(
        (status(&behind, "192.0.2.1"), status(&behind, "192.0.2.2")),
        (200, 200)
    );
    // What the client itself put before is not believed.
    assert_eq!(status(&behind, "198.51.100.7, 192.0.2.2"), 429);
}

#[test]
fn orders_need_the_token_and_an_erratum_strikes_a_run_out() {
    let erratum = serde_json::json!({ "text": "the clock was wrong", "tasks": ["wall@1"] });
    let deaf = Running::new(open());
    assert_eq!(
        deaf.order("erratum", "", &erratum).status,
        404,
        "without a token file there are no orders"
    );

    let running = Running::new(Options {
        admin_token: Some("s3cret".into()),
        ..open()
    });
    let url = running.submit(&bundle_of("mine", EPISODES, &lab())).json()["url"]
        .as_str()
        .unwrap()
        .to_string();
    assert!(!running.get(&url).text().contains("Struck out"));
    for token in ["", "s3cre", "s3cret1", "S3CRET"] {
        let answer = running.order("erratum", token, &erratum);
        assert_eq!(answer.status, 401, "{token}");
        assert_eq!(answer.header("www-authenticate"), Some("bearer"));
    }
    assert_eq!(
        running
            .order("erratum", "s3cret", &serde_json::json!({ "nonsense": 1 }))
            .status,
        422
    );
    assert_eq!(running.order("burn", "s3cret", &erratum).status, 404);
    let answer = running.order("erratum", "s3cret", &erratum);
    assert_eq!(answer.status, 200, "{}", answer.text());
    eventually(|| {
        running
            .get(&url)
            .text()
            .contains("Struck out: </strong>the clock was wrong")
    });

    let key = lab().public();
    let revoke = serde_json::json!({ "key": key, "reason": "lost" });
    assert_eq!(running.order("revoke", "s3cret", &revoke).status, 200);
    eventually(|| {
        running
            .get("/keys")
            .text()
            .contains("revoked by its maintainer: lost")
    });
    assert_eq!(
        running.submit(&bundle_of("next", EPISODES, &lab())).status,
        409
    );
}

#[test]
fn an_owner_revokes_a_key_with_a_signature_and_a_stranger_cannot() {
    let running = Running::new(open());
    assert_eq!(
        running.submit(&bundle_of("mine", EPISODES, &lab())).status,
        201
    );
    let send = |signature: String| {
        let document =
            serde_json::json!({ "key": lab().public(), "reason": "lost", "signature": signature });
        running
            .ask(
                "POST",
                "/api/v1/revocations",
                &[],
                document.to_string().as_bytes(),
            )
            .status
    };
    let stranger = Identity::from_secret("lab", &[8; 32]).unwrap();
    assert_eq!(
        send(stranger.sign(crate::key::Purpose::Revocation, b"lost")),
        422
    );
    assert_eq!(
        send(lab().sign(crate::key::Purpose::Revocation, b"lost")),
        200
    );
    eventually(|| {
        running
            .get("/keys")
            .text()
            .contains("revoked by its owner: lost")
    });
}

/// Waits for something that another thread does.
fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come true in 20 s");
}

#[test]
fn a_change_by_another_program_is_seen() {
    let running = Running::new(open());
    assert!(running.get("/").text().contains("The board is empty"));
    let run = SyntheticRun::new("mine", EPISODES)
        .write(&running.folder.path().join("runs"))
        .unwrap();
    let mut board = Board::open_existing(&running.folder.path().join("board.sqlite")).unwrap();
    board.add(&Run::load(&run).unwrap()).unwrap();
    eventually(|| running.get("/").text().contains("wall@1"));
}

#[test]
fn clients_that_are_too_slow_are_dropped_and_others_are_served() {
    let running = Running::new(Options {
        head_time: Duration::from_millis(300),
        body_stall: Duration::from_millis(300),
        ..open()
    });
    let mut slow_head = running.connect();
    slow_head.write_all(b"GET / HTTP/1.1\r\nhost: bo").unwrap();
    let mut slow_body = running.connect();
    slow_body
        .write_all(&head("POST", "/api/v1/submissions", &[], 1_000))
        .unwrap();
    slow_body.write_all(&[0; 10]).unwrap();
    assert_eq!(running.get("/").status, 200);
    let mut left = Vec::new();
    let _ = slow_head.read_to_end(&mut left);
    assert!(
        left.is_empty() || left.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&left)
    );
    assert_eq!(Answer::read(&mut slow_body).status, 408);
    // An idle connection ends as well.
    let mut idle = running.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: board\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let ended = idle.read_to_end(&mut answer);
    assert!(
        ended.is_ok() && answer.starts_with(b"HTTP/1.1 200"),
        "{ended:?}"
    );
}

#[test]
fn a_body_is_not_read_before_its_turn() {
    let running = Running::new(Options {
        verifiers: 1,
        ..open()
    });
    let mut first = running.connect();
    first
        .write_all(&head("POST", "/api/v1/submissions", &[], 1_000))
        .unwrap();
    // The first has its turn now, and sends nothing.
    std::thread::sleep(Duration::from_millis(200));
    let mut second = running.connect();
    second
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let body = vec![0; 60 << 20];
    second
        .write_all(&head("POST", "/api/v1/submissions", &[], body.len()))
        .unwrap();
    let error = second.write_all(&body).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
    assert_eq!(running.get("/").status, 200, "readers do not wait");
    first.write_all(&[0; 1_000]).unwrap();
    assert_eq!(Answer::read(&mut first).status, 422);
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let running = Running::new(Options {
        connections: 2,
        head_time: Duration::from_secs(30),
        ..open()
    });
    let (one, two) = (running.connect(), running.connect());
    std::thread::sleep(Duration::from_millis(200));
    let mut third = running.connect();
    third.write_all(&head("GET", "/healthz", &[], 0)).unwrap();
    third
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let early = third.read(&mut [0; 1]);
    assert!(early.is_err(), "{early:?}");
    drop(one);
    third
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    assert_eq!(Answer::read(&mut third).status, 200);
    drop(two);
}

#[test]
fn a_server_that_stops_finishes_what_it_has_in_hand() {
    let running = Running::new(open());
    let bundle = bundle_of("mine", EPISODES, &lab());
    let mut stream = running.connect();
    stream
        .write_all(&head("POST", "/api/v1/submissions", &[], bundle.len()))
        .unwrap();
    stream.write_all(&bundle[..10]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let address = running.server.address();
    let stopping = std::thread::spawn(move || {
        running.server.stop();
        running.folder
    });
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(&bundle[10..]).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 201);
    let folder = stopping.join().unwrap();
    assert!(TcpStream::connect(address).is_err());
    let board = Board::open_existing(&folder.path().join("board.sqlite")).unwrap();
    assert_eq!(board.tasks().unwrap()[0].runs, 1);
}

/// Bundles sent at the same time.
const MANY: usize = 1_000;

#[test]
fn a_thousand_bundles_at_once_are_all_taken_and_none_twice() {
    let running = Running::new(Options {
        waiting: 2 * MANY,
        ..open()
    });
    let lab = lab();
    let bundles: Vec<Vec<u8>> = (0..MANY)
        .map(|k| bundle_of(&format!("m{k}"), EPISODES, &lab))
        .collect();
    let answers = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // A fifth of the bundles is sent twice at the same time.
        for bundle in bundles.iter().chain(&bundles[..MANY / 5]) {
            let (running, answers) = (&running, &answers);
            scope.spawn(move || {
                let mut stream = running.connect();
                stream
                    .set_read_timeout(Some(Duration::from_mins(5)))
                    .unwrap();
                stream
                    .set_write_timeout(Some(Duration::from_mins(5)))
                    .unwrap();
                stream
                    .write_all(&head("POST", "/api/v1/submissions", &[], bundle.len()))
                    .unwrap();
                stream.write_all(bundle).unwrap();
                let answer = Answer::read(&mut stream);
                answers.lock().unwrap().push((answer.status, answer.text()));
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    let count = |status| answers.iter().filter(|(found, _)| *found == status).count();
    assert_eq!(
        (count(201), count(200)),
        (MANY, MANY / 5),
        "{:?}",
        answers.iter().find(|(s, _)| *s > 201)
    );
    let path = running.folder.path().join("board.sqlite");
    drop(running.server);
    check_all_there(&path);
}

fn check_all_there(path: &Path) {
    let board = Board::open_existing(path).unwrap();
    assert_eq!(board.tasks().unwrap()[0].runs, MANY as u64);
    let submitted = board
        .events()
        .unwrap()
        .into_iter()
        .filter(|event| event.kind == "submit");
    assert_eq!(submitted.count(), MANY);
}
