//! Attention whose scores lie in memory, as nests: what the `attention` kernel does not compute. Scores with what is added
//! to them, their softmax, and the sums of values; f64 where queries, values or the softmax are, else f32.

use super::attention::{Roles, caches, strides};
use super::composition::{Composition, Place};
use super::looped::{self, flat};
use super::{located, map};
use crate::cpu::attention::{Attention, Stage};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::fact::Fact;
use crate::graph::{Dim, TensorFact};
use crate::loops::program::{Builder, Kind, Opcode, Reg};
use crate::loops::{Affine, Fold, Outside, Stages};
use crate::tensor::Tensor;
use recurve_kernels::attention::Strides;

/// The axes of scores: images, heads of keys, heads of queries for each of them, queries, keys; elements follow.
const IMAGE: usize = 0;
const HEAD: usize = 1;
const SHARER: usize = 2;
const QUERY: usize = 3;
const KEY: usize = 4;
const ELEMENT: usize = 5;

/// Most keys, whose positions are floats.
const MOST_KEYS: usize = 1 << 24;

/// An attention in the making.
pub(super) struct Parts<'a> {
    site: &'a GpuSite<'a>,
    plan: &'a Attention,
    /// What everything is computed in.
    pub(super) wide: DType,
    kind: Kind,
    /// Heads of queries per head of keys.
    sharers: usize,
    /// Whether keys may be masked: weights of a query that sees none are zeros, and a value of weight 0 counts nothing.
    masks: bool,
    /// Where keys and values are, and whether heads lie side by side there.
    from: [Place; 2],
    packed: [bool; 2],
}

/// The operands of the scores' nest, and which of them are there besides queries, keys and the positions of both.
pub(super) struct Given {
    operands: Vec<TensorFact>,
    pub(super) places: Vec<Place>,
    mask: Option<usize>,
    lengths: Option<usize>,
    queries: Affine,
    keys: Affine,
}

fn many() -> GpuReject {
    GpuReject::Form("an attention of so many elements".into())
}

fn place(steps: &[(usize, usize)]) -> Result<Affine, GpuReject> {
    flat(0, steps).ok_or_else(many)
}

fn line(dtype: DType, count: usize) -> TensorFact {
    TensorFact::known(dtype, &[count])
}

