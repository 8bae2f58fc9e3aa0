"""Small ONNX files, written node by node."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

FLOAT = TensorProto.FLOAT


def _distance_nodes():
    """Distance of each pixel from 0.5, its mean over the channels, and the mean of those times ``scale``."""
    return [
        helper.make_node("Cast", ["images"], ["f"], to=FLOAT),
        helper.make_node("Sub", ["f", "half"], ["d"]),
        helper.make_node("Abs", ["d"], ["a"]),
        helper.make_node("ReduceMean", ["a", "channel"], ["m"], keepdims=1),
        helper.make_node("Reshape", ["m", "map_shape"], ["anomalies"]),
        helper.make_node("ReduceMean", ["anomalies", "all"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["score"]),
    ]  # fmt: skip


def _constants(size, layout, scale):
    """What the nodes of `_distance_nodes` read besides images."""
    return [
        helper.make_tensor("half", FLOAT, [], [0.5]),
        helper.make_tensor("scale", FLOAT, [], [scale]),
        helper.make_tensor("channel", TensorProto.INT64, [1], [1 if layout == "NCHW" else 3]),
        helper.make_tensor("map_shape", TensorProto.INT64, [4], [-1, 1, size, size]),
        helper.make_tensor("all", TensorProto.INT64, [3], [1, 2, 3]),
    ]


def write_model(
    path,
    *,
    batch="N",
    size=8,
    layout="NCHW",
    score_shape="N",
    map_shape="N1HW",
    names=("pred_score", "anomaly_map"),
    elem=FLOAT,
    inputs=1,
    extra=(),
    constants=(),
    scale=1.0,
    baked=0,
):
    """A model whose map is the distance of each pixel from 0.5, and whose score is its mean, times ``scale``.

    ``score_shape``: N, N1 or none, of ``baked`` images whatever the input says; ``map_shape``: N1HW, NHW1, NHW, none,
    or ``tokens``: as many rows as the map has pixels; ``extra``: names of more outputs like the score; ``constants``:
    names of outputs of one number.
    """
    nodes = _distance_nodes()
    outputs = []
    if score_shape != "none":
        target = helper.make_tensor(
            "score_to", TensorProto.INT64, [1 + (score_shape == "N1")], [baked or -1, 1][: 1 + (score_shape == "N1")]
        )
        for name in (names[0], *extra):
            nodes.append(helper.make_node("Reshape", ["score", "score_to"], [name]))
            outputs.append(helper.make_tensor_value_info(name, FLOAT, None))
    if map_shape != "none":
        kept = {
            "N1HW": [-1, 1, size, size],
            "NHW1": [-1, size, size, 1],
            "NHW": [-1, size, size],
            "tokens": [-1, size * size, 1],
        }[map_shape]
        nodes.append(helper.make_node("Reshape", ["anomalies", "map_to"], [names[1]]))
        outputs.append(helper.make_tensor_value_info(names[1], FLOAT, None))
    for name in constants:
        nodes.append(helper.make_node("Reshape", ["scale", "one"], [name]))
        outputs.append(helper.make_tensor_value_info(name, FLOAT, None))
    constants = [*_constants(size, layout, scale), helper.make_tensor("one", TensorProto.INT64, [1], [1])]
    if score_shape != "none":
        constants.append(target)
    if map_shape != "none":
        constants.append(helper.make_tensor("map_to", TensorProto.INT64, [len(kept)], kept))
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    taken = [helper.make_tensor_value_info("images", elem, shape)]
    taken += [helper.make_tensor_value_info(f"more{number}", FLOAT, [1]) for number in range(inputs - 1)]
    graph = helper.make_graph(nodes, "made", taken, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path


def write_open_model(path):
    """A model that leaves the size of its images open."""
    nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["scores"], keepdims=0)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3])
    taken = [helper.make_tensor_value_info("images", FLOAT, ["N", 3, "H", "W"])]
    graph = helper.make_graph(nodes, "open", taken, [helper.make_tensor_value_info("scores", FLOAT, ["N"])], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path
