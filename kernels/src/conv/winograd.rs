//! # Convolutions of 3 × 3 at stride 1 by Winograd's F(2×2, 3×3)
//! `Y = Aᵀ · (Σ_c U_c ⊙ (Bᵀ · d_c · B)) · A` for each tile of 2 × 2 positions, `d` the 4 × 4 elements of X that it reads and
//! `U = G · w · Gᵀ`, made once when weights are packed: 16 products where the definition has 36. Three steps, f32:
//!
//! 1. `winograd_input`: a thread transforms a tile of a channel, 32 additions, into `V[16, channels, tiles]`;
//! 2. a product of 16 matrices `M[16, filters, tiles] = U · V` by [`gemm`];
//! 3. `winograd_output`: a thread transforms two neighbouring tiles of a filter, 24 additions each, into two rows of up to
//!    four elements of Y, with the program between.
//!
//! Tiles that reach beyond Y are computed and not stored; the last ones, which make their number a multiple of four,
//! are of no image and zero. Transforms in kernels of their own keep 16 or 32 values in registers, and the product its
//! tiles; a fused kernel would have to keep both.
//!
//! Error: the terms of a sum along an axis are up to 8/3 of those of a direct one, for numbers of the same size, since some are
//! added that are taken away again; along both 64/9: at most `64/9 · (k + 8) · 2⁻²⁴ · k · max|w| · max|x|`.
//!
//! Floor: `8 · filters · channels · positions` operations and, since a position has 4 elements in V and in M that are written and
//! read once each, `36 · (channels + filters) · positions` bytes. [`choose`] weighs that against the direct kernel by rates that
//! are assumed, not measured: 64 multiply-adds and 16 bytes a clock for a multiprocessor, 2000 clocks a launch.
//!
//! Grids `min(⌈threads / 256⌉, 32 per multiprocessor)`, blocks 256; shared memory 4 KiB for each register of the program.

use super::{Axis, Shape};
use crate::device::math::{divide, opaque};
use crate::device::{Global, shared};
use crate::dtype::DType;
use crate::element::Element;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::epilogue::{Epilogue, MOST_SLOTS, Program, shared_bytes};
use crate::gemm::{self, Factors, Matrix, Operands, Problem};
use crate::launch::{Buffer, Device, Prepared, Reject};

/// Points of a tile.
const POINTS: usize = 16;
/// Most bytes of V and M that [`choose`] takes: where there are more, memory is dearer than time.
const MOST_BYTES: u64 = 128 << 20;
/// Most tiles: a product's grid has so many blocks along them.
const MOST_TILES: u64 = 65_535 * 64;

/// The tiles as kernels take them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Tiles {
    /// Height and width of X and Y.
    input: [u32; 2],
    output: [u32; 2],
    /// Zeros in front.
    begin: [u32; 2],
    /// Tiles along the height and width.
    along: [u32; 2],
    images: u32,
    channels: u32,
    filters: u32,
    /// Tiles of all images, and up to three of none.
    tiles: u32,
}

/// What a launch for V takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InputParams {
    x: Global<f32>,
    v: Global<f32>,
    tiles: Tiles,
    /// Tiles of all channels.
    elements: Elements,
}

const _: () = assert!(size_of::<InputParams>() == 72);

/// What a launch for Y takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OutputParams {
    m: Global<f32>,
    epilogue: Epilogue,
    tiles: Tiles,
    /// Pairs of tiles of all filters.
    elements: Elements,
}

const _: () = assert!(size_of::<OutputParams>() == 160);

