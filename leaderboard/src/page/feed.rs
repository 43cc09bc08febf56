//! New results as an Atom feed (RFC 4287).

use std::fmt::Write;

use super::format::percent;
use super::place::Place;
use super::snapshot::{Row, Snapshot, TaskView};
use super::{Site, board};

/// Entries of the feed.
const ENTRIES: usize = 50;

/// The newest runs, newest first.
pub(super) fn newest(snapshot: &Snapshot, most: usize) -> Vec<(&TaskView, &Row)> {
    let rows = |task| {
        let task: &TaskView = task;
        task.rows.iter().map(move |row| (task, row))
    };
    let mut runs: Vec<(&TaskView, &Row)> = snapshot.tasks.iter().flat_map(rows).collect();
    runs.sort_by(|(_, a), (_, b)| {
        b.run
            .added_utc
            .cmp(&a.run.added_utc)
            .then_with(|| a.run.id.cmp(&b.run.id))
    });
    runs.truncate(most);
    runs
}

/// The feed.
pub(super) fn atom(site: &Site<'_>) -> String {
    let runs = newest(site.snapshot, ENTRIES);
    let updated = runs.first().map_or("1970-01-01T00:00:00Z", |(_, row)| {
        row.run.added_utc.as_str()
    });
    let first = site
        .snapshot
        .events
        .first()
        .map_or(site.snapshot.head.as_str(), |event| event.hash.as_str());
    let mut feed = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(feed, "<title>jepa-bench leaderboard</title>");
    let _ = writeln!(feed, "<id>urn:jepa-bench:board:{}</id>", escape(first));
    let _ = writeln!(feed, "<updated>{}</updated>", escape(updated));
    let _ = writeln!(feed, "<author><name>jepa-bench</name></author>");
    let _ = writeln!(
        feed,
        "<link rel=\"alternate\" href=\"{}\"/>",
        escape(&site.links.to(&Place::Index))
    );
    for (task, row) in runs {
        entry(&mut feed, site, task, row);
    }
    feed.push_str("</feed>\n");
    feed
}

fn entry(feed: &mut String, site: &Site<'_>, task: &TaskView, row: &Row) {
    let ranked = &row.ranked;
    let level = row
        .level()
        .map_or_else(|| "local".into(), |level| format!("V{level}"));
    let title = format!(
        "{} on {}: {}",
        ranked.label,
        task.task.id(),
        percent(ranked.success_rate)
    );
    let summary = format!(
        "{} of {} episodes, 95% interval {} to {}, rank {}, {}{}",
        ranked.successes,
        ranked.episodes,
        percent(ranked.interval.low),
        percent(ranked.interval.high),
        board::rank(row),
        level,
        row.struck()
            .map_or_else(String::new, |why| format!(", struck out: {why}")),
    );
    let author = row.submitter().unwrap_or("jepa-bench");
    let link = site.links.to(&Place::Run(row.run.id.clone()));
    // Writing to a string cannot fail.
    let _ = writeln!(feed, "<entry>\n<title>{}</title>", escape(&title));
    let _ = writeln!(feed, "<id>urn:jepa-bench:run:{}</id>", escape(&row.run.id));
    let _ = writeln!(feed, "<updated>{}</updated>", escape(&row.run.added_utc));
    let _ = writeln!(feed, "<author><name>{}</name></author>", escape(author));
    let _ = writeln!(feed, "<link rel=\"alternate\" href=\"{}\"/>", escape(&link));
    let _ = writeln!(feed, "<summary>{}</summary>\n</entry>", escape(&summary));
}

/// Text in XML; control characters, which XML forbids, are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => escaped.push(' '),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {}
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_an_element_or_break_the_document() {
        assert_eq!(
            escape("</title>&\"'\u{1}\u{ffff}\n"),
            "&lt;/title&gt;&amp;&quot;&#39; "
        );
    }
}
