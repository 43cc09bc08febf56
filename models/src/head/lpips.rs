//! LPIPS, a learned distance of pictures (Zhang et al., arXiv 1801.03924; version 0.1 with VGG16; models.md
//! section 6.3).
//!
//! ```text
//! d(a, b) = sum over five layers of mean over pixels of sum over channels of w_c (a_c/|a| - b_c/|b|)^2
//! ```
//!
//! It needs weights that cannot be shipped: VGG16 of `ImageNet` and five small vectors. Without them pictures are
//! judged by [`super::image_metric`], and LPIPS is "n/a". The distance was trained on pictures in `[-1, 1]`; the
//! released decoders were trained and are scored with pictures in `[0, 1]` passed as they are, so that is what to pass
//! when comparing with them.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::{array, pictures, shape, unfit};
use crate::Result;
use crate::weights::{Array, Checkpoint, fill, import};

/// What folders of the trunk's weights say they are.
pub(crate) const TRUNK_KIND: &str = "vgg16";
/// What folders of the five vectors say they are.
pub(crate) const LINEAR_KIND: &str = "lpips-vgg";

/// Channels after each stage of VGG16.
pub(crate) const STAGES: [usize; 5] = [64, 128, 256, 512, 512];
/// Convolutions of each stage; what the last one of a stage gives, after ReLU, is a tap.
const CONVOLUTIONS: [usize; 5] = [2, 2, 3, 3, 3];
/// Numbers of the convolutions among the layers of VGG16, where ReLU and pooling count too.
const LAYERS: [usize; 13] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];

/// Constants of the arithmetic around the trunk.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Constants {
    /// Subtracted from every channel of a picture.
    pub shift: Vec<f32>,
    /// What every channel is divided by afterwards.
    pub scale: Vec<f32>,
    /// Added to the norm over channels.
    pub epsilon: f64,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            shift: vec![-0.030, -0.088, -0.188],
            scale: vec![0.458, 0.448, 0.450],
            epsilon: 1e-10,
        }
    }
}

impl Constants {
    /// Pictures as the trunk takes them: `(x - shift) / scale`.
    ///
    /// # Shapes
    /// - input and output: `[B, C, h, w]`, `C` as many as there are shifts
    pub(crate) fn scaled(&self, pictures: Tensor<4>) -> Tensor<4> {
        let device = pictures.device();
        let channels = self.shift.len();
        let row = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [1, channels, 1, 1]);
            Tensor::<4>::from_data(data, &device)
        };
        (pictures - row(&self.shift)) / row(&self.scale)
    }

    /// The distance at one tap.
    ///
    /// # Shapes
    /// - `a`, `b`: `[B, C, h, w]`, after ReLU; `weights`: `[1, C, 1, 1]`
    /// - output: `[B, 1]`
    pub(crate) fn tap_distance(&self, a: Tensor<4>, b: Tensor<4>, weights: Tensor<4>) -> Tensor<2> {
        let [batch, _, height, width] = a.dims();
        let unit = |x: Tensor<4>| {
            let norm = x.clone().square().sum_dim(1).sqrt();
            x / (norm + self.epsilon)
        };
        let difference = (unit(a) - unit(b)).square() * weights;
        let pixels = difference.sum_dim(1).reshape([batch, height * width]);
        pixels.mean_dim(1)
    }
}

/// The convolutions of VGG16.
#[derive(Module, Debug)]
pub(crate) struct Trunk {
    convolutions: Vec<Conv2d>,
}

impl Trunk {
    /// With `stages` channels after each stage; lazy weights.
    pub(crate) fn init(stages: [usize; 5], device: &Device) -> Self {
        let mut channels = 3;
        let mut convolutions = Vec::with_capacity(LAYERS.len());
        for (width, count) in stages.into_iter().zip(CONVOLUTIONS) {
            for _ in 0..count {
                let config = Conv2dConfig::new([channels, width], [3, 3])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
                convolutions.push(config.init(device));
                channels = width;
            }
        }
        Self { convolutions }
    }

    /// The key of a parameter in torchvision's file: `features.<layer>.weight`.
    pub(crate) fn key(path: &str) -> String {
        let number = |path: &str| {
            let (index, leaf) = path.strip_prefix("convolutions.")?.split_once('.')?;
            let layer = LAYERS.get(index.parse::<usize>().ok()?)?;
            Some(format!("features.{layer}.{leaf}"))
        };
        number(path).unwrap_or_else(|| path.to_string())
    }