/// `Bᵀ` of four numbers.
#[inline(always)]
fn spread([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    [a - c, b + c, c - b, b - d]
}

/// `Aᵀ` of four numbers.
#[inline(always)]
fn gathered([a, b, c, d]: [f32; 4]) -> [f32; 2] {
    [a + b + c, b - c - d]
}

/// Every thread of the input's transform.
#[inline(always)]
fn input(p: InputParams) {
    let t = &p.tiles;
    p.elements.each(|number| {
        let (channel, tile) = divide(number, t.tiles);
        let (line, column) = divide(tile, t.along[1]);
        let (image, row) = divide(line, t.along[0]);
        let plane = u64::from(image * t.channels + channel) * u64::from(t.input[0]) * u64::from(t.input[1]);
        // In front of the input the numbers wrap.
        let (top, left) = ((2 * row).wrapping_sub(t.begin[0]), (2 * column).wrapping_sub(t.begin[1]));
        let mut d = [[0.0f32; 4]; 4];
        for (i, of_row) in d.iter_mut().enumerate() {
            let y = top.wrapping_add(i as u32);
            for (j, value) in of_row.iter_mut().enumerate() {
                let x = left.wrapping_add(j as u32);
                if image < t.images && y < t.input[0] && x < t.input[1] {
                    let at = plane + u64::from(y) * u64::from(t.input[1]) + u64::from(x);
                    *value = p.x.load(at as usize);
                }
            }
        }
        for of_row in &mut d {
            *of_row = spread(*of_row);
        }
        let step = u64::from(t.channels) * u64::from(t.tiles);
        for j in 0..4 {
            let of_column = spread([d[0][j], d[1][j], d[2][j], d[3][j]]);
            for i in 0..4 {
                p.v.store(((4 * i + j) as u64 * step + u64::from(number)) as usize, of_column[i]);
            }
        }
    });
}

impl OutputParams {
    /// The two rows of two elements of a tile of a filter.
    #[inline(always)]
    fn tile(&self, filter: u32, tile: u32) -> [[f32; 2]; 2] {
        let t = &self.tiles;
        let step = u64::from(t.filters) * u64::from(t.tiles);
        let first = u64::from(filter) * u64::from(t.tiles) + u64::from(tile);
        let mut upper = [0.0f32; 4];
        let mut lower = [0.0f32; 4];
        for j in 0..4 {
            let point = |i: usize| self.m.load(((4 * i + j) as u64 * step + first) as usize);
            [upper[j], lower[j]] = gathered([point(0), point(1), point(2), point(3)]);
        }
        [gathered(upper), gathered(lower)]
    }
}

/// Every thread of the output's transform.
#[inline(always)]
fn output(p: OutputParams) {
    let t = &p.tiles;
    let registers = shared::array(0, p.epilogue.slots() * THREADS);
    let pairs = t.along[1].div_ceil(2);
    p.elements.each(|number| {
        let (rest, pair) = divide(number, pairs);
        let (filter, line) = divide(rest, t.along[0] * t.images);
        let (image, row) = divide(line, t.along[0]);
        let tile = line * t.along[1] + 2 * pair;
        let left = p.tile(filter, tile);
        let right = if 2 * pair + 1 < t.along[1] { p.tile(filter, tile + 1) } else { [[0.0; 2]; 2] };
        let upper = [left[0][0], left[0][1], right[0][0], right[0][1]];
        let lower = [left[1][0], left[1][1], right[1][0], right[1][1]];
        let column = 4 * pair;
        let behind = t.output[1] - column;
        let valid = if behind < 4 { behind } else { 4 };
        // The interpreter's code stands here once.
        let (mut half, halves) = (0, opaque(2));
        while half < halves {
            let y = 2 * row + half;
            if y < t.output[0] {
                let line = u64::from(image * t.filters + filter) * u64::from(t.output[0]) + u64::from(y);
                let first = line * u64::from(t.output[1]) + u64::from(column);
                let sums = if half == 0 { upper } else { lower };
                p.epilogue.store(registers, (first, valid), || sums);
            }
            half += 1;
        }
    });
}

entry!(
    /// V of X.
    WINOGRAD_INPUT = winograd_input(InputParams): input, THREADS
);
entry!(
    /// Y of M.
    WINOGRAD_OUTPUT = winograd_output(OutputParams): output, THREADS, with_shared(shared_bytes(0, THREADS, MOST_SLOTS))
);

/// A convolution of 3 × 3 at stride 1 that a kernel takes.
#[derive(Clone, Copy, Debug)]
pub struct Winograd {
    tiles: Tiles,
    factors: Factors,
}

/// The memory of the launches.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// What [`Winograd::pack`] made of the weights.
    pub u: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// [`Winograd::workspace_bytes`] bytes of scratch memory.
    pub workspace: Buffer,
    /// What comes between the sums and Y.
    pub program: Option<Program>,
}

