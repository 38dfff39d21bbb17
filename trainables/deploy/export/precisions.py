"""An exported ONNX model in fewer bits: weights in bfloat16, or static quantisation to int8.

Only networks are touched: coordinates before them, and the fusion after them, keep every bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.deploy.export.exported import import_runtime
from trainables.deploy.export.formats import quiet, without_traces
from trainables.deploy.export.whole import NETWORK

SCOPES = "pkg.torch.onnx.name_scopes"
"""Under this name the exporter notes which module a node comes from."""
QUANTISED = ("Conv", "Gemm", "MatMul")


def of_networks(model: Any) -> list[Any]:
    """The nodes of the model that come from a member's network."""
    return [
        node
        for node in model.graph.node
        if any(
            entry.key == SCOPES and f".{NETWORK}." in entry.value for entry in node.metadata_props
        )
    ]


def in_bfloat16(model: Any) -> Any:
    """The model with the networks' weights in bfloat16, in half the bytes. Runtimes whose
    processor multiplies bfloat16 may; the others compute in float32 with the rounded weights.
    """
    onnx = import_runtime("onnx", "--precision bf16")
    used = {name for node in of_networks(model) for name in node.input}
    casts = []
    for weight in model.graph.initializer:
        if weight.name not in used or weight.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = weight.name, onnx.numpy_helper.to_array(weight)
        if values.ndim < 2:
            continue  # biases are few
        rounded = onnx.helper.make_tensor(
            f"{name}.bf16",
            onnx.TensorProto.BFLOAT16,
            values.shape,
            bfloat16_bits(values).tobytes(),
            raw=True,
        )
        weight.CopyFrom(rounded)
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}.bf16"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def bfloat16_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The nearest bfloat16 of each number, of two the even one: its upper 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def in_eight_bits(model: Any, clips: Sequence[npt.NDArray[np.float32]]) -> Any:
    """The model whose networks multiply in int8: weights per output channel, activations with
    fixed scales from what they are on `clips`, each (n, C, T, V, M).
    """
    onnx = import_runtime("onnx", "--precision int8")
    tools = import_runtime("onnxruntime.quantization", "--precision int8")
    names = [node.name for node in of_networks(model) if node.op_type in QUANTISED]
    without_traces(model)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self._left: Iterator[Any] = iter(clips)

        def get_next(self) -> dict[str, Any] | None:
            part = next(self._left, None)
            return None if part is None else {"clips": part}

    with TemporaryDirectory() as folder, quiet():
        source, out = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        tools.quantize_static(
            source,
            out,
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            nodes_to_quantize=names,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=tools.CalibrationMethod.MinMax,
        )
        return onnx.load(out)
