use jepa_leaderboard::quantile;

use super::*;
use crate::fixtures::Npz;
use crate::planner::testing::{
    FnCost, Given, RecordedCost, SeededNoise, assert_close, formula_noise, quadratic,
};

const SMALL: PlanShape = PlanShape {
    horizon: 2,
    width: 2,
};
const TARGET: [f64; 4] = [0.5, 1.0, 1.5, 2.0];

fn planner(text: &str) -> CmaEs {
    CmaEs::new(read_settings(ENTRY.name, &text.parse().unwrap()).unwrap()).unwrap()
}

/// Every number within `tolerance` of itself; numbers below 1e-5 within 1e-5 of that.
fn assert_relative(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (a, e) in actual.iter().zip(expected) {
        assert!(
            (a - e).abs() <= tolerance * e.abs().max(1e-5),
            "{what}: {a} instead of {e}"
        );
    }
}

#[test]
fn constants_are_those_of_the_table() {
    // evaluation.md section 3.3, as printed there to six digits: c_sigma, d_sigma, c_1, c_mu, c_c, sum of the negative weights.
    let table = [
        (
            60,
            [
                0.567471, 1.814961, 0.0130221, 0.586878, 0.223587, -1.0221888,
            ],
        ),
        (
            120,
            [
                0.398103, 1.398103, 0.00701463, 0.376140, 0.135248, -1.018649,
            ],
        ),
        (
            21,
            [
                0.784379, 3.526789, 0.0295151, 0.970485, 0.394917, -1.0304128,
            ],
        ),
    ];
    for (numbers, expected) in table {
        let found = Constants::new(numbers, 300, SigmaRule::Classic);
        assert_eq!(found.parents, 150);
        assert_relative(&[found.mu_eff], &[78.03098], 1e-7, "mu_eff");
        let positive: f64 = found.weights[..150].iter().sum();
        assert_relative(&[positive], &[1.0], 1e-14, "positive weights");
        let negative: f64 = found.weights[150..].iter().sum();
        let Constants {
            c_sigma,
            d_sigma,
            c_1,
            c_mu,
            c_c,
            ..
        } = found;
        assert_relative(
            &[c_sigma, d_sigma, c_1, c_mu, c_c, negative],
            &expected,
            4e-6,
            "constants",
        );
    }
}

#[test]
fn capped_constants_are_those_of_pycma_4_5() {
    let expected = [
        (60, 0.5, 6.176103494920953),
        (120, 0.39810273360286214, 4.184946020422896),
        (21, 0.5, 8.499465708993231),
    ];
    for (numbers, c_sigma, d_sigma) in expected {
        let found = Constants::new(numbers, 300, SigmaRule::Capped);
        assert_relative(
            &[found.c_sigma, found.d_sigma],
            &[c_sigma, d_sigma],
            1e-13,
            "rates",
        );
    }
}

#[test]
fn small_constants_are_those_of_the_documented_search() {
    let found = Constants::new(4, 12, SigmaRule::Classic);
    let negative: f64 = found.weights[6..].iter().sum();
    let Constants {
        parents,
        mu_eff,
        c_sigma,
        d_sigma,
        c_c,
        c_1,
        c_mu,
        chi,
        ..
    } = found;
    assert_eq!(parents, 6);
    let found = [chi, mu_eff, c_c, c_1, c_mu, c_sigma, d_sigma, negative];
    let expected = [
        1.8799712060,
        3.729458934,
        0.5303786679,
        0.1119524370,
        0.1621087775,
        0.5339932768,
        1.5339932768,
        -1.690600711,
    ];
    assert_close(&found, &expected, 1e-9, "constants");
    // From 7 numbers on the length is pycma's series, with 26 in place of the usual 21.
    let chi = Constants::new(16, 16, SigmaRule::Classic).chi;
    assert_close(&[chi], &[3.9381009615384617], 1e-15, "chi");
}