/// The launches, in order.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Writes V.
    pub input: Prepared<InputParams>,
    /// Writes M.
    pub product: gemm::Plan,
    /// Writes Y.
    pub output: Prepared<OutputParams>,
}

/// The clocks that blocks of a product take, which make `tile · tile` sums of so many terms each.
fn clocks(blocks: u64, tile: u64, terms: u64, device: &Device) -> u64 {
    let waves = blocks.div_ceil(device.multiprocessors.max(1).into());
    waves.saturating_mul(tile * tile).saturating_mul(terms) / 64
}

/// The convolution by Winograd's products, where it has them and they are estimated to take less time than direct ones.
pub fn choose(shape: &Shape, factors: Factors, device: &Device) -> Option<Winograd> {
    let winograd = Winograd::new(shape, factors).ok()?;
    let (direct, parts) = super::choose(shape, factors, true, device).ok()?;
    let (positions, terms) = shape.extents().sizes();
    // Tensor cores make the direct products at more than twice the rate.
    if direct.factors != Factors::Own || positions == 0 {
        return None;
    }
    let (part, tile) = (terms.div_ceil(parts.into()), u64::from(direct.tile));
    let direct = clocks(direct.blocks(shape) * u64::from(parts), tile, part, device);
    let problem = winograd.problem();
    let (variant, parts) = gemm::choose(&problem, device).ok()?;
    let (part, tile) = (problem.k.div_ceil(parts).into(), u64::from(variant.tile));
    let blocks = variant.tiles(&problem) * u64::from(parts);
    let bytes = winograd.v_bytes() + winograd.m_bytes();
    if bytes > MOST_BYTES {
        return None;
    }
    let traffic = 2 * bytes / (16 * u64::from(device.multiprocessors.max(1)));
    (clocks(blocks, tile, part, device) + traffic + 2 * 2000 < direct).then_some(winograd)
}

impl Winograd {
    /// The convolution, where it is one of f32, of two axes, 3 × 3, at stride 1, without groups.
    pub fn new(shape: &Shape, factors: Factors) -> Result<Self, Reject> {
        shape.accepts()?;
        let [none, height, width] = shape.axes;
        let fits = |axis: Axis| axis.kernel == 3 && axis.stride == 1 && axis.dilation == 1;
        if shape.element != Element::F32 {
            return Err(Reject::ElementType { operand: "X" });
        }
        if none != Axis::NONE || !fits(height) || !fits(width) || shape.groups != 1 || shape.channels == 0 {
            return Err(Reject::Unsupported {
                what: "a window other than 3 × 3 of all channels at stride 1",
            });
        }
        let along = [height.output.div_ceil(2), width.output.div_ceil(2)];
        let tiles = u64::from(along[0]) * u64::from(along[1]) * u64::from(shape.images);
        let tiles = tiles.next_multiple_of(4);
        let of_all = |count: u32| tiles.saturating_mul(count.into()).saturating_mul(POINTS as u64);
        for (name, got) in [
            ("elements of V", of_all(shape.channels)),
            ("elements of M", of_all(shape.filters)),
            ("points of U", u64::from(shape.channels) * u64::from(shape.filters)),
            ("elements of Y", shape.extents().elements()[2]),
        ] {
            elements::limit(name, got)?;
        }
        if tiles > MOST_TILES {
            return Err(Reject::Extent { name: "tiles", got: tiles, limit: MOST_TILES });
        }
        let of = |f: fn(&Axis) -> u32| [f(&height), f(&width)];
        let tiles = Tiles {
            input: of(|axis| axis.input),
            output: of(|axis| axis.output),
            begin: of(|axis| axis.begin),
            along,
            images: shape.images,
            channels: shape.channels,
            filters: shape.filters,
            tiles: tiles as u32,
        };
        Ok(Self { tiles, factors })
    }

