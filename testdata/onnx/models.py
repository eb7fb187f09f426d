"""Writes the ONNX models of this folder: python3 models.py FOLDER (needs onnx and numpy).

conv.onnx is a small convolutional net with seeded weights that takes images of
any size; the others are for tests: each differs in one thing a reader has to see.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIM = 64


def conv(name, rng, n_in, n_out):
    w = rng.standard_normal((n_out, n_in, 3, 3)) * np.sqrt(2 / (9 * n_in))
    return numpy_helper.from_array(w.astype(np.float32), name)


def save(path, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializer=list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tercet", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def value(name, dims, typ=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, typ, dims)


def net(path, channels=1, dims=("n", 1, "h", "w"), transpose=False):
    """Three strided convolutions, the mean and deviation of each channel, a projection."""
    rng = np.random.default_rng(1)
    widths = [channels, 16, 32, 48]
    weights, nodes, x = [], [], "image"
    if transpose:
        nodes.append(helper.make_node("Transpose", [x], ["planes"], perm=[0, 3, 1, 2]))
        x = "planes"
    for i in range(3):
        weights.append(conv(f"w{i}", rng, widths[i], widths[i + 1]))
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        x = f"r{i}"
    nodes.append(helper.make_node("AveragePool", [x], ["p"], kernel_shape=[2, 2], strides=[1, 1]))
    nodes.append(helper.make_node("GlobalMaxPool", ["p"], ["most"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["p"], ["mean"]))
    nodes.append(helper.make_node("Concat", ["most", "mean"], ["both"], axis=1))
    nodes.append(helper.make_node("Flatten", ["both"], ["flat"]))
    projection = rng.standard_normal((2 * widths[-1], DIM)) / np.sqrt(2 * widths[-1])
    weights.append(numpy_helper.from_array(projection.astype(np.float32), "projection"))
    nodes.append(helper.make_node("MatMul", ["flat", "projection"], ["embedding"]))
    save(path, nodes, [value("image", dims)], [value("embedding", (dims[0], DIM))], weights)


def one(path, node, inputs, outputs):
    save(path, [node], inputs, outputs)


def main(folder):
    net(folder / "conv.onnx")
    net(folder / "nhwc.onnx", dims=("n", 20, 20, 1), transpose=True)
    net(folder / "batch4.onnx", channels=3, dims=(4, 3, 20, 20))
    mean = helper.make_node("ReduceMean", ["image"], ["rows"], axes=[1, 3], keepdims=1)
    one(folder / "pooled.onnx", mean, [value("image", ("n", 1, 8, 1))], [value("rows", ("n", 1, 8, 1))])
    one(folder / "bytes.onnx", helper.make_node("Flatten", ["image"], ["flat"]),
        [value("image", ("n", 1, 8, 8), TensorProto.UINT8)], [value("flat", ("n", 64), TensorProto.UINT8)])
    one(folder / "rank3.onnx", helper.make_node("Flatten", ["image"], ["flat"]), [value("image", ("n", 8, 8))], [value("flat", ("n", 64))])
    one(folder / "planes5.onnx", helper.make_node("Flatten", ["image"], ["flat"]), [value("image", ("n", 5, 8, 8))], [value("flat", ("n", 320))])
    one(folder / "map.onnx", helper.make_node("Relu", ["image"], ["map"]), [value("image", ("n", 1, 8, 8))], [value("map", ("n", 1, 8, 8))])
    save(folder / "eight.onnx", [helper.make_node("Add", ["image", "shift"], ["sum"]), helper.make_node("ReduceMax", ["sum"], ["rows"], axes=[1, 3], keepdims=0)],
         [value("image", ("n", 1, "h", "w"))], [value("rows", ("n", "h"))],
         [numpy_helper.from_array(np.zeros((1, 1, 8, 8), np.float32), "shift")])
    one(folder / "two.onnx", helper.make_node("Split", ["image"], ["top", "bottom"], axis=2),
        [value("image", ("n", 1, 2, 8))], [value("top", ("n", 1, 1, 8)), value("bottom", ("n", 1, 1, 8))])
    one(folder / "infinite.onnx", helper.make_node("Reciprocal", ["image"], ["out"]), [value("image", ("n", 1, 1, 8))], [value("out", ("n", 1, 1, 8))])
    one(folder / "pair.onnx", helper.make_node("Add", ["image", "other"], ["sum"]),
        [value("image", ("n", 1, 1, 8)), value("other", ("n", 1, 1, 8))], [value("sum", ("n", 1, 1, 8))])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