    /// The five taps of scaled pictures.
    fn taps(&self, pictures: Tensor<4>) -> Vec<Tensor<4>> {
        let mut rest = self.convolutions.iter();
        let mut x = pictures;
        let mut taps = Vec::with_capacity(CONVOLUTIONS.len());
        for (stage, count) in CONVOLUTIONS.into_iter().enumerate() {
            if stage > 0 {
                x = max_pool2d(x, MaxPoolOptions::new([2, 2]));
            }
            for convolution in rest.by_ref().take(count) {
                x = activation::relu(convolution.forward(x));
            }
            taps.push(x.clone());
        }
        taps
    }
}

/// The five vectors that weigh channels.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    layers: Vec<Weights>,
}

#[derive(Module, Debug)]
struct Weights {
    weight: Param<Tensor<4>>,
}

impl Linear {
    pub(crate) fn init(stages: [usize; 5], device: &Device) -> Self {
        let layer = |channels: usize| Weights {
            weight: Initializer::Zeros.init([1, channels, 1, 1], device),
        };
        Self {
            layers: stages.into_iter().map(layer).collect(),
        }
    }

    /// The key of a parameter in the file of the `lpips` package: `lin<k>.model.1.weight`.
    pub(crate) fn key(path: &str) -> String {
        match path
            .strip_prefix("layers.")
            .and_then(|rest| rest.split_once('.'))
        {
            Some((index, leaf)) => format!("lin{index}.model.1.{leaf}"),
            None => path.to_string(),
        }
    }
}

/// The distance with its weights.
#[derive(Debug)]
pub struct Lpips {
    trunk: Trunk,
    linear: Linear,
    constants: Constants,
    device: Device,
}

impl Lpips {
    /// With the weights of torchvision's VGG16 (its classifier is not needed and may be in `trunk`) and of the `lpips`
    /// package.
    ///
    /// # Errors
    /// [`crate::Error::Keys`] for anything partial.
    pub fn new(trunk: Checkpoint, linear: Checkpoint) -> Result<Self> {
        Self::with_stages(STAGES, without_classifier(trunk), linear)
    }

    fn with_stages(stages: [usize; 5], trunk: Checkpoint, linear: Checkpoint) -> Result<Self> {
        let device = Device::flex();
        let empty = Trunk::init(stages, &device);
        let trunk = fill::fill("VGG16", empty, trunk, Trunk::key)?;
        let empty = Linear::init(stages, &device);
        let linear = fill::fill("LPIPS", empty, linear, Linear::key)?;
        Ok(Self {
            trunk,
            linear,
            constants: Constants::default(),
            device,
        })
    }

    /// Reads the two folders that `weights import` wrote for `vgg16` and `lpips_vgg`.
    ///
    /// # Errors
    /// Errors of reading them, and those of [`Lpips::new`].
    pub fn load(trunk: &Path, linear: &Path) -> Result<Self> {
        let of_trunk = import::read(trunk, TRUNK_KIND)?.1;
        let of_linear = import::read(linear, LINEAR_KIND)?.1;
        let device = Device::flex();
        let path = str::to_string;
        let (name, empty) = ("VGG16", Trunk::init(STAGES, &device));
        let trunk = fill::fill(name, empty, of_trunk, path)?;
        let (name, empty) = ("LPIPS", Linear::init(STAGES, &device));
        let linear = fill::fill(name, empty, of_linear, path)?;
        Ok(Self {
            trunk,
            linear,
            constants: Constants::default(),
            device,
        })
    }

    /// The distance of each pair; 0 for equal pictures.
    ///
    /// # Shapes
    /// - `a`, `b`: `[B, 3, h, w]` with sides of at least 16; result: `[B]`
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for pictures of other or different sizes.
    pub fn distance(&self, a: &Array, b: &Array) -> Result<Vec<f32>> {
        if a.shape != b.shape {
            return Err(shape("second picture", &format!("{:?}", a.shape), &b.shape));
        }
        let is_picture = matches!(a.shape[..], [_, 3, h, w] if h.min(w) >= 16);
        if !is_picture {
            return Err(shape(
                "pictures",
                "[B, 3, h, w] with sides of at least 16",
                &a.shape,
            ));
        }
        let taps = |x: &Array| {
            let scaled = self.constants.scaled(pictures(x, &self.device)?);
            Ok::<_, crate::Error>(self.trunk.taps(scaled))
        };
        let layers = taps(a)?.into_iter().zip(taps(b)?).zip(&self.linear.layers);
        let distances =
            layers.map(|((a, b), layer)| self.constants.tap_distance(a, b, layer.weight.val()));
        let sum = distances.reduce(|sum, one| sum + one);
        let sum = sum.ok_or_else(|| unfit("LPIPS", "has no layers"))?;
        Ok(array(sum)?.values)
    }
}

