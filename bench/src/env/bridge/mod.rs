//! Simulators outside this program: one process each, asked over pipes (docs/bridge.md).
//!
//! The other end is `bench/bridge/jepa_bench_bridge.py`, which serves Metaworld and any Gymnasium environment. A process
//! that dies, hangs or speaks another version of the protocol is an error of the episode in hand, not of the run.

mod gymnasium;
mod message;
mod metaworld;
mod process;

use std::cell::RefCell;
use std::ffi::OsString;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jepa_datasets::Stream;
use serde_json::Value;

use self::message::{Array, Message};
use self::process::{Process, fault};
use super::{
    Behaviour, Env, EnvEntry, Image, Limits, Outcome, PLANNER_SIZE, Size, Start, check_vector,
};
use crate::{Error, Result};

pub(super) use gymnasium::ENTRY as GYMNASIUM;
pub(super) use metaworld::ENTRY as METAWORLD;

/// The program at the other end.
const SCRIPT: &str = include_str!("../../../bridge/jepa_bench_bridge.py");
/// Version of the messages; the other end must speak the same.
const PROTOCOL: u64 = 1;
/// Environment variable with the Python that has the simulators.
pub(crate) const PYTHON: &str = "JEPA_BENCH_PYTHON";
/// Environment variable with the seconds that an answer may take.
pub(crate) const TIMEOUT: &str = "JEPA_BENCH_BRIDGE_TIMEOUT";
/// Seconds that an answer may take. A first frame on a busy machine takes several.
const DEFAULT_TIMEOUT: f64 = 120.0;

/// What distinguishes the environments of one adapter.
#[derive(Debug, Clone)]
struct Rules {
    entry: &'static EnvEntry,
    /// Name of the adapter at the other end.
    adapter: &'static str,
    /// Its settings, a JSON object.
    settings: Value,
    /// When a state counts as success.
    success: Success,
    /// Leading numbers of a state that distances are taken over.
    compared: Compared,
}

/// When a state counts as success.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Success {
    /// The simulator says so, in this number of a state.
    Flag(usize),
    /// The compared numbers are nearer to the goal's than this.
    Distance(f64),
}

/// The numbers of a state that are compared with those of the goal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Compared {
    /// This many from the beginning.
    First(usize),
    /// All but this many at the end.
    AllBut(usize),
}

/// A simulator in another process.
#[derive(Debug)]
struct Bridged {
    rules: Rules,
    limits: Limits,
    link: RefCell<Link>,
    state: Vec<f64>,
    proprio: Vec<f32>,
}

/// A process that goes back to the idle ones when its simulator is no longer used.
#[derive(Debug)]
struct Link {
    key: String,
    process: Option<Process>,
}

/// Processes that wait for another episode: starting one takes seconds, and a reset forgets everything.
static IDLE: Mutex<Vec<(String, Process)>> = Mutex::new(Vec::new());

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(process) = self.process.take()
            && process.is_usable()
        {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((std::mem::take(&mut self.key), process));
        }
    }
}

