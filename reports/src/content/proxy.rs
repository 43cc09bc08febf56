//! Which validation errors go with success over the epochs of training.

use jepa_leaderboard::{Proxy, ProxyPoint};

use crate::document::{Block, Figure, Section, Table, Tone, cell, number, slug};
use crate::error::Result;
use crate::figure::{ProxySeries, proxy_figure};
use crate::input::Input;
use crate::text::{NONE, decimal};

/// The coefficients of every task; `None` if there are none.
pub(super) fn section(input: &Input) -> Result<Option<Section>> {
    let mut section = Section::new("Validation errors and success");
    for (task, proxy) in &input.proxies {
        section.blocks.push(Block::Table(table(task, proxy)));
        section
            .blocks
            .extend(figure(task, proxy)?.map(Block::Figure));
    }
    Ok((!section.blocks.is_empty()).then_some(section))
}

fn table(task: &str, proxy: &Proxy) -> Table {
    let models: Vec<String> = proxy
        .models
        .iter()
        .map(|model| format!("#{}", model.label))
        .collect();
    let mut headings = vec!["metric"];
    headings.extend(models.iter().map(String::as_str));
    headings.push("#mean");
    let caption =
        format!("{task}: minus the rank correlation of a validation error with smoothed success");
    let mut table = Table::new(&caption, &headings);
    let coefficient = |value: Option<f64>| {
        value.map_or_else(|| cell(NONE), |value| number(decimal(value, 2), value))
    };
    for metric in &proxy.metrics {
        let mut cells = vec![cell(metric.name.clone())];
        cells.extend(metric.coefficients.iter().map(|&value| coefficient(value)));
        cells.push(coefficient(metric.mean));
        table.push(Tone::Plain, cells);
    }
    let mut points = vec![cell("points")];
    points.extend(
        proxy
            .models
            .iter()
            .map(|model| number(model.points.len().to_string(), model.points.len() as f64)),
    );
    points.push(cell(NONE));
    table.push(Tone::Muted, points);
    table.with_note(format!(
        "1: the lower error always has the higher success; a point per kept model and planning setup, success smoothed over \
         epochs with weight {} on the newest; the mean is over training runs, whose points are not pooled; –: undefined, a \
         single point or a success rate that never changes",
        proxy.alpha
    ))
}

/// Success against the metric with the highest mean coefficient; none where all are undefined.
fn figure(task: &str, proxy: &Proxy) -> Result<Option<Figure>> {
    let defined = proxy
        .metrics
        .iter()
        .filter_map(|metric| Some((metric, metric.mean?)));
    let Some((best, _)) = defined.max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return Ok(None);
    };
    let series: Vec<ProxySeries> = proxy
        .models
        .iter()
        .map(|model| (model.label.clone(), by_setup(&model.points, &best.name)))
        .collect();
    Ok(Some(Figure {
        name: format!("{}-proxy", slug(task)),
        svg: proxy_figure(task, &best.name, &series)?,
        alt: format!("Smoothed success on {task} against {}", best.name),
        caption: format!(
            "Smoothed success against {}, the validation error with the highest mean coefficient; a dot per kept model, lines in \
             the order of training.",
            best.name
        ),
    }))
}

fn by_setup(points: &[ProxyPoint], metric: &str) -> Vec<Vec<(f64, f64)>> {
    let pair = |point: &ProxyPoint| Some((*point.metrics.get(metric)?, point.smoothed));
    let setups = points.chunk_by(|a, b| a.setup == b.setup);
    setups
        .map(|points| points.iter().filter_map(pair).collect())
        .collect()
}