impl Parts<'_> {
    /// Scores of all heads, or what else has one for each query and key.
    fn of_scores(&self) -> Result<[(usize, usize); 5], GpuReject> {
        let (queries, keys) = (self.plan.sizes.queries, self.plan.sizes.total());
        let head = queries.checked_mul(keys).ok_or_else(many)?;
        let shared = head.checked_mul(self.sharers).ok_or_else(many)?;
        let image = shared.checked_mul(self.plan.sizes.kv_heads).ok_or_else(many)?;
        Ok([(IMAGE, image), (HEAD, shared), (SHARER, head), (QUERY, keys), (KEY, 1)])
    }

    pub(super) fn count(&self) -> Result<usize, GpuReject> {
        let [(_, image), ..] = self.of_scores()?;
        image.checked_mul(self.plan.sizes.batch).ok_or_else(many)
    }

    fn extents(&self, last: &[usize]) -> Vec<Dim> {
        let sizes = &self.plan.sizes;
        let all = [sizes.batch, sizes.kv_heads, self.sharers, sizes.queries];
        all.into_iter().chain(last.iter().copied()).map(Dim::Known).collect()
    }

    /// Vectors of heads of queries, at queries and elements.
    fn of_queries(&self, strides: Strides, element: usize) -> Result<Affine, GpuReject> {
        let [image, head, row] = [strides.image, strides.head, strides.row].map(|step| step as usize);
        let shared = head.checked_mul(self.sharers).ok_or_else(many)?;
        place(&[(IMAGE, image), (HEAD, shared), (SHARER, head), (QUERY, row), (element, 1)])
    }

    /// Scores up to `stage`, as elements of `made`.
    pub(super) fn scores(&self, given: &Given, stage: Stage, made: DType) -> Result<GpuKernel, GpuReject> {
        let (sizes, plan) = (&self.plan.sizes, self.plan);
        let to = place(&self.of_scores()?)?;
        let image = place(&[(IMAGE, 1)])?;
        let mask = plan.mask.as_ref().map(|mask| {
            let [image, head, row] = mask.strides;
            let shared = head.checked_mul(self.sharers).ok_or_else(many)?;
            place(&[(IMAGE, image), (HEAD, shared), (SHARER, head), (QUERY, row), (KEY, mask.step)])
        });
        let mask = mask.transpose()?;
        looped::nest(self.site, given.operands.clone(), line(made, self.count()?), |facts, outputs| {
            let extents = self.extents(&[sizes.total(), sizes.width]);
            let mut nest = Stages::over(facts, outputs, extents)?.computed_in(self.kind);
            let q = nest.read(0, vec![given.queries.clone()], Outside::Never)?;
            let k = nest.read(1, vec![given.keys.clone()], Outside::Never)?;
            let sum = nest.fold(Fold::Sum, &[ELEMENT], &[q, k], |p, v| p.mul(v[0], v[1]))?;
            let mut sources = vec![sum];
            for (operand, axis) in [(2, QUERY), (3, KEY)] {
                sources.push(nest.read(operand, vec![Affine::axis(axis)], Outside::Never)?);
            }
            if let (Some(operand), Some(at)) = (given.mask, mask) {
                // Behind the keys that it tells of, whatever is there.
                sources.push(nest.read(operand, vec![at], Outside::Value(0.0))?);
            }
            if let Some(operand) = given.lengths {
                sources.push(nest.read(operand, vec![image], Outside::Never)?);
            }
            nest.store(vec![to], &[], &sources, |p, v| {
                let y = self.scored(p, stage, given, v);
                p.cast(y, self.wide, made)
            })
        })
    }

    /// A score of the sum, the positions of query and key, and, where they are there, mask and number of valid keys.
    fn scored(&self, p: &mut Builder, stage: Stage, given: &Given, v: &[Reg]) -> Reg {
        let (plan, [sum, query, key]) = (self.plan, [v[0], v[1], v[2]]);
        let scale = p.constant_as(sum, plan.scale);
        let mut y = p.mul(sum, scale);
        if stage == Stage::Product {
            return y;
        }
        if plan.softcap > 0.0 {
            let cap = p.constant_as(sum, plan.softcap);
            let part = p.div(y, cap);
            let bounded = p.tanh(part);
            y = p.mul(bounded, cap);
        }
        if stage == Stage::Capped {
            return y;
        }
        let nothing = p.constant_as(sum, f64::NEG_INFINITY);
        let mut rest = v[3..].iter().copied();
        if let (Some(mask), Some(form)) = (given.mask.and_then(|_| rest.next()), &plan.mask) {
            let is_truth = given.mask.is_some_and(|at| given.operands[at].dtype == DType::Bool);
            let none = p.constant_as(sum, if is_truth { 0.0 } else { f64::NEG_INFINITY });
            let masked = p.binary(Opcode::Eq, mask, none);
            let added = if is_truth { y } else { p.add(y, mask) };
            y = p.select(masked, nothing, added);
            let covered = p.constant_as(sum, form.covered as f64);
            let told = p.lt(key, covered);
            y = p.select(told, y, nothing);
        }
        let sizes = &plan.sizes;
        let (first, limit) = match rest.next() {
            Some(valid) => {
                let queries = p.constant_as(sum, sizes.queries as f64);
                (p.sub(valid, queries), valid)
            }
            None => (p.constant_as(sum, sizes.past as f64), p.constant_as(sum, sizes.total() as f64)),
        };
        let position = p.add(first, query);
        let seen = p.lt(key, limit);
        y = p.select(seen, y, nothing);
        let after = if plan.visible.causal { Some(0) } else { plan.visible.right };
        for (bound, ahead) in [(after, true), (plan.visible.left, false)] {
            let Some(bound) = bound else { continue };
            let bound = p.constant_as(sum, bound as f64);
            let distance = if ahead { p.sub(key, position) } else { p.sub(position, key) };
            let beyond = p.lt(bound, distance);
            y = p.select(beyond, nothing, y);
        }
        y
    }

    /// The weights of a query's keys by scores of type `held`, in that type, too: zeros where it sees none.
    pub(super) fn weights(&self, held: DType) -> Result<GpuKernel, GpuReject> {
        let (keys, form) = (self.plan.sizes.total(), line(held, self.count()?));
        let rows = self.count()?.checked_div(keys).unwrap_or(0);
        let at = flat(0, &[(0, keys), (1, 1)]).ok_or_else(many)?;
        looped::nest(self.site, vec![form.clone()], form, |facts, made| {
            let nest = Stages::over(facts, made, [rows, keys].map(Dim::Known).to_vec())?;
            let mut nest = nest.computed_in(self.kind);
            let x = nest.read(0, vec![at.clone()], Outside::Never)?;
            let most = nest.fold(Fold::Max, &[1], &[x], |_, v| v[0])?;
            let power = |p: &mut Builder, x: Reg, most: Reg| {
                let base = if self.masks {
                    let (least, none) = (p.constant_as(most, f64::NEG_INFINITY), p.constant_as(most, 0.0));
                    let any = p.lt(least, most);
                    p.select(any, most, none)
                } else {
                    most
                };
                let relative = p.sub(x, base);
                p.exp(relative)
            };
            let sum = nest.fold(Fold::Sum, &[1], &[x, most], |p, v| power(p, v[0], v[1]))?;
            nest.store(vec![at], &[1], &[x, most, sum], |p, v| {
                let (power, none) = (power(p, v[0], v[1]), p.constant_as(v[2], 0.0));
                let share = p.div(power, v[2]);
                let share = if self.masks {
                    let empty = p.binary(Opcode::Eq, v[2], none);
                    p.select(empty, none, share)
                } else {
                    share
                };
                p.cast(share, self.wide, held)
            })
        })
    }

    /// The sums of values by weights of type `held`; a value of weight 0 counts nothing, whatever it is.
    pub(super) fn sums(&self, held: DType) -> Result<GpuKernel, GpuReject> {
        let (sizes, dtype) = (&self.plan.sizes, self.site.dtype(2)?);
        let rows = strides(self.packed[1], sizes.kv_heads, sizes.total(), sizes.value_width)?;
        let of_y = strides(self.plan.packed, sizes.heads, sizes.queries, sizes.value_width)?;
        // Behind the queries are elements of a value, then keys.
        let (values, to) = (of_vectors(rows, ELEMENT, KEY)?, self.of_queries(of_y, KEY)?);
        let of_all = [sizes.batch, sizes.kv_heads, sizes.total(), sizes.value_width];
        let made = self.site.outputs.first().and_then(Fact::tensor).ok_or(GpuReject::NoKernel)?.dtype;
        let count = self.site.output_shape(0)?.iter().product();
        let [image, head, sharer, query, _] = self.of_scores()?;
        // Values are behind queries here, and keys behind them.
        let from = place(&[image, head, sharer, query, (ELEMENT, 1)])?;
        let operands = vec![line(held, self.count()?), line(dtype, elements(&of_all)?)];
        looped::nest(self.site, operands, line(made, count), |facts, outputs| {
            let extents = self.extents(&[sizes.value_width, sizes.total()]);
            let mut nest = Stages::over(facts, outputs, extents)?.computed_in(self.kind);
            let weight = nest.read(0, vec![from], Outside::Never)?;
            let value = nest.read(1, vec![values], Outside::Never)?;
            let sum = nest.fold(Fold::Sum, &[ELEMENT], &[weight, value], |p, v| {
                let term = p.mul(v[0], v[1]);
                if !self.masks {
                    return term;
                }
                let none = p.constant_as(v[0], 0.0);
                let empty = p.binary(Opcode::Eq, v[0], none);
                p.select(empty, none, term)
            })?;
            nest.store(vec![to], &[], &[sum], |p, v| p.cast(v[0], self.wide, made))
        })
    }

    /// What [`Parts::sums`] reads besides the weights.
    pub(super) fn values(&self) -> Place {
        self.from[1]
    }
}

