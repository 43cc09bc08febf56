//! What every environment promises, one check per promise.
//!
//! Each check returns what was broken instead of panicking, so that an environment of another crate
//! can be tested with the same functions.

use jepa_datasets::Stream;

use super::{Env, PLANNER_SIZE, Size, Start};

/// What a check found.
pub type Verdict = Result<(), String>;

/// Runs every check.
///
/// # Errors
/// With the first broken promise.
pub fn check_all(env: &mut dyn Env, behaviours: &[&str]) -> Verdict {
    seeds_decide_the_episode(env)?;
    reset_restores_the_state(env)?;
    reset_restores_states_on_the_way(env)?;
    widths_are_as_declared(env)?;
    the_state_is_everything(env)?;
    duplicates_are_independent(env)?;
    snapshots_bring_everything_back(env)?;
    frames_have_the_declared_size(env)?;
    rendering_changes_nothing(env)?;
    a_goal_reaches_itself(env)?;
    distances_are_symmetric(env)?;
    bad_vectors_are_refused(env)?;
    behaviours
        .iter()
        .try_for_each(|name| behaviours_follow_their_stream(env, name))
}

/// The same seed draws the same episode, another seed another one, and seeds beyond the reference
/// generator are refused.
///
/// # Errors
/// When the promise is broken.
pub fn seeds_decide_the_episode(env: &mut dyn Env) -> Verdict {
    let first = sample(env, 1)?;
    claim(
        first == sample(env, 1)?,
        "seed 1 draws two different episodes",
    )?;
    claim(
        first != sample(env, 2)?,
        "seeds 1 and 2 draw the same episode",
    )?;
    claim(env.sample(1 << 32).is_err(), "seed 2^32 is accepted")
}

/// After `reset_to(state)` the state is that state, bit for bit. Where bodies settle ([`super::Limits::settles`]), it is one
/// that counts as that state, and always the same.
///
/// # Errors
/// When the promise is broken.
pub fn reset_restores_the_state(env: &mut dyn Env) -> Verdict {
    for seed in 0..8 {
        let Start { init, goal, .. } = sample(env, seed)?;
        for state in [&goal, &init] {
            restores(env, state)?;
        }
    }
    Ok(())
}

/// The same for states on the way, in which bodies move.
///
/// # Errors
/// When the promise is broken.
pub fn reset_restores_states_on_the_way(env: &mut dyn Env) -> Verdict {
    for seed in 0..8 {
        let start = sample(env, seed)?.init;
        reset(env, &start)?;
        walk(env, 5)?;
        let state = env.state().to_vec();
        restores(env, &state)?;
    }
    Ok(())
}

fn restores(env: &mut dyn Env, state: &[f64]) -> Verdict {
    reset(env, state)?;
    if !env.limits().settles {
        return claim(
            env.state() == state,
            "the state after a reset is another one",
        );
    }
    let settled = env.state().to_vec();
    claim(
        env.success(state, &settled),
        "the state after a reset is far from the one asked for",
    )?;
    walk(env, 3)?;
    reset(env, state)?;
    claim(
        env.state() == settled,
        "two resets to one state end in different ones",
    )
}

/// States, proprio and sampled episodes have the widths of [`Env::limits`].
///
/// # Errors
/// When the promise is broken.
pub fn widths_are_as_declared(env: &mut dyn Env) -> Verdict {
    let Start { init, goal, .. } = sample(env, 3)?;
    reset(env, &init)?;
    let limits = env.limits();
    claim(
        init.len() == limits.state_width,
        "the initial state has another width",
    )?;
    claim(
        goal.len() == limits.state_width,
        "the goal has another width",
    )?;
    claim(
        env.state().len() == limits.state_width,
        "the state has another width",
    )?;
    claim(
        env.proprio().len() == limits.proprio_width,
        "proprio has another width",
    )
}

/// The same state and actions give the same states, whatever happened before.
///
/// # Errors
/// When the promise is broken.
pub fn the_state_is_everything(env: &mut dyn Env) -> Verdict {
    let Start { init, goal, .. } = sample(env, 4)?;
    reset(env, &init)?;
    let first = walk(env, 20)?;
    reset(env, &goal)?;
    walk(env, 3)?;
    reset(env, &init)?;
    claim(
        walk(env, 20)? == first,
        "the same actions from the same state end elsewhere",
    )
}