    /// The products of all points.
    fn problem(&self) -> Problem {
        let Tiles { channels, filters, tiles, .. } = self.tiles;
        let matrix = |rows: u32, row: u32| {
            let row = u64::from(row);
            Matrix { transposed: false, row, batch: [0, u64::from(rows) * row] }
        };
        Problem {
            element: Element::F32,
            factors: self.factors,
            m: filters,
            n: tiles,
            k: channels,
            batches: [1, POINTS as u32],
            a: matrix(filters, channels),
            b: matrix(channels, tiles),
        }
    }

    /// Bytes of V, and of M.
    fn v_bytes(&self) -> u64 {
        4 * POINTS as u64 * u64::from(self.tiles.channels) * u64::from(self.tiles.tiles)
    }

    fn m_bytes(&self) -> u64 {
        4 * POINTS as u64 * u64::from(self.tiles.filters) * u64::from(self.tiles.tiles)
    }

    /// Bytes of the weights as they are packed.
    pub fn packed_bytes(&self) -> u64 {
        4 * POINTS as u64 * u64::from(self.tiles.filters) * u64::from(self.tiles.channels)
    }

    /// `U[16, filters, channels]` of `w[filters, channels, 3, 3]`.
    pub fn pack(&self, w: &[f32], u: &mut [f32]) {
        let planes = self.tiles.filters as usize * self.tiles.channels as usize;
        // G of three numbers.
        let points = |[a, b, c]: [f32; 3]| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
        for (plane, taps) in w.chunks_exact(9).take(planes).enumerate() {
            let rows = [0, 3, 6].map(|row| points([taps[row], taps[row + 1], taps[row + 2]]));
            for j in 0..4 {
                for (i, value) in points([rows[0][j], rows[1][j], rows[2][j]]).into_iter().enumerate() {
                    u[(4 * i + j) * planes + plane] = value;
                }
            }
        }
    }

    /// Bytes of V, M and the parts of the product, each aligned.
    fn places(&self, device: &Device) -> Result<[u64; 3], Reject> {
        let (variant, splits) = gemm::choose(&self.problem(), device)?;
        let parts = variant.workspace_bytes(&self.problem(), splits);
        Ok([self.v_bytes(), self.m_bytes(), parts].map(|bytes| bytes.next_multiple_of(256)))
    }

    /// Bytes of the workspace.
    pub fn workspace_bytes(&self, device: &Device) -> Result<u64, Reject> {
        self.places(device).map(|places| places.iter().sum())
    }

