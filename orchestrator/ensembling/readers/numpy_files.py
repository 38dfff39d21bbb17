"""Arrays of NumPy: .npy, and CTR-GCN's .npz, which has the test labels as one-hot `y_test`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.ensembling.readers.tables import Content
from trainables.contract.archives import ArrayArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_array


def npy(path: Path) -> Content:
    """Scores (N, K), or labels (N,), (N, 1) or one-hot (N, K)."""
    return Content(read_array(path))


def npz_labels(path: Path) -> Content:
    """`y_test` of the archives that CTR-GCN and its followers make of NTU RGB+D."""
    with ArrayArchive(path) as archive:
        if "y_test" not in archive.names:
            raise UserError(
                f"{path}: must hold the labels as y_test, has {', '.join(archive.names[:5])}"
            )
        return Content(archive.array("y_test"))