/// Stepping a copy leaves the original alone, and both behave alike.
///
/// # Errors
/// When the promise is broken.
pub fn duplicates_are_independent(env: &mut dyn Env) -> Verdict {
    let Start { init, .. } = sample(env, 5)?;
    reset(env, &init)?;
    let before = env.state().to_vec();
    let mut copy = env.duplicate().map_err(|error| error.to_string())?;
    let moved = walk(copy.as_mut(), 10)?;
    claim(env.state() == before, "stepping a copy moves the original")?;
    claim(walk(env, 10)? == moved, "a copy behaves differently")
}

/// Frames are square, of the native and the planner's size, with three channels.
///
/// # Errors
/// When the promise is broken.
pub fn frames_have_the_declared_size(env: &mut dyn Env) -> Verdict {
    let Start { init, .. } = sample(env, 6)?;
    reset(env, &init)?;
    for (size, side) in [
        (Size::Native, env.limits().native_size),
        (Size::Planner, PLANNER_SIZE),
    ] {
        let image = render(env, size)?;
        let whole = (image.height, image.width) == (side, side);
        claim(
            whole && image.rgb.len() == side * side * 3,
            "a frame has another size",
        )?;
    }
    Ok(())
}

/// Rendering neither moves the simulator nor depends on how often it was done.
///
/// # Errors
/// When the promise is broken.
pub fn rendering_changes_nothing(env: &mut dyn Env) -> Verdict {
    let Start { init, .. } = sample(env, 7)?;
    reset(env, &init)?;
    let before = env.state().to_vec();
    let first = render(env, Size::Native)?;
    claim(
        render(env, Size::Native)? == first,
        "two renders of one state differ",
    )?;
    claim(env.state() == before, "rendering moves the state")
}

/// A goal is reached in the goal, at distance 0, and not in the initial state.
///
/// # Errors
/// When the promise is broken.
pub fn a_goal_reaches_itself(env: &mut dyn Env) -> Verdict {
    let Start { init, goal, .. } = sample(env, 8)?;
    claim(env.success(&goal, &goal), "the goal does not reach itself")?;
    claim(
        env.state_distance(&goal, &goal) == 0.0,
        "the goal is away from itself",
    )?;
    claim(!env.success(&goal, &init), "an episode begins at its goal")
}

/// Distances are symmetric and not negative.
///
/// # Errors
/// When the promise is broken.
pub fn distances_are_symmetric(env: &mut dyn Env) -> Verdict {
    let Start { init, goal, .. } = sample(env, 9)?;
    let there = env.state_distance(&goal, &init);
    claim(there > 0.0, "two different states are at distance 0")?;
    let back = env.state_distance(&init, &goal);
    claim(
        there.total_cmp(&back).is_eq(),
        "the distance back is another one",
    )
}

/// Vectors of another width and numbers that are not finite are errors, and leave the state alone.
///
/// # Errors
/// When the promise is broken.
pub fn bad_vectors_are_refused(env: &mut dyn Env) -> Verdict {
    let Start { init, .. } = sample(env, 10)?;
    reset(env, &init)?;
    let (limits, before) = (env.limits(), env.state().to_vec());
    claim(
        env.reset_to(&vec![0.0; limits.state_width + 1]).is_err(),
        "a wide state is accepted",
    )?;
    claim(
        env.reset_to(&vec![f64::NAN; limits.state_width]).is_err(),
        "a NaN state is accepted",
    )?;
    claim(
        env.step(&vec![0.0; limits.action_width + 1]).is_err(),
        "a wide action is accepted",
    )?;
    let infinite = vec![f64::INFINITY; limits.action_width];
    claim(
        env.step(&infinite).is_err(),
        "an infinite action is accepted",
    )?;
    claim(env.state() == before, "a refused vector moves the state")
}