/// State, best cost and its place after every generation.
struct Recorded {
    mean: Vec<f64>,
    sigma: f64,
    scale: Vec<f64>,
    best: (f64, usize),
}

fn documented(rule: &str) -> Vec<Recorded> {
    let planner = planner(&format!(
        "candidates = 12\niterations = 3\nsigma_rule = \"{rule}\""
    ));
    let mut found = Vec::new();
    let mut cost = FnCost(|x| x.iter().zip(TARGET).map(|(x, t)| (x - t) * (x - t)).sum());
    let mut watch = |generation: &Generation<'_>| {
        let order = elites(generation.costs, 1);
        found.push(Recorded {
            mean: generation.state.mean.clone(),
            sigma: generation.state.sigma,
            scale: generation.state.scale.clone(),
            best: (generation.costs[order[0]], order[0]),
        });
    };
    planner
        .search(SMALL, &mut cost, &mut formula_noise(12, 0..3), &mut watch)
        .unwrap();
    found
}

#[test]
fn the_documented_search_is_reproduced() {
    let expected = [
        (
            [0.3067521008, 0.0833286862, 0.4549224786, 1.0895134121],
            1.0395063589,
            [0.9201920858, 0.9976390183, 0.9858956154, 1.1530818852],
            (0.9064295525, 9),
        ),
        (
            [-0.0040233684, 0.3948745797, 1.0970991961, 1.6139487485],
            1.1263712349,
            [0.9446802033, 0.9973188323, 1.0677924179, 1.2190741769],
            (0.7807644236, 8),
        ),
        (
            [0.7389422977, 0.7739668761, 1.2763023876, 2.1323424291],
            1.2254929654,
            [1.0521464093, 1.0314654511, 1.0997103948, 1.2684610677],
            (0.4239187626, 10),
        ),
    ];
    let found = documented("classic");
    assert_eq!(found.len(), 3);
    for (found, (mean, sigma, scaled, best)) in found.iter().zip(expected) {
        assert_close(&found.mean, &mean, 1e-9, "mean");
        assert_close(
            &[found.sigma, found.best.0],
            &[sigma, best.0],
            1e-9,
            "sigma, best",
        );
        let product: Vec<f64> = found
            .scale
            .iter()
            .map(|scale| scale * found.sigma)
            .collect();
        assert_close(&product, &scaled, 1e-9, "sigma times scale");
        assert_eq!(found.best.1, best.1);
    }
}

#[test]
fn the_capped_rule_is_that_of_pycma_4_5() {
    // pycma 4.5.0 with CMA_diagonal, the noise and the cost of the documented search.
    let expected = [
        (
            [
                0.30675210075303316,
                0.08332868617489209,
                0.4549224786481249,
                1.0895134121111014,
            ],
            1.0296810011829793,
            (0.9064295525008157, 9),
        ),
        (
            [
                -0.0010859355206172087,
                0.391929864824372,
                1.0910293766014714,
                1.6089918141047252,
            ],
            1.1140017089147796,
            (0.7665198834801781, 8),
        ),
        (
            [
                0.7337206682654407,
                0.7668590648390619,
                1.2682646036121008,
                2.1216926255251005,
            ],
            1.2162239791317888,
            (0.4175516076675463, 10),
        ),
    ];
    for (found, (mean, sigma, best)) in documented("capped").iter().zip(expected) {
        assert_close(&found.mean, &mean, 1e-13, "mean");
        assert_close(
            &[found.sigma, found.best.0],
            &[sigma, best.0],
            1e-13,
            "sigma, best",
        );
        assert_eq!(found.best.1, best.1);
    }
}

