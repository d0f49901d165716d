"""Convert MediaPipe's face detectors to ONNX files with a free image size.

    python recipes/default/convert_detector.py mediapipe-0.10.14-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl full_range facekp/detector.onnx

The wheel comes from `pip download --no-deps mediapipe==0.10.14`; its files are under the Apache License 2.0, and so is the output.
Needs the packages onnx and ai-edge-litert. Nothing is trained and no output changes: the weights (float16) are kept, the layout
becomes NCHW, height and width become free (multiples of 32), and channels are padded with zeros, so that ONNX Runtime keeps its blocked
layout from the first convolution to the last (0.6 of the time). The outputs are compared with LiteRT's.
"""

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import TensorProto, helper, numpy_helper

FILES = {"full_range": "face_detection_full_range_sparse.tflite", "short_range": "face_detection_short_range.tflite"}
OPERATORS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def read_graph(content: bytes) -> tuple:
    "Return the graph, its operators' names, and every constant as an array (LiteRT makes sparse ones dense)."
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    names = [OPERATORS[max(model.operatorCodes[o.opcodeIndex].builtinCode, model.operatorCodes[o.opcodeIndex].deprecatedBuiltinCode)]
             for o in graph.operators]
    interpreter = Interpreter(model_content=content, experimental_preserve_all_tensors=True,
                              experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    interpreter.invoke()
    constants = {i: interpreter.get_tensor(i) for i, tensor in enumerate(graph.tensors)
                 if not tensor.sparsity and model.buffers[tensor.buffer].data is not None}
    for operator, name in zip(graph.operators, names):
        if name in ("DEQUANTIZE", "DENSIFY"):
            constants[operator.outputs[0]] = interpreter.get_tensor(operator.outputs[0])
    return graph, names, constants


def convert(content: bytes, metadata: dict) -> onnx.ModelProto:
    "Write the same graph as ONNX, channels first."
    graph, names, constants = read_graph(content)
    nodes, weights, borders = [], [], {}

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(index: int, order: tuple | None = None) -> str:
        "Return a weight that is stored as float16 and converted to float32 when the file is loaded."
        array = constants[index] if order is None else np.transpose(constants[index], order)
        half = array.astype(np.float16)
        assert np.array_equal(half.astype(np.float32), array), "the weights are float16 in the source"
        nodes.append(helper.make_node("Cast", [constant(f"w{len(weights)}", half)], [f"wide{len(weights)}"], to=TensorProto.FLOAT))
        return f"wide{len(weights)}"

    def add(kind: str, inputs: list, output: str, **attributes) -> None:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    for operator, name in zip(graph.operators, names):
        if name in ("DEQUANTIZE", "DENSIFY"):
            continue
        options, output = operator.builtinOptions, f"t{operator.outputs[0]}"
        inputs = [f"t{i}" for i in operator.inputs]
        activation = getattr(options, "fusedActivationFunction", 0)
        raw = f"{output}_raw" if activation else output
        assert activation in (0, 1), "only ReLU is supported"
        if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            depthwise = name.startswith("DEPTH")
            kernel = weight(operator.inputs[1], (3, 0, 1, 2) if depthwise else TO_CHANNELS_FIRST)
            shape = constants[operator.inputs[1]].shape
            source, border = borders.get(operator.inputs[0], (inputs[0], None))
            padding = {"auto_pad": "SAME_UPPER"} if options.padding == 0 else {"pads": border or [0, 0, 0, 0]}
            assert border is None or options.padding, "only one padding of the image is supported"
            add("Conv", [source, kernel, weight(operator.inputs[2])], raw, strides=[options.strideH, options.strideW],
                group=int(shape[3]) if depthwise else 1, **padding)
        elif name == "PAD":
            pads = constants[operator.inputs[1]][list(TO_CHANNELS_FIRST)]
            if not pads[:2].any():  # spatial padding: the following convolution can pad itself, which is faster
                borders[operator.outputs[0]] = inputs[0], pads[2:].T.reshape(-1).tolist()
                continue
            add("Pad", [inputs[0], constant(f"pads{len(weights)}", pads.T.reshape(-1).astype(np.int64))], raw)
        elif name == "MAX_POOL_2D":
            add("MaxPool", inputs, raw, kernel_shape=[options.filterHeight, options.filterWidth],
                strides=[options.strideH, options.strideW], auto_pad="SAME_UPPER" if options.padding == 0 else "VALID")
        elif name == "RESIZE_BILINEAR":
            scales = constant(f"scales{len(weights)}", np.array([1, 1, 2, 2], np.float32))
            add("Resize", [inputs[0], "", scales], raw, mode="linear", coordinate_transformation_mode="half_pixel")
        elif name == "DEPTH_TO_SPACE":
            add("DepthToSpace", inputs, raw, blocksize=options.blockSize, mode="DCR")
        elif name == "RESHAPE":
            add("Transpose", [inputs[0]], f"{output}_last", perm=TO_CHANNELS_LAST)
            width = int(graph.tensors[operator.outputs[0]].shape[-1])
            add("Reshape", [f"{output}_last", constant(f"shape{len(weights)}", np.array([0, -1, width], np.int64))], raw)
        elif name == "CONCATENATION":
            add("Concat", inputs, raw, axis=1)
        else:
            add({"ADD": "Add", "RELU": "Relu"}[name], inputs, raw)
        if activation:
            add("Relu", [raw], output)
    widths = [int(graph.tensors[i].shape[-1]) for i in graph.outputs]
    assert widths == [16, 1], "boxes first, scores second"
    nodes[0:0] = [helper.make_node("Identity", ["picture"], [f"t{graph.inputs[0]}"])]
    for index, name in zip(graph.outputs, ("boxes", "scores")):
        add("Identity", [f"t{index}"], name)
    result = helper.make_model(helper.make_graph(
        nodes, "face_detector", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["count", 3, "height", "width"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["count", "cells", width]) for name, width in zip(("boxes", "scores"), widths)],
        weights), opset_imports=[helper.make_opsetid("", 17)], producer_name="facekp", ir_version=8)
    helper.set_model_props(result, metadata)
    onnx.checker.check_model(result, full_check=True)
    return result