/// A behaviour is a function of its stream; unknown behaviours are refused.
///
/// # Errors
/// When the promise is broken.
pub fn behaviours_follow_their_stream(env: &mut dyn Env, name: &str) -> Verdict {
    let first = behave(env, name, 1)?;
    claim(
        first == behave(env, name, 1)?,
        "one stream gives two different episodes",
    )?;
    claim(
        first != behave(env, name, 2)?,
        "two streams give the same episode",
    )?;
    let unknown = env.behaviour("no-such-behaviour", Stream::new(0, &["conformance"]));
    claim(unknown.is_err(), "an unknown behaviour is accepted")
}

/// States of 20 steps of a behaviour.
fn behave(env: &mut dyn Env, name: &str, seed: u64) -> Result<Vec<Vec<f64>>, String> {
    let stream = Stream::new(seed, &["conformance", name]);
    let mut behaviour = env
        .behaviour(name, stream)
        .map_err(|error| error.to_string())?;
    reset(env, &behaviour.start())?;
    let mut states = vec![env.state().to_vec()];
    for _ in 0..20 {
        let action = behaviour.action(env.state());
        env.step(&action).map_err(|error| error.to_string())?;
        states.push(env.state().to_vec());
    }
    Ok(states)
}

/// Steps with fixed actions of moderate size and returns the last state.
fn walk(env: &mut dyn Env, steps: u64) -> Result<Vec<f64>, String> {
    let limits = env.limits();
    let mut stream = Stream::new(0, &["conformance", "walk"]);
    for _ in 0..steps {
        let component = |_| limits.nominal_action * (2.0 * stream.uniform() - 1.0);
        let action: Vec<f64> = (0..limits.action_width).map(component).collect();
        env.step(&action).map_err(|error| error.to_string())?;
    }
    Ok(env.state().to_vec())
}

/// A snapshot brings back all that decides what follows, also in a duplicate.
///
/// # Errors
/// When the promise is broken.
pub fn snapshots_bring_everything_back(env: &mut dyn Env) -> Verdict {
    let Start { init, .. } = sample(env, 11)?;
    reset(env, &init)?;
    walk(env, 7)?;
    let snapshot = env.snapshot();
    let snapshot = snapshot.map_err(|error| format!("no snapshot can be taken: {error}"))?;
    let before = env.state().to_vec();
    let first = walk(env, 10)?;
    let mut copy = env.duplicate().map_err(|error| error.to_string())?;
    for env in [env, copy.as_mut()] {
        let restored = env.restore(&snapshot);
        restored.map_err(|error| format!("a snapshot is refused: {error}"))?;
        claim(env.state() == before, "a snapshot holds another state")?;
        claim(
            walk(env, 10)? == first,
            "the same actions from a snapshot end elsewhere",
        )?;
    }
    Ok(())
}

fn render(env: &dyn Env, size: Size) -> Result<super::Image, String> {
    env.render(size)
        .map_err(|error| format!("a frame cannot be drawn: {error}"))
}

fn sample(env: &dyn Env, seed: u64) -> Result<Start, String> {
    env.sample(seed)
        .map_err(|error| format!("seed {seed} is refused: {error}"))
}

fn reset(env: &mut dyn Env, state: &[f64]) -> Verdict {
    env.reset_to(state)
        .map_err(|error| format!("a sampled state is refused: {error}"))
}