impl Link {
    /// An idle process of this kind, or a new one.
    fn open(rules: &Rules) -> Result<Self> {
        let python = python();
        let key = format!(
            "{} {} {}",
            python.to_string_lossy(),
            rules.adapter,
            rules.settings
        );
        let waiting = {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            let at = idle.iter().position(|(known, _)| *known == key);
            at.map(|at| idle.swap_remove(at).1)
        };
        let process = if let Some(process) = waiting {
            process
        } else {
            let mut command = Command::new(&python);
            command
                .args(["-c", SCRIPT, rules.adapter])
                .arg(rules.settings.to_string());
            // One thread per renderer: several processes run side by side.
            for (name, value) in [("MUJOCO_GL", "egl"), ("LP_NUM_THREADS", "1")] {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
            Process::start(rules.entry.name, command)?
        };
        Ok(Self {
            key,
            process: Some(process),
        })
    }

    fn ask(&mut self, request: Message) -> Result<Message> {
        match &mut self.process {
            Some(process) => process.ask(request, timeout()?),
            None => Err(fault("bridge", "its process is gone".into(), "")),
        }
    }

    /// The error for an answer that cannot be used.
    fn nonsense(&mut self, detail: &str) -> Error {
        match &mut self.process {
            Some(process) => process.give_up(detail),
            None => fault("bridge", detail.to_string(), ""),
        }
    }

    /// Numbers of an answer, `width` of them, all finite.
    fn numbers(&mut self, reply: &Message, name: &str, width: Option<usize>) -> Result<Vec<f64>> {
        let values = match reply.arrays.get(name) {
            Some(Array::F64(values)) => values.clone(),
            Some(Array::F32(values)) => values.iter().map(|&value| f64::from(value)).collect(),
            _ => return Err(self.nonsense(&format!("its answer has no numbers `{name}`"))),
        };
        if width.is_some_and(|width| width != values.len()) {
            let detail = format!(
                "`{name}` has {} numbers, not {}",
                values.len(),
                width.unwrap_or_default()
            );
            return Err(self.nonsense(&detail));
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.nonsense(&format!("number {at} of `{name}` is {}", values[at]))),
            None => Ok(values),
        }
    }
}

/// The Python that has the simulators.
pub(crate) fn python() -> OsString {
    std::env::var_os(PYTHON)
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "python3".into())
}

fn timeout() -> Result<Duration> {
    let Ok(text) = std::env::var(TIMEOUT) else {
        return Ok(Duration::from_secs_f64(DEFAULT_TIMEOUT));
    };
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    limit.ok_or_else(|| Error::Config {
        what: format!("environment variable {TIMEOUT}"),
        detail: format!("`{text}` is no positive number of seconds"),
        hint: Some("write seconds, e.g. 60, or leave it out".into()),
    })
}

impl Bridged {
    /// Starts the simulator and asks what it is.
    fn open(rules: Rules) -> Result<Self> {
        let link = Link::open(&rules)?;
        Self::from_link(rules, link)
    }

    fn from_link(rules: Rules, mut link: Link) -> Result<Self> {
        let hello = link.ask(Message::request("hello"))?;
        let number = |name: &str| hello.fields.get(name).and_then(Value::as_u64);
        let spoken = number("protocol");
        if spoken != Some(PROTOCOL) {
            let spoken = spoken.map_or("none".into(), |spoken| spoken.to_string());
            let detail = format!(
                "it speaks version {spoken} of the protocol, this program version {PROTOCOL}"
            );
            return Err(link.nonsense(&detail));
        }
        let mut size = |name: &str| {
            let found = number(name)
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| *size > 0);
            found.ok_or_else(|| link.nonsense(&format!("it does not say its `{name}`")))
        };
        let limits = Limits {
            state_width: size("state_width")?,
            proprio_width: size("proprio_width")?,
            action_width: size("action_width")?,
            native_size: size("frame_size")?,
            ..rules.entry.limits
        };
        Ok(Self {
            state: vec![0.0; limits.state_width],
            proprio: vec![0.0; limits.proprio_width],
            rules,
            limits,
            link: RefCell::new(link),
        })
    }

    /// Asks for something that moves the simulator, and takes over its new state.
    fn act(&mut self, request: Message) -> Result<Message> {
        let link = self.link.get_mut();
        let reply = link.ask(request)?;
        let state = link.numbers(&reply, "state", Some(self.limits.state_width))?;
        let proprio = link.numbers(&reply, "proprio", Some(self.limits.proprio_width))?;
        self.state = state;
        self.proprio = proprio.into_iter().map(|value| value as f32).collect();
        Ok(reply)
    }

    fn compared<'a>(&self, state: &'a [f64]) -> &'a [f64] {
        let count = match self.rules.compared {
            Compared::First(count) => count,
            Compared::AllBut(count) => state.len().saturating_sub(count),
        };
        &state[..count.min(state.len())]
    }
}