fn elements(shape: &[usize]) -> Result<usize, GpuReject> {
    shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent)).ok_or_else(many)
}

/// Vectors of heads of keys, whose rows and elements are these axes.
fn of_vectors(strides: Strides, row: usize, element: usize) -> Result<Affine, GpuReject> {
    let [image, head, step] = [strides.image, strides.head, strides.row].map(|step| step as usize);
    place(&[(IMAGE, image), (HEAD, head), (row, step), (element, 1)])
}

/// The parts of `plan` behind what `whole` has, and what the scores are made of. `least` is what scores are computed in
/// unless something is wider.
pub(super) fn parts<'a>(
    site: &'a GpuSite<'a>,
    whole: &mut Composition,
    plan: &'a Attention,
    (roles, masks): (Roles, bool),
    least: DType,
) -> Result<(Parts<'a>, Given), GpuReject> {
    let (sizes, [of_keys, of_values]) = (&plan.sizes, [site.dtype(0)?, site.dtype(2)?]);
    if sizes.total() > MOST_KEYS {
        return Err(many());
    }
    let wide = if [least, of_keys, of_values].contains(&DType::F64) { DType::F64 } else { DType::F32 };
    let (from, packed) = caches(site, whole, plan, roles, [of_keys, of_values])?;
    let (kind, sharers) = (located::kind(wide)?, sizes.heads / sizes.kv_heads.max(1));
    let parts = Parts { site, plan, wide, kind, sharers, masks, from, packed };
    let total = sizes.total();
    let table =
        |count: usize| Tensor::new(&[count], (0..count as i64).collect()).map_err(|_| GpuReject::NoKernel);
    let keys = strides(packed[0], sizes.kv_heads, total, sizes.width)?;
    let mut given = Given {
        operands: vec![
            line(of_keys, elements(&site.input_shape(0)?)?),
            line(of_keys, elements(&[sizes.batch, sizes.kv_heads, total, sizes.width])?),
            line(DType::I64, sizes.queries),
            line(DType::I64, total),
        ],
        places: vec![
            Place::Input(0),
            from[0],
            whole.derived(&table(sizes.queries)?),
            whole.derived(&table(total)?),
        ],
        mask: None,
        lengths: None,
        queries: parts.of_queries(strides(plan.packed, sizes.heads, sizes.queries, sizes.width)?, ELEMENT)?,
        keys: of_vectors(keys, KEY, ELEMENT)?,
    };
    for (input, is_mask) in [(roles.mask, true), (roles.lengths, false)] {
        if masks && site.inputs.has(input) {
            let role = if is_mask { &mut given.mask } else { &mut given.lengths };
            *role = Some(given.operands.len());
            given.operands.push(line(site.dtype(input)?, elements(&site.input_shape(input)?)?));
            given.places.push(Place::Input(input));
        }
    }
    Ok((parts, given))
}

