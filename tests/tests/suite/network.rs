//! Networks written node by node, their weights drawn, and run on the CPU and the emulated GPU.

use recurve::settings::Pinning;
use recurve::testing::{Gen, random_plan};
use recurve::{Device, Engine, Fallback, Outputs, Session, Tensor, ValueRef};
use recurve_tests::wire::{Message, code, fixed, floats, graph, ints, model_of, node, untyped};

/// A network under construction.
pub(crate) struct Net {
    nodes: Vec<Message>,
    pub(crate) constants: Vec<Message>,
    pub(crate) inputs: Vec<(String, Vec<i64>)>,
    random: Gen,
}

/// What a node is besides its operator and operands.
pub(crate) type With = fn(Message) -> Message;

impl Net {
    pub(crate) fn new(inputs: &[(&str, &[i64])]) -> Self {
        let inputs = inputs.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect();
        Self { nodes: Vec::new(), constants: Vec::new(), inputs, random: Gen::new(1) }
    }

    pub(crate) fn drawn(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.random.float(-1.0, 1.0) as f32).collect()
    }

    pub(crate) fn name(&self) -> String {
        format!("v{}_{}", self.nodes.len(), self.constants.len())
    }

    /// A constant from `middle − scale` to `middle + scale`.
    pub(crate) fn around(&mut self, shape: &[i64], middle: f32, scale: f32) -> String {
        let values = self.drawn(shape.iter().product::<i64>() as usize);
        let values: Vec<f32> = values.into_iter().map(|v| middle + v * scale).collect();
        let name = self.name();
        self.constants.push(floats(&name, shape, &values));
        name
    }

    /// Weights whose products keep their size.
    pub(crate) fn weights(&mut self, shape: &[i64]) -> String {
        let depth: i64 = shape[1..].iter().product();
        self.around(shape, 0.0, (3.0 / depth.max(1) as f32).sqrt())
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        let name = self.name();
        self.constants.push(ints(&name, &[values.len() as i64], values));
        name
    }

    pub(crate) fn nodes(
        &mut self,
        op: &str,
        from: &[&str],
        outputs: usize,
        with: impl Fn(Message) -> Message,
    ) -> Vec<String> {
        let first = self.name();
        let to: Vec<String> = (0..outputs).map(|at| format!("{first}_{at}")).collect();
        let names: Vec<&str> = to.iter().map(String::as_str).collect();
        self.nodes.push(with(node(op, from, &names)));
        to
    }

    pub(crate) fn node(&mut self, op: &str, from: &[&str], with: impl Fn(Message) -> Message) -> String {
        self.nodes(op, from, 1, with).remove(0)
    }

    pub(crate) fn op(&mut self, op: &str, from: &[&str]) -> String {
        self.node(op, from, |node| node)
    }

    /// A convolution of `[filters, channels of a group, size, size]`, as many zeros around as keep its extents at stride 1.
    pub(crate) fn conv(&mut self, x: &str, shape: [i64; 3], stride: i64, groups: i64) -> String {
        let [filters, channels, size] = shape;
        let (w, b) = (self.weights(&[filters, channels, size, size]), self.around(&[filters], 0.0, 0.1));
        self.node("Conv", &[x, &w, &b], |node| {
            let node = node.with_ints("kernel_shape", &[size, size]).with_ints("strides", &[stride, stride]);
            node.with_ints("pads", &[size / 2; 4]).with_int("group", groups)
        })
    }

    pub(crate) fn norm(&mut self, x: &str, channels: i64) -> String {
        let shape = [channels];
        let [scale, bias, mean] = [1.0, 0.0, 0.0].map(|middle| self.around(&shape, middle, 0.2));
        let variance = self.around(&shape, 1.0, 0.2);
        self.op("BatchNormalization", &[x, &scale, &bias, &mean, &variance])
    }

    pub(crate) fn conv_relu(&mut self, x: &str, shape: [i64; 3], stride: i64) -> String {
        let y = self.conv(x, shape, stride, 1);
        self.op("Relu", &[&y])
    }

    pub(crate) fn pool(&mut self, op: &str, x: &str, size: i64, stride: i64, pad: i64) -> String {
        self.node(op, &[x], |node| {
            let node = node.with_ints("kernel_shape", &[size, size]).with_ints("strides", &[stride, stride]);
            node.with_ints("pads", &[pad; 4])
        })
    }

    pub(crate) fn concat(&mut self, parts: &[&str], axis: i64) -> String {
        self.node("Concat", parts, |node| node.with_int("axis", axis))
    }

    pub(crate) fn dense(&mut self, x: &str, inputs: i64, outputs: i64) -> String {
        let (w, b) = (self.weights(&[outputs, inputs]), self.around(&[outputs], 0.0, 0.1));
        self.node("Gemm", &[x, &w, &b], |node| node.with_int("transB", 1))
    }

    /// The mean of each of `channels`, and a softmax over classes.
    pub(crate) fn classify(&mut self, x: &str, channels: i64) -> String {
        let pooled = self.op("GlobalAveragePool", &[x]);
        let flat = self.op("Flatten", &[&pooled]);
        let scores = self.dense(&flat, channels, 10);
        self.op("Softmax", &[&scores])
    }

    /// Runs it on both devices and compares.
    pub(crate) fn check_whole(self, title: &str, outputs: &[&str]) {
        self.on_both(title, outputs);
    }

    /// The same, and on both at once as some random plans place it.
    pub(crate) fn check(self, title: &str, outputs: &[&str]) {
        let (bytes, given, want) = self.on_both(title, outputs);
        let engine =
            Engine::builder().with_threads(2).with_pinning(Pinning::None).build().expect("an engine");
        let devices = "cpu,emulated".parse().expect("devices");
        let placed = Session::builder().with_engine(&engine).with_devices(devices);
        let placed = placed.load_bytes(bytes).expect("loads");
        for seed in 0..random_plans(RANDOM) {
            let shapes = given.iter().map(|(name, tensor)| (name.as_str(), tensor.shape()));
            let plan = random_plan(&placed, shapes, seed).expect(title);
            placed.follow(&plan).unwrap_or_else(|error| panic!("{title}, seed {seed}: {error:?}\n{plan}"));
            let result =
                placed.run(given.iter().map(|(name, tensor)| (name.as_str(), ValueRef::from(tensor))));
            let got = result.unwrap_or_else(|error| panic!("{title}, seed {seed}: {error:?}\n{plan}"));
            compare(&format!("{title}, seed {seed}"), outputs, &want, &got);
        }
    }

    /// The model, inputs, and the CPU's outputs, to which the GPU's were held.
    fn on_both(mut self, title: &str, outputs: &[&str]) -> (Vec<u8>, Vec<(String, Tensor)>, Outputs) {
        let given: Vec<(String, Tensor)> = self
            .inputs
            .clone()
            .into_iter()
            .map(|(name, shape)| {
                let shape: Vec<usize> = shape.iter().map(|&extent| extent as usize).collect();
                let values = self.drawn(shape.iter().product());
                (name, Tensor::new(&shape, values).expect("a tensor"))
            })
            .collect();
        let inputs: Vec<Message> =
            self.inputs.iter().map(|(name, shape)| fixed(name, code::F32, shape)).collect();
        let made: Vec<Message> = outputs.iter().map(|name| untyped(name)).collect();
        let bytes =
            model_of(10, &[("", 23)], &graph(&inputs, &made, &self.nodes, &self.constants)).into_bytes();
        let run = |device| {
            let engine = Engine::builder().with_threads(1).build().expect("an engine");
            let builder = Session::builder().with_engine(&engine).with_device(device);
            let session = builder.with_fallback(Fallback::Deny).load_bytes(bytes.clone()).expect("loads");
            let told = session.gpu_use();
            let result =
                session.run(given.iter().map(|(name, tensor)| (name.as_str(), ValueRef::from(tensor))));
            assert!(session.host_trips().is_empty(), "{title}");
            let outputs = result.unwrap_or_else(|error| panic!("{title} on {device}: {error}"));
            // Its shapes are the model's: what it takes is told when it is loaded.
            assert_eq!(session.gpu_use(), told, "{title}");
            let bytes = told.map_or(0, |told| told.weights + told.activations + told.workspace);
            assert_eq!(engine.gpu_memory_peak(device) as u64, bytes, "{title}");
            outputs
        };
        let (want, got) = (run(Device::Cpu), run(Device::Emulated));
        compare(title, outputs, &want, &got);
        (bytes, given, want)
    }
}

/// Random placements on the CPU and the emulated GPU of each network that is checked; `RECURVE_RANDOM_PLANS` sets another
/// number.
const RANDOM: u64 = 32;

/// Random plans per model: `usual`, or what `RECURVE_RANDOM_PLANS` says.
pub(crate) fn random_plans(usual: u64) -> u64 {
    std::env::var("RECURVE_RANDOM_PLANS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Holds `got` to `want`.
pub(crate) fn compare(title: &str, outputs: &[&str], want: &Outputs, got: &Outputs) {
    for name in outputs {
        let [want, got] = [want, got].map(|all| all.tensor(name).expect("there"));
        assert_eq!(got.shape(), want.shape(), "{title}, {name}");
        let (want, got) = (want.as_slice::<f32>().expect("floats"), got.as_slice::<f32>().expect("floats"));
        assert!(want.iter().all(|v| v.is_finite()), "{title}, {name}");
        assert!(want.iter().any(|v| *v != 0.0), "{title}, {name}: nothing is told apart");
        for (at, (got, want)) in got.iter().zip(want).enumerate() {
            let error = (got - want).abs();
            assert!(error <= 1e-4 * (1.0 + want.abs()), "{title}, {name}[{at}]: {got} for {want}");
        }
    }
}