impl Env for Bridged {
    fn name(&self) -> &'static str {
        self.rules.entry.name
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn reset_to(&mut self, state: &[f64]) -> Result<()> {
        check_vector(
            &format!("state of `{}`", self.name()),
            state,
            self.limits.state_width,
        )?;
        self.act(Message::request("reset").with_numbers("state", state))
            .map(drop)
    }

    fn step(&mut self, action: &[f64]) -> Result<Outcome> {
        check_vector(
            &format!("action of `{}`", self.name()),
            action,
            self.limits.action_width,
        )?;
        let reply = self.act(Message::request("step").with_numbers("action", action))?;
        let reward = reply.fields.get("reward").and_then(Value::as_f64);
        let reward =
            reward.ok_or_else(|| self.link.get_mut().nonsense("its answer has no reward"))?;
        Ok(Outcome {
            reward,
            nan_guard: false,
        })
    }

    fn state(&self) -> &[f64] {
        &self.state
    }

    fn proprio(&self) -> Vec<f32> {
        self.proprio.clone()
    }

    fn render(&self, size: Size) -> Result<Image> {
        let side = self.limits.native_size;
        let mut link = self.link.borrow_mut();
        let mut reply = link.ask(Message::request("render").with("size", side))?;
        let native = match reply.arrays.remove("rgb") {
            Some(Array::U8(shape, rgb)) if shape == [side, side, 3] => Image {
                height: side,
                width: side,
                rgb,
            },
            _ => {
                return Err(
                    link.nonsense(&format!("its answer has no frame of {side}x{side} pixels"))
                );
            }
        };
        Ok(match size {
            Size::Planner if side != PLANNER_SIZE => native.resized(PLANNER_SIZE),
            Size::Planner | Size::Native => native,
        })
    }

    fn sample(&self, seed: u64) -> Result<Start> {
        let mut link = self.link.borrow_mut();
        let reply = link.ask(Message::request("episode").with("seed", seed))?;
        let width = Some(self.limits.state_width);
        Ok(Start {
            init: link.numbers(&reply, "init", width)?,
            goal: link.numbers(&reply, "goal", width)?,
            way: link.numbers(&reply, "way", None)?,
        })
    }

    fn success(&self, goal: &[f64], state: &[f64]) -> bool {
        match self.rules.success {
            Success::Flag(at) => state[at] > 0.5,
            Success::Distance(limit) => self.state_distance(goal, state) < limit,
        }
    }

    fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
        let pairs = self.compared(goal).iter().zip(self.compared(state));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
    }

    fn oracle_cost(&self, goal: &[f64], state: &[f64]) -> f64 {
        // The hand leads an observation of Metaworld; elsewhere all of it is compared.
        let count = match self.rules.compared {
            Compared::First(_) => 3,
            Compared::AllBut(count) => state.len().saturating_sub(count),
        };
        let pairs = goal.iter().zip(state).take(count);
        pairs.map(|(a, b)| (a - b) * (a - b)).sum()
    }

    fn behaviour(&self, name: &str, _stream: Stream) -> Result<Box<dyn Behaviour>> {
        Err(super::unknown_behaviour(name, self.rules.entry))
    }

    fn snapshot(&self) -> Result<Vec<f64>> {
        let mut link = self.link.borrow_mut();
        let reply = link.ask(Message::request("snapshot"))?;
        link.numbers(&reply, "snapshot", None)
    }

    fn restore(&mut self, snapshot: &[f64]) -> Result<()> {
        self.act(Message::request("restore").with_numbers("snapshot", snapshot))
            .map(drop)
    }

    fn expert(&self) -> Result<Vec<f64>> {
        let mut link = self.link.borrow_mut();
        let reply = link.ask(Message::request("expert"))?;
        link.numbers(&reply, "action", Some(self.limits.action_width))
    }

    fn duplicate(&self) -> Result<Box<dyn Env>> {
        let mut copy = Self::open(self.rules.clone())?;
        copy.restore(&self.snapshot()?)?;
        Ok(Box::new(copy))
    }
}

#[cfg(test)]
mod tests;
