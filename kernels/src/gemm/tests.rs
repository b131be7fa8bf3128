//! What is refused, and what is chosen.

use super::*;

const DEVICE: Device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };

fn plain(element: Element, m: u32, n: u32, k: u32) -> Problem {
    let matrix = |columns: u32| Matrix { transposed: false, row: columns.into(), batch: [0, 0] };
    Problem { element, factors: Factors::Own, m, n, k, batches: [1, 1], a: matrix(k), b: matrix(n) }
}

#[test]
fn variants_refuse_what_they_do_not_compute() {
    let simt = by_id("simt_64_f32").expect("a variant");
    let tensor = by_id("tensor_f16_nn").expect("a variant");
    assert_eq!(by_id("simt_32_f32").err(), Some(Reject::UnknownVariant));
    let f16 = plain(Element::F16, 64, 64, 64);
    assert_eq!(simt.accepts(&f16, &DEVICE), Err(Reject::ElementType { operand: "A" }));
    assert_eq!(tensor.accepts(&f16, &DEVICE), Ok(()));
    let turing = Device { capability: 75, ..DEVICE };
    assert_eq!(tensor.accepts(&f16, &turing), Err(Reject::Capability { needed: 80, got: 75 }));
    let wgmma = by_id("wgmma_f16_nn").expect("a variant");
    assert_eq!(wgmma.accepts(&f16, &DEVICE), Ok(()));
    for got in [80, 100, 120] {
        let other = Device { capability: got, ..DEVICE };
        assert_eq!(wgmma.accepts(&f16, &other), Err(Reject::Capability { needed: 90, got }));
        assert_eq!(tensor.accepts(&f16, &other), Ok(()));
    }
    let packed = by_id("wgmma_f16_packed").expect("a variant");
    let every_batch = Problem { batches: [1, 2], b: Matrix { batch: [0, 4096], ..f16.b }, ..f16 };
    let refused = Err(Reject::Unsupported { what: "a packed B of several batches" });
    assert_eq!(packed.accepts(&every_batch, &DEVICE), refused);
    let deep = packed.accepts(&plain(Element::F16, 8, 8, 1 << 25), &DEVICE);
    assert!(matches!(deep, Err(Reject::Extent { .. })));
    let any_row = Problem { n: 61, b: Matrix { row: 61, ..f16.b }, ..f16 };
    assert_eq!(packed.accepts(&any_row, &DEVICE), Ok(()));
    assert_eq!(choose_packed(&any_row, &DEVICE).map(|(variant, _)| variant.id), Some("wgmma_f16_packed"));
    assert!(choose_packed(&plain(Element::F32, 64, 64, 64), &DEVICE).is_none());
    let odd = plain(Element::F16, 64, 64, 65);
    assert_eq!(tensor.accepts(&odd, &DEVICE), Err(Reject::Multiple { name: "A's rows", got: 65, of: 8 }));
    let turned = Problem { b: Matrix { transposed: true, ..f16.b }, ..f16 };
    assert_eq!(tensor.accepts(&turned, &DEVICE), Err(Reject::Unsupported { what: "this layout" }));

    let f32 = plain(Element::F32, 64, 64, 64);
    let buffer = |address, bytes| Buffer { address, bytes };
    let whole = Operands {
        a: buffer(1 << 20, 1 << 14),
        b: buffer(2 << 20, 1 << 14),
        c: buffer(3 << 20, 1 << 14),
        ..Operands::default()
    };
    assert!(simt.prepare(&f32, 1, &whole, &DEVICE).is_ok());
    let refused = |operands: &Operands, splits| simt.prepare(&f32, splits, operands, &DEVICE).err();
    let short = Operands { b: buffer(2 << 20, (1 << 14) - 4), ..whole };
    assert_eq!(
        refused(&short, 1),
        Some(Reject::Length { operand: "B", needed: 1 << 14, got: (1 << 14) - 4 })
    );
    let crooked = Operands { c: buffer((3 << 20) + 2, 1 << 14), ..whole };
    assert!(matches!(refused(&crooked, 1), Some(Reject::Alignment { operand: "Y", .. })));
    assert_eq!(refused(&whole, 2), Some(Reject::Absent { operand: "workspace" }));
    let huge = plain(Element::F32, u32::MAX, u32::MAX, u32::MAX);
    assert!(simt.prepare(&huge, 1, &whole, &DEVICE).is_err());
    let overlapping = Problem { a: Matrix { row: 63, ..f32.a }, ..f32 };
    assert!(matches!(simt.prepare(&overlapping, 1, &whole, &DEVICE).err(), Some(Reject::Unsupported { .. })));
}

