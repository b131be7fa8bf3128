//! What is refused.

use super::*;
use crate::activation::Activation;

const DEVICE: crate::launch::Device =
    crate::launch::Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };

#[test]
fn what_a_kernel_does_not_hold_is_refused() {
    let buffer = |address: u64| Buffer { address: address << 24, bytes: 1 << 24 };
    let operands = Operands {
        gates: buffer(1),
        weights: buffer(2),
        h_before: buffer(3),
        h_after: buffer(4),
        ..Operands::default()
    };
    let layout = Layout {
        element: Element::F32,
        time: 4,
        batch: 2,
        hidden: 128,
        gates: [1024, 512],
        y: [256, 128],
        reverse: false,
        clip: None,
    };
    let with = |layout: Layout| rnn::Problem { layout, function: Activation::IDENTITY };
    assert!(with(layout).sequence(&operands, &DEVICE).is_ok());
    let wide = with(Layout { hidden: 129, ..layout });
    let refused = Some(Reject::Extent { name: "hidden units", got: 129, limit: 128 });
    assert_eq!(wide.sequence(&operands, &DEVICE).err(), refused);
    assert!(wide.step(0, &operands, &DEVICE).is_ok());
    assert!(matches!(
        with(layout).step(4, &operands, &DEVICE).err(),
        Some(Reject::Extent { name: "step", .. })
    ));
    let clipped = with(Layout { clip: Some(f32::NAN), ..layout });
    assert!(matches!(clipped.step(0, &operands, &DEVICE).err(), Some(Reject::Unsupported { .. })));
    let same = Operands { h_after: operands.h_before, ..operands };
    assert!(matches!(with(layout).step(0, &same, &DEVICE).err(), Some(Reject::Unsupported { .. })));
    let short =
        Operands { gates: Buffer { address: 1 << 24, bytes: 4 * (3 * 1024 + 512 + 128 - 1) }, ..operands };
    assert!(matches!(
        with(layout).step(0, &short, &DEVICE).err(),
        Some(Reject::Length { operand: "gates", needed: 14848, .. })
    ));
    let far = with(Layout { gates: [u64::MAX, u64::MAX], ..layout });
    assert!(far.step(0, &operands, &DEVICE).is_err());
    let turing = crate::launch::Device { capability: 75, shared_bytes: 64 * 1024, ..DEVICE };
    let large = lstm::Problem { layout, functions: [Activation::IDENTITY; 3], input_forget: false };
    let cell = lstm::Cell { c_before: buffer(5), c_after: buffer(6), ..lstm::Cell::default() };
    let needed = sequence_shared(512, 128, 64);
    assert!(large.sequence(&operands, &cell, &DEVICE).is_ok());
    assert_eq!(
        large.sequence(&operands, &cell, &turing).err(),
        Some(Reject::SharedMemory { needed, limit: 64 * 1024 })
    );
}
