"""What trials get where the file says auto: told by their reports, decided, written down."""

from types import SimpleNamespace

import pytest

from orchestrator.planning.memory import CUDA
from orchestrator.record.journal import Journal, read_journal
from orchestrator.search.protocol import WAIT
from orchestrator.sweep import Resources
from orchestrator.trials.proposed import Proposal
from orchestrator.tuning import shares
from orchestrator.tuning.shares import Grant, Place, Said, Shares
from tests.trainables.trial_configs import config_of
from trainables.ray_trainable import GPU, GPU_MEMORY_GB, GPU_PEAK_GB


def trial(name: str, **train):
    return SimpleNamespace(
        proposal=Proposal(name, "cell", {}, {}, 0), config=config_of("store", **train)
    )


class Scene:
    """Shares, and what they say."""

    def __init__(self, folder, wanted, *, cores=16, gpus=1.0, left=20):
        self.journal = Journal(folder / "journal.jsonl")
        self.notes: list[str] = []
        fixed = Grant(1 if wanted.cpus == "auto" else wanted.cpus, 1.0 if gpus else 0.0)
        said = Said(self.journal, self.notes.append)
        self.shares = Shares(wanted, fixed, Place(cores, gpus), left, said)

    def start(self, made, gpu="node:0"):
        given = self.shares.grant(made)
        if isinstance(given, Grant) and given.gpus:
            self.shares.reported(made.proposal.trial, {GPU: gpu})
        return given

    def epochs(self, *names, number=4, speed=100.0, peak=2.0, memory=80.0):
        for _ in range(number):
            for name in names:
                facts = {GPU_MEMORY_GB: memory, GPU_PEAK_GB: peak - CUDA / 1e9}
                self.shares.reported(name, {"epoch": 0, "clips_per_s": speed, **facts})

    def decisions(self):
        return [
            (event["cpus"], event["gpus"], event["reason"])
            for event in read_journal(self.journal.path)
        ]


AUTO = Resources(gpus="auto")


def test_the_first_of_a_kind_runs_alone_until_it_is_measured(tmp_path):
    scene = Scene(tmp_path, AUTO, gpus=2.0)
    assert scene.start(trial("a1")) == Grant(1, 1.0)
    assert scene.start(trial("a2")) is WAIT
    assert scene.start(trial("b1", batch_size=3), "node:1") == Grant(1, 1.0)  # of another kind
    scene.epochs("a1", number=2)  # the first of them counts for nothing
    assert scene.start(trial("a2")) is WAIT
    scene.epochs("a1", number=1)
    assert scene.start(trial("a2")) is None  # both GPUs are taken
    scene.shares.end("b1")
    assert scene.start(trial("a2"), "node:1") == Grant(1, 0.5)
    waits = (1, 1.0, "alone until 2 of its epochs are measured")
    assert scene.decisions() == [waits, waits, (1, 0.5, "1 at a time do 100 clips/s; tries 2")]
    assert scene.notes[0].startswith("resources hpi_gcn_op of 8 channels, 16 frames, batches of 6:")
    assert "batches of 3:" in scene.notes[1]


def test_trials_are_packed_while_the_gpu_does_more(tmp_path):
    scene = Scene(tmp_path, AUTO)
    scene.start(trial("1"))
    scene.epochs("1")
    scene.shares.end("1")
    assert [scene.start(trial(name)) for name in "234"] == [Grant(1, 0.5), Grant(1, 0.5), None]
    scene.epochs("2", "3", speed=95.0)
    scene.shares.end("2")
    scene.shares.end("3")
    assert [scene.start(trial(name)).gpus for name in "456"] == [0.3333] * 3
    scene.epochs("4", "5", "6", speed=60.0)  # 180 after 190: the two before were better
    assert scene.decisions()[-1] == (
        1, 0.5, "2 at a time do 190 clips/s, 3 at a time do 180 clips/s"
    )  # fmt: skip
    for name in "456":
        scene.shares.end(name)
    assert scene.start(trial("7")) == Grant(1, 0.5)
    told = len(scene.decisions())
    scene.epochs("7", number=9)
    assert len(scene.decisions()) == told  # nothing has changed


def test_an_epoch_with_comings_and_goings_is_not_measured(tmp_path):
    scene = Scene(tmp_path, AUTO)
    scene.start(trial("1"))
    scene.epochs("1")
    scene.shares.end("1")
    scene.start(trial("2"))
    scene.epochs("2", number=3)  # alone, though it asked for a half
    scene.start(trial("3"))
    scene.epochs("2", "3", number=1, speed=1.0)  # of 2 an epoch in which 3 came
    assert scene.start(trial("4")) is None
    scene.epochs("2", "3", number=2, speed=90.0)
    scene.shares.end("2")
    scene.shares.end("3")
    assert scene.start(trial("4")) == Grant(1, 0.3333)
    assert "2 at a time do 180 clips/s" in scene.decisions()[-1][2]


