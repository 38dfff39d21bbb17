"""The story of an export: traced, made smaller where that is asked for, held to the stored logits,
and only then written.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainables.contract.disk import write_atomic
from trainables.contract.errors import GateFailed, OutOfSpace, UserError
from trainables.contract.scores import Scores
from trainables.data.batches.settings import pipeline_of, views_of
from trainables.data.store.description import Channels, Description
from trainables.data.store.reading import Store
from trainables.deploy.export.about import (
    SUFFIXES,
    About,
    Check,
    ExportedAccuracy,
    ExportedMember,
    Format,
    Precision,
)
from trainables.deploy.export.exported import Exported, open_exported
from trainables.deploy.export.formats import (
    ENDINGS,
    Files,
    onnx_file,
    openvino_file,
    to_onnx,
    to_pt2,
    trace,
)
from trainables.deploy.export.precisions import in_bfloat16, in_eight_bits
from trainables.deploy.export.whole import Member, Recipe, Whole

LOGITS_TOLERANCE = 1e-4
"""Largest |stored - exported| of a logit accepted in fp32; times the largest logit above 1."""
NOT_FINITE = 1e30
"""Stands for a difference that is infinite or no number, which JSON cannot hold."""
SHORTEST_TABLE = 300
"""Frames: pipeline pyskl looks at exactly the frames of evaluation in clips of this length, and of
the longest clip of the data set where that is longer.
"""
LONGEST_TABLE = 2048
CALIBRATION_CLIPS = 256
NEEDED: dict[Format, tuple[str, ...]] = {
    "pt2": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
COORDINATES: dict[Channels, tuple[str, ...]] = {
    "xyz": ("x", "y", "z"),
    "xy": ("x", "y"),
    "xyc": ("x", "y", "confidence"),
}


@dataclass(frozen=True)
class Asked:
    """What is to be made."""

    format: Format
    precision: Precision = "fp32"
    tolerance: float = 0.2  # points of top-1 that a lower precision may lose on the selection split
    force: bool = False  # whether a file that is there is replaced


@dataclass(frozen=True)
class Source:
    """What is exported, and what it is held to."""

    name: str
    kind: Literal["trial", "ensemble"]
    members: Sequence[Member]
    digests: Sequence[str]  # SHA-256 of each member's deploy form
    recipe: Recipe
    store: Store
    stored: Scores  # its logits, with labels where they may be seen
    split: Literal["selection", "test"]  # which clips these are
    training: npt.NDArray[np.int64]  # positions of the training clips
    accuracy: Sequence[ExportedAccuracy] = ()


def export(
    source: Source, out: Path, asked: Asked, note: Callable[[str], None] = lambda _text: None
) -> tuple[About, int]:
    """Write the file and return what it says of itself, and its bytes; OpenVINO's two files count
    together.

    GateFailed where its logits are not the stored ones, or a lower precision loses more than is
    tolerated: then nothing is written. UserError where that cannot be made.
    """
    check_target(out, asked)
    if asked.precision != "fp32" and source.stored.labels is None:
        raise UserError(
            f"{source.name}: must have been scored on a selection split to be exported in"
            f" {asked.precision}, but nothing was held out"
        )
    positions = positions_of(source)
    about = about_of(source, asked)
    note(f"tracing {len(source.members)} network{'s' * (len(source.members) != 1)}")
    made = make(source, about, asked)
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(made(about.model_dump_json()), Path(folder), out)
        note(f"checking {len(source.stored.ids)} clips of the {source.split} split")
        check = compare(open_exported(staged), source, positions, asked)
        judge(source.name, check, asked)
        about = about.model_copy(update={"check": check})
        content = made(about.model_dump_json())
        if open_exported(stage(content, Path(folder), out)).about != about:
            raise AssertionError("a file must say of itself what was written into it")
    return about, put(content, check_target(out, asked))  # another may have come meanwhile


def check_target(out: Path, asked: Asked) -> dict[str, Path]:
    """Ending -> file to write; UserError where that cannot be made there."""
    ending = ENDINGS[asked.format]
    if out.suffix.lower() != ending:
        others = {kind: suffix for suffix, kind in SUFFIXES.items()}
        raise UserError(
            f"{out}: must end in {others[asked.format]} for --format {asked.format}, got"
            f" '{out.suffix}'"
        )
    if asked.format == "pt2" and asked.precision == "int8":
        raise UserError(
            "--precision int8: must be made for onnx or openvino: torch alone stores such a network"
            " but computes it in float32, slower than before"
        )
    check_installed(asked)
    folder = next(each for each in out.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{out}: cannot be written: {folder} must be a folder that can be written")
    files = {ending: out} | ({".bin": out.with_suffix(".bin")} if ending == ".xml" else {})
    for file in files.values():
        if file.exists() and (not asked.force or file.is_dir()):
            raise UserError(
                f"{file}: must not exist yet{'' if file.is_dir() else ' (--force replaces it)'}"
            )
    return files


def check_installed(asked: Asked) -> None:
    """UserError where a library that makes or checks such a file is not there."""
    needed = [*NEEDED[asked.format], *(["onnxruntime"] if asked.precision == "int8" else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format {asked.format}: needs {', '.join(dict.fromkeys(missing))};"
            " pip install 'orchestrate[export]'"
        )


def make(source: Source, about: About, asked: Asked) -> Callable[[str], Files]:
    """What gives the content of the file for what it is to say of itself."""
    lengths = np.asarray(source.store.column("length"), np.int64)
    longest = int(np.clip(lengths.max(), SHORTEST_TABLE, LONGEST_TABLE))
    whole = Whole(source.members, source.store.info, source.recipe, longest)
    sizes = (len(about.coordinates), len(about.joints), about.persons)
    if asked.format == "pt2":
        if asked.precision == "bf16":
            for network in whole.networks():
                network.bfloat16()
        program = trace(whole, *sizes)
        return lambda text: to_pt2(program, text)
    model = to_onnx(trace(whole, *sizes))
    if asked.precision == "bf16":
        model = in_bfloat16(model)
    elif asked.precision == "int8":
        model = in_eight_bits(model, calibration(source, about))
    file = onnx_file if asked.format == "onnx" else openvino_file
    return lambda text: file(model, text)


def about_of(source: Source, asked: Asked) -> About:
    """What the file says of itself, before it is checked."""
    info, layout = source.store.info, source.store.layout
    description = {name: getattr(info, name) for name in Description.model_fields}
    members = [
        ExportedMember(
            trial=member.trial,
            backbone=member.form.spec.model.backbone,
            stream=member.data.stream_name,
            frames=member.data.frames,
            pipeline=pipeline_of(member.data, info),
            views=views_of(member.data, info),
            deploy_sha256=digest,
        )
        for member, digest in zip(source.members, source.digests, strict=True)
    ]
    modules = ["torch", *({"pt2": [], "onnx": ["onnx"], "openvino": ["openvino"]}[asked.format])]
    return About.model_validate(
        {
            "name": source.name,
            "kind": source.kind,
            "precision": asked.precision,
            "description": description,
            "joints": layout.joints,
            "coordinates": COORDINATES[info.channels],
            "persons": source.members[0].form.spec.persons,
            "members": members,
            "recipe": source.recipe,
            "store_sha256": info.checksums,
            "accuracy": tuple(source.accuracy),
            "calibrated_on": _calibration_count(source) if asked.precision == "int8" else 0,
            "versions": {name: importlib.metadata.version(name) for name in modules},
        }
    )


def _calibration_count(source: Source) -> int:
    return min(CALIBRATION_CLIPS, len(source.training))


def calibration(source: Source, about: About) -> list[npt.NDArray[np.float32]]:
    """Training clips, evenly spread over those there are, as the file takes them."""
    count = _calibration_count(source)
    chosen = source.training[np.linspace(0, len(source.training) - 1, count).astype(np.int64)]
    return [clips for _rows, clips in batches_of(source.store, chosen, about)]


def batches_of(
    store: Store, positions: npt.NDArray[np.int64], about: About
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Which of `positions`, and these clips (n, C, T, V, M), those of one length together."""
    lengths = np.asarray(store.column("length"), np.int64)[positions]
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        shape = (len(about.coordinates), int(length), len(about.joints), about.persons)
        clips = np.zeros((len(rows), *shape), np.float32)
        for clip, position in zip(clips, positions[rows], strict=True):
            joints = store.clip(int(position))[..., : shape[0]]  # (M, T, V, C)
            clip[..., : len(joints)] = np.moveaxis(joints, (3, 0), (0, 3))
        yield rows, clips