    /// Checks everything and makes the launches.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Plan, Reject> {
        let t = &self.tiles;
        let product = |factors: &[u32]| factors.iter().fold(1u64, |n, &f| n.saturating_mul(f.into()));
        let inputs = product(&[t.images, t.channels, t.input[0], t.input[1]]);
        let outputs = product(&[t.images, t.filters, t.output[0], t.output[1]]);
        buffers.x.holds("x", inputs.saturating_mul(4), 4)?;
        buffers.u.holds("u", self.packed_bytes(), 16)?;
        buffers.workspace.holds("workspace", self.workspace_bytes(device)?, 256)?;
        let [of_v, of_m, of_parts] = self.places(device)?;
        let mut next = buffers.workspace.address;
        let mut place = |bytes| {
            next += bytes;
            Buffer { address: next - bytes, bytes }
        };
        let (v, m, workspace) = (place(of_v), place(of_m), place(of_parts));
        let (elements, geometry) = Elements::on(device, product(&[t.channels, t.tiles]));
        let params = InputParams {
            x: Global::from_address(buffers.x.address),
            v: Global::from_address(v.address),
            tiles: *t,
            elements,
        };
        let input = Prepared::new(&WINOGRAD_INPUT, geometry, params, device)?;
        let (variant, splits) = gemm::choose(&self.problem(), device)?;
        let operands = Operands { a: buffers.u, b: v, c: m, workspace, program: None };
        let product_plan = variant.prepare(&self.problem(), splits, &operands, device)?;
        let epilogue = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, DType::F32)?;
        let pairs = product(&[t.filters, t.images, t.along[0], t.along[1].div_ceil(2)]);
        let (elements, geometry) = Elements::on(device, pairs);
        let geometry = geometry.with_shared(shared_bytes(0, THREADS, epilogue.slots()));
        let params = OutputParams { m: Global::from_address(m.address), epilogue, tiles: *t, elements };
        let output = Prepared::new(&WINOGRAD_OUTPUT, geometry, params, device)?;
        Ok(Plan { input, product: product_plan, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    const AXIS: Axis = Axis { input: 56, output: 56, kernel: 3, stride: 1, dilation: 1, begin: 1 };
    const SHAPE: Shape = Shape {
        element: Element::F32,
        images: 1,
        groups: 1,
        channels: 64,
        filters: 64,
        axes: [Axis::NONE, AXIS, AXIS],
    };

    #[test]
    fn it_is_chosen_where_products_are_saved_and_not_where_transforms_cost_more() {
        let device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };
        let pays = |shape: Shape, factors| choose(&shape, factors, &device).is_some();
        assert!(pays(SHAPE, Factors::Own));
        assert!(!pays(SHAPE, Factors::Tf32), "tensor cores make the direct products");
        assert!(!pays(Shape { channels: 3, ..SHAPE }, Factors::Own));
        let small = Axis { input: 7, output: 7, ..AXIS };
        assert!(!pays(Shape { axes: [Axis::NONE, small, small], channels: 4, ..SHAPE }, Factors::Own));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |shape: Shape| Winograd::new(&shape, Factors::Own).err();
        assert_eq!(
            refused(Shape { element: Element::F16, ..SHAPE }),
            Some(Reject::ElementType { operand: "X" })
        );
        let window =
            Some(Reject::Unsupported { what: "a window other than 3 × 3 of all channels at stride 1" });
        let apart = Axis { stride: 2, output: 28, ..AXIS };
        for axes in [[Axis::NONE, apart, AXIS], [AXIS, AXIS, AXIS], [Axis::NONE, Axis::NONE, AXIS]] {
            assert_eq!(refused(Shape { axes, ..SHAPE }), window);
        }
        assert_eq!(refused(Shape { groups: 2, ..SHAPE }), window);
        assert!(matches!(refused(Shape { images: 1 << 20, ..SHAPE }), Some(Reject::Extent { .. })));
        let winograd = Winograd::new(&SHAPE, Factors::Own).expect("one that it takes");
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let (of_x, of_u) = (4 * 64 * 56 * 56, winograd.packed_bytes());
        let of_workspace = winograd.workspace_bytes(&EMULATED).expect("a product");
        let good = Buffers {
            x: buffer(of_x),
            u: buffer(of_u),
            y: buffer(of_x),
            workspace: buffer(of_workspace),
            program: None,
        };
        assert!(winograd.prepare(&good, &EMULATED).is_ok());
        let short = Buffers { u: buffer(of_u - 4), ..good };
        let needed = Some(Reject::Length { operand: "u", needed: of_u, got: of_u - 4 });
        assert_eq!(winograd.prepare(&short, &EMULATED).err(), needed);
        let short = Buffers { workspace: buffer(of_workspace - 1), ..good };
        let length = Reject::Length { operand: "workspace", needed: of_workspace, got: of_workspace - 1 };
        assert_eq!(winograd.prepare(&short, &EMULATED).err(), Some(length));
    }
}
