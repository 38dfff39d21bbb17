"""What a worker does in the driver's place: it sends the files of its finished trial to the
artifact store of an MLflow server itself. Where anything is in its way it leaves that to the
driver, and no trial waits long for it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from orchestrator.tracking.client import is_server, open_client
from orchestrator.tracking.pages import PARENT
from orchestrator.tracking.records import artifacts_of
from orchestrator.tracking.runs import Runs
from orchestrator.tracking.tracker import ArtifactStore, Sent
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import digest_of

log = logging.getLogger(__name__)

LIMIT_S = 30.0
"""So long a trial's end waits for its files to be sent."""

REST = 9.0
"""After it has sent files, a process leaves those of its trials to the driver for this many times
as long as that took: sending takes a tenth of its time at most.
"""

REST_S = 600.0
"""The same after a failure, or where the limit was not enough, in seconds."""


class Sender:
    """Of one worker process, which has one trial after the other."""

    def __init__(self) -> None:
        self._rests_until = 0.0

    def send(
        self, store: ArtifactStore, folder: TrialDir, *, limit_s: float = LIMIT_S
    ) -> Sent | None:
        """Send the files of a finished trial; returns what is there for certain, None where that is
        nothing. Raises nothing.
        """
        if time.monotonic() < self._rests_until:
            return None
        sending = _Sending(store, folder)
        thread = threading.Thread(target=sending.run, name="artifacts", daemon=True)
        thread.start()
        thread.join(limit_s)
        sending.given_up = thread.is_alive()
        now = time.monotonic()
        failed = sending.failed or sending.given_up
        sent = sending.sent()
        if failed:
            self._rests_until = now + REST_S
        elif sent is not None:
            self._rests_until = now + REST * (now - sending.began)
        return sent


class _Sending:
    """One trial's files on their way."""

    def __init__(self, store: ArtifactStore, folder: TrialDir) -> None:
        self._store = store
        self._folder = folder
        self._run = ""
        self._result = ""
        self._there: list[str] = []
        self.began = 0.0  # the first file's way; MLflow is loaded once in a process
        self.failed = False
        self.given_up = False  # nobody waits any more

    def run(self) -> None:
        try:
            self._send()
        # whatever it is, the driver sends what is not there
        except Exception as error:
            self.failed = True
            log.info("%s: its files are left to the driver: %s", self._folder.path, error)

    def sent(self) -> Sent | None:
        files = list(self._there)
        return Sent(run=self._run, result=self._result, files=files) if files else None

    def _send(self) -> None:
        if not self._folder.deploy_file.is_file():
            return  # this attempt came when the result was there, and has no other files here
        if not is_server(self._store["uri"]):
            return  # the variable in it means another store on this node
        runs = Runs(open_client(self._store["uri"]), self._store["experiment"])
        identity = {PARENT: self._store["parent"], "kind": "trial", "trial": self._folder.path.name}
        found = runs.find(identity)
        if len(found) != 1 or not _takes_files(found[0]):
            return  # the driver has not opened it yet
        self._run, self._result = found[0].info.run_id, digest_of(self._folder.result_file)
        self.began = time.monotonic()
        for name, path in artifacts_of(self._folder, finished=True).items():
            if self.given_up:
                return
            runs.attach_at(self._run, {name: path})
            self._there.append(name)


def _takes_files(run: Any) -> bool:
    """Whether the run's artifacts lie where this machine and the driver's mean the same: a folder
    without a server's address is one of the machine's own.
    """
    return urlsplit(run.info.artifact_uri).scheme not in ("", "file")


SENDER = Sender()
"""That of this process."""