fn claim(holds: bool, otherwise: &str) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::env::wall::Wall;
    use crate::env::{Behaviour, Image, Limits, Outcome};

    /// One broken promise.
    #[derive(Clone, Copy, PartialEq)]
    enum Flaw {
        None,
        HiddenWind,
        StaleReset,
        WideProprio,
        SmallFrames,
        OneSidedDistance,
        EasyGoals,
        ForgetsSeeds,
        ForgetsMemory,
        SettlesFar,
        SettlesAnywhere,
        StaleOnTheWay,
        TakesNan,
    }

    /// Wall with a flaw.
    #[derive(Clone)]
    struct Flawed {
        wall: Wall,
        flaw: Flaw,
        steps: u32,
    }

    impl Env for Flawed {
        fn name(&self) -> &'static str {
            self.wall.name()
        }

        fn limits(&self) -> Limits {
            Limits {
                settles: matches!(self.flaw, Flaw::SettlesFar | Flaw::SettlesAnywhere),
                ..self.wall.limits()
            }
        }

        fn reset_to(&mut self, state: &[f64]) -> Result<()> {
            match self.flaw {
                Flaw::StaleReset => self.wall.reset_to(&[state[0], 20.0]),
                // As if whole numbers were all it could be reset to.
                Flaw::StaleOnTheWay if self.steps > 0 && state.len() == 2 => {
                    self.steps = 0;
                    self.wall.reset_to(&[state[0], state[1].floor()])
                }
                Flaw::SettlesFar => self.wall.reset_to(&[state[0], state[1] + 5.0]),
                Flaw::SettlesAnywhere if state.len() == 2 => self
                    .wall
                    .reset_to(&[state[0], state[1] + 1e-6 * f64::from(self.steps)]),
                Flaw::TakesNan if !state.iter().all(|value| value.is_finite()) => Ok(()),
                _ => self.wall.reset_to(state),
            }
        }

        fn step(&mut self, action: &[f64]) -> Result<Outcome> {
            self.steps += 1;
            let outcome = self.wall.step(action)?;
            if self.flaw == Flaw::HiddenWind {
                self.wall.step(&[1e-6 * f64::from(self.steps), 0.0])?;
            }
            Ok(outcome)
        }

        fn state(&self) -> &[f64] {
            self.wall.state()
        }

        fn proprio(&self) -> Vec<f32> {
            let mut proprio = self.wall.proprio();
            proprio.extend((self.flaw == Flaw::WideProprio).then_some(0.0));
            proprio
        }

        fn render(&self, size: Size) -> Result<Image> {
            match self.flaw {
                Flaw::SmallFrames => self.wall.render(Size::Native),
                _ => self.wall.render(size),
            }
        }

        fn sample(&self, seed: u64) -> Result<Start> {
            match self.flaw {
                Flaw::ForgetsSeeds => self.wall.sample(0),
                _ => self.wall.sample(seed),
            }
        }

        fn success(&self, goal: &[f64], state: &[f64]) -> bool {
            self.flaw == Flaw::EasyGoals || self.wall.success(goal, state)
        }

        fn state_distance(&self, goal: &[f64], state: &[f64]) -> f64 {
            let bias = if self.flaw == Flaw::OneSidedDistance {
                0.1 * goal[0]
            } else {
                0.0
            };
            let distance = self.wall.state_distance(goal, state);
            if distance == 0.0 {
                0.0
            } else {
                distance + bias
            }
        }

        fn behaviour(&self, name: &str, stream: Stream) -> Result<Box<dyn Behaviour>> {
            self.wall.behaviour(name, stream)
        }

        fn snapshot(&self) -> Result<Vec<f64>> {
            let mut snapshot = self.wall.state().to_vec();
            if self.flaw == Flaw::ForgetsMemory {
                snapshot[0] = snapshot[0].floor();
            }
            Ok(snapshot)
        }

        fn duplicate(&self) -> Result<Box<dyn Env>> {
            Ok(Box::new(self.clone()))
        }
    }

    #[test]
    fn every_broken_promise_is_found() {
        let verdict = |flaw| {
            let mut env = Flawed {
                wall: Wall::default(),
                flaw,
                steps: 0,
            };
            check_all(&mut env, &["random"])
        };
        assert_eq!(verdict(Flaw::None), Ok(()));
        for (flaw, words) in [
            (Flaw::HiddenWind, "end elsewhere"),
            (Flaw::StaleReset, "after a reset"),
            (Flaw::WideProprio, "proprio has another width"),
            (Flaw::SmallFrames, "a frame has another size"),
            (Flaw::OneSidedDistance, "the distance back"),
            (Flaw::EasyGoals, "begins at its goal"),
            (Flaw::ForgetsSeeds, "seeds 1 and 2"),
            (Flaw::StaleOnTheWay, "after a reset"),
            (Flaw::SettlesFar, "far from the one asked for"),
            (Flaw::SettlesAnywhere, "two resets to one state"),
            (Flaw::ForgetsMemory, "a snapshot holds another state"),
            (Flaw::TakesNan, "a NaN state is accepted"),
        ] {
            let found = verdict(flaw).unwrap_err();
            assert!(found.contains(words), "{found}");
        }
    }
}
