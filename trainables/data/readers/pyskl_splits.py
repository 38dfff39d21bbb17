"""The named splits of a PYSKL annotation file as protocols: one column of parts per protocol.

Knows names, nothing of joints.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainables.contract.names import listed, shown
from trainables.data.readers.checks import Problems
from trainables.data.store.protocols import ProtocolRule

_NAME = re.compile(r"(?:(?P<name>.+)_)?(?P<part>train|val|test)(?P<number>[0-9]*)")


@dataclass(frozen=True, eq=False, slots=True)
class Splits:
    """`part[column][id]` is train, val or test; a clip that is not there takes no part.

    `rules` name the columns.
    """

    rules: dict[str, ProtocolRule]
    part: dict[str, dict[str, str]]
    unused: tuple[str, ...] = ()  # splits that make no protocol

    def hold(self, name: str) -> bool:
        """Whether a clip takes part in any protocol."""
        return any(name in part for part in self.part.values())

    def without_training(self, names: Collection[str]) -> Splits:
        """The same with these clips in no training part."""
        part = {
            column: {
                name: kind for name, kind in kinds.items() if kind != "train" or name not in names
            }
            for column, kinds in self.part.items()
        }
        return replace(self, part=part)


def read_splits(
    place: str, splits: Mapping[str, Any], ids: Collection[str], problems: Problems
) -> Splits:
    """Protocols from the splits that belong together: X_train and X_val or X_test are X; train and
    val or test are `split`; train1 and test1 are `split1`.

    The test part is `test`, and beside it `val` is for selection; where there is no `test`, `val`
    is the test part, as PYSKL has it.
    """
    together: dict[str, dict[str, str]] = defaultdict(dict)  # protocol -> part -> name of the split
    for name in splits:
        match = _NAME.fullmatch(str(name))
        if match:
            together[f"{match['name'] or 'split'}{match['number']}"][match["part"]] = name
    rules: dict[str, ProtocolRule] = {}
    parts: dict[str, dict[str, str]] = {}
    for protocol, names in together.items():
        if "train" not in names or len(names) == 1:
            continue
        column = protocol if protocol.startswith("split") else f"split_{protocol}"
        parts[column] = _parts(place, names, splits, ids, problems)
        test = "test" if "test" in names else "val"
        rules[protocol] = ProtocolRule(
            column=column,
            train=("train",),
            test=(test,),
            selection=("val",) if len(names) == 3 else (),
        )
    if not rules:
        problems.add(
            f"{place}: splits must be called train and val or test, alone or as NAME_train or"
            f" train1, got {listed(splits)}"
        )
    used = {name for protocol in rules for name in together[protocol].values()}
    return Splits(rules, parts, tuple(str(name) for name in splits if name not in used))


def _parts(
    place: str,
    names: dict[str, str],
    splits: Mapping[str, Any],
    ids: Collection[str],
    problems: Problems,
) -> dict[str, str]:
    """id -> train, val or test, for the splits `names` of one protocol."""
    parts: dict[str, str] = {}
    for kind, name in names.items():
        clips = splits[name]
        if not isinstance(clips, list | tuple | set | frozenset | np.ndarray) or not len(clips):
            problems.add(
                f"{place}: split '{name}' must be a list of at least one clip, got {shown(clips)}"
            )
            continue
        wanted = dict.fromkeys(str(clip) for clip in clips)
        unknown = [clip for clip in wanted if clip not in ids]
        if unknown:
            problems.add(
                f"{place}: split '{name}' must name clips that have an annotation, {len(unknown)}"
                f" have none: {listed(unknown)}"
            )
        twice = [clip for clip in wanted if clip in parts]
        if twice:
            problems.add(
                f"{place}: a clip must be in one of {', '.join(names.values())}, {len(twice)} are"
                f" in two: {listed(twice)}"
            )
        parts |= dict.fromkeys(wanted, kind)
    return parts
