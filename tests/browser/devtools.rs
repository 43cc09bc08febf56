//! A small client of the protocol of Chrome's developer tools: enough to open pages, press keys, evaluate scripts, take pictures, and to
//! hear of everything that went wrong.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names under which distributions install the browser.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A browser without a window, with one page.
pub(crate) struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    /// What the browser said without being asked and nobody has looked at.
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The browser's program: `JEPA_BENCH_CHROMIUM`, or the first known name that is installed.
pub(crate) fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("JEPA_BENCH_CHROMIUM") {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let paths = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| path.is_file())
}

impl Browser {
    /// Starts the browser with a profile of its own.
    pub(crate) fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new(program)
            .args([
                "--headless=new",
                "--remote-debugging-port=0",
                "--no-first-run",
                "--disable-gpu",
            ])
            // Continuous integration runs as root in a container, where the sandbox cannot be set up. Only our own pages are opened.
            .args([
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--disable-background-networking",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines
                .next()
                .expect("the browser ended before it listened")
                .unwrap();
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.to_string();
            }
        };
        // What else it has to say must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let host = address
            .trim_start_matches("ws://")
            .split('/')
            .next()
            .unwrap()
            .to_string();
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = tungstenite::client(&address, stream).unwrap();
        let mut browser = Self {
            process,
            socket,
            session: String::new(),
            next: 0,
            events: Vec::new(),
            _profile: profile,
        };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        self.session = self.call("Target.attachToTarget", &attach)["sessionId"]
            .as_str()
            .unwrap()
            .to_string();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    /// Calls a method and returns its result.
    pub(crate) fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        self.socket
            .send(Message::text(message.to_string()))
            .unwrap();
        loop {
            let heard = self.hear();
            if heard["id"] == id {
                assert!(heard.get("error").is_none(), "{method}: {}", heard["error"]);
                return heard["result"].clone();
            }
            self.events.push(heard);
        }
    }

    fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Opens an address and waits until the page and what it loads are there.
    pub(crate) fn open(&mut self, address: &str) {
        self.events
            .retain(|event| event["method"] != "Page.loadEventFired");
        let opened = self.call("Page.navigate", &json!({ "url": address }));
        assert!(opened.get("errorText").is_none(), "{address}: {opened}");
        self.loaded();
    }

    /// Waits for the page that was asked for, by a link or a key, to be there.
    pub(crate) fn loaded(&mut self) {
        let until = Instant::now() + PATIENCE;
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            assert!(Instant::now() < until, "the page does not load");
            let heard = self.hear();
            self.events.push(heard);
        }
        self.events.retain(|event| !is_loaded(event));
    }

    /// The value of a script's last expression; promises are waited for.
    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", &parameters);
        assert!(
            result.get("exceptionDetails").is_none(),
            "{script}: {}",
            result["exceptionDetails"]
        );
        result["result"]["value"].clone()
    }

    /// The text that a script gives.
    pub(crate) fn text(&mut self, script: &str) -> String {
        let value = self.evaluate(script);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{script} gives {value}"))
            .to_string()
    }

    /// Presses a key by its name, as `Tab`, `Enter`, `ArrowLeft`, `Space`.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Space" => (32, " "),
            "Home" => (36, ""),
            "ArrowLeft" => (37, ""),
            "ArrowRight" => (39, ""),
            other => panic!("no code for the key {other}"),
        };
        let name = if key == "Space" { " " } else { key };
        for kind in [
            if text.is_empty() {
                "rawKeyDown"
            } else {
                "keyDown"
            },
            "keyUp",
        ] {
            let mut event =
                json!({ "type": kind, "key": name, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types text where the focus is.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Size of the page in CSS pixels.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the reader's system prefers: `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "media": "", "features": features }),
        );
    }

    /// Whether pages may run scripts.
    pub(crate) fn allow_scripts(&mut self, allowed: bool) {
        self.call(
            "Emulation.setScriptExecutionDisabled",
            &json!({ "value": !allowed }),
        );
    }

    /// A picture of the whole page, at most 3,000 pixels high.
    pub(crate) fn picture(&mut self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", &json!({}))["cssContentSize"].clone();
        let height = size["height"].as_f64().unwrap().min(3_000.0);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        let taken = self.call(
            "Page.captureScreenshot",
            &json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }),
        );
        std::fs::write(path, base64(taken["data"].as_str().unwrap())).unwrap();
    }

    /// Everything that went wrong since this was last asked: exceptions, errors of the console, requests that failed.
    pub(crate) fn problems(&mut self) -> Vec<String> {
        // Whatever was said before the answer to this has been heard then.
        self.evaluate("new Promise((done) => setTimeout(done, 50))");
        let events = std::mem::take(&mut self.events);
        events.iter().filter_map(problem).collect()
    }
}

/// What an event says of something that went wrong.
fn problem(event: &Value) -> Option<String> {
    let details = &event["params"];
    let is_bad = match event["method"].as_str()? {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => matches!(
            details["type"].as_str(),
            Some("error" | "warning" | "assert")
        ),
        "Log.entryAdded" => matches!(
            details["entry"]["level"].as_str(),
            Some("error" | "warning")
        ),
        "Network.loadingFailed" => details["canceled"] != true,
        "Network.responseReceived" => details["response"]["status"].as_u64() >= Some(400),
        _ => false,
    };
    is_bad.then(|| event.to_string())
}

/// Decodes base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.as_bytes().chunks(4) {
        let plain = four.iter().filter(|byte| **byte != b'=').count();
        let bits = four.iter().fold(0, |sum, byte| {
            sum << 6 | if *byte == b'=' { 0 } else { digit(*byte) }
        });
        bytes.extend_from_slice(&bits.to_be_bytes()[1..plain.max(2)]);
    }
    bytes
}
