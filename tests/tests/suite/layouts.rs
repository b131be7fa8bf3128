//! Where a session's convolutions compute with channels in blocks: on the CPU alone, when fusion is on.

use crate::network::Net;
use recurve::model::NodeInfo;
use recurve::settings::{Devices, Fusion};
use recurve::{Session, SessionBuilder};
use recurve_tests::wire::{Message, code, fixed, graph, model, node, untyped};

fn chain() -> Vec<u8> {
    let mut net = Net::new(&[]);
    let weights = [net.weights(&[64, 64, 3, 3]), net.weights(&[64, 64, 3, 3]), net.weights(&[64, 64, 3, 3])];
    let convolution = |x: &str, w: &str, y: &str| node("Conv", &[x, w], &[y]).with_ints("pads", &[1; 4]);
    let nodes: Vec<Message> = vec![
        convolution("x", &weights[0], "a"),
        node("Relu", &["a"], &["b"]),
        convolution("b", &weights[1], "c"),
        node("Relu", &["c"], &["d"]),
        convolution("d", &weights[2], "y"),
    ];
    let inputs = [fixed("x", code::F32, &[1, 64, 28, 28])];
    model(&graph(&inputs, &[untyped("y")], &nodes, &net.constants)).into_bytes()
}

/// Convolutions of the model as it runs, by their operators' names.
fn convolutions(builder: SessionBuilder) -> Vec<String> {
    let session = builder.load_bytes(chain()).expect("loads");
    let nodes = session.nodes(std::iter::empty::<(&str, &[usize])>()).expect("nodes");
    let names = |node: &NodeInfo| -> Vec<String> {
        let members = node.members.iter().map(|member| member.op.clone());
        members.chain([node.op.clone()]).filter(|op| op.ends_with("Conv")).collect()
    };
    nodes.iter().flat_map(names).collect()
}

#[test]
fn convolutions_of_the_cpu_alone_take_channels_in_blocks() {
    let blocked = convolutions(Session::builder());
    assert_eq!(blocked, vec!["recurve:BlockedConv"; 3]);
    let devices: Devices = "cpu,emulated".parse().expect("devices");
    for plain in [Session::builder().with_fusion(Fusion::Off), Session::builder().with_devices(devices)] {
        assert_eq!(convolutions(plain), vec!["Conv"; 3]);
    }
}
