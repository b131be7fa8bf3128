//! # Resize
//! Every output element is read at a place between the input's: the nearest element, or a weighted sum of 2
//! (`linear`) or 4 (`cubic`) neighbours on each axis, more where `antialias` widens the filter of a shrinking axis.
//! Sizes are given, or follow from scales as `⌊extent · scale⌋`, the product being rounded to f32 as in the
//! specification's own shape inference. Opsets 10 (scales only; asymmetric coordinates, the nearest element by
//! direction), 11 (coordinate modes, `roi`, `sizes`), 13, 18 (`axes`, `antialias`, `keep_aspect_ratio_policy`), 19
//! (`half_pixel_symmetric`). `nearest` moves any type, the others take numbers; integers round, halves to even.

use super::attributes::{IntList, NodeSpec};
use super::{Accuracy, Op, OpDef};
use crate::cpu::interpolation::{Filter, Interpolation};
use crate::cpu::movement::{bits_of, move_elements};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::resample::{AxisScale, Coordinates, Factor, NearestCopy, Rounding, scaled};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE, NUMBERS};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, normal_axes};
use crate::reference::{RefInputs, RefResize, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Resize",
    domain: "",
    since: &[10, 11, 13, 18, 19],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

/// The interpolation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Nearest(Rounding),
    Smooth(Filter),
}

/// What sizes mean for the aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// Where the scales are.
#[derive(Clone, Debug)]
pub(super) enum Scales {
    Absent,
    Fixed(Vec<f32>),
    Input(usize),
}

#[derive(Debug)]
pub(super) struct Resize {
    mode: Mode,
    coordinates: Coordinates,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f32,
    axes: Option<Vec<i64>>,
    policy: Policy,
    scales: Scales,
    sizes: IntList,
    roi: Option<usize>,
}

impl Resize {
    /// The resizing of the first versions and of Upsample: scales of all axes, `nearest` or `linear`.
    pub(super) fn by_scales(spec: &NodeSpec, scales: Scales) -> Result<Self, OpError> {
        let mode = match spec.string("mode")?.as_deref() {
            None | Some("nearest") => Mode::Nearest(Rounding::ByScale),
            Some("linear" | "bilinear") => Mode::Smooth(Filter::Linear),
            Some(other) => return Err(OpError::attribute("mode", format!("is `{other}`"))),
        };
        Ok(Self {
            mode,
            coordinates: Coordinates::Asymmetric,
            antialias: false,
            exclude_outside: false,
            extrapolation: 0.0,
            axes: None,
            policy: Policy::Stretch,
            scales,
            sizes: IntList::Absent,
            roi: None,
        })
    }
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    if spec.opset < 11 {
        return Ok(Arc::new(Resize::by_scales(spec, Scales::Input(1))?));
    }
    let unknown = |name: &str, value: &str| OpError::attribute(name, format!("is `{value}`"));
    let coordinates = match spec.string("coordinate_transformation_mode")?.as_deref() {
        None | Some("half_pixel") => Coordinates::HalfPixel,
        Some("half_pixel_symmetric") if spec.opset >= 19 => Coordinates::HalfPixelSymmetric,
        Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
        Some("align_corners") => Coordinates::AlignCorners,
        Some("asymmetric") => Coordinates::Asymmetric,
        Some("tf_half_pixel_for_nn") if spec.opset < 13 => Coordinates::HalfPixelForNearest,
        Some("tf_crop_and_resize") => Coordinates::CropAndResize,
        Some(other) => return Err(unknown("coordinate_transformation_mode", other)),
    };
    let rounding = match spec.string("nearest_mode")?.as_deref() {
        None | Some("round_prefer_floor") => Rounding::PreferFloor,
        Some("round_prefer_ceil") => Rounding::PreferCeil,
        Some("floor") => Rounding::Floor,
        Some("ceil") => Rounding::Ceil,
        Some(other) => return Err(unknown("nearest_mode", other)),
    };
    let a = f64::from(spec.float_or("cubic_coeff_a", -0.75)?);
    let mode = match spec.string("mode")?.as_deref() {
        None | Some("nearest") => Mode::Nearest(rounding),
        Some("linear") => Mode::Smooth(Filter::Linear),
        Some("cubic") => Mode::Smooth(Filter::Cubic(a)),
        Some(other) => return Err(unknown("mode", other)),
    };
    let newer = spec.opset >= 18;
    let policy = if newer { spec.string("keep_aspect_ratio_policy")? } else { None };
    let policy = match policy.as_deref() {
        None | Some("stretch") => Policy::Stretch,
        Some("not_larger") => Policy::NotLarger,
        Some("not_smaller") => Policy::NotSmaller,
        Some(other) => return Err(unknown("keep_aspect_ratio_policy", other)),
    };
    let antialias = newer && spec.flag_or("antialias", false)?;
    if antialias && matches!(mode, Mode::Nearest(_)) {
        return Err(OpError::attribute("antialias", "is 1 in mode `nearest`"));
    }
    let cropped = coordinates == Coordinates::CropAndResize;
    if cropped && !spec.has_input(1) {
        return Err(OpError::input(1, "is missing"));
    }
    Ok(Arc::new(Resize {
        mode,
        coordinates,
        antialias,
        exclude_outside: spec.flag_or("exclude_outside", false)?,
        extrapolation: spec.float_or("extrapolation_value", 0.0)?,
        axes: if newer { spec.ints("axes")? } else { None },
        policy,
        scales: if spec.has_input(2) { Scales::Input(2) } else { Scales::Absent },
        sizes: IntList::parse(spec, "sizes", true, 3)?,
        roi: cropped.then_some(1),
    }))
}

