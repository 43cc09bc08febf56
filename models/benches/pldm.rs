//! One training step of `pldm` (recipe `wall`: 32 slices of 7 frames), and one CEM iteration's costs
//! (300 candidates, 6 model steps).

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jepa_models::pldm::{DataShape, PldmConfig, untrained};
use jepa_models::train::{SyntheticTraining, TrainConfig};
use jepa_models::{ActionBatch, CostSpec, Distance, Frame, Steps};

const WALL: DataShape = DataShape {
    height: 65,
    width: 65,
    action_dim: 2,
    proprio_dim: 2,
};

fn training_step(c: &mut Criterion) {
    let config = TrainConfig::default();
    let mut training = SyntheticTraining::new(&config, WALL).expect("the defaults are valid");
    let mut group = c.benchmark_group("pldm");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(config.training.batch as u64));
    group.bench_function("training step", |b| {
        b.iter(|| training.step().expect("finite noise"));
    });
    group.finish();
}

fn cem_costs(c: &mut Criterion) {
    let model = untrained(&PldmConfig::default(), WALL, 0).expect("the defaults are valid");
    let rgb = vec![200; 65 * 65 * 3];
    let frame = Frame {
        rgb: &rgb,
        height: 65,
        width: 65,
    };
    let latent = model.encode(frame, &[]).expect("a frame of the right size");
    let values: Vec<f32> = (0..300 * 6 * 10)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0)
        .collect();
    let actions = ActionBatch {
        values: &values,
        samples: 300,
        horizon: 6,
        width: 10,
    };
    let spec = CostSpec {
        distance: Distance::L2,
        steps: Steps::Last,
        proprio_weight: 0.0,
    };
    let mut group = c.benchmark_group("pldm");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(300 * 6));
    group.bench_function("costs of one CEM iteration", |b| {
        b.iter(|| {
            model
                .costs(black_box(&latent), &latent, &spec, actions)
                .expect("right shapes")
        });
    });
    group.bench_function("encode", |b| {
        b.iter(|| {
            model
                .encode(black_box(frame), &[])
                .expect("a frame of the right size")
        });
    });
    group.finish();
}

criterion_group!(benches, training_step, cem_costs);
criterion_main!(benches);
