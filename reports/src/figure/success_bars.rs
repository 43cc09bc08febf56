//! Success rates as bars with their intervals, and published rates beside them.

use jepa_leaderboard::{Interval, PublishedScore};

use super::{Anchor, Canvas, Frame, Ink, Painted, Panel, Type, WIDTH, draw};
use crate::error::Result;
use crate::text::{decimal, percent};

/// Height of a row in points.
const ROW: f64 = 21.0;

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BarKind {
    /// The mean over training seeds.
    Mean,
    /// A trained model, number `k` of the report.
    Model(usize),
    /// The ceiling.
    Ceiling,
    /// A floor.
    Floor,
    /// A number reported by others.
    Published,
}

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) kind: BarKind,
    /// Success rate, in `[0, 1]`.
    pub(crate) rate: f64,
    /// What the whisker spans.
    pub(crate) whisker: Interval,
    /// Text after the rate: `82/96`, or the spread of a published number.
    pub(crate) note: String,
}

impl Bar {
    /// The bar of a published number.
    pub(crate) fn published(model: &str, score: PublishedScore) -> Self {
        Self {
            label: model.into(),
            kind: BarKind::Published,
            rate: score.mean / 100.0,
            whisker: Interval {
                low: (score.mean - score.std) / 100.0,
                high: (score.mean + score.std) / 100.0,
            },
            note: format!("± {}", decimal(score.std, 1)),
        }
    }
}

/// Draws the bars from top to bottom; published ones are hollow and stand apart.
pub(crate) fn success_bars(name: &str, bars: &[Bar]) -> Result<String> {
    let first_published = bars.iter().position(|bar| bar.kind == BarKind::Published);
    let gap = if first_published.is_some_and(|k| k > 0) {
        16.0
    } else {
        0.0
    };
    let bottom = 6.0 + ROW * bars.len() as f64 + gap;
    draw(name, bottom + 30.0, |canvas| {
        let frame = Frame {
            left: 150.0,
            top: 4.0,
            right: WIDTH - 84.0,
            bottom,
        };
        let panel = Panel::new(canvas, frame, (0.0, 100.0), (0.0, 1.0));
        panel.columns(6, true, |value| format!("{value}%"))?;
        panel.x_name("success rate")?;
        for (k, bar) in bars.iter().enumerate() {
            let shift = if first_published.is_some_and(|first| k >= first) {
                gap
            } else {
                0.0
            };
            one_bar(canvas, &panel, bar, 6.0 + ROW * (k as f64 + 0.5) + shift)?;
        }
        if let Some(k) = first_published.filter(|&k| k > 0) {
            let y = 6.0 + ROW * k as f64 + gap / 2.0;
            let kind = Type::TICK.ink(Ink::MUTED);
            canvas.text(
                (WIDTH, y),
                Anchor::End,
                kind,
                "reported by the authors, not verified here",
            )?;
        }
        canvas.line(
            &[(frame.left, frame.top), (frame.left, frame.bottom)],
            Ink::AXIS,
            0.8,
        )
    })
}

fn one_bar(canvas: &Canvas<'_>, panel: &Panel<'_, '_>, bar: &Bar, y: f64) -> Painted {
    let across = |rate: f64| panel.at((100.0 * rate.clamp(0.0, 1.0), 0.0)).0;
    let corners = [(across(0.0), y - 6.0), (across(bar.rate), y + 6.0)];
    let label = if matches!(bar.kind, BarKind::Model(_) | BarKind::Mean) {
        Type::LABEL.bold()
    } else {
        Type::LABEL
    };
    match bar.kind {
        BarKind::Mean => canvas.bar(corners, Ink::TEXT, 1.0)?,
        BarKind::Model(k) => canvas.bar(corners, Ink::series(k), 1.0)?,
        BarKind::Ceiling => canvas.bar(corners, Ink::CEILING, 1.0)?,
        BarKind::Floor => canvas.bar(corners, Ink::FLOOR, 1.0)?,
        BarKind::Published => canvas.outline(corners, Ink::MUTED, 0.9)?,
    }
    whisker(
        canvas,
        (across(bar.whisker.low), across(bar.whisker.high)),
        y,
    )?;
    canvas.text(
        (144.0, y),
        Anchor::End,
        label,
        &label.fitted(&bar.label, 144.0),
    )?;
    let rate = if bar.kind == BarKind::Published {
        format!("{}%", decimal(100.0 * bar.rate, 1))
    } else {
        percent(bar.rate)
    };
    canvas.text((WIDTH - 42.0, y), Anchor::End, label, &rate)?;
    canvas.text((WIDTH, y), Anchor::End, Type::TICK, &bar.note)
}

fn whisker(canvas: &Canvas<'_>, (low, high): (f64, f64), y: f64) -> Painted {
    canvas.line(&[(low, y), (high, y)], Ink::PAPER, 2.6)?;
    canvas.line(&[(low, y), (high, y)], Ink::TEXT, 1.1)?;
    for x in [low, high] {
        canvas.line(&[(x, y - 3.2), (x, y + 3.2)], Ink::TEXT, 1.1)?;
    }
    Ok(())
}
