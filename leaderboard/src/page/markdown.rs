//! The method of a submission as text: the little of Markdown that cannot do harm.
//!
//! Headings, paragraphs, lists, fenced code and code in a line. Everything else, HTML, links and pictures
//! included, stands there as it was typed.

use maud::{Markup, html};

/// Lines that are shown; a method is no book.
const MOST_LINES: usize = 2_000;

enum Block<'a> {
    Heading(&'a str),
    Paragraph(Vec<&'a str>),
    List(Vec<&'a str>),
    Code(Vec<&'a str>),
}

/// The text as markup; its headings are of the third level.
pub(super) fn render(text: &str) -> Markup {
    html! {
        div.prose {
            @for block in blocks(text) {
                @match block {
                    Block::Heading(text) => h3 { (inline(text)) },
                    Block::Paragraph(lines) => p { (inline(&lines.join(" "))) },
                    Block::List(items) => ul { @for item in items { li { (inline(item)) } } },
                    Block::Code(lines) => pre tabindex="0" { code { (lines.join("\n")) } },
                }
            }
        }
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut is_code = false;
    let mut is_open = false;
    for line in text.lines().take(MOST_LINES) {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            is_code = !is_code;
            if is_code {
                blocks.push(Block::Code(Vec::new()));
            }
            is_open = false;
            continue;
        }
        match blocks.last_mut() {
            Some(Block::Code(lines)) if is_code => {
                lines.push(line);
                continue;
            }
            _ => {}
        }
        if trimmed.is_empty() {
            is_open = false;
        } else if let Some(title) = heading(trimmed) {
            blocks.push(Block::Heading(title));
            is_open = false;
        } else if let Some(item) = trimmed
            .strip_prefix("- ")
            .or_else(|| trimmed.strip_prefix("* "))
        {
            match blocks.last_mut() {
                Some(Block::List(items)) if is_open => items.push(item),
                _ => blocks.push(Block::List(vec![item])),
            }
            is_open = true;
        } else {
            match blocks.last_mut() {
                Some(Block::Paragraph(lines)) if is_open => lines.push(trimmed),
                _ => blocks.push(Block::Paragraph(vec![trimmed])),
            }
            is_open = true;
        }
    }
    blocks
}

fn heading(line: &str) -> Option<&str> {
    let title = line.trim_start_matches('#');
    let depth = line.len() - title.len();
    ((1..=6).contains(&depth) && title.starts_with(' ')).then(|| title.trim())
}

/// Words between backticks are code; a single backtick is itself.
fn inline(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    let pairs = (parts.len() - 1) / 2 * 2;
    html! {
        @for (k, part) in parts.iter().enumerate() {
            @if k > pairs { "`" (part) } @else if k % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_safe_subset_is_rendered() {
        let text = "# Title\n\nOne\ntwo `x < y`.\n\n- a\n- b\n\n```\nlet x = \"<b>\";\n# no heading\n```\nend";
        let shown = render(text).into_string();
        assert_eq!(
            shown,
            "<div class=\"prose\"><h3>Title</h3><p>One two <code>x &lt; y</code>.</p><ul><li>a</li><li>b</li></ul>\
             <pre tabindex=\"0\"><code>let x = &quot;&lt;b&gt;&quot;;\n# no heading</code></pre><p>end</p></div>"
        );
    }

    #[test]
    fn html_links_and_pictures_are_text() {
        let text = "<script>alert(1)</script> [a](javascript:alert(1)) ![b](http://x/y.png)";
        let shown = render(text).into_string();
        assert!(
            !shown.contains("<script") && !shown.contains("<a") && !shown.contains("<img"),
            "{shown}"
        );
    }

    #[test]
    fn broken_marks_are_kept_and_nothing_is_lost() {
        for text in [
            "`",
            "a ` b",
            "``",
            "```",
            "#",
            "#######  x",
            "-",
            "a `b` ` c",
        ] {
            let shown = render(text).into_string();
            assert!(shown.starts_with("<div"), "{shown}");
        }
        assert!(render("a ` b").into_string().contains("a ` b"));
        assert!(
            render("a `b` ` c")
                .into_string()
                .contains("<code>b</code> ` c")
        );
    }
}