impl Resize {
    fn interpolation(&self, filter: Filter) -> Interpolation {
        Interpolation {
            filter,
            coordinates: self.coordinates,
            antialias: self.antialias,
            exclude_outside: self.exclude_outside,
            extrapolation: self.extrapolation.into(),
        }
    }

    /// The attributes by their names.
    fn reference_settings(&self) -> RefResize {
        let (mode, nearest_mode, a) = match self.mode {
            Mode::Nearest(Rounding::PreferFloor) => ("nearest", "round_prefer_floor", 0.0),
            Mode::Nearest(Rounding::PreferCeil) => ("nearest", "round_prefer_ceil", 0.0),
            Mode::Nearest(Rounding::Floor) => ("nearest", "floor", 0.0),
            Mode::Nearest(Rounding::Ceil) => ("nearest", "ceil", 0.0),
            Mode::Nearest(Rounding::ByScale) => ("nearest", "by_scale", 0.0),
            Mode::Smooth(Filter::Linear) => ("linear", "", 0.0),
            Mode::Smooth(Filter::Cubic(a)) => ("cubic", "", a),
        };
        let coordinates = match self.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
            Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
            Coordinates::HalfPixelForNearest => "tf_half_pixel_for_nn",
            Coordinates::CropAndResize => "tf_crop_and_resize",
        };
        let policy = match self.policy {
            Policy::Stretch => "stretch",
            Policy::NotLarger => "not_larger",
            Policy::NotSmaller => "not_smaller",
        };
        RefResize {
            mode,
            coordinate_transformation_mode: coordinates,
            nearest_mode,
            cubic_coeff_a: a,
            antialias: self.antialias,
            exclude_outside: self.exclude_outside,
            extrapolation_value: self.extrapolation.into(),
            keep_aspect_ratio_policy: policy,
        }
    }
}

/// What is known of a list of floats.
enum Known {
    Absent,
    Unknown,
    Values(Vec<f64>),
}

fn known_floats(inputs: Facts<'_>, index: usize) -> Result<Known, OpError> {
    let fact = inputs.typed(index, &[DType::F32, DType::F64, DType::F16])?;
    if fact.element_count() == Some(0) {
        return Ok(Known::Absent);
    }
    let Some(t) = fact.as_constant() else { return Ok(Known::Unknown) };
    dispatch!(t.dtype(), floats, T => {
        let values = t.to_vec::<T>().unwrap_or_default();
        Ok(Known::Values(values.into_iter().map(Number::to_f64).collect()))
    })
}

