"""Arrays of NumPy: .npy, and .npz with scores, labels and names of samples."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ensembling.readers.keys import LABELS, NAMES, SCORES, first_of
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.archives import ArrayArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_array
from trainables.contract.names import shown


def npy(path: Path) -> Content:
    """Scores (N, K), or labels (N,), (N, 1) or one-hot (N, K)."""
    return Content(read_array(path))


def npz_scores(path: Path) -> Content:
    """Scores under one of their usual names, or as the only table; labels and names of samples
    where there are some.
    """
    with ArrayArchive(path) as archive:
        shapes = {name: archive.head(name).shape for name in archive.names}
        own = (*LABELS, *NAMES, "y_train")  # y_train: of CTR-GCN's archives
        tables = [
            name for name, shape in shapes.items() if name not in own and len(shape) in (2, 3)
        ]
        flat = [name for name in tables if len(shapes[name]) == 2 or shapes[name][1] == 1]
        key = first_of(SCORES, tables) or (flat[0] if len(flat) == 1 else None)
        if key is None:
            held = ", ".join(f"{shown(name)} {shape}" for name, shape in list(shapes.items())[:5])
            raise UserError(
                f"{path}: must hold one table of scores (samples, classes), or name it"
                f" {' or '.join(SCORES[:2])}, has {held}"
            )
        names, labels = first_of(NAMES, shapes), first_of(LABELS, shapes)
        return Content(
            archive.array(key),
            None if names is None else archive.array(names).reshape(-1).tolist(),
            labels=None if labels is None else archive.array(labels),
        )


def npz_labels(path: Path) -> Content:
    """`y_test` of the archives that CTR-GCN and its followers make of NTU RGB+D, or labels under
    another of their usual names; names of samples where there are some.
    """
    with ArrayArchive(path) as archive:
        key, names = first_of(LABELS, archive.names), first_of(NAMES, archive.names)
        if key is None:
            raise UserError(
                f"{path}: must hold the labels as {' or '.join(LABELS[:3])}, has"
                f" {', '.join(map(shown, archive.names[:5]))}"
            )
        return Content(
            archive.array(key), None if names is None else archive.array(names).reshape(-1).tolist()
        )
