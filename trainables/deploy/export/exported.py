"""An exported file, opened in the runtime it was made for. Knows no trial and no sweep."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import digest_of
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reason
from trainables.contract.names import said
from trainables.deploy.export.about import BIN_KEY, KEY, SUFFIXES, About, Format
from trainables.deploy.export.archive import load_program

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
"""Checked clips (N, C, T, V, M) -> logits (N, K)."""

BATCH = 64  # clips that a runtime is given at a time
MODULES: dict[Format, str] = {"pt2": "torch", "onnx": "onnxruntime", "openvino": "openvino"}


class Exported:
    """An exported file, ready for clips; made by `open_exported`."""

    def __init__(self, path: Path, about: About, run: Run) -> None:
        self.path = path
        self.about = about
        self._run = run

    def logits(self, clips: npt.ArrayLike) -> Floats:
        """(N, K) of N raw clips (N, C, T, V, M) of equal length, in the units and coordinates the
        data set was imported in. C as `about.coordinates`; positions in space may lack z. M: any
        number, persons who are not there are zero and come last.

        UserError where they are no such clips, and names those with numbers that are not finite.
        """
        checked = self._checked(clips)
        parts = [self._run(checked[at : at + BATCH]) for at in range(0, len(checked), BATCH)]
        return np.concatenate(parts)

    def probabilities(self, clips: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The softmax of `logits`."""
        scores = self.logits(clips).astype(np.float64)
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities

    def _checked(self, clips: npt.ArrayLike) -> Floats:
        values, about = np.asarray(clips), self.about
        wanted = f"(clips, {len(about.coordinates)}, frames, {len(about.joints)}, persons)"
        if values.dtype.kind not in "fiu":
            raise UserError(f"clips: must be numbers {wanted}, got {values.dtype}")
        if (
            values.ndim != 5
            or values.shape[3] != len(about.joints)
            or values.shape[1] not in _coordinates(about)
        ):
            raise UserError(f"clips: must be {wanted}, got {values.shape}")
        for axis, what in ((0, "clip"), (2, "frame"), (4, "person")):
            if values.shape[axis] == 0:
                raise UserError(f"clips: must have at least one {what}, got {values.shape}")
        with np.errstate(over="ignore"):  # too large for float32 is infinite, which is refused
            values = values.astype(np.float32, copy=False)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            first = int(np.flatnonzero(~finite)[0])
            bad = values[first].size - int(np.isfinite(values[first]).sum())
            raise UserError(
                f"clip {first}: every coordinate must be finite, got {bad} that are NaN, infinite"
                f" or too large; {int((~finite).sum())} of {len(values)} clips have such numbers"
            )
        return self._of_its_size(values)

    def _of_its_size(self, values: Floats) -> Floats:
        """With as many coordinates and persons as the file takes."""
        about, shape = self.about, values.shape
        if shape[1] > len(about.coordinates):  # image coordinates with a third number
            if values[:, 2].any():
                raise UserError(
                    f"clips: must have {len(about.coordinates)} coordinates"
                    f" ({', '.join(about.coordinates)}), got {shape[1]}"
                )
            values = values[:, :2]
        if shape[1] < len(about.coordinates):
            values = np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
        if shape[4] > about.persons:
            seen = np.flatnonzero((values != 0).any(axis=(0, 1, 2, 3)))
            values = values[..., : int(seen[-1]) + 1 if len(seen) else 1]
            if values.shape[4] > about.persons:
                raise UserError(
                    f"clips: must have at most {about.persons}"
                    f" person{'' if about.persons == 1 else 's'}, got {values.shape[4]}"
                )
        free = about.persons - values.shape[4]
        return np.ascontiguousarray(np.pad(values, [(0, 0)] * 4 + [(0, free)]))


def _coordinates(about: About) -> tuple[int, ...]:
    """How many numbers per joint clips may have."""
    return {"xyz": (2, 3), "xy": (2, 3), "xyc": (3,)}[about.description.channels]


def open_exported(path: Path | str, threads: int | None = None) -> Exported:
    """The file at `path`, opened by the runtime that its ending names; UserError where it is
    missing, damaged or not one that `orchestrate export` wrote, or the runtime is not installed.

    OpenVINO files are the .xml, whose .bin lies beside it. threads: of ONNX Runtime and OpenVINO;
    None: as they take. PyTorch has one number for the whole process, `torch.set_num_threads`.
    """
    path = Path(path)
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: must end in {', '.join(SUFFIXES)}, got '{path.suffix}'")
    if not path.is_file():
        raise UserError(f"{path}: must be an exported file, got no such file")
    runtime = import_runtime(MODULES[kind], f"opening {path.name}")
    try:
        text, start = OPENERS[kind](path, runtime, threads)
        about = About.read(path, text)
        return Exported(path, about, start(about))
    except UserError:
        raise
    except Exception as error:  # runtimes have errors of their own, some derived from nothing else
        raise UserError(
            f"{path}: must be a readable exported file, but {said(error) or reason(error)}"
        ) from error


def import_runtime(module: str, purpose: str) -> Any:
    """The module; UserError names what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{purpose} needs {module}, which cannot be imported ({error});"
            " pip install 'orchestrate[export]'"
        ) from error


Opened = tuple[str | None, Callable[[About], Run]]
"""What a file says of itself, and what starts it."""


def _open_onnx(path: Path, runtime: Any, threads: int | None) -> Opened:
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = threads or 0
    session = runtime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    return text, lambda _about: lambda clips: session.run(["logits"], {"clips": clips})[0]


def _open_openvino(path: Path, runtime: Any, threads: int | None) -> Opened:
    core = runtime.Core()
    model = core.read_model(path)
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    if text is not None:
        _check_bin(path.with_suffix(".bin"), model)

    def start(about: About) -> Run:
        # without the hint processors that have bfloat16 take it for float32
        hint = "bf16" if about.precision == "bf16" else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = core.compile_model(model, "CPU", settings)
        return lambda clips: np.array(compiled({"clips": clips})["logits"])

    return text, start


def _check_bin(weights: Path, model: Any) -> None:
    """UserError where the .bin is not the one that the .xml was written with."""
    written = model.get_rt_info([BIN_KEY]).astype(str) if model.has_rt_info([BIN_KEY]) else None
    if digest_of(weights) != written:
        raise UserError(
            f"{weights}: must be the file that was written with {weights.stem}.xml, got another one"
        )


def _open_pt2(path: Path, torch: Any, _threads: int | None) -> Opened:
    program, text = load_program(path, torch)

    def run(clips: Floats) -> Floats:
        with torch.inference_mode():
            logits: Floats = program(torch.from_numpy(clips))[0].numpy()
        return logits

    return text, lambda _about: run


OPENERS: dict[Format, Callable[[Path, Any, int | None], Opened]] = {
    "pt2": _open_pt2,
    "onnx": _open_onnx,
    "openvino": _open_openvino,
}
