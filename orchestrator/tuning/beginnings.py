"""Which trials wait for a beginning that another one trains, start from it, or leave it, and when
its file may go. Knows no Ray.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.record.copies import bring, place_of, remove
from orchestrator.trials.beginnings import FOLDER, Beginning, trainer, whole_file
from orchestrator.trials.proposed import Trial
from trainables.contract.disk import LEFTOVER
from trainables.ray_trainable import SharedRequest

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks for a file, possibly on a network disk."""


class Beginnings:
    """The beginnings that trials of a running sweep share.

    The first trial in a beginning's order that has not ended, and was not behind it before,
    trains it, and the others are held back until its file is there. Where that trial ends without
    having left one, the next does it.
    """

    def __init__(
        self,
        run: Path,
        shared: Sequence[Beginning],
        left: Iterable[str],
        begun: Mapping[str, float],
    ) -> None:
        """left: the trials that have no ending. begun: of those that go on from a checkpoint of
        an earlier run, the epochs done there.
        """
        self._run = run
        self._left = set(left)
        self._begun = begun
        self._shared = tuple(shared)
        self._own = {name: each for each in shared for name in each.branching}
        self._of: dict[str, list[Beginning]] = {}
        for each in shared:
            for name in each.trials:
                self._of.setdefault(name, []).append(each)
        self._there: dict[str, tuple[float, bool]] = {}  # digest -> when looked, whether it was

    def waits(self, trial: Trial) -> bool:
        """Whether the trial is held back until another one has trained its beginning."""
        name = trial.proposal.trial
        own = self._own.get(name)
        if own is None or name in self._begun or self._is_there(own):
            return False
        ended = set(own.trials) - self._left
        return trainer(own, ended, self._begun) not in (name, None)

    def start(self, trial: str) -> SharedRequest | None:
        """The file that the trial starts from, if it is there by then."""
        own = self._own.get(trial)
        return None if own is None else self._request(own)

    def leave(self, trial: str) -> list[SharedRequest]:
        """The files that it is to leave: those that others will need."""
        return [
            self._request(each)
            for each in self._of.get(trial, ())
            if each.branching & self._left - {trial}
        ]

    def tidy(self, *, begins: bool = False) -> None:
        """Remove the files that no trial needs any more, also those of earlier runs. begins: no
        worker runs yet, so that what is half written goes, too.
        """
        needed = {each.file(self._run).name for each in self._shared if each.branching & self._left}
        folder = self._run / FOLDER
        try:
            for path in folder.iterdir() if folder.is_dir() else ():
                unneeded = whole_file(path.name) and path.name not in needed
                if unneeded or (begins and LEFTOVER.fullmatch(path.name)):
                    remove(path)
        except OSError as error:
            log.warning("%s: shared beginnings stay: %s", folder, error)
        with suppress(OSError):  # there is none, or it is not empty
            folder.rmdir()

    def ended(self, trial: str) -> None:
        """It has an ending."""
        self._left.discard(trial)
        if trial in self._of:
            self.tidy()

    def _request(self, beginning: Beginning) -> SharedRequest:
        path = place_of(beginning.file(self._run).absolute())
        return SharedRequest(path=path, digest=beginning.digest, epochs=beginning.epochs)

    def _is_there(self, beginning: Beginning) -> bool:
        looked, there = self._there.get(beginning.digest, (0.0, False))
        now = time.monotonic()
        if beginning.digest not in self._there or now - looked >= LOOK_S:
            file = beginning.file(self._run)
            bring(file)
            there = file.is_file()
            self._there[beginning.digest] = now, there
        return there