/// The launches of `plan`, whose output 3, where it is wanted, are the scores at `stage`.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    plan: &Attention,
    roles: Roles,
    stage: Stage,
) -> Result<GpuKernel, GpuReject> {
    let least = if plan.wide_softmax { DType::F64 } else { DType::F32 };
    let mut whole = Composition::new("attention");
    let (parts, given) = parts(site, &mut whole, plan, (roles, true), least)?;
    let wide = parts.wide;
    let shows = site.wanted.get(3).copied().unwrap_or(false);
    let shown = site.outputs.get(3).and_then(Fact::tensor).map_or(wide, |fact| fact.dtype);
    if shows && stage != Stage::Softmax {
        let kernel = parts.scores(&given, stage, shown)?;
        whole.add("shown", kernel, given.places.clone(), vec![Place::Output(3)])?;
    }
    if shows && stage == Stage::Softmax || site.wanted.first().copied().unwrap_or(true) {
        let bytes = located::bytes(wide, &[parts.count()?])?;
        let (scores, weights) = (whole.between(bytes)?, whole.between(bytes)?);
        let kernel = parts.scores(&given, Stage::Biased, wide)?;
        whole.add("scores", kernel, given.places.clone(), vec![scores])?;
        whole.add("weights", parts.weights(wide)?, vec![scores], vec![weights])?;
        if shows && stage == Stage::Softmax {
            let kernel = map::moved(site, [wide, shown], &[parts.count()?], &[1])?;
            whole.add("shown", kernel, vec![weights], vec![Place::Output(3)])?;
        }
        whole.add("sums", parts.sums(wide)?, vec![weights, parts.values()], vec![Place::Output(0)])?;
    }
    Ok(whole.finish())
}