/// Runs one recorded search and compares every generation.
fn compare_with_recorded(recorded: &Npz, name: &str, shape: PlanShape, bounded: bool) {
    let d = shape.len();
    let group = format!("{name}_{d}_{}", if bounded { "bounded" } else { "free" });
    let value = |field: &str| recorded.values(&format!("{group}__{field}"));
    let row =
        |field: &str, generation: usize, width: usize| &value(field)[generation * width..][..width];
    let bounds = recorded.values(&format!("bound_{d}"))[..shape.width]
        .iter()
        .enumerate();
    let limit = |(dim, &bound)| Limit::new(vec![dim], bound);
    let config = CmaEsConfig {
        iterations: 5,
        limits: if bounded {
            bounds.map(limit).collect()
        } else {
            Vec::new()
        },
        ..CmaEsConfig::default()
    };
    let noise = recorded.values(&format!("z_{d}_1024ths")).chunks(300 * d);
    let noise = noise.map(|batch| batch.iter().map(|level| level / 1024.0).collect());
    let mut noise = Given(noise.collect());
    let mut cost = RecordedCost::read(recorded, name, &format!("t_{d}"), &format!("w_{d}"));
    let (mut seen, mut shortened) = (0, 0);
    let mut watch = |found: &Generation<'_>| {
        let at = found.iteration;
        let what = format!("{group}, generation {at}");
        let close = |field: &str, actual: &[f64]| {
            assert_relative(
                actual,
                row(field, at, actual.len()),
                1e-10,
                &format!("{what}: {field}"),
            );
        };
        close("costs", found.costs);
        close("mean", &found.state.mean);
        close("sigma", &[found.state.sigma]);
        close("scale", &found.state.scale);
        close("ps", &found.state.path_sigma);
        close("pc", &found.state.path_scale);
        close("best_cost", &[found.best.cost]);
        close("best_x", &found.best.actions);
        let (generation, index) = found.best.index;
        assert_eq!(
            row("best_index", at, 2),
            [generation as f64, index as f64],
            "{what}"
        );
        assert_eq!(
            row("n_reflected", at, 1),
            [found.reflected as f64],
            "{what}"
        );
        assert_eq!(
            row("n_shortened", at, 1),
            [(found.state.shortened - shortened) as f64],
            "{what}"
        );
        shortened = found.state.shortened;
        seen += 1;
    };
    let plan = CmaEs::new(config)
        .unwrap()
        .search(shape, &mut cost, &mut noise, &mut watch)
        .unwrap();
    assert_eq!(seen, 5);
    assert_relative(&plan.actions, row("best_x", 4, d), 1e-10, &group);
    assert!(
        plan.trace
            .best
            .iter()
            .all(|&best| best >= value("best_cost")[4] * (1.0 - 1e-10))
    );
}

#[test]
fn the_recorded_searches_of_nevergrad_are_reproduced() {
    let recorded = Npz::read("sims/cma_traces.npz");
    for (horizon, width) in [(3, 7), (6, 10), (6, 20)] {
        for name in ["quad", "rast"] {
            for bounded in [false, true] {
                compare_with_recorded(&recorded, name, PlanShape { horizon, width }, bounded);
            }
        }
    }
}

/// Mean and median of one generation over all seeds.
fn mean_and_median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, f64::midpoint(values[middle - 1], values[middle]))
}

/// How the best costs so far of 20 runs of nevergrad spread, per generation.
struct Spread {
    low: Vec<f64>,
    high: Vec<f64>,
    q25: Vec<f64>,
    q75: Vec<f64>,
}

