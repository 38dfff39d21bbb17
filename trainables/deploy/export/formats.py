"""A module of raw clips as the content of a file of each format. Knows no trial and no data."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from trainables.contract.disk import digest_of
from trainables.contract.errors import UserError
from trainables.deploy.export.about import BIN_KEY, KEY, Format
from trainables.deploy.export.exported import import_runtime

OUTPUTS = ("logits", "probabilities")
EXAMPLE = (2, 45)  # clips and frames of what is traced; both are free in the file

Files = dict[str, bytes]
"""Ending of a file -> its content; what says the rest is valid comes last."""


def _distances(left: Tensor, right: Tensor, *_euclidean: Any) -> Tensor:
    """Euclidean, (..., P, C) and (..., R, C) -> (..., P, R)."""
    return (left.unsqueeze(-2) - right.unsqueeze(-3)).square().sum(-1).sqrt()


def _sorted(values: Tensor, *, stable: bool, dim: int, descending: bool) -> Any:
    return torch.sort(values, dim=dim, descending=descending)


UNKNOWN: dict[Any, Any] = {
    torch.ops.aten.cdist.default: _distances,  # of HD-GCN
    torch.ops.aten.sort.stable: _sorted,  # of mixtures; the order of equal numbers is open
}
"""What ONNX has no word for, in words that it has."""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"


def trace(whole: nn.Module, coordinates: int, joints: int, persons: int) -> Any:
    """The module's program for any number of clips of any length; UserError where it depends on
    what the clips hold.
    """
    clips, frames = EXAMPLE
    example = torch.rand(clips, coordinates, frames, joints, persons)
    free = ({0: torch.export.Dim("clips"), 2: torch.export.Dim("frames")},)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(whole, (example,), dynamic_shapes=free)
    except Exception as error:  # torch's own classes, which have no common base
        raise UserError(
            f"the network must run alike for all clips to be exported, but {_first_line(error)}"
        ) from error
    for part in program.graph_module.modules():  # parts of a program may be programs
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of this machine's files
    return program


def to_pt2(program: Any, about: str) -> Files:
    """For `torch.export.load`."""
    content = io.BytesIO()
    with quiet():
        torch.export.save(program, content, extra_files={KEY: about})
    return {".pt2": content.getvalue()}


def to_onnx(program: Any) -> Any:
    """The program as an ONNX model (onnx.ModelProto), weights inside."""
    for module in ("onnx", "onnxscript"):
        import_runtime(module, "--format onnx")
    try:
        with quiet():
            made = torch.onnx.export(
                program.run_decompositions(UNKNOWN),
                dynamo=True,
                input_names=["clips"],
                output_names=list(OUTPUTS),
                verbose=False,
            )
    except Exception as error:  # the exporter's own classes, which have no common base
        raise UserError(
            f"the network cannot be said in ONNX (--format pt2 can): {_first_line(error)}"
        ) from error
    assert made is not None
    model = made.model_proto
    del model.metadata_props[:]
    return model


def onnx_file(model: Any, about: str) -> Files:
    """The file of an ONNX model that says what it is."""
    named = type(model)()
    named.CopyFrom(model)
    without_traces(named)
    entry = named.metadata_props.add()
    entry.key, entry.value = KEY, about
    return {".onnx": named.SerializeToString()}


def without_traces(model: Any) -> None:
    """Without what the exporter notes of the code it came from."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for weight in model.graph.initializer:
        del weight.metadata_props[:]


def openvino_file(model: Any, about: str) -> Files:
    """The two files of the same model for OpenVINO. The .xml says which .bin it belongs to:
    OpenVINO takes every other one of the same size for it.
    """
    openvino = import_runtime("openvino", "--format openvino")
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "model.onnx", Path(folder) / "model.xml"
        source.write_bytes(onnx_file(model, about)[".onnx"])
        read = openvino.Core().read_model(source)
        read.set_rt_info(about, [KEY])
        openvino.save_model(read, out, compress_to_fp16=False)
        read.set_rt_info(digest_of(out.with_suffix(".bin")), [BIN_KEY])
        openvino.save_model(read, out, compress_to_fp16=False)
        return {".bin": out.with_suffix(".bin").read_bytes(), ".xml": out.read_bytes()}


@contextmanager
def quiet() -> Iterator[None]:
    """Within: what exporters and quantisers say of themselves is not printed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


ENDINGS: dict[Format, str] = {"pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