impl Resize {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        self.axes.as_ref().map_or_else(|| Ok((0..rank).collect()), |axes| normal_axes(axes, rank))
    }

    fn known_scales(&self, inputs: Facts<'_>) -> Result<Known, OpError> {
        match &self.scales {
            Scales::Absent => Ok(Known::Absent),
            Scales::Fixed(v) => Ok(Known::Values(v.iter().map(|&v| v.into()).collect())),
            Scales::Input(index) => known_floats(inputs, *index),
        }
    }

    /// The size that the axis of each given one gets, where it is known; `None` where scales rule.
    fn known_sizes(&self, inputs: Facts<'_>) -> Result<Option<Vec<Dim>>, OpError> {
        let IntList::Input(index) = self.sizes else { return Ok(None) };
        let fact = inputs.typed(index, &[DType::I64])?;
        match (fact.as_integers(), fact.element_count()) {
            (_, Some(0)) => Ok(None),
            (Some(values), _) => values
                .into_iter()
                .map(|v| match v {
                    Integer::Extent(d) => Ok(d),
                    Integer::Negative(v) => Err(OpError::value(format!("a size is {v}"))),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            (None, count) => Ok(Some(vec![Dim::Unknown; count.unwrap_or(0).min(super::MOST_AXES)])),
        }
    }

    /// The resizing of every axis of an input of shape `from`, when all that it depends on is known.
    fn scales(&self, inputs: Facts<'_>, from: &[usize]) -> Result<Option<Vec<AxisScale>>, OpError> {
        let axes = self.axes(from.len())?;
        let crops = match self.roi.map(|index| known_floats(inputs, index)).transpose()? {
            None => vec![[0.0, 1.0]; axes.len()],
            Some(Known::Values(v)) if v.len() == 2 * axes.len() => {
                (0..axes.len()).map(|i| [v[i], v[i + axes.len()]]).collect()
            }
            Some(Known::Unknown) => return Ok(None),
            Some(_) => return Err(OpError::input(1, "is not a start and an end per axis")),
        };
        let factors: Vec<Factor> = match (self.known_sizes(inputs)?, self.known_scales(inputs)?) {
            (Some(_), Known::Values(_)) => return Err(OpError::value("both scales and sizes are given")),
            (_, Known::Unknown) => return Ok(None),
            (None, Known::Absent) => return Err(OpError::value("neither scales nor sizes are given")),
            (None, Known::Values(scales)) => {
                if let Some(bad) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
                    return Err(OpError::value(format!("a scale is {bad}")));
                }
                scales.into_iter().map(Factor::Scale).collect()
            }
            (Some(sizes), Known::Absent) => {
                let Some(sizes) = sizes.iter().map(Dim::known).collect::<Option<Vec<usize>>>() else {
                    return Ok(None);
                };
                let ratios = sizes.iter().zip(&axes).map(|(&s, &a)| s as f64 / from[a] as f64);
                let ratio = match self.policy {
                    Policy::Stretch => None,
                    Policy::NotLarger => Some(ratios.fold(f64::INFINITY, f64::min)),
                    Policy::NotSmaller => Some(ratios.fold(0.0, f64::max)),
                };
                match ratio {
                    None => sizes.into_iter().map(Factor::Size).collect(),
                    Some(ratio) if ratio.is_finite() => vec![Factor::Ratio(ratio); sizes.len()],
                    Some(_) => return Err(OpError::shape("an empty axis has no aspect ratio")),
                }
            }
        };
        if factors.len() != axes.len() {
            return Err(OpError::value(format!("{} factors for {} axes", factors.len(), axes.len())));
        }
        let mut out: Vec<AxisScale> = from.iter().map(|&n| AxisScale::whole(n)).collect();
        for ((&axis, factor), crop) in axes.iter().zip(factors).zip(crops) {
            out[axis] = AxisScale::new(from[axis], factor, crop)?;
        }
        Ok(Some(out))
    }

    /// Extents for an input whose own are not all known.
    fn weak_extents(&self, inputs: Facts<'_>, shape: &[Dim]) -> Result<Vec<Dim>, OpError> {
        let axes = self.axes(shape.len())?;
        let mut out = shape.to_vec();
        axes.iter().for_each(|&a| out[a] = Dim::Unknown);
        match (self.known_sizes(inputs)?, self.known_scales(inputs)?) {
            (Some(sizes), Known::Absent) if self.policy == Policy::Stretch && sizes.len() == axes.len() => {
                axes.iter().zip(sizes).for_each(|(&a, size)| out[a] = size);
            }
            (None, Known::Values(scales)) if self.roi.is_none() && scales.len() == axes.len() => {
                for (&a, &scale) in axes.iter().zip(&scales) {
                    out[a] = match &shape[a] {
                        Dim::Known(n) => Dim::Known(scaled(*n, scale)),
                        Dim::Expr(_) if scale == 1.0 => shape[a].clone(),
                        Dim::Expr(_) if scale.fract() == 0.0 && scale < 1e6 => {
                            shape[a].affine(scale as i64, 0)
                        }
                        Dim::Expr(_) => Dim::opaque(format!("floor({}*{scale})", shape[a])),
                        Dim::Unknown => Dim::Unknown,
                    };
                }
            }
            _ => {}
        }
        Ok(out)
    }
}

