//! One training step of a small token predictor (models.md section 2.4): 4 blocks of width 192 on 16 samples of 4
//! frames of 64 tokens, with few wide heads and with many narrow ones.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jepa_models::train::{SyntheticTransformer, TransformerSizes};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn training_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("transformer");
    for heads in [3, 16] {
        let sizes = TransformerSizes::small(heads);
        let mut training = SyntheticTransformer::new(&sizes);
        let tokens = sizes.batch * sizes.frames * sizes.side * sizes.side;
        group
            .sample_size(10)
            .throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("training step", heads), |b| {
            b.iter(|| training.step());
        });
    }
    group.finish();
}

criterion_group!(benches, training_step);
criterion_main!(benches);
