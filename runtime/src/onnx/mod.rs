//! Reading ONNX files: from protobuf bytes to a typed graph; and writing the small ones that test suites make.
//!
//! Bytes of tensors stay where they are: in the mapped file or in the buffer that the caller gave. Nothing
//! outside this module sees a protobuf type.
#![forbid(unsafe_code)]

mod census;
mod convert;
mod element_type;
mod external;
mod functions;
mod legacy;
mod proto;
mod tensor;
mod types;
mod write;

pub(crate) use element_type::dtype_of_code;
pub(crate) use write::{NodeModel, node_model, test_data};

use crate::error::{Error, Refusal, Undecoded};
use crate::graph::{Fact, Graph};
use crate::memory::{Budget, MappedFile};
use crate::tensor::{Tensor, Value};
use bytes::Bytes;
use census::Kind;
use external::ExternalFiles;
use prost::Message;
use std::path::Path;
use tensor::TensorSource;

/// Oldest version of the file format that is read.
const OLDEST_IR: i64 = 3;
/// Newest version of the file format that is known.
const NEWEST_IR: i64 = 14;

/// What a model says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metadata {
    /// Name of the main graph.
    pub graph: String,
    /// Program that wrote the file.
    pub producer: String,
    /// Its version.
    pub producer_version: String,
    /// Namespace of the model.
    pub domain: String,
    /// Version that the author gave the model.
    pub version: i64,
    /// Documentation.
    pub description: String,
    /// Version of the file format.
    pub ir_version: i64,
    /// Imported operator sets: domain and version.
    pub opsets: Vec<(String, i64)>,
    /// The author's own entries.
    pub custom: Vec<(String, String)>,
}

/// A model as read: nothing is simplified yet.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) metadata: Metadata,
    /// Files whose pages can be let go.
    pub(crate) files: Vec<MappedFile>,
    /// Nodes that cannot run; the graph lacks them.
    pub(crate) refusals: Vec<Refusal>,
}

/// Reads the model at `path`. External data is looked for in its directory.
pub(crate) fn read_path(path: &Path, budget: &Budget) -> Result<Model, Error> {
    let file = MappedFile::open(path)?;
    let directory = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let mut model = read(&file.bytes(), directory, budget)?;
    model.files.push(file);
    Ok(model)
}

/// Reads a model from bytes. It cannot refer to external data.
pub(crate) fn read_bytes(bytes: &Bytes, budget: &Budget) -> Result<Model, Error> {
    read(bytes, None, budget)
}

/// Decodes `bytes` as a message after its census, whose charge is returned beside it.
fn decode<M: Message + Default>(
    bytes: Bytes,
    kind: Kind,
    budget: &Budget,
) -> Result<(M, crate::memory::Charge), Error> {
    let size = census::census(&bytes, kind)?;
    let charge = budget.charge(size).map_err(|_| Error::Memory {
        what: "the model's structure".into(),
        requested: size,
        limit: budget.limit(),
    })?;
    let message = M::decode(bytes).map_err(|e| Error::model(e.to_string()))?;
    Ok((message, charge))
}

fn read(bytes: &Bytes, directory: Option<&Path>, budget: &Budget) -> Result<Model, Error> {
    if bytes.is_empty() {
        return Err(Error::model("the file is empty"));
    }
    let (proto, _charge): (proto::ModelProto, _) = match decode(bytes.clone(), Kind::Model, budget) {
        // Of an ONNX model that is damaged, the damage is told.
        Err(Error::Model { what }) if !census::begins_a_model(bytes) => {
            return Err(Error::NotOnnx { source: Undecoded { what } });
        }
        decoded => decoded?,
    };
    if !(OLDEST_IR..=NEWEST_IR).contains(&proto.ir_version) {
        return Err(Error::model(format!(
            "its IR version is {}; {OLDEST_IR} to {NEWEST_IR} are read",
            proto.ir_version
        )));
    }
    let graph = proto.graph.as_ref().ok_or_else(|| Error::model("it has no graph"))?;
    let mut converter = convert::Converter {
        inliner: functions::Inliner::new(&proto.functions, &proto.opset_import, budget)?,
        tensors: TensorSource {
            files: ExternalFiles::new(directory.map(Path::to_path_buf)),
            budget: budget.clone(),
        },
        refusals: Vec::new(),
    };
    let graph = converter.main_graph(graph)?;
    let convert::Converter { tensors, refusals, .. } = converter;
    let metadata = Metadata {
        graph: graph.name.to_string(),
        producer: proto.producer_name.clone(),
        producer_version: proto.producer_version.clone(),
        domain: proto.domain.clone(),
        version: proto.model_version,
        description: proto.doc_string.clone(),
        ir_version: proto.ir_version,
        opsets: proto.opset_import.iter().map(|o| (o.domain.clone(), o.version)).collect(),
        custom: proto.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect(),
    };
    Ok(Model { graph, metadata, files: tensors.files.into_files(), refusals })
}

/// Reads a tensor, sequence or optional in the form of the ONNX test data (`input_0.pb`), of the kind that
/// `like` says.
///
/// # Example
/// ```
/// # let file = [8u8, 2, 16, 1, 74, 8, 0, 0, 128, 63, 0, 0, 0, 64]; // dims [2], float32, raw bytes
/// use recurve::DType;
/// use recurve::model::{Fact, TensorFact, read_test_data};
/// // `file` holds the bytes of an `input_0.pb`; the fact is that of the model's input.
/// let like = Fact::from(TensorFact::known(DType::F32, &[2]));
/// let value = read_test_data(&file, &like)?;
/// assert_eq!(value.as_tensor().and_then(|t| t.to_vec::<f32>()), Some(vec![1.0, 2.0]));
/// # Ok::<(), recurve::Error>(())
/// ```
pub fn read_test_data(bytes: &[u8], like: &Fact) -> Result<Value, Error> {
    let budget = Budget::unlimited();
    let source = TensorSource { files: ExternalFiles::new(None), budget: budget.clone() };
    let bytes = Bytes::copy_from_slice(bytes);
    let malformed = |e: prost::DecodeError| Error::model(e.to_string());
    Ok(match like {
        Fact::Tensor(_) => {
            let (tensor, _charge): (proto::TensorProto, _) = decode(bytes, Kind::Tensor, &budget)?;
            let tensor = source.decode(&tensor)?;
            // Bytes inside a message are not aligned; test data is small, so it is copied once.
            if tensor.is_aligned() { tensor } else { aligned(&tensor)? }.into()
        }
        Fact::Sequence(_) => {
            let proto = proto::SequenceProto::decode(bytes).map_err(malformed)?;
            Value::Sequence(source.decode_sequence(&proto)?)
        }
        Fact::Optional(_) => {
            let proto = proto::OptionalProto::decode(bytes).map_err(malformed)?;
            source.decode_optional(&proto)?
        }
    })
}

fn aligned(tensor: &Tensor) -> Result<Tensor, Error> {
    let copied = Tensor::copy_of(tensor.view(), &Budget::unlimited());
    copied.map_err(|e| Error::Internal { what: e.to_string() })
}
