//! A server with a board of made-up submissions, for load tests and for looking at the pages without evaluating anything.
//!
//! ```text
//! cargo run --release -p jepa-leaderboard --example made_up_board -- FOLDER RUNS EPISODES PORT
//! ```
//!
//! The board in FOLDER is made where it is not there yet. The server runs until its standard input ends.

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use jepa_leaderboard::testing::{SyntheticReferee, SyntheticRun};
use jepa_leaderboard::{
    Board, Bundle, Claims, Error, Identity, Run, Server, ServerOptions, verify,
};

/// Models of a board, each with three training seeds; the rest of the runs has numbers for names.
const NAMES: [&str; 4] = ["pldm", "dino-wm", "ours", "lewm"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, runs, episodes, port] = arguments.as_slice() else {
        return Err("usage: made_up_board FOLDER RUNS EPISODES PORT".into());
    };
    let (runs, episodes, port) = (runs.parse()?, episodes.parse()?, port.parse()?);
    let path = Path::new(folder).join("board.sqlite");
    if !path.exists() {
        make(Path::new(folder), &path, runs, episodes)?;
    }
    let options = ServerOptions {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        requests: None,
        uploads: None,
        ..ServerOptions::default()
    };
    let referee = Arc::new(SyntheticReferee { episodes });
    let server = Server::start(Board::open_existing(&path)?, referee, options)?;
    println!("http://{}/", server.address());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}

fn make(folder: &Path, path: &Path, runs: u32, episodes: u32) -> Result<(), Error> {
    let mut board = Board::open(path)?;
    let referee = SyntheticReferee { episodes };
    let identities = ["lab-one", "lab-two", "someone"].map(Identity::generate);
    let [one, two, three] = identities;
    let identities = [one?, two?, three?];
    let scratch = folder.join("runs");
    for reference in ["floor:random", "floor:noop", "oracle"] {
        let run = SyntheticRun::new(reference, episodes).write(&scratch)?;
        board.add(&Run::load(&run)?)?;
    }
    for k in 0..runs {
        let name = NAMES
            .get(k as usize / 3)
            .map_or_else(|| format!("model-{k:04}"), ToString::to_string);
        let share = 0.25 + 0.7 * f64::from(k * 7919 % 997) / 997.0;
        let synthetic = SyntheticRun::new(&name, episodes)
            .reaching(share)
            .seeded(u64::from(k % 3) + 1);
        let run = Run::load(&synthetic.write(&scratch)?)?;
        let identity = &identities[k as usize % identities.len()];
        let claims = Claims {
            licence: "MIT".into(),
            contact: format!("{}@example.org", identity.name()),
            method: format!(
                "# {name}\n\nMade up: nothing was trained.\n\n- planner: `cem`\n- data: none\n"
            ),
            created_utc: "2026-01-31T12:00:00Z".into(),
            ..Claims::default()
        };
        let bundle = Bundle::new(&run, &claims, identity)?;
        board.submit(&bundle, &verify(&bundle, &referee)?)?;
    }
    std::fs::remove_dir_all(&scratch).map_err(|source| Error::Io {
        action: "remove",
        path: scratch.clone(),
        source,
    })
}
