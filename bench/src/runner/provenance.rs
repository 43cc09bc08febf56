//! Where numbers come from: code, machine, time.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jepa_leaderboard::Provenance;

use super::Evaluation;

/// The dependencies of this build, for their versions.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Libraries whose version can move a number.
const RECORDED: &[&str] = &[
    "arrow",
    "burn",
    "burn-flex",
    "gemm",
    "libm",
    "parquet",
    "rand_chacha",
    "statrs",
];

/// A point in time, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Utc {
    date: (i64, u32, u32),
    time: (u32, u32, u32),
}

impl Utc {
    /// The present; 1970 if the clock is set before it.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self::from_unix(since.as_secs())
    }

    fn from_unix(seconds: u64) -> Self {
        let (days, rest) = (seconds / 86_400, (seconds % 86_400) as u32);
        let time = (rest / 3600, rest / 60 % 60, rest % 60);
        Self {
            date: civil(days as i64),
            time,
        }
    }

    /// `YYYY-MM-DDThh:mm:ssZ`.
    pub(crate) fn rfc3339(self) -> String {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.time);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// `YYYYMMDDThhmmssZ`, for file names.
    pub(crate) fn compact(self) -> String {
        self.rfc3339().replace(['-', ':'], "")
    }
}

/// Year, month and day of a day number from 1970-01-01 in the Gregorian calendar (H. Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// Code, machine and command of a run that began at `started`.
pub(super) fn provenance(started: Utc, wall_seconds: f64, evaluation: &Evaluation) -> Provenance {
    Provenance {
        commit: option_env!("JEPA_BENCH_COMMIT")
            .unwrap_or("unknown")
            .to_string(),
        version: env!("CARGO_PKG_VERSION").to_string(),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu: cpu(),
        threads: rayon::current_num_threads() as u64,
        device: evaluation.device.clone(),
        started_utc: started.rfc3339(),
        wall_seconds,
        command: evaluation.command.clone(),
        dependencies: dependencies(LOCK),
    }
}

/// Processor model, where the system tells it.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line
        .and_then(|line| line.split_once(':'))
        .map(|(_, name)| name.trim().to_string());
    name.unwrap_or_else(|| "unknown".to_string())
}

/// Versions of the recorded libraries in a `Cargo.lock`.
fn dependencies(lock: &str) -> BTreeMap<String, String> {
    let quoted = |line: &str, key: &str| {
        let value = line.strip_prefix(key)?.trim().strip_prefix('=')?.trim();
        Some(value.trim_matches('"').to_string())
    };
    let mut lines = lock.lines();
    let mut versions = BTreeMap::new();
    while let Some(line) = lines.next() {
        let name = quoted(line, "name").filter(|name| RECORDED.contains(&name.as_str()));
        let version = name.as_ref().and_then(|_| quoted(lines.next()?, "version"));
        if let (Some(name), Some(version)) = (name, version) {
            versions.insert(name, version);
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_seconds_become_dates() {
        assert_eq!(Utc::from_unix(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Utc::from_unix(951_782_400).rfc3339(),
            "2000-02-29T00:00:00Z"
        );
        assert_eq!(
            Utc::from_unix(1_709_251_199).rfc3339(),
            "2024-02-29T23:59:59Z"
        );
        assert_eq!(Utc::from_unix(4_102_444_800).compact(), "21000101T000000Z");
    }

    #[test]
    fn every_recorded_library_has_a_version() {
        let versions = dependencies(LOCK);
        for name in RECORDED {
            let version = versions.get(*name);
            let is_number = version.is_some_and(|version| version.starts_with(char::is_numeric));
            assert!(is_number, "{name}: {version:?}");
        }
    }
}
