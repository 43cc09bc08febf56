//! Trains a small token predictor on noise and says how long steps take.
//!
//! ```text
//! transformer_step HEADS [FOLDER]
//! ```
//!
//! Writes the parameters and the batch to FOLDER if it is given (`arrays.bin`, and their names and shapes in
//! `arrays.txt`). Then, for every line on standard input, trains as many steps as it says and answers with one line:
//! the last loss, seconds on the clock, seconds of CPU time of all threads. `benches/against_pytorch.py` talks to it.

use std::error::Error;
use std::fmt::Write as _;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use jepa_models::train::{SyntheticTransformer, TransformerSizes};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::print_stdout, reason = "the answers are its output")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let heads = arguments
        .next()
        .ok_or("usage: transformer_step HEADS [FOLDER]")?;
    let mut training = SyntheticTransformer::new(&TransformerSizes::small(heads.parse()?));
    if let Some(folder) = arguments.next() {
        save(&training, Path::new(&folder))?;
    }
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (start, before) = (Instant::now(), cpu_seconds()?);
        let loss = (0..steps)
            .map(|_| training.step())
            .last()
            .unwrap_or(f32::NAN);
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - before);
        println!(r#"{{"loss": {loss}, "wall_s": {wall}, "cpu_s": {cpu}}}"#);
    }
    Ok(())
}

fn save(training: &SyntheticTransformer, folder: &Path) -> Result<()> {
    let (mut names, mut bytes) = (String::new(), Vec::new());
    for array in training.arrays() {
        writeln!(names, "{} {:?}", array.name, array.shape)?;
        bytes.extend(array.values.iter().flat_map(|x| x.to_le_bytes()));
    }
    std::fs::write(folder.join("arrays.txt"), names)?;
    std::fs::write(folder.join("arrays.bin"), bytes)?;
    Ok(())
}

/// CPU time of all threads of this process.
fn cpu_seconds() -> Result<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds = text.split_whitespace().next().ok_or("no CPU time")?;
        total += nanoseconds.parse::<f64>()? / 1e9;
    }
    Ok(total)
}
