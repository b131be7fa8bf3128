#!/usr/bin/env python3
"""Write the ONNX backend suite to a folder: `generate.py FOLDER`.

    FOLDER/GROUP/CASE/model.onnx
    FOLDER/GROUP/CASE/test_data_set_N/input_K.pb, output_K.pb
    FOLDER/index.json

The cases, inputs and expected outputs are those of the installed `onnx` package: node cases are generated
by its own case code, the others are files in its data folder. A `.pb` file holds a TensorProto, a
SequenceProto or an OptionalProto, as the type of the model's K-th input or output says.

`index.json` holds the versions, `bfloat16_rtol` (the least relative tolerance for bfloat16 outputs, as in
the package's runner) and for each case:

    name, group, path   the path is relative to FOLDER
    operator            the operator that a node case is about, also for its `_expanded` forms; else null
    operators           every operator of the model, subgraphs and functions included, with its domain
    opsets              the version imported per domain
    dtypes              every element type of inputs, outputs, initializers, constants and casts
    rtol, atol          tolerances: |ours - expected| <= atol + rtol * |expected|
    random              whether the expected output is one draw of many
    data_sets           how many test_data_set_N folders there are
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node as node_cases
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

FILE_GROUPS = ["simple", "pytorch-converted", "pytorch-operator"]
BFLOAT16_RTOL = 2.0**-6

DTYPES = {
    "FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "BFLOAT16": "bf16",
    "INT8": "i8", "INT16": "i16", "INT32": "i32", "INT64": "i64",
    "UINT8": "u8", "UINT16": "u16", "UINT32": "u32", "UINT64": "u64",
}  # fmt: skip

RANDOM_OPERATORS = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
}  # fmt: skip


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    cases = []
    for case in node_cases.collect_testcases(None):
        # The package keeps the node of each case under its name; an expanded case adds to that name.
        operator = node_cases._existing_names[case.name.split("_expanded")[0]]
        cases.append(describe(folder, "node", case, write_node_case, domain_name(operator)))
    for group in FILE_GROUPS:
        for case in load_model_tests(kind=group):
            cases.append(describe(folder, group, case, copy_case, None))
    for case in load_model_tests(kind="real"):
        cases.append(describe(folder, "light", case, write_light_case, None))
    cases.sort(key=lambda case: case["path"])
    index = {
        "onnx": onnx.__version__,
        "numpy": np.__version__,
        "bfloat16_rtol": BFLOAT16_RTOL,
        "cases": cases,
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def describe(folder, group, case, write, operator):
    """Write one case and return its entry of the index."""
    path = folder / group / case.name
    path.mkdir(parents=True)
    model = write(case, path)
    return {
        "name": case.name,
        "group": group,
        "path": f"{group}/{case.name}",
        "operator": operator,
        "operators": sorted({domain_name(node) for node in all_nodes(model)}),
        "opsets": {opset.domain: opset.version for opset in model.opset_import},
        "dtypes": sorted(element_types(model)),
        "rtol": case.rtol,
        "atol": case.atol,
        "random": is_random(case, model),
        "data_sets": len(list(path.glob("test_data_set_*"))),
    }


def write_node_case(case, path):
    """A case that the package generates: its model and data are in memory."""
    (path / "model.onnx").write_bytes(case.model.SerializeToString())
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data_set = path / f"test_data_set_{number}"
        data_set.mkdir()
        for kind, values, declared in [
            ("input", inputs, case.model.graph.input),
            ("output", outputs, case.model.graph.output),
        ]:
            for k, (value, info) in enumerate(zip(values, declared, strict=True)):
                (data_set / f"{kind}_{k}.pb").write_bytes(serialized(value, info))
    return case.model


def serialized(value, info):
    """A value as the protobuf message that the type of `info` asks for."""
    if info.type.HasField("sequence_type"):
        return numpy_helper.from_list(value, info.name).SerializeToString()
    if info.type.HasField("optional_type"):
        return numpy_helper.from_optional(value, info.name).SerializeToString()
    if isinstance(value, onnx.TensorProto):
        return value.SerializeToString()
    return numpy_helper.from_array(np.asarray(value), info.name).SerializeToString()


def copy_case(case, path):
    """A case that the package has as files."""
    source = Path(case.model_dir)
    shutil.copyfile(source / "model.onnx", path / "model.onnx")
    for data_set in source.glob("test_data_set_*"):
        shutil.copytree(data_set, path / data_set.name)
    return onnx.load(path / "model.onnx")


def write_light_case(case, path):
    """An image network: the package has the model and the expected outputs; its runner makes the inputs."""
    source = Path(onnx.__file__).parent.parent / case.url
    shutil.copyfile(source, path / "model.onnx")
    model = onnx.load(source)
    data_set = path / "test_data_set_0"
    data_set.mkdir()
    constants = {initializer.name for initializer in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in constants]
    for k, info in enumerate(inputs):
        value = Runner.generate_dummy_data(info, seed=0, name=case.model_name, random=False)
        (data_set / f"input_{k}.pb").write_bytes(serialized(value, info))
    for k in range(len(model.graph.output)):
        shutil.copyfile(source.with_name(f"{source.stem}_output_{k}.pb"), data_set / f"output_{k}.pb")
    return model


def domain_name(node):
    return f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type


def all_nodes(model):
    """Every node of the model: main graph, subgraphs at any depth, functions."""
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g.node)
                pending += [graph.node for graph in attribute.graphs]


def element_types(model):
    """The names of the element types that the model states; inferred ones are not among them."""
    numbers = {tensor.data_type for tensor in model.graph.initializer}
    for info in [*model.graph.input, *model.graph.output]:
        kind = info.type
        while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
            kind = getattr(kind, kind.WhichOneof("value")).elem_type
        if kind.HasField("tensor_type"):
            numbers.add(kind.tensor_type.elem_type)
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                numbers.add(attribute.t.data_type)
            elif attribute.name in ("to", "dtype", "output_dtype"):
                numbers.add(attribute.i)
    names = [onnx.TensorProto.DataType.Name(number) for number in numbers if number]
    return {DTYPES.get(name, name.lower()) for name in names}


def is_random(case, model):
    """Whether the expected output is drawn: by a random operator, or by Dropout that drops."""
    if any(node.op_type in RANDOM_OPERATORS for node in all_nodes(model)):
        return True
    drops = False
    for node in model.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2 and case.data_sets:
            given = dict(zip((info.name for info in model.graph.input), case.data_sets[0][0], strict=True))
            ratio, training = given.get(node.input[1], 0.5), given.get(node.input[2], False)
            drops |= bool(training) and float(ratio) > 0
    return drops


if __name__ == "__main__":
    main()
