//! The search of single plans: cost per iteration (evaluation.md section 6, Figures S4.1 and S5.8).

use super::panel::{decades, tick};
use super::{Canvas, Frame, Ink, Painted, Panel, WIDTH, balanced, draw};
use crate::error::Result;

/// Panels per row at most.
const COLUMNS: usize = 4;
/// Height of a row of panels in points.
const ROW: f64 = 108.0;

/// One plan.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlanSearch {
    pub(crate) title: String,
    /// Lowest cost, mean cost of the elites and its standard deviation, per iteration.
    pub(crate) costs: Vec<(f64, f64, f64)>,
}

/// Draws one panel per plan: best candidate blue, elite mean with its standard deviation orange.
pub(crate) fn convergence(name: &str, plans: &[PlanSearch]) -> Result<String> {
    let columns = balanced(plans.len(), COLUMNS).max(2);
    let rows = plans.len().div_ceil(columns).max(1);
    draw(name, 30.0 + ROW * rows as f64, |canvas| {
        let legend = [
            ("best candidate".to_string(), Ink::series(0), &[][..]),
            (
                "elites: mean ± std".to_string(),
                Ink::series(1),
                &[5.0, 2.0],
            ),
        ];
        canvas.legend((30.0, 6.0), WIDTH, &legend)?;
        let width = WIDTH / columns as f64;
        for (k, plan) in plans.iter().enumerate() {
            let (column, row) = ((k % columns) as f64, (k / columns) as f64);
            let top = 34.0 + ROW * row;
            let frame = Frame {
                left: 34.0 + width * column,
                top,
                right: width * (column + 1.0) - 5.0,
                bottom: top + 66.0,
            };
            let is_last = k + columns >= plans.len();
            panel(canvas, frame, plan, is_last)?;
        }
        Ok(())
    })
}

fn panel(canvas: &Canvas<'_>, frame: Frame, plan: &PlanSearch, is_last: bool) -> Painted {
    let at = |k: usize| k as f64 + 1.0;
    let elites: Vec<(f64, f64, f64)> = plan
        .costs
        .iter()
        .enumerate()
        .map(|(k, &(_, mean, std))| (at(k), (mean - std).max(0.0), mean + std))
        .collect();
    let values = plan
        .costs
        .iter()
        .flat_map(|&(best, mean, std)| [best, mean, mean - std, mean + std]);
    let end = (plan.costs.len() as f64).max(2.0);
    let panel = Panel::logarithmic(canvas, frame, (1.0, end), decades(values));
    panel.title(&plan.title)?;
    panel.rows(4, tick)?;
    panel.columns(4, false, tick)?;
    if is_last {
        panel.x_name("planner iteration")?;
    }
    panel.band(&elites, Ink::series(1))?;
    let line = |cost: fn(&(f64, f64, f64)) -> f64| -> Vec<(f64, f64)> {
        plan.costs
            .iter()
            .enumerate()
            .map(|(k, costs)| (at(k), cost(costs)))
            .collect()
    };
    panel.line(&line(|costs| costs.1), Ink::series(1), &[5.0, 2.0])?;
    panel.line(&line(|costs| costs.0), Ink::series(0), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_has_a_panel_and_every_iteration_its_points() {
        let plan = |title: &str| PlanSearch {
            title: title.into(),
            costs: vec![(1.0, 1.5, 0.2), (0.5, 0.8, 0.1), (0.3, 0.4, 0.05)],
        };
        let plans = [plan("step 1"), plan("step 16"), plan("step 31")];
        let svg = convergence("test", &plans).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3 * 2 * 3);
        assert_eq!(svg.matches("<polygon").count(), 3);
        assert!(svg.contains("\nstep 31\n"));
    }
}