def positions_of(source: Source) -> npt.NDArray[np.int64]:
    """Where the scored clips are in the store; UserError where they are not."""
    store, ids = source.store, source.stored.ids
    place = {name: position for position, name in enumerate(store.column("id").tolist())}
    missing = [name for name in ids if name not in place]
    if missing:
        raise UserError(
            f"{store.path}: must be the store that {source.name} was scored on, but lacks"
            f" {len(missing)} of its {len(ids)} clips, '{missing[0]}' first"
        )
    return np.array([place[name] for name in ids], np.int64)


def compare(
    exported: Exported, source: Source, positions: npt.NDArray[np.int64], asked: Asked
) -> Check:
    """The file against the stored logits, on the same clips of the store."""
    stored, store = source.stored, source.store
    logits = np.empty_like(stored.logits)
    for rows, clips in batches_of(store, positions, exported.about):
        logits[rows] = exported.logits(clips)
    difference = float(np.abs(logits - stored.logits).max())
    check = Check(
        split=source.split,
        clips=len(logits),
        largest_difference=difference if math.isfinite(difference) else NOT_FINITE,
        largest_logit=float(np.abs(stored.logits).max()),
        tolerance=None if asked.precision == "fp32" else asked.tolerance,
    )
    if stored.labels is None:
        return check
    before, after = (np.argmax(each, axis=1) == stored.labels for each in (stored.logits, logits))
    return check.model_copy(
        update={
            "lost_points": 100.0 * float(before.mean() - after.mean()),
            "only_before": int((before & ~after).sum()),
            "only_after": int((after & ~before).sum()),
        }
    )