CHANNEL_BLOCK = 16  # channels per block of ONNX Runtime's layout on processors with AVX-512; a multiple of the blocks of other processors


def blocks(channels: int) -> int:
    "Return the number of channels rounded up to whole blocks."
    return -(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK


def widen_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    "Pad channels with zeros to whole blocks; a residual sum then needs no Pad, for which ONNX Runtime would leave its blocked layout."
    graph = model.graph
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    heads = {node.input[0] for node in graph.node if node.op_type == "Transpose"}  # outputs keep their number of channels
    channels, same, nodes = {}, {}, []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Conv":
            kernel, bias = (arrays[stored[name]] for name in node.input[1:])
            group = next(attribute for attribute in node.attribute if attribute.name == "group")
            wide = len(kernel) if node.output[0] in heads else blocks(len(kernel))
            inside = kernel.shape[1] if kernel.shape[1] in (1, 3) else blocks(kernel.shape[1])  # 1: depthwise, 3: the image
            arrays[stored[node.input[1]]] = np.zeros((wide, inside, *kernel.shape[2:]), kernel.dtype)
            arrays[stored[node.input[1]]][:len(kernel), :kernel.shape[1]] = kernel
            arrays[stored[node.input[2]]] = np.pad(bias, (0, wide - len(bias)))
            group.i = wide if group.i > 1 else 1
            channels[node.output[0]] = len(kernel)
        elif node.op_type == "Pad":
            before = channels[node.input[0]]
            after = channels[node.output[0]] = before + int(arrays.pop(node.input[1])[5])
            if blocks(before) == blocks(after):
                same[node.output[0]] = node.input[0]
                continue
            name = f"copy_{node.output[0]}"
            arrays[name] = np.eye(blocks(after), blocks(before), dtype=np.float16)[:, :, None, None]
            nodes.append(helper.make_node("Cast", [name], [f"{name}_wide"], to=TensorProto.FLOAT))
            node = helper.make_node("Conv", [node.input[0], f"{name}_wide"], list(node.output), group=1, pads=[0, 0, 0, 0], strides=[1, 1])
        elif node.op_type != "Cast":
            channels[node.output[0]] = max(channels.get(name, 0) for name in node.input)
        nodes.append(node)
    result = helper.make_model(helper.make_graph(nodes, graph.name, list(graph.input), list(graph.output),
                                                 [numpy_helper.from_array(array, name) for name, array in arrays.items()]),
                               opset_imports=model.opset_import, producer_name=model.producer_name, ir_version=model.ir_version)
    result.metadata_props.extend(model.metadata_props)
    onnx.checker.check_model(result, full_check=True)
    return result


def largest_difference(content: bytes, path: Path) -> float:
    "Run LiteRT and ONNX Runtime on the same noise and compare all outputs."
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    shape = interpreter.get_input_details()[0]["shape"]
    picture = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    expected = {int(d["shape"][-1]): interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
    found = onnxruntime.InferenceSession(path).run(["boxes", "scores"], {"picture": picture.transpose(TO_CHANNELS_FIRST)})
    return max(float(np.abs(array - expected[array.shape[-1]]).max()) for array in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("which", choices=FILES)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    with zipfile.ZipFile(options.wheel) as wheel:
        content = wheel.read(f"mediapipe/modules/face_detection/{FILES[options.which]}")
    metadata = {"name": f"MediaPipe face detection, {options.which.replace('_', ' ')}", "source": f"{FILES[options.which]} of {options.wheel.name}",
                "source_sha256": hashlib.sha256(content).hexdigest(), "license": "Apache-2.0", "author": "The MediaPipe Authors"}
    onnx.save(widen_channels(convert(content, metadata)), options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, largest difference to LiteRT {largest_difference(content, options.out):.1e}")


if __name__ == "__main__":
    main()
