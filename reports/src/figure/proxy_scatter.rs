//! Success against a validation metric, a point per evaluated model.

use super::panel::{from_zero, tick};
use super::{Entry, Frame, Ink, Panel, WIDTH, dashes, draw, legend_height};
use crate::error::Result;

/// Left edge of the frame in points.
const LEFT: f64 = 40.0;
/// Height of the frame in points.
const HEIGHT: f64 = 200.0;

/// A model: its name and, for each evaluation setup, pairs of metric and success in the order of epochs.
pub type ProxySeries = (String, Vec<Vec<(f64, f64)>>);

/// Draws success, from 0 to 1, against `metric` on `task`.
///
/// # Errors
/// When the drawing library refuses.
pub fn proxy_figure(task: &str, metric: &str, series: &[ProxySeries]) -> Result<String> {
    let entries: Vec<Entry<'_>> = series
        .iter()
        .enumerate()
        .map(|(k, (name, _))| (name.clone(), Ink::series(k), dashes(k)))
        .collect();
    let top = legend_height(LEFT, WIDTH, &entries) + 24.0;
    draw("proxy", top + HEIGHT + 30.0, |canvas| {
        canvas.legend((LEFT, 6.0), WIDTH, &entries)?;
        let frame = Frame {
            left: LEFT,
            top,
            right: WIDTH - 8.0,
            bottom: top + HEIGHT,
        };
        let values = series
            .iter()
            .flat_map(|(_, setups)| setups.iter().flatten());
        let range = from_zero(values.map(|&(x, _)| x));
        let panel = Panel::new(canvas, frame, range, (0.0, 1.0));
        panel.title(&format!("Smoothed success on {task}"))?;
        panel.rows(5, |value| format!("{:.0}%", 100.0 * value))?;
        panel.columns(8, true, tick)?;
        panel.x_name(metric)?;
        for (k, (_, setups)) in series.iter().enumerate() {
            for points in setups {
                let places: Vec<(f64, f64)> = points.iter().map(|&point| panel.at(point)).collect();
                canvas.dashed(&places, Ink::series(k), 0.8, dashes(k))?;
                for &place in &places {
                    canvas.dot(place, 2.4, Ink::series(k))?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_model_has_a_dot_per_epoch_and_its_name() {
        let series = [
            ("one".to_string(), vec![vec![(0.1, 0.2), (0.05, 0.4)]]),
            ("two".to_string(), vec![vec![(0.3, 0.0)], vec![(0.2, 0.1)]]),
        ];
        let svg = proxy_figure("wall@1", "vis_emb_l1_h1", &series).unwrap();
        let circles = svg.split("<circle ").skip(1);
        let places: BTreeSet<&str> = circles
            .filter_map(|circle| circle.split(" r=").next())
            .collect();
        assert_eq!(places.len(), 4, "{places:?}");
        for text in ["one", "two", "vis_emb_l1_h1", "wall@1", "100%"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(proxy_figure("wall@1", "x", &[]).is_ok());
    }
}
