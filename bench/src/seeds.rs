//! Named random streams of an evaluation.
//!
//! Every stream is keyed by what it is for, so results do not depend on threads, shards or the order
//! of episodes (evaluation.md section 1.0.5). Episodes themselves are drawn by the environment's
//! released sampler, keyed by the episode seed alone.

use jepa_datasets::Stream;

use crate::planner::Noise;

/// Which plan random numbers belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanKey<'a> {
    /// Seed of the whole evaluation (`noise_seed`).
    pub suite: u64,
    /// Task, `name@version`.
    pub task: &'a str,
    /// Seed of the episode.
    pub episode_seed: u64,
    /// Position of the plan in its episode, from 0.
    pub replan: u32,
}

impl PlanKey<'_> {
    fn stream(&self, iteration: usize, purpose: &str) -> Stream {
        let (episode, replan) = (self.episode_seed.to_string(), self.replan.to_string());
        let iteration = iteration.to_string();
        let names = [
            "planner",
            self.task,
            "episode",
            &episode,
            "replan",
            &replan,
            "iteration",
            &iteration,
            purpose,
        ];
        Stream::new(self.suite, &names)
    }
}

/// Planner noise from named streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamNoise<'a> {
    key: PlanKey<'a>,
}

impl<'a> StreamNoise<'a> {
    /// The noise of one plan.
    pub fn new(key: &PlanKey<'a>) -> Self {
        Self { key: *key }
    }
}

impl Noise for StreamNoise<'_> {
    fn normals(&mut self, iteration: usize, out: &mut [f64]) {
        self.key.stream(iteration, "normal").fill_normal(out);
    }

    fn uniform(&mut self, iteration: usize) -> f64 {
        self.key.stream(iteration, "uniform").uniform()
    }
}

/// The stream of the random floor in one episode.
pub fn floor_stream(suite: u64, task: &str, episode_seed: u64) -> Stream {
    Stream::new(
        suite,
        &["floor", task, "episode", &episode_seed.to_string()],
    )
}

/// The stream of one recorded episode of `collect`.
pub fn collect_stream(seed: u64, env: &str, policy: &str, episode: u64) -> Stream {
    Stream::new(
        seed,
        &["collect", env, policy, "episode", &episode.to_string()],
    )
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the numbers must agree to the last bit")]
mod tests {
    use super::*;

    fn first(key: &PlanKey<'_>, iteration: usize) -> [f64; 2] {
        let mut out = [0.0; 2];
        StreamNoise::new(key).normals(iteration, &mut out);
        out
    }

    #[test]
    fn every_part_of_the_key_changes_the_noise() {
        let key = PlanKey {
            suite: 1,
            task: "wall@1",
            episode_seed: 7,
            replan: 0,
        };
        let base = first(&key, 0);
        assert_eq!(base, first(&key, 0));
        assert_ne!(base, first(&key, 1));
        assert_ne!(base, first(&PlanKey { suite: 2, ..key }, 0));
        assert_ne!(
            base,
            first(
                &PlanKey {
                    task: "wall@2",
                    ..key
                },
                0
            )
        );
        assert_ne!(
            base,
            first(
                &PlanKey {
                    episode_seed: 8,
                    ..key
                },
                0
            )
        );
        assert_ne!(base, first(&PlanKey { replan: 1, ..key }, 0));
    }

    #[test]
    fn purposes_have_streams_of_their_own() {
        let key = PlanKey {
            suite: 1,
            task: "wall@1",
            episode_seed: 7,
            replan: 0,
        };
        let uniform = StreamNoise::new(&key).uniform(0);
        assert_ne!(
            uniform.to_bits(),
            key.stream(0, "normal").uniform().to_bits()
        );
        assert_ne!(
            floor_stream(1, "wall@1", 3).next_u64(),
            floor_stream(1, "wall@1", 4).next_u64()
        );
        assert_ne!(
            collect_stream(1, "wall", "random", 3).next_u64(),
            collect_stream(2, "wall", "random", 3).next_u64()
        );
    }
}
