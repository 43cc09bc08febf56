//! The process at the other end of the bridge: started, asked with a time limit, ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::message::Message;
use crate::{Error, Result};

/// Lines of the process's messages that an error repeats.
const LINES: usize = 6;
/// Time that a process has to end by itself.
const TO_END: Duration = Duration::from_millis(500);

/// A running simulator outside this program. It ends with this value.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    requests: Option<BufWriter<ChildStdin>>,
    replies: Receiver<std::io::Result<Message>>,
    stderr: Arc<Mutex<VecDeque<String>>>,
    /// Reads what it writes there, until it ends.
    listener: JoinHandle<()>,
    next: u64,
    /// Nothing can be asked of it any more.
    broken: bool,
}

impl Process {
    /// Starts a process; `name` is what errors call it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(name: &str, mut command: Command) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for this program; it ends its simulators itself.
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .map_err(|error| fault(name, format!("`{program}` cannot be started: {error}"), ""))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(fault(name, "it has no pipes".into(), ""));
        };
        let (send, replies) = channel();
        std::thread::spawn(move || {
            let mut source = BufReader::new(stdout);
            while let Some(reply) = Message::read(&mut source).transpose() {
                let ended = reply.is_err();
                if send.send(reply).is_err() || ended {
                    break;
                }
            }
        });
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(stderr)
                .lines()
                .map_while(std::io::Result::ok)
            {
                tracing::debug!("simulator: {line}");
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LINES {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Ok(Self {
            name: name.to_string(),
            child,
            requests: Some(BufWriter::new(stdin)),
            replies,
            stderr: lines,
            listener,
            next: 0,
            broken: false,
        })
    }

    /// Whether anything can still be asked of it.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken
    }

    /// Asks and waits for the answer, `limit` at most.
    ///
    /// # Errors
    /// When it refuses; when it has ended, does not answer in time or answers nonsense, and then it is ended.
    pub(super) fn ask(&mut self, request: Message, limit: Duration) -> Result<Message> {
        let op = request
            .fields
            .get("op")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string();
        if self.broken {
            return Err(fault(
                &self.name,
                format!("it cannot be asked for `{op}`: it has ended"),
                "",
            ));
        }
        self.next += 1;
        let request = request.with("id", self.next);
        let sent = match &mut self.requests {
            Some(pipe) => request.write(pipe),
            None => Ok(()),
        };
        // A process that does not read any more tells why in what it answers or how it ends.
        let reply = match self.replies.recv_timeout(limit) {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => {
                return Err(self.give_up(&format!("it answered `{op}` with no message: {error}")));
            }
            Err(RecvTimeoutError::Timeout) => {
                let detail = format!(
                    "it did not answer `{op}` within {} s and was stopped",
                    limit.as_secs_f64()
                );
                return Err(self.give_up(&detail));
            }
            Err(RecvTimeoutError::Disconnected) => {
                let how = self.how_it_ended();
                return Err(self.give_up(&format!("it {how} when it was asked for `{op}`")));
            }
        };
        if let Err(error) = sent {
            return Err(self.give_up(&format!("it cannot be asked for `{op}`: {error}")));
        }
        if reply.fields.get("id").and_then(Value::as_u64) != Some(self.next) {
            return Err(self.give_up(&format!("it answered another request than `{op}`")));
        }
        if reply.fields.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(reply);
        }
        let detail = reply.fields.get("error").and_then(Value::as_str);
        Err(Error::Invalid {
            what: format!("{}, `{op}`", self.name),
            detail: detail.unwrap_or("it refused without a reason").to_string(),
        })
    }

    /// An error of this process for something that it said.
    pub(super) fn give_up(&mut self, detail: &str) -> Error {
        self.end();
        // Its last words may still be on their way; a process of its own that outlives it may keep the pipe open.
        let begin = Instant::now();
        while !self.listener.is_finished() && begin.elapsed() < TO_END {
            std::thread::sleep(Duration::from_millis(5));
        }
        let lines = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let said = lines
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n");
        fault(&self.name, detail.to_string(), &said)
    }

    fn how_it_ended(&mut self) -> String {
        match self.wait(TO_END) {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit status {code}"),
                (None, Some(signal)) => format!("was killed by signal {signal}"),
                (None, None) => "ended".into(),
            },
            None => "closed its output".into(),
        }
    }

    fn wait(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let step = Duration::from_millis(10);
        for _ in 0..limit.as_millis() / step.as_millis() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(step);
        }
        None
    }

    fn end(&mut self) {
        self.broken = true;
        self.requests = None;
        // Errors here mean that it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.broken {
            // Without requests it ends by itself.
            self.requests = None;
            self.wait(TO_END);
            self.end();
        }
    }
}

/// An error of the bridge; `said` is what the process last wrote.
pub(super) fn fault(name: &str, detail: String, said: &str) -> Error {
    Error::Bridge {
        name: name.to_string(),
        detail,
        said: said.to_string(),
    }
}
