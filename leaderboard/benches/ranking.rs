//! Ranking the runs of one task: what a page of a board costs. Figures are in docs/performance.md.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jepa_leaderboard::{Draws, ModelKind, Score, Scored, TaskRef, rank};

/// Episodes of every run.
const EPISODES: u64 = 100;

/// Trained models whose success rates climb from 0.05 to 0.95, all on the same episodes.
fn board(runs: u32) -> Vec<(Scored, ModelKind)> {
    let mut draws = Draws::new(u64::from(runs));
    (0..runs)
        .map(|k| {
            let level = 50 + 900 * k / runs;
            (scored(k, level, &mut draws), ModelKind::Trained)
        })
        .collect()
}

/// A run in which about `level` of 1,000 episodes succeed.
fn scored(k: u32, level: u32, draws: &mut Draws) -> Scored {
    let scores = (0..EPISODES).map(|seed| {
        let score = Score {
            success: draws.below(1_000) < level,
            final_distance: f64::from(draws.below(10_000)) / 100.0,
            start_hash: blake3::hash(&seed.to_le_bytes()).to_hex().to_string(),
        };
        (seed, score)
    });
    Scored {
        label: format!("model {k}"),
        task: TaskRef {
            name: "wall".into(),
            version: 1,
            hash: "0".into(),
        },
        scores: scores.collect::<BTreeMap<_, _>>(),
    }
}

fn ranking(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rank");
    group.sample_size(10);
    for runs in [10, 100, 1_000] {
        let board = board(runs);
        group.throughput(Throughput::Elements(u64::from(runs)));
        group.bench_with_input(BenchmarkId::from_parameter(runs), &board, |b, board| {
            b.iter(|| rank(black_box(board)).map(|rows| rows.len()));
        });
    }
    group.finish();
}

criterion_group!(benches, ranking);
criterion_main!(benches);
