//! `jepa-bench key`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jepa_leaderboard::{Identity, Purpose, check_name};
use serde_json::json;

use super::Context;

/// Name of the file of a key.
const FILE: &str = "key.json";

/// Make or show the key that submissions are signed with.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  jepa-bench key new --name my-lab\n  jepa-bench key show\n  jepa-bench key revoke --reason 'the laptop was stolen' > revocation.json"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// File of the key; by default `key.json` in `JEPA_BENCH_HOME`, or else in the user's configuration folder.
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Make a key. An existing one is never overwritten.
    New {
        /// Name to submit under, 2 to 39 of a-z, 0-9 and `-`; by default the name of the user.
        #[arg(long)]
        name: Option<String>,
    },
    /// Show the public half.
    Show,
    /// Write a signed statement that the key is no longer to be trusted, for `jepa-bench leaderboard revoke`.
    Revoke {
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

/// Runs the command.
pub fn run(args: &Args, ctx: &Context) -> anyhow::Result<ExitCode> {
    let path = file(args.key.as_deref())?;
    match &args.action {
        Action::New { name } => {
            let name = name.clone().map_or_else(user, Ok)?;
            let identity = Identity::generate(check_name(&name)?)?;
            identity.write_new(&path)?;
            ctx.say(&format!(
                "the secret key is in `{}`: keep it, a name on a board belongs to the key that used it first",
                path.display()
            ));
            show(&identity, ctx)?;
        }
        Action::Show => show(&Identity::read(&path)?, ctx)?,
        Action::Revoke { reason } => {
            let identity = Identity::read(&path)?;
            ctx.print_json(&json!({
                "key": identity.public(),
                "reason": reason,
                "signature": identity.sign(Purpose::Revocation, reason.as_bytes()),
            }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(identity: &Identity, ctx: &Context) -> anyhow::Result<()> {
    let (name, key) = (identity.name(), identity.public());
    if ctx.json {
        return ctx.print_json(&json!({ "name": name, "key": key }));
    }
    ctx.print(&format!("name  {name}\nkey   {key}"))
}

/// The file of the key: as given, in `JEPA_BENCH_HOME`, or in the user's configuration folder.
pub(super) fn file(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_path_buf());
    }
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let configuration = || {
        let home = || Some(folder("HOME")?.join(".config"));
        Some(folder("XDG_CONFIG_HOME").or_else(home)?.join("jepa-bench"))
    };
    let found = folder("JEPA_BENCH_HOME").or_else(configuration);
    Ok(found
        .ok_or_else(|| crate::Error::Config {
            what: "the file of the key".into(),
            detail: "neither `JEPA_BENCH_HOME` nor `HOME` says where it is".into(),
            hint: Some("name it with `--key FILE`".into()),
        })?
        .join(FILE))
}

/// The name of the user, as far as it is a name here.
fn user() -> anyhow::Result<String> {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.ok()
        .filter(|name| check_name(name).is_ok())
        .ok_or_else(|| {
            crate::Error::Config {
                what: "the name of the key".into(),
                detail: "the system's name of the user is not one".into(),
                hint: Some("choose one with `--name NAME`".into()),
            }
            .into()
        })
}
