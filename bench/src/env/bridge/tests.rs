use std::path::Path;
use std::time::Instant;

use super::*;
use crate::env::conformance;

/// The simulator with faults of `tests/fixtures/bridge`.
fn command(fault: &str, settings: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/bridge/faulty.py");
    let mut command = Command::new("python3");
    command
        .arg(script)
        .args(["-c", SCRIPT, "metaworld", settings])
        .env("FAULT", fault);
    command
}

fn rules() -> Rules {
    Rules {
        entry: &METAWORLD,
        adapter: "metaworld",
        settings: Value::Null,
        success: Success::Flag(39),
        compared: Compared::First(39),
    }
}

fn start(fault: &str) -> Result<Bridged> {
    Bridged::from_link(
        rules(),
        Link {
            key: format!("test {fault}"),
            process: Some(Process::start("metaworld", command(fault, "{}"))?),
        },
    )
}

fn text(error: &Error) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

#[test]
fn a_simulator_in_another_process_keeps_the_promises_of_one_in_this() {
    let mut env = start("none").unwrap();
    assert_eq!((env.name(), env.limits().state_width), ("metaworld", 42));
    conformance::seeds_decide_the_episode(&mut env).unwrap();
    conformance::reset_restores_the_state(&mut env).unwrap();
    conformance::widths_are_as_declared(&mut env).unwrap();
    conformance::the_state_is_everything(&mut env).unwrap();
    // A duplicate would be another process, of whatever Python there is; this one is gone back to by itself.
    let start = env.sample(5).unwrap();
    start.enter(&mut env).unwrap();
    env.step(&[0.5, -0.5, 0.1, 0.0]).unwrap();
    let (snapshot, before) = (env.snapshot().unwrap(), env.state().to_vec());
    env.step(&[1.0; 4]).unwrap();
    assert_ne!(env.state(), before);
    env.restore(&snapshot).unwrap();
    assert_eq!(env.state(), before);
    conformance::frames_have_the_declared_size(&mut env).unwrap();
    conformance::rendering_changes_nothing(&mut env).unwrap();
    conformance::a_goal_reaches_itself(&mut env).unwrap();
    conformance::distances_are_symmetric(&mut env).unwrap();
    conformance::bad_vectors_are_refused(&mut env).unwrap();
}

#[test]
fn the_expert_of_the_other_end_is_asked() {
    let mut env = start("none").unwrap();
    let start = env.sample(4).unwrap();
    start.enter(&mut env).unwrap();
    assert!(!env.success(&start.goal, env.state()));
    for _ in 0..99 {
        let action = env.expert().unwrap();
        env.step(&action).unwrap();
    }
    assert!(env.success(&start.goal, env.state()));
    assert!(env.state_distance(&start.goal, env.state()) < 1e-3);
}

#[test]
fn every_way_of_failing_is_one_clear_error() {
    for (fault, words) in [
        (
            "crash:3",
            &["was killed by signal 9", "`step`", "the motor is on fire"][..],
        ),
        (
            "exit:3",
            &["ended with exit status 7", "`step`", "the motor is on fire"],
        ),
        (
            "garbage:3",
            &["answered `step` with no message", "the motor is on fire"],
        ),
        ("nan:3", &["number 0 of `state` is NaN"]),
        ("short:3", &["`state` has 1 numbers, not 42"]),
    ] {
        let mut env = start(fault).unwrap();
        let start = env.sample(3).unwrap();
        start.enter(&mut env).unwrap();
        let error = env.step(&[0.0; 4]).unwrap_err();
        assert!(matches!(error, Error::Bridge { .. }), "{error:?}");
        let said = text(&error);
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{fault}: {said}"
        );
        // Nothing can be asked of it afterwards, and nothing waits for it.
        let began = Instant::now();
        assert!(text(&env.step(&[0.0; 4]).unwrap_err()).contains("has ended"));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    let said = text(&start("version").unwrap_err());
    assert!(
        said.contains("version 999 of the protocol, this program version 1"),
        "{said}"
    );
}

#[test]
fn a_simulator_that_hangs_is_stopped() {
    let mut process = Process::start("metaworld", command("hang:3", "{}")).unwrap();
    let long = Duration::from_secs(20);
    let episode = process
        .ask(Message::request("episode").with("seed", 2), long)
        .unwrap();
    let Some(Array::F64(mut init)) = episode.arrays.get("init").cloned() else {
        panic!("no initial state")
    };
    init[40] = 3.0;
    process
        .ask(Message::request("reset").with_numbers("state", &init), long)
        .unwrap();
    let began = Instant::now();
    let step = Message::request("step").with_numbers("action", &[0.0; 4]);
    let error = process.ask(step, Duration::from_millis(300)).unwrap_err();
    let said = text(&error);
    assert!(
        said.contains("did not answer `step` within 0.3 s and was stopped"),
        "{said}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(!process.is_usable());
}

#[test]
fn requests_that_cannot_be_met_leave_the_simulator_usable() {
    let mut process = Process::start("metaworld", command("none", "{}")).unwrap();
    let long = Duration::from_secs(20);
    for (request, words) in [
        (
            Message::request("episode").with("seed", 1_u64 << 32),
            "below 2^32",
        ),
        (Message::request("fly"), "unknown request `fly`"),
        (Message::request("step"), "KeyError"),
    ] {
        let error = process.ask(request, long).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(process.is_usable());
    process.ask(Message::request("hello"), long).unwrap();
}

#[test]
fn what_cannot_be_started_says_why() {
    let missing = Process::start("metaworld", Command::new("no-such-python")).unwrap_err();
    assert!(text(&missing).contains("`no-such-python` cannot be started"));
    let mut process =
        Process::start("metaworld", command("none", r#"{"task": "no-such-task"}"#)).unwrap();
    let error = process
        .ask(Message::request("hello"), Duration::from_secs(20))
        .unwrap_err();
    let said = text(&error);
    assert!(
        said.contains("ended with exit status 1") && said.contains("no task `no-such-task`"),
        "{said}"
    );
}
