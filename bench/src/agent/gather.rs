//! Several searches, one batch: episodes that are planned side by side have their candidates scored together.
//!
//! Each search runs on a thread of its own and asks for the costs of its candidates. A [`Gather`] holds the question back
//! until every running search asks one, and then puts all of them to the model at once. A model that scores candidates
//! independently of each other answers as it would have one by one, so no result depends on how many run together.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use jepa_models::{CostSpec, Latent, ScoreRequest, WorldModel};

use crate::planner::PlanShape;
use crate::{Error, Result};

/// Where the searches of a run meet.
pub(crate) struct Gather<'a> {
    model: &'a dyn WorldModel,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Episodes that are running, whether or not they search at the moment.
    running: usize,
    /// Questions that wait, by number.
    waiting: BTreeMap<u64, Question>,
    /// Answers that were not fetched yet.
    answers: BTreeMap<u64, Result<Vec<f64>>>,
    next: u64,
    /// The model is at work.
    busy: bool,
    /// The model panicked: nobody gets an answer any more.
    broken: bool,
}

/// Candidates of one search.
pub(super) struct Question {
    pub(super) start: Latent,
    pub(super) goal: Latent,
    pub(super) spec: CostSpec,
    /// `[S, H, A]`.
    pub(super) values: Vec<f32>,
    pub(super) samples: usize,
    pub(super) shape: PlanShape,
}

/// An episode that takes part; the others do not wait for it any more when it is dropped.
pub(crate) struct Seat<'a, 'm>(&'a Gather<'m>);

impl Drop for Seat<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

