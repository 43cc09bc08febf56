//! Losses alone: SIGReg and its variant, variance and covariance.

use burn::tensor::Tensor;
use serde::Deserialize;

use super::{Found, tensor};
use crate::Result;
use crate::loss::prediction::{mean_squared, time_similarity};
use crate::loss::sigreg::{Knots, bcs, sigreg};
use crate::loss::variance_covariance::{covariance, std_hinge};
use crate::loss::vcreg::VcReg;
use crate::weights::check::{Case, CheckEntry, Comparison};

pub(super) const EB_JEPA: CheckEntry = CheckEntry {
    class: "BCS",
    source: "eb_jepa",
    run: eb_jepa,
};

pub(super) const STABLE_WORLDMODEL: CheckEntry = CheckEntry {
    class: "SIGReg",
    source: "stable-worldmodel",
    run: stable_worldmodel,
};

impl Found {
    /// A loss and its gradient with respect to `input`.
    fn with_gradient<const D: usize>(
        &mut self,
        (name, gradient): (&str, &str),
        loss: &Tensor<1>,
        input: &Tensor<D>,
    ) {
        self.output(name, loss.clone());
        if let Some(values) = input.grad(&loss.backward()) {
            self.output(gradient, values);
        }
    }
}

#[derive(Deserialize)]
struct BcsConfig {
    lmbd: f64,
    n_points: usize,
    t_range: [f64; 2],
}

fn eb_jepa(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: BcsConfig = case.config()?;
    let inputs = case.arrays("inputs.safetensors")?;
    let device = case.device().autodiff();
    let read = |name| tensor::<2>(case, &inputs, name, &device);
    let (first, second) = (read("z1")?.require_grad(), read("z2")?);
    let directions = read("directions")?;
    let [low, high] = config.t_range;
    let knots = Knots::interval(config.n_points, low, high);
    let of = |view: &Tensor<2>| bcs(view.clone(), directions.clone(), &knots);
    let bcs = (of(&first) + of(&second)) / 2.0;
    let invariance = mean_squared(first.clone(), second);
    let mut found = Found::default();
    found.output("bcs", bcs.clone());
    found.output("invariance", invariance.clone());
    found.with_gradient(
        ("bcs_total", "grad_z1"),
        &(invariance + bcs * config.lmbd),
        &first,
    );
    let latents = read("vic")?.require_grad();
    found.with_gradient(
        ("hinge_std", "grad_hinge"),
        &std_hinge(latents.clone()),
        &latents,
    );
    found.with_gradient(("cov", "grad_cov"), &covariance(latents.clone()), &latents);
    found.compare_outputs(case)
}

/// A loss of latents `[B, T, D]`.
type Part = fn(Tensor<3>) -> Tensor<1>;

#[derive(Deserialize)]
struct SigRegConfig {
    knots: usize,
}

fn stable_worldmodel(case: &Case<'_>) -> Result<Vec<Comparison>> {
    let config: SigRegConfig = case.config()?;
    let inputs = case.arrays("inputs.safetensors")?;
    let device = case.device().autodiff();
    let x = tensor::<3>(case, &inputs, "x", &device)?.require_grad();
    let directions = tensor::<2>(case, &inputs, "directions", &device)?;
    let mut found = Found::default();
    let loss = sigreg(x.clone(), directions, &Knots::half_line(config.knots));
    found.with_gradient(("sigreg", "grad_x"), &loss, &x);
    let parts: [(&str, Part); 5] = [
        ("std_loss", |z| VcReg::new(z).std),
        ("std_t_loss", |z| VcReg::new(z).std_time),
        ("cov_loss", |z| VcReg::new(z).covariance),
        ("cov_t_loss", |z| VcReg::new(z).covariance_time),
        ("temp_align_loss", time_similarity),
    ];
    for (name, part) in parts {
        let z = tensor::<3>(case, &inputs, "z", &device)?.require_grad();
        found.with_gradient((name, &format!("grad_{name}")), &part(z.clone()), &z);
    }
    found.compare_outputs(case)
}

#[cfg(test)]
mod tests {
    use crate::weights::check::testing::assert_case;

    #[test]
    fn eb_jepa_losses_and_their_gradients_are_those_of_the_reference() {
        assert_case("eb_jepa_losses");
    }

    #[test]
    fn sigreg_and_the_parts_of_vcreg_are_those_of_the_reference() {
        assert_case("sigreg_vcreg");
    }
}