#[test]
fn the_choice_fills_the_device() {
    let id = |problem: &Problem| choose(problem, &DEVICE).map(|(variant, splits)| (variant.id, splits));
    assert_eq!(id(&plain(Element::F16, 4096, 4096, 4096)), Ok(("wgmma_f16_nn", 1)));
    let ampere = Device { capability: 80, multiprocessors: 108, shared_bytes: 163 * 1024 };
    let chosen = choose(&plain(Element::F16, 4096, 4096, 4096), &ampere).map(|(variant, _)| variant.id);
    assert_eq!(chosen, Ok("tensor_f16_nn"));
    assert_eq!(id(&plain(Element::F16, 4096, 4096, 4095)), Ok(("simt_64_f16", 1)));
    assert_eq!(id(&plain(Element::F32, 4096, 4096, 4096)), Ok(("simt_128_f32", 1)));
    assert_eq!(id(&plain(Element::F32, 64, 64, 4096)), Ok(("simt_64_f32", 16)));
    assert_eq!(id(&plain(Element::F32, 64, 64, 32)), Ok(("simt_64_f32", 1)));
    // Large tiles would be half outside.
    let batched = Problem { batches: [1, 512], ..plain(Element::F32, 64, 4096, 64) };
    assert_eq!(id(&batched), Ok(("simt_64_f32", 1)));
    let batched = Problem { batches: [1, 512], ..plain(Element::F32, 128, 4096, 64) };
    assert_eq!(id(&batched), Ok(("simt_128_f32", 1)));
}

#[test]
fn tf32_is_taken_where_it_is_allowed_and_applies() {
    let own = plain(Element::F32, 256, 256, 256);
    let allowed = Problem { factors: Factors::Tf32, ..own };
    let variant = by_id("tf32").expect("a variant");
    let stay = Reject::Unsupported { what: "factors that are to stay as they are" };
    assert_eq!(variant.accepts(&own, &DEVICE), Err(stay));
    let id = |problem: &Problem, device: &Device| choose(problem, device).map(|(variant, _)| variant.id);
    for capability in [80, 86, 89, 90, 100, 120] {
        let device = Device { capability, ..DEVICE };
        assert_eq!(id(&allowed, &device), Ok("tf32"), "{capability}");
        assert_eq!(id(&own, &device).map(|id| id.starts_with("simt")), Ok(true), "{capability}");
    }
    let turing = Device { capability: 75, ..DEVICE };
    assert_eq!(variant.accepts(&allowed, &turing), Err(Reject::Capability { needed: 80, got: 75 }));
    assert_eq!(id(&allowed, &turing), Ok("simt_64_f32"));
    for a in [false, true] {
        for b in [false, true] {
            let turned = |matrix: Matrix, transposed| Matrix { transposed, ..matrix };
            let layout = Problem { a: turned(own.a, a), b: turned(own.b, b), ..allowed };
            assert_eq!(id(&layout, &DEVICE), Ok("tf32"));
        }
    }
    let odd = Problem { factors: Factors::Tf32, ..plain(Element::F32, 256, 256, 257) };
    assert_eq!(variant.accepts(&odd, &DEVICE), Err(Reject::Multiple { name: "A's rows", got: 257, of: 4 }));
    assert_eq!(id(&odd, &DEVICE).map(|id| id.starts_with("simt")), Ok(true));
    let halves = Problem { factors: Factors::Tf32, ..plain(Element::F16, 256, 256, 256) };
    assert_eq!(id(&halves, &DEVICE), Ok("wgmma_f16_nn"), "of other types it says nothing");
}

#[test]
fn ids_are_unique() {
    for (i, variant) in VARIANTS.iter().enumerate() {
        assert!(VARIANTS[..i].iter().all(|other| other.id != variant.id), "{}", variant.id);
    }
}