impl<'a> Gather<'a> {
    /// A meeting place for the searches of a model.
    pub(crate) fn new(model: &'a dyn WorldModel) -> Self {
        Self {
            model,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Takes part: the others wait for this episode's questions.
    pub(crate) fn seat(&self) -> Seat<'_, 'a> {
        self.lock().running += 1;
        Seat(self)
    }

    /// The costs of the candidates, once everybody who takes part has asked.
    ///
    /// # Errors
    /// When the model fails on this question, or its thread has panicked on another.
    pub(super) fn costs(&self, question: Question) -> Result<Vec<f64>> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, question);
        loop {
            if let Some(answer) = state.answers.remove(&number) {
                return answer;
            }
            if state.broken {
                return Err(Error::Invalid {
                    what: "batch of several searches".into(),
                    detail: "the model failed on another search of the batch".into(),
                });
            }
            if !state.busy && state.waiting.len() >= state.running {
                state = self.answer(state);
            } else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Puts every waiting question to the model.
    fn answer<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let questions = std::mem::take(&mut state.waiting);
        state.busy = true;
        drop(state);
        let alarm = Alarm(self);
        let requests: Vec<ScoreRequest<'_>> = questions.values().map(Question::request).collect();
        let answers = self.model.costs_of_several(&requests);
        std::mem::forget(alarm);
        let mut state = self.lock();
        state.busy = false;
        match answers {
            Ok(answers) => state
                .answers
                .extend(questions.into_keys().zip(answers.into_iter().map(Ok))),
            // Whose question was at fault is found by asking one by one.
            Err(_) => {
                for (number, question) in questions {
                    let request = question.request();
                    let answer = self.model.costs(
                        request.start,
                        request.goal,
                        request.spec,
                        request.actions,
                    );
                    state.answers.insert(number, answer.map_err(Error::from));
                }
            }
        }
        self.changed.notify_all();
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn request(&self) -> ScoreRequest<'_> {
        ScoreRequest {
            start: &self.start,
            goal: &self.goal,
            spec: &self.spec,
            actions: jepa_models::ActionBatch {
                values: &self.values,
                samples: self.samples,
                horizon: self.shape.horizon,
                width: self.shape.width,
            },
        }
    }
}

/// Wakes everybody when the model panics.
struct Alarm<'a, 'm>(&'a Gather<'m>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().broken = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jepa_models::{ActionBatch, Distance, Frame, ModelInfo, Rollout, Steps};

    use super::*;
    use crate::agent::testing::KnowsWall;

    /// Counts how many questions come together; costs are sums of actions plus the start.
    struct Counts {
        info: ModelInfo,
        calls: AtomicUsize,
        questions: AtomicUsize,
    }

    impl Counts {
        fn new() -> Self {
            Self {
                info: KnowsWall::new().info,
                calls: AtomicUsize::new(0),
                questions: AtomicUsize::new(0),
            }
        }
    }

    impl WorldModel for Counts {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn encode(&self, _frame: Frame<'_>, _proprio: &[f32]) -> jepa_models::Result<Latent> {
            unreachable!("nothing is encoded")
        }

        fn unroll(
            &self,
            _start: &Latent,
            _actions: ActionBatch<'_>,
        ) -> jepa_models::Result<Rollout> {
            unreachable!("nothing is unrolled")
        }

        fn costs(
            &self,
            start: &Latent,
            _goal: &Latent,
            _spec: &CostSpec,
            actions: ActionBatch<'_>,
        ) -> jepa_models::Result<Vec<f64>> {
            assert!(actions.values[0] < 99.0, "this question breaks the model");
            if actions.values[0] < -99.0 {
                return Err(jepa_models::Error::NoGradients {
                    model: "test".into(),
                });
            }
            let sum = |row: &[f32]| f64::from(row.iter().sum::<f32>() + start.visual[0]);
            Ok(actions
                .values
                .chunks(actions.horizon * actions.width)
                .map(sum)
                .collect())
        }

        fn costs_of_several(
            &self,
            requests: &[ScoreRequest<'_>],
        ) -> jepa_models::Result<Vec<Vec<f64>>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.questions.fetch_add(requests.len(), Ordering::Relaxed);
            requests
                .iter()
                .map(|r| self.costs(r.start, r.goal, r.spec, r.actions))
                .collect()
        }
    }

    fn question(start: f32, values: &[f32]) -> Question {
        let latent = |value: f32| Latent {
            visual: vec![value],
            proprio: Vec::new(),
        };
        Question {
            start: latent(start),
            goal: latent(0.0),
            spec: CostSpec {
                distance: Distance::L2,
                steps: Steps::Last,
                proprio_weight: 0.0,
            },
            values: values.to_vec(),
            samples: values.len(),
            shape: PlanShape {
                horizon: 1,
                width: 1,
            },
        }
    }

    #[test]
    fn searches_of_any_length_meet_and_each_gets_its_own_answers() {
        let model = Counts::new();
        let gather = Gather::new(&model);
        let seats: Vec<_> = (0..4).map(|_| gather.seat()).collect();
        std::thread::scope(|scope| {
            for (worker, seat) in seats.into_iter().enumerate() {
                let gather = &gather;
                scope.spawn(move || {
                    // Worker 3 searches eight times as long as worker 0.
                    for round in 0..5 << worker {
                        let base = (100 * worker + round) as f32 / 1000.0;
                        let costs = gather.costs(question(base, &[0.5, 0.25])).unwrap();
                        assert_eq!(costs, [f64::from(0.5 + base), f64::from(0.25 + base)]);
                    }
                    drop(seat);
                });
            }
        });
        let [calls, questions] =
            [&model.calls, &model.questions].map(|count| count.load(Ordering::Relaxed));
        // Nobody asks twice in one batch, and everybody who still runs is in every batch.
        assert_eq!((calls, questions), (5 << 3, 5 + 10 + 20 + 40));
    }

    #[test]
    fn a_question_that_the_model_refuses_is_an_error_of_its_own_search() {
        let model = Counts::new();
        let gather = Gather::new(&model);
        let seats = [gather.seat(), gather.seat()];
        let answers = std::thread::scope(|scope| {
            let ask = |value: f32| {
                let gather = &gather;
                scope.spawn(move || gather.costs(question(0.0, &[value])))
            };
            [ask(1.0), ask(-100.0)].map(|handle| handle.join().unwrap())
        });
        drop(seats);
        assert_eq!(answers[0].as_ref().unwrap(), &[1.0]);
        assert!(matches!(answers[1], Err(Error::Model(_))), "{answers:?}");
    }

    #[test]
    fn nobody_waits_for_a_search_whose_model_panicked() {
        let model = Counts::new();
        let gather = Gather::new(&model);
        let seats = [gather.seat(), gather.seat()];
        let outcomes = std::thread::scope(|scope| {
            let ask = |value: f32| {
                let gather = &gather;
                scope.spawn(move || gather.costs(question(0.0, &[value])))
            };
            [ask(1.0), ask(100.0)].map(std::thread::ScopedJoinHandle::join)
        });
        drop(seats);
        let panicked = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        let refused = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Err(_))))
            .count();
        assert_eq!((panicked, refused), (1, 1));
    }
}
