"""What is known of the terms of the data sets that are imported. Knows no format.

Only what the authors say; where they say nothing, that. It is no legal advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NTU = "NTU RGB+D: for academic research only, by agreement with the ROSE Lab (NTU Singapore)"
LICENCES: dict[str, str] = {
    "ntu": _NTU,
    "ntu-npz": _NTU,
    "nw-ucla": "its authors state no terms; for research, with citation",
    "msr-action3d": "its authors state no terms; for research, with citation",
    "kinetics-skeleton": (
        "Kinetics' annotations: CC BY 4.0; the authors of the skeletons state no terms"
    ),
    "synthetic": "made by this software; no terms",
}
"""Kind of import -> terms of its data set."""

UNKNOWN = "not stated: the data set's importer knows no terms of it"


def licence_of(provenance: Mapping[str, Any]) -> str:
    """The terms that a store's provenance states, or those of its kind of import."""
    stated = provenance.get("licence") or LICENCES.get(str(provenance.get("kind")))
    return str(stated or UNKNOWN)