def judge(name: str, check: Check, asked: Asked) -> None:
    """GateFailed where the file is not as good as it must be."""
    if asked.precision == "fp32":
        tolerance = LOGITS_TOLERANCE * max(1.0, check.largest_logit)
        if not check.largest_difference <= tolerance:
            raise GateFailed(
                f"{name}: the exported logits must be the stored ones within {tolerance:.2g}, got a"
                f" difference of {check.largest_difference:.3g} on the {check.split} split; nothing"
                " was written"
            )
        return
    if not check.largest_difference < NOT_FINITE:
        raise GateFailed(
            f"{name}: {asked.precision} must give finite logits, got some that are not on the"
            f" {check.split} split; nothing was written"
        )
    assert check.lost_points is not None
    if not check.lost_points <= asked.tolerance:
        raise GateFailed(
            f"{name}: {asked.precision} must lose at most {asked.tolerance:g} points of top-1"
            f" (--tolerance), got {said_loss(check)}; nothing was written"
        )


def said_loss(check: Check) -> str:
    """How much top-1 differs, and by how much it would by chance."""
    assert check.lost_points is not None
    assert check.only_before is not None
    assert check.only_after is not None
    one = 100.0 / check.clips
    more = ""
    if check.tolerance is not None and check.tolerance < one:
        more = f", which is more than the tolerance of {check.tolerance:g}"
    noise = 100.0 * math.sqrt(check.only_before + check.only_after) / check.clips
    return (
        f"{check.lost_points:.2f} points on {check.clips} {check.split} clips, standard error"
        f" {noise:.2f}: {check.only_before} clips became wrong and {check.only_after} right, one"
        f" clip is {one:.2f} points{more}"
    )


def stage(content: Files, folder: Path, out: Path) -> Path:
    """The files of that content in a folder of passage; the one to open."""
    for ending, data in content.items():
        (folder / f"{out.stem}{ending}").write_bytes(data)
    return folder / f"{out.stem}{[*content][-1]}"


def put(content: Files, files: dict[str, Path]) -> int:
    """Write every file whole or none; where one fails or the process is stopped, those that were
    there before are there again.

    A process that is killed may leave the new .bin under the old .xml, which then opens no more
    (see `openvino_file`); the old .bin lies beside them as `.NAME.bin.HEX.before`.
    """
    *first, last = content  # the last one is replaced in one step, whatever happens
    asides = []
    try:
        with ExitStack() as undo:
            for ending in first:
                file = files[ending]
                if file.exists():
                    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.before")
                    file.replace(aside)
                    undo.callback(aside.replace, file)
                    asides.append(aside)
                else:
                    undo.callback(file.unlink, missing_ok=True)
                write_atomic(file, content[ending])
            write_atomic(files[last], content[last])
            undo.pop_all()
    except OSError as error:
        if isinstance(error, OutOfSpace) or not error.strerror:
            raise
        raise UserError(f"{files[last]}: cannot be written: {error.strerror}") from error
    for aside in asides:
        aside.unlink(missing_ok=True)
    return sum(map(len, content.values()))