/// Searches on the cost `name` and compares their best costs so far with those of nevergrad.
fn compare_with_spread(name: &str, t: &[f64], w: &[f64], theirs: &Spread) {
    // The median of as few as nevergrad's 20 runs moves by more than its distance to the bounds.
    const RUNS: u64 = 100;
    let shape = PlanShape {
        horizon: 6,
        width: 10,
    };
    let planner = CmaEs::new(CmaEsConfig::default()).unwrap();
    let mut runs: Vec<Vec<f64>> = vec![Vec::new(); 30];
    for seed in 0..RUNS {
        let mut cost = RecordedCost::new(name, t, w);
        let mut watch = |found: &Generation<'_>| runs[found.iteration].push(found.best.cost);
        planner
            .search(shape, &mut cost, &mut SeededNoise(seed), &mut watch)
            .unwrap();
    }
    let Spread {
        low,
        high,
        q25,
        q75,
    } = theirs;
    assert_eq!(low.len(), 30);
    for (at, run) in runs.into_iter().enumerate() {
        assert_eq!(run.len() as u64, RUNS);
        let (mean, median) = mean_and_median(run);
        let what = format!("{name}, generation {at}: mean {mean}, median {median}");
        assert!((low[at]..=high[at]).contains(&median), "{what}");
        let spread = q75[at] - q25[at];
        let usual = q25[at] - spread..=q75[at] + spread;
        assert!(at < 2 || usual.contains(&mean), "{what}");
    }
}