@pytest.mark.parametrize("memory", [3.9, 4.4])
def test_what_does_not_fit_twice_is_not_packed(tmp_path, memory):
    scene = Scene(tmp_path, AUTO)
    scene.start(trial("1"))
    scene.epochs("1", memory=memory)
    assert "two do not fit" in scene.decisions()[-1][2]
    assert scene.start(trial("2")) is None
    scene.shares.end("1")
    assert scene.start(trial("2")) == Grant(1, 1.0)


def test_without_measurements_everything_stays_as_it_was(tmp_path):
    """Trials that report no memory, as on cards that torch knows nothing of."""
    scene = Scene(tmp_path, AUTO)
    for name in "12":
        assert scene.start(trial(name)) == Grant(1, 1.0)
        scene.shares.reported(name, {"epoch": 0, "clips_per_s": 5.0})
        scene.shares.end(name)
    assert [each[:2] for each in scene.decisions()] == [(1, 1.0)]


@pytest.mark.parametrize("wanted", [Resources(gpus=0.5), Resources(gpus=1, cpus=2)])
def test_what_the_file_says_is_granted(tmp_path, wanted):
    scene = Scene(tmp_path, wanted, cores=1)
    fixed = scene.shares._fixed
    for name in "123":  # Ray lets them wait
        assert scene.start(trial(name)) == fixed
    scene.epochs("1", "2", "3")
    assert scene.decisions() == []


def test_few_trials_get_more_threads(tmp_path):
    scene = Scene(tmp_path, Resources(gpus=0, cpus="auto"), cores=4, gpus=0.0, left=9)
    assert [scene.start(trial(name)) for name in "12345"] == [*[Grant(1, 0.0)] * 4, None]
    scene.epochs("1")
    for name in "1234":
        scene.shares.end(name)
    scene.shares.left = 2
    assert [scene.start(trial(name)) for name in "567"] == [*[Grant(2, 0.0)] * 2, None]
    scene.epochs("5", "6", speed=70.0)
    scene.shares.end("5")
    scene.shares.end("6")
    scene.shares.left = 2
    assert scene.start(trial("7")) == Grant(1, 0.0)  # two threads were slower
    assert scene.decisions() == [
        (1, 0.0, "9 trials for 4 cores: one each wastes least"),
        (2, 0.0, "2 trials for 4 cores; measured with threads 1: 100 clips/s"),
        (1, 0.0, "2 trials for 4 cores; measured with threads 1: 100 clips/s, 2: 70 clips/s"),
    ]


def test_the_second_epoch_of_a_trial_is_the_first_that_tells_its_speed(tmp_path):
    scene = Scene(tmp_path, Resources(gpus=0, cpus="auto"), cores=4, gpus=0.0, left=9)
    for name, speeds in (("1", [1.0]), ("2", [1.0, 70.0])):
        scene.start(trial(name))
        for speed in speeds:
            scene.epochs(name, number=1, speed=speed)
        scene.shares.end(name)
    scene.shares.left = 2
    scene.start(trial("3"))
    assert scene.decisions()[-1][2] == "2 trials for 4 cores; measured with threads 1: 70 clips/s"


@pytest.mark.parametrize("wanted", [AUTO, Resources(gpus=0, cpus="auto")])
def test_what_is_known_of_a_kind_does_not_grow_with_its_epochs(tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(shares, "REMEMBERED", 5)
    scene = Scene(tmp_path, wanted, gpus=float(wanted.gpus == "auto"))
    scene.start(trial("1"))
    scene.epochs("1", number=50, speed=100.0)
    (kind,) = scene.shares._kinds.values()
    known = [*kind.epochs.values(), *kind.speeds.values()]
    assert known
    assert all(len(each) == 5 for each in known)
    scene.epochs("1", number=5, speed=70.0)
    assert {getattr(each, "clips_per_s", each) for found in known for each in found} == {70.0}


def test_the_largest_memory_of_all_epochs_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "REMEMBERED", 5)
    scene = Scene(tmp_path, AUTO)
    scene.start(trial("1"))
    scene.epochs("1", number=4, peak=30.0)
    scene.epochs("1", number=10, peak=2.0)
    scene.epochs("1", number=1, memory=60.0)
    assert scene.decisions()[-1][2] == "alone: it takes 30 GB of the GPU's 60, two do not fit"


def test_a_place_is_all_nodes_together():
    nodes = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 3.5}, {"GPU": 1.0}]
    assert Place.of(nodes) == Place(7, 3.0)
    assert Grant(2, 0.0).words == "2 cores"
    assert Grant(1, 0.3333).words == "1 core and 0.33 of a GPU"
