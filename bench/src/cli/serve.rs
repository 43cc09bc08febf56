//! `jepa-bench leaderboard serve` and `jepa-bench leaderboard export`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jepa_leaderboard::{Board, Rate, Server, ServerOptions, SiteOptions, export_site};
use serde_json::json;

use super::Context;
use crate::referee::Simulators;

/// How often Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Characters of a token that cannot be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Options of the server.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  jepa-bench leaderboard serve
  jepa-bench leaderboard serve --address 0.0.0.0:8080 --admin-token token.txt
Stop it with Ctrl-C: requests in hand are finished. Put a proxy with TLS before it when it faces the internet.")]
pub struct ServeArgs {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// File with the token of the maintainers, at least 16 characters; without one their actions are off.
    #[arg(long, value_name = "FILE")]
    admin_token: Option<PathBuf>,
    /// Take the address of a client from the last entry of `X-Forwarded-For`, which a proxy of yours sets.
    #[arg(long)]
    behind_proxy: bool,
    /// Pages per second and address in the long run; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    requests_per_second: f64,
    /// Submissions per minute and address in the long run; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 6.0)]
    submissions_per_minute: f64,
    /// Datasets that goals of tasks come from, so that their episodes can be played again; repeat it for several.
    #[arg(long, value_name = "DATASET")]
    data: Vec<PathBuf>,
}

/// Options of an export.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  jepa-bench leaderboard export --out site
Open site/index.html in a browser, or copy the folder to any web server.")]
pub struct ExportArgs {
    /// Folder to write; an earlier export there is replaced, anything else is not touched.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Episodes of each run that get a page of their own, failures first.
    #[arg(long, value_name = "N", default_value_t = SiteOptions::default().episodes)]
    episodes: usize,
    /// Draw no films of episodes.
    #[arg(long)]
    no_films: bool,
    /// Datasets that goals of tasks come from, so that their films can be drawn; repeat it for several.
    #[arg(long, value_name = "DATASET")]
    data: Vec<PathBuf>,
}

/// Serves a board until Ctrl-C.
pub fn serve(args: &ServeArgs, file: &Path, ctx: &Context) -> anyhow::Result<ExitCode> {
    let options = ServerOptions {
        address: args.address,
        admin_token: args.admin_token.as_deref().map(read_token).transpose()?,
        is_behind_proxy: args.behind_proxy,
        requests: rate(args.requests_per_second, 4.0, "requests-per-second")?,
        uploads: rate(
            args.submissions_per_minute / 60.0,
            200.0,
            "submissions-per-minute",
        )?,
        ..ServerOptions::default()
    };
    let referee = Arc::new(Simulators::new(&args.data)?);
    let server = Server::start(Board::open(file)?, referee, options)?;
    let url = format!("http://{}/", server.address());
    if ctx.json {
        ctx.print_json(&json!({ "url": url }))?;
    } else {
        ctx.print(&url)?;
    }
    while !ctx.interrupted() {
        std::thread::sleep(LOOK_EVERY);
    }
    ctx.say("stopping: requests in hand are finished");
    server.stop();
    Ok(ExitCode::SUCCESS)
}

/// So many per second, and `seconds` worth of them at once; `None` for 0.
fn rate(per_second: f64, seconds: f64, option: &str) -> anyhow::Result<Option<Rate>> {
    ensure!(
        per_second.is_finite() && per_second >= 0.0,
        "`--{option}` has to be 0 or more"
    );
    let burst = (per_second * seconds).max(1.0);
    Ok((per_second > 0.0).then_some(Rate { burst, per_second }))
}

/// The token in a file that others cannot read.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "others may read the token in `{shown}`; make it yours with `chmod 600 '{shown}'`"
            );
        }
    }
    let token = text.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(
        token.len() >= SHORTEST_TOKEN && is_plain,
        "`{shown}` holds no token: one line of at least {SHORTEST_TOKEN} letters and digits"
    );
    Ok(token.into())
}

/// Writes a board as a folder of files.
pub fn export(args: &ExportArgs, file: &Path, ctx: &Context) -> anyhow::Result<ExitCode> {
    let options = SiteOptions {
        episodes: args.episodes,
        films: !args.no_films,
    };
    let referee = Arc::new(Simulators::new(&args.data)?);
    let exported = export_site(Board::open_existing(file)?, referee, &args.out, options)?;
    if ctx.json {
        ctx.print_json(&exported)?;
    } else {
        let (out, megabytes) = (args.out.display(), exported.bytes as f64 / 1e6);
        let files = exported.files;
        ctx.print(&format!(
            "{out}: {files} files, {megabytes:.1} MB; open {out}/index.html"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_of_nothing_is_no_limit_and_a_burst_is_at_least_one() {
        assert_eq!(rate(0.0, 4.0, "x").unwrap(), None);
        let slow = rate(0.01, 4.0, "x").unwrap().unwrap();
        assert!(slow.burst >= 1.0 && slow.burst < 1.0 + 1e-9);
        assert!((slow.per_second - 0.01).abs() < 1e-12);
        let fast = rate(100.0, 4.0, "x").unwrap().unwrap();
        assert!((fast.burst - 400.0).abs() < 1e-9);
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(rate(wrong, 4.0, "x").is_err());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_token_is_long_and_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_token(&path).map_err(|error| error.to_string())
        };
        assert_eq!(
            write("0123456789abcdef\n", 0o600).unwrap(),
            "0123456789abcdef"
        );
        assert!(
            write("0123456789abcdef\n", 0o644)
                .unwrap_err()
                .contains("chmod 600")
        );
        for text in ["", "short", "0123456789 abcdef", "0123456789abcde\u{e9}"] {
            assert!(
                write(text, 0o600).unwrap_err().contains("holds no token"),
                "{text}"
            );
        }
    }
}