fn json(path: &str) -> serde_json::Value {
    let text = std::fs::read(format!("../tests/fixtures/{path}")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn list(value: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn searches_are_as_good_as_those_of_nevergrad() {
    let stats = json("sims/nevergrad_stats.json");
    for name in ["quad", "rast", "wall"] {
        let [low, high, q25, q75] =
            ["min", "max", "q25", "q75"].map(|field| list(&stats["costs"][name][field]));
        let theirs = Spread {
            low,
            high,
            q25,
            q75,
        };
        compare_with_spread(name, &list(&stats["t"]), &list(&stats["w"]), &theirs);
    }
}

#[test]
fn searches_are_as_good_as_20_runs_that_we_made_of_nevergrad() {
    // tests/fixtures/nevergrad/generate.py: nevergrad from PyPI, other targets, other seeds.
    let made = json("nevergrad/runs.json");
    for name in ["quad", "wall"] {
        let runs: Vec<Vec<f64>> = serde_json::from_value(made["costs"][name].clone()).unwrap();
        assert_eq!(runs.len(), 20);
        let generation = |at: usize| runs.iter().map(|run| run[at]).collect::<Vec<f64>>();
        let quantiles = |q: f64| -> Option<Vec<f64>> {
            (0..30).map(|at| quantile(&generation(at), q)).collect()
        };
        let [low, q25, q75, high] = [0.0, 0.25, 0.75, 1.0].map(|q| quantiles(q).unwrap());
        let theirs = Spread {
            low,
            high,
            q25,
            q75,
        };
        compare_with_spread(name, &list(&made["t"]), &list(&made["w"]), &theirs);
    }
}

#[test]
fn what_leaves_the_bounds_is_reflected_once_and_then_held() {
    let mut batch = ActionBatch::zeros(
        3,
        PlanShape {
            horizon: 1,
            width: 3,
        },
    );
    batch.values = vec![0.5, -0.25, 9.0, 1.5, -1.25, 0.0, 7.0, -7.0, -1.0];
    let state = Separable::new(3, 4, 1.0, SigmaRule::Classic);
    let moved = state.sample(&mut batch, &[1.0, 1.0, f64::INFINITY]);
    assert_eq!(
        batch.values,
        [0.5, -0.25, 9.0, 0.5, -0.75, 0.0, -1.0, 1.0, -1.0]
    );
    assert_eq!(moved, [false, true, true]);
}

#[test]
fn reflected_candidates_count_with_a_shorter_step() {
    let shape = PlanShape {
        horizon: 1,
        width: 2,
    };
    let mut batch = ActionBatch::zeros(2, shape);
    batch.values = vec![3.0, 4.0, 0.0, 0.0];
    // The best of two candidates is the only parent: the mean moves to it, by 5 or what is left of it.
    let limit = 2.0_f64.sqrt() + 1.0;
    for (reflected, length) in [(false, 5.0), (true, limit)] {
        let mut state = Separable::new(2, 2, 1.0, SigmaRule::Classic);
        state.update(&batch, &[0, 1], &[reflected, false]);
        let expected = [0.6 * length, 0.8 * length];
        assert_close(&state.mean, &expected, 1e-15, "mean");
        assert_eq!(state.shortened, usize::from(reflected));
    }
    // A short step stays as it is.
    batch.values[..2].copy_from_slice(&[0.3, 0.4]);
    let mut state = Separable::new(2, 2, 1.0, SigmaRule::Classic);
    state.update(&batch, &[0, 1], &[true, false]);
    assert_close(&state.mean, &[0.3, 0.4], 1e-15, "mean");
}

#[test]
fn the_first_deviation_follows_the_bounds() {
    let limits = "limits = [{ dims = [0, 1], bound = 0.1 }]";
    for (settings, horizon, expected) in [
        ("", 6, 1.0),
        ("limits = [{ dims = [1], bound = 0.1 }]", 20, 1.0),
        (limits, 9, 0.15),
        (limits, 8, 0.3),
        ("initial_std = 2.5", 6, 2.5),
        (
            "initial_std = 2\nlimits = [{ dims = [0, 1], bound = 0.1 }]",
            9,
            2.0,
        ),
    ] {
        let planner = planner(settings);
        let bounds = bounds(&planner.config.limits, PlanShape { horizon, width: 2 });
        assert_eq!(planner.initial_std(&bounds), expected, "{settings}");
    }
}

#[test]
fn the_plan_is_the_best_candidate_ever_seen() {
    let planner = planner("iterations = 4\ncandidates = 20");
    let mut seen = Vec::new();
    let plan = planner
        .search(
            SMALL,
            &mut quadratic(&TARGET),
            &mut SeededNoise(2),
            &mut |found| {
                seen.extend_from_slice(found.costs);
            },
        )
        .unwrap();
    let best = seen.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(seen.len(), 80);
    assert_eq!(quadratic(&TARGET).0(&plan.actions), best);
    let trace = plan
        .trace
        .best
        .iter()
        .copied()
        .fold(f64::INFINITY, f64::min);
    assert_eq!(trace, best);
}

#[test]
fn of_equal_costs_the_first_is_kept() {
    let planner = planner("iterations = 3\ncandidates = 12");
    let plan = planner
        .plan(SMALL, &mut FnCost(|_| 1.0), &mut formula_noise(12, 0..3))
        .unwrap();
    assert_eq!(plan.actions, formula_noise(12, 0..1).0[0][..4]);
}

#[test]
fn the_optimum_of_a_quadratic_is_found_inside_and_on_the_bounds() {
    let plan = planner("")
        .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
        .unwrap();
    assert_close(&plan.actions, &TARGET, 1e-2, "plan");
    let planner = planner("limits = [{ dims = [0, 1], bound = 0.75 }]");
    let plan = planner
        .plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1))
        .unwrap();
    assert_close(&plan.actions, &[0.5, 0.75, 0.75, 0.75], 1e-2, "plan");
    assert!(plan.actions.iter().all(|value| value.abs() <= 0.75));
}

#[test]
fn settings_out_of_range_are_refused() {
    for text in [
        "candidates = 1",
        "iterations = 0",
        "initial_std = 0.0",
        "initial_std = \"wide\"",
        "sigma_rule = \"new\"",
        "limits = [{ dims = [0], bound = 0.0 }]",
        "elites = 10",
    ] {
        assert!((ENTRY.build)(&text.parse().unwrap()).is_err(), "{text}");
    }
    let run = |text: &str| planner(text).plan(SMALL, &mut quadratic(&TARGET), &mut SeededNoise(1));
    assert!(run("limits = [{ dims = [2], bound = 1.0 }]").is_err());
    let error = run("candidates = 7").unwrap_err().to_string();
    assert!(
        error.contains("plans of 4 numbers need at least 8"),
        "{error}"
    );
}
