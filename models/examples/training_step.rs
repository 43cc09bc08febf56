//! Trains a small model on noise and says how long steps take.
//!
//! ```text
//! training_step pldm|adaln:HEADS [FOLDER]
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

use jepa_models::pldm::DataShape;
use jepa_models::train::{
    NamedArray, SyntheticTraining, SyntheticTransformer, TrainConfig, TransformerSizes,
};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[expect(clippy::print_stdout, reason = "the answers are its output")]
fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: training_step pldm|adaln:HEADS [FOLDER]";
    let name = arguments.next().ok_or(usage)?;
    let mut training = match (name.as_str(), name.strip_prefix("adaln:")) {
        ("pldm", _) => {
            let training = SyntheticTraining::new(&TrainConfig::default(), WALL)?;
            Training::Pldm(Box::new(training))
        }
        (_, Some(heads)) => {
            let sizes = TransformerSizes::small(heads.parse()?);
            Training::AdaLn(Box::new(SyntheticTransformer::new(&sizes)))
        }
        _ => return Err(usage.into()),
    };
    if let Some(folder) = arguments.next() {
        save(&training.arrays(), Path::new(&folder))?;
    }
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (start, before) = (Instant::now(), cpu_seconds()?);
        let mut loss = f64::NAN;
        for _ in 0..steps {
            loss = training.step()?;
        }
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - before);
        println!(r#"{{"loss": {loss}, "wall_s": {wall}, "cpu_s": {cpu}}}"#);
    }
    Ok(())
}

/// Frames and widths of Wall.
const WALL: DataShape = DataShape {
    height: 65,
    width: 65,
    action_dim: 2,
    proprio_dim: 2,
};

/// Either model in training.
enum Training {
    Pldm(Box<SyntheticTraining>),
    AdaLn(Box<SyntheticTransformer>),
}

impl Training {
    fn step(&mut self) -> Result<f64> {
        Ok(match self {
            Self::Pldm(training) => training.step()?,
            Self::AdaLn(training) => f64::from(training.step()),
        })
    }

    fn arrays(&self) -> Vec<NamedArray> {
        match self {
            Self::Pldm(training) => training.arrays(),
            Self::AdaLn(training) => training.arrays(),
        }
    }
}

fn save(arrays: &[NamedArray], folder: &Path) -> Result<()> {
    let (mut names, mut bytes) = (String::new(), Vec::new());
    for array in arrays {
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