impl Op for Resize {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 4)?;
        let x = inputs.typed(0, if matches!(self.mode, Mode::Nearest(_)) { MOVABLE } else { NUMBERS })?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let known = match x.known_shape() {
            Some(from) => self.scales(inputs, &from)?,
            None => None,
        };
        let out = match known {
            Some(axes) => axes.iter().map(|a| Dim::Known(a.to)).collect(),
            None => self.weak_extents(inputs, shape)?,
        };
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1, 2, 3]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (from, shape) = (site.input_shape(0)?, site.output_shape(0)?);
        let dtype = site.inputs.tensor(0)?.dtype;
        let axes =
            self.scales(site.inputs, &from)?.ok_or_else(|| OpError::internal("scales are not known"))?;
        let filter = match self.mode {
            Mode::Smooth(filter) => filter,
            Mode::Nearest(rounding) => {
                let constant = bits_of(dtype, self.extrapolation.into());
                let copy = NearestCopy::new(&axes, self.coordinates, rounding, constant);
                return Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)));
            }
        };
        self.interpolation(filter).kernel(dtype, &axes, &from, &shape)
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let from = site.input_shape(0)?;
        let scales = self.scales(site.inputs, &from).map_err(|_| GpuReject::NoKernel)?;
        let axes = scales.ok_or(GpuReject::DataDependent)?;
        match self.mode {
            Mode::Nearest(rounding) => {
                let constant = bits_of(site.dtype(0)?, self.extrapolation.into());
                let copy = NearestCopy::new(&axes, self.coordinates, rounding, constant);
                families::resample::nearest(site, &copy, &from)
            }
            Mode::Smooth(filter) => families::resample::smooth(site, &self.interpolation(filter), &axes),
        }
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let floats = |index: usize| -> Result<Vec<f64>, OpError> {
            let given = inputs.optional(index)?.map(|t| t.as_floats().map(<[f64]>::to_vec));
            Ok(given.transpose()?.unwrap_or_default())
        };
        let scales: Vec<f64> = match &self.scales {
            Scales::Absent => Vec::new(),
            Scales::Fixed(v) => v.iter().map(|&v| f64::from(v)).collect(),
            Scales::Input(index) => floats(*index)?,
        };
        let sizes = self.sizes.reference(inputs)?.filter(|_| scales.is_empty());
        let roi = self.roi.map(floats).transpose()?;
        let settings = self.reference_settings();
        let axes = settings.axes(&x.shape, self.axes.as_deref(), &scales, sizes.as_deref(), roi.as_deref());
        Ok(vec![settings.resize(x, &axes)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[10, 11, 13, 18, 19]);
    let newer = opset >= 18;
    let mode =
        *g.pick(if opset == 10 { &["nearest", "linear"][..] } else { &["nearest", "linear", "cubic"] });
    let dtype = *g.pick(if mode == "nearest" { MOVABLE } else { NUMBERS });
    let rank = g.size(1, 4);
    let shape: Vec<usize> = g.shape(rank).iter().map(|&d| d.clamp(1, 7)).collect();
    let x =
        if dtype.is_int() { g.tensor_in(dtype, &shape, -60.0, 60.0) } else { g.any_tensor(dtype, &shape) };
    let named = newer && g.chance(0.5);
    let axes = if named {
        let n = g.size(1, rank);
        g.permutation(rank)[..n].to_vec()
    } else {
        (0..rank).collect()
    };
    let count = axes.len();
    let scale = |g: &mut Gen| *g.pick(&[0.3f32, 0.5, 0.6, 0.8, 1.0, 1.0, 1.3, 1.5, 2.0, 3.0]);
    let scales: Vec<f32> = (0..count).map(|_| scale(g)).collect();
    let list = |v: Vec<f32>| Tensor::new(&[v.len()], v).unwrap_or_else(|_| Tensor::scalar(0f32));
    let case = Case::new([x]).opset(opset);
    let case = if mode == "nearest" && g.chance(0.5) { case } else { case.string("mode", mode) };
    let fixed = g.chance(0.6);
    let hold = |case: Case| if fixed { case.constant(1).constant(2).constant(3) } else { case };
    if opset == 10 {
        return hold(case.input(list(scales)));
    }
    let coordinates = match opset {
        19 => *g.pick(&["half_pixel", "half_pixel_symmetric", "align_corners", "tf_crop_and_resize"]),
        11 => *g.pick(&["half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"]),
        _ => *g.pick(&[
            "half_pixel",
            "pytorch_half_pixel",
            "asymmetric",
            "align_corners",
            "tf_crop_and_resize",
        ]),
    };
    let cropped = coordinates == "tf_crop_and_resize";
    let roi: Vec<f32> =
        (0..2 * count).map(|i| if i < count { g.int(-1, 4) } else { g.int(5, 10) } as f32 / 8.0).collect();
    let sizes: Vec<i64> = (0..count).map(|_| g.int(1, 9)).collect();
    let sized = g.chance(0.5);
    let mut case = case.string("coordinate_transformation_mode", coordinates);
    // The older versions need all inputs up to the last one.
    case = match (cropped, opset) {
        (true, _) => case.input(list(roi)),
        (false, 11) => case.input(list(Vec::new())),
        (false, _) => case.optional(None),
    };
    case = match (sized, opset) {
        (false, _) => case.input(list(scales)),
        (true, 11) => case.input(list(Vec::new())),
        (true, _) => case.optional(None),
    };
    if sized {
        case = case.input(Tensor::new(&[count], sizes).unwrap_or_else(|_| Tensor::scalar(0i64)));
        if newer && g.chance(0.5) {
            case = case
                .string("keep_aspect_ratio_policy", if g.chance(0.5) { "not_larger" } else { "not_smaller" });
        }
    }
    if named {
        let axes: Vec<i64> =
            axes.iter().map(|&a| a as i64 - if g.chance(0.5) { rank as i64 } else { 0 }).collect();
        case = case.ints("axes", &axes);
    }
    if newer && mode != "nearest" && g.chance(0.5) {
        case = case.int("antialias", 1);
    }
    if mode == "nearest" {
        case = case.string(
            "nearest_mode",
            g.pick::<&str>(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"][..]),
        );
    }
    if mode == "cubic" && g.chance(0.5) {
        case = case.float("cubic_coeff_a", -0.5);
    }
    if cropped && g.chance(0.7) {
        case = case.float("extrapolation_value", 10.0);
    }
    if g.chance(0.4) {
        case = case.int("exclude_outside", 1);
    }
    hold(case)
}