/// VGG16 without its classifier, which LPIPS has no use for.
pub(crate) fn without_classifier(weights: Checkpoint) -> Checkpoint {
    weights.rename(|key| (!key.starts_with("classifier.")).then(|| key.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::check::testing::assert_case;
    use crate::weights::fill::expected;

    const SMALL: [usize; 5] = [2, 3, 2, 2, 3];

    fn draw(sizes: Vec<(String, Vec<usize>)>, bias: f64) -> Checkpoint {
        let mut place = 0_u32;
        let arrays = sizes.into_iter().map(|(key, shape)| {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|_| {
                place += 1;
                (f64::from(place).sin() * 0.5 + bias) as f32
            });
            let values = values.collect();
            (key, Array::new(shape, values).unwrap())
        });
        Checkpoint::new(arrays.collect())
    }

    fn small() -> Lpips {
        let device = Device::flex();
        let trunk = draw(expected(&Trunk::init(SMALL, &device), Trunk::key), 0.1);
        let linear = draw(expected(&Linear::init(SMALL, &device), Linear::key), 0.6);
        Lpips::with_stages(SMALL, trunk, linear).unwrap()
    }

    fn picture(phase: f64) -> Array {
        let values =
            (0..3 * 16 * 20).map(|i| ((f64::from(i) * 0.37 + phase).sin() * 0.5 + 0.5) as f32);
        Array::new(vec![1, 3, 16, 20], values.collect()).unwrap()
    }

    #[test]
    fn the_arithmetic_after_the_taps_is_that_of_the_package() {
        assert_case("lpips_arithmetic");
    }

    #[test]
    fn the_trunk_has_the_keys_and_parameters_of_vgg16() {
        let sizes = expected(&Trunk::init(STAGES, &Device::flex()), Trunk::key);
        let count: usize = sizes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        // The convolutions of VGG16: 138,357,544 less 123,642,856 of its classifier.
        assert_eq!(count, 14_714_688);
        let find = |name: &str| {
            sizes
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, shape)| shape.clone())
        };
        assert_eq!(find("features.0.weight").unwrap(), [64, 3, 3, 3]);
        assert_eq!(find("features.10.weight").unwrap(), [256, 128, 3, 3]);
        assert_eq!(find("features.28.bias").unwrap(), [512]);
        let sizes = expected(&Linear::init(STAGES, &Device::flex()), Linear::key);
        let count: usize = sizes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count, 1472);
        assert_eq!(
            sizes[4],
            ("lin4.model.1.weight".to_string(), vec![1, 512, 1, 1])
        );
    }

    #[test]
    fn taps_are_taken_before_pooling() {
        let lpips = small();
        let taps = lpips
            .trunk
            .taps(pictures(&picture(0.0), &lpips.device).unwrap());
        let shapes: Vec<[usize; 4]> = taps.iter().map(Tensor::dims).collect();
        let expected = [
            [1, 2, 16, 20],
            [1, 3, 8, 10],
            [1, 2, 4, 5],
            [1, 2, 2, 2],
            [1, 3, 1, 1],
        ];
        assert_eq!(shapes, expected);
        let least = taps.into_iter().map(|tap| tap.min().into_scalar::<f32>());
        assert!(
            least.into_iter().all(|value| value >= 0.0),
            "taps are after ReLU"
        );
    }

    #[test]
    fn equal_pictures_are_at_no_distance_and_others_are_at_the_same_both_ways() {
        let lpips = small();
        let (a, b) = (picture(0.0), picture(1.3));
        assert!(lpips.distance(&a, &a).unwrap()[0].abs() < f32::EPSILON);
        let (there, back) = (
            lpips.distance(&a, &b).unwrap()[0],
            lpips.distance(&b, &a).unwrap()[0],
        );
        assert!(
            there > 1e-3 && (there - back).abs() < 1e-6,
            "{there} {back}"
        );
        let narrow = Array::new(vec![1, 3, 15, 20], vec![0.0; 900]).unwrap();
        assert!(lpips.distance(&narrow, &narrow).is_err());
        assert!(lpips.distance(&a, &narrow).is_err());
    }

    #[test]
    fn a_classifier_may_be_in_the_file_and_nothing_else() {
        let one = Array::new(vec![1], vec![0.0]).unwrap();
        let sizes = expected(&Trunk::init(STAGES, &Device::flex()), Trunk::key);
        let linear = expected(&Linear::init(STAGES, &Device::flex()), Linear::key);
        let (mut trunk, linear) = (draw(sizes, 0.0), draw(linear, 0.6));
        trunk.insert("classifier.6.bias", one.clone());
        assert!(Lpips::new(trunk.clone(), linear.clone()).is_ok());
        trunk.insert("features.30.weight", one);
        let error = Lpips::new(trunk, linear).unwrap_err().to_string();
        assert!(
            error.contains("1 unexpected [features.30.weight]"),
            "{error}"
        );
    }
}
