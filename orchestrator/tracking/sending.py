"""What runs on a node whose trials have finished: it sends their files to the artifact store of an
MLflow server in the driver's place. Knows no Ray.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.tracking.client import is_server, open_client, reason_of
from orchestrator.tracking.runs import Runs
from trainables.contract.addresses import is_address

NICE = 10
"""More than trials have, which Ray gives 15 of 19: of a core that a trial uses, sending gets less
than a third while it computes.
"""


class Courier:
    """Of one node: a process of its own, which nobody waits for. Loads MLflow once."""

    def __init__(self) -> None:
        os.nice(NICE)
        self._runs: dict[str, Runs] = {}

    def send(self, uri: str, run: str, name: str, place: str) -> str:
        """Keep the file at `place`, a path or an address, under `name` among the artifacts of a
        run; why that could not be, and empty where it is there.

        uri: of the tracker, variables of the environment still in it, which are this node's.
        Raises nothing: Ray would write an error, with all that it names, into its own log.
        """
        try:
            if uri not in self._runs:
                if not is_server(uri):
                    return "the variable in it means another store on this node"
                self._runs[uri] = Runs(open_client(uri), "")
            with _file(place) as path:
                self._runs[uri].attach_at(run, {name: path})
        except Exception as error:  # whatever it is, the driver sends the file
            return reason_of(error)
        return ""


@contextmanager
def _file(place: str) -> Iterator[Path]:
    """Within: the file here. What lies at an address a node does not keep when its trial has
    ended.
    """
    if not is_address(place):
        yield Path(place)
        return
    from trainables.remote.attempt import fetched_file

    with fetched_file(place) as path:
        yield path
