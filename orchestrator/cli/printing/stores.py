"""What `data info` and `data audit` print: stores for people to read.

Knows records, not how they are made; imported inside commands only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from orchestrator.cli.printing.tables import console, plain, table
from trainables.data.inspection.summary import PARTS

if TYPE_CHECKING:
    from trainables.data.inspection.audit import Audit, Finding

FINDINGS = {
    "nan": "coordinates that are NaN or infinite",
    "empty": "clips without a frame",
    "one_frame": "clips of a single frame",
    "all_zero": "clips in which everything is zero",
    "zero_frames": "clips with some frames in which everything is zero",
    "zero_joints": "clips with some joints at zero (not found)",
    "unknown_label": "labels outside the classes",
    "copies": "clips identical to an earlier one",
    "disagreeing_copies": "identical clips with different labels",
    "near_copies": "near copies: an earlier clip placed differently, to {near}",
    "disagreeing_near_copies": "near copies with different labels",
}

CHANNELS = {
    "xyz": "x, y, z in metres",
    "xyc": "x, y in pixels and confidence",
    "xy": "x, y in pixels",
}
PLURALS = {"class": "classes", "subject": "subjects", "camera": "cameras"}
MOST_ROWS = 30  # of a table of classes, subjects or cameras; a longer one shows only its ends
END = 6  # rows of such an end
MOST_NAMES = 10  # listed in one row
WIDEST = 10_000  # characters of a table
BAR = 40  # characters of the longest bar, where there is room
BESIDE_BAR = 27  # characters of the columns beside the bars


def print_summary(summary: dict[str, Any]) -> None:
    """The record of `summarise`, for a person: facts, lengths as bars, and clips per class,
    subject, camera and part of each protocol.
    """
    out = console()
    length, counts = summary["length"], summary["counts"]
    facts = table(str(summary["name"]), text="")
    for name, value in (
        ("clips", summary["clips"]),
        ("frames per clip", _range(length)),
        (
            "persons per clip",
            ", ".join(
                f"{persons} in {clips} clips"
                for persons, clips in summary["persons_per_clip"].items()
            ),
        ),
        ("layout", f"{summary['layout']} ({summary['joints']} joints)"),
        ("joints", f"{CHANNELS[summary['channels']]}, stored as {summary['storage']}"),
        ("pipeline", summary["pipeline"]),
        *((PLURALS[group], _spread(rows)) for group, rows in counts.items()),
        ("on disk", f"{summary['bytes'] / 1e6:.1f} MB in {summary['path']}"),
        *((name, _lines(value)) for name, value in summary["provenance"].items() if value != []),
    ):
        facts.add_row(str(name), str(value))
    out.print(facts)
    out.print(
        _bars(
            summary["lengths"],
            "#" if out.options.ascii_only else "█",
            min(BAR, max(out.width - BESIDE_BAR, 1)),
        )
    )
    protocols = table("protocol", *PARTS)
    for name, sizes in summary["protocols"].items():
        protocols.add_row(name, *(str(sizes[part]) for part in PARTS))
    out.print(protocols)
    for group, rows in counts.items():
        if rows:
            made = _group(group, rows, summary["protocols"])
            needed = out.measure(made, options=out.options.update(width=WIDEST)).minimum
            console(least=needed).print(made)


def _range(length: dict[str, float]) -> str:
    """Shortest, longest and median; one number where all are the same."""
    if length["min"] == length["max"]:
        return str(length["min"])
    return f"{length['min']} to {length['max']}, median {length['median']:g}"


def _lines(value: Any) -> str:
    """What a store says of its origin: a list, such as the damaged files, line by line; settings
    side by side.
    """
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(each)}" for key, each in value.items())
    if not isinstance(value, list):
        return str(value)
    more = [f"... {len(value) - MOST_NAMES} more"] if len(value) > MOST_NAMES else []
    return "\n".join([*map(str, value[:MOST_NAMES]), *more])


def _spread(rows: dict[str, Any]) -> str:
    """How many groups there are, and how evenly the clips are spread over them."""
    clips = sorted(row["clips"] for row in rows.values())
    if not clips:
        return "not known"
    return (
        f"{len(clips)}, of {clips[0]} clips"
        if clips[0] == clips[-1]
        else f"{len(clips)}, of {clips[0]} to {clips[-1]} clips"
    )


def _bars(bins: list[dict[str, int]], block: str, longest: int) -> Table:
    """A bar per bin of lengths, up to `longest` blocks; every bin with a clip has a bar of at least
    one block.
    """
    bars = table("frames", "clips", text="")
    most = max(span["clips"] for span in bins)
    for span in bins:
        frames = (
            f"{span['from']} to {span['to']}" if span["from"] < span["to"] else str(span["from"])
        )
        bars.add_row(frames, str(span["clips"]), block * math.ceil(longest * span["clips"] / most))
    return bars


def _group(group: str, rows: dict[str, Any], protocols: dict[str, dict[str, int]]) -> Table:
    """Clips of each class, subject or camera and how they are split; of many only those with the
    fewest and the most clips.
    """
    parts = [
        (protocol, part) for protocol, sizes in protocols.items() for part in PARTS if sizes[part]
    ]
    long = len(rows) > MOST_ROWS
    made = table(group, "clips", *(f"{protocol}\n{part}" for protocol, part in parts))
    shown = sorted(rows, key=lambda name: int(rows[name]["clips"])) if long else list(rows)
    for place, name in enumerate(shown):
        if long and END <= place < len(shown) - END:
            if place == END:
                made.add_row(f"... {len(shown) - 2 * END} more")
            continue
        row = rows[name]
        made.add_row(
            name,
            str(row["clips"]),
            *(str(row["protocols"][protocol][part]) for protocol, part in parts),
        )
    return made


def print_audit(found: Audit) -> None:
    """What was found, in all clips and in each protocol."""
    out = console()
    clips = table(f"in {found.clips} clips", "clips", text="for example")
    for name, meaning in FINDINGS.items():
        finding = getattr(found, name)
        clips.add_row(
            meaning.format(near=f"{found.near:g} {found.unit}"),
            str(finding.count),
            _listed(finding.examples, finding.count),
        )
    if found.missing_classes:
        clips.add_row(
            "classes without a clip",
            str(len(found.missing_classes)),
            _listed(found.missing_classes, len(found.missing_classes)),
        )
    out.print(clips)
    for name, reason in found.unusable.items():
        out.print(f"protocol {name} cannot be used: {reason}")
    for name, audit in found.protocols.items():
        sizes = (
            f"train {audit.train}, selection {audit.selection} ({audit.selection_kind}), test"
            f" {audit.test}, clean test {audit.clean_test}"
        )
        out.print(f"protocol {name}: {sizes}")
        rows = table("finding", "count", text="for example")
        rows.add_row(
            "clips in no part",
            str(audit.unused.count),
            _listed(audit.unused.examples, audit.unused.count),
        )
        rows.add_row(
            "clips in two parts",
            str(audit.shared.count),
            _listed(audit.shared.examples, audit.shared.count),
        )
        _add_findings(rows, "identical", audit.duplicates.findings())
        _add_findings(rows, "near copies", audit.near_duplicates.findings())
        if audit.shared_subjects:
            _add_findings(rows, "subjects in both", audit.shared_subjects)
        for part, classes in audit.missing_classes.items():
            if classes:
                rows.add_row(
                    f"classes missing in {part.replace('_', ' ')}",
                    str(len(classes)),
                    _listed(classes, len(classes)),
                )
        out.print(rows)


def _add_findings(rows: Table, kind: str, findings: dict[str, Finding]) -> None:
    """A row for each place where something was found, or one that says that there is nothing."""
    for place, finding in findings.items():
        if finding.count:
            rows.add_row(
                f"{kind}: {place.replace('_', ' ')}",
                str(finding.count),
                _listed(finding.examples, finding.count),
            )
    if not any(finding.count for finding in findings.values()):
        rows.add_row(kind, "0")


def _listed(names: Sequence[str], count: int) -> str:
    """The first names of `count`."""
    shown = names[:MOST_NAMES]
    return ", ".join(shown) + (", ..." if count > len(shown) else "")
