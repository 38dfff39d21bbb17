"""A trial that starts from a beginning that another one trained equals the same trial alone."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.trainables.one_trial import run_trial, write_synthetic
from tests.trainables.trial_configs import config_of
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.errors import Interrupted
from trainables.contract.scores import Scores
from trainables.training.beginning import SharedFile, SharedStates
from trainables.training.checkpoint import load_tensors

UNPUNISHED = {"penalty": "none"}
REWOUND = {"generator": "rewinding", "rounds": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("data") / "synth")


@pytest.fixture(autouse=True, scope="module")
def every_fast_way_and_a_checkpoint_per_epoch():
    """However small a network is: the fast ways must not tell masks that do not act from none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainables.run.CHECKPOINT_EVERY_S", 0.0)
        patch.setattr("trainables.contract.fast.LEAST_VALUES", {"cpu": 0})
        patch.setattr("trainables.contract.fast.LEAST_POSITIONS_PER_ROW", 0)
        patch.setattr("trainables.contract.fast.LEAST_GRAPH_VALUES", 0)
        yield


def config(store, level, sparsity, **parts):
    base = config_of(store, epochs=3, milestones=[2]).model_dump(by_alias=True)
    base["model"] |= parts.pop("model", {})
    base["train"] |= parts
    base["data"]["frames"] = 8
    return TrialConfig.model_validate(
        base | {"sparsity": {"level": level, "warmup": 2, **(sparsity if level else {})}}
    )


def shared(folder, config, epochs):
    digest = config.beginning_digest(epochs)
    return SharedFile(folder / f"{digest}.pt", digest, epochs)


def run(config, folder, beginnings=None, **options):
    """(result, epochs reported, checkpoint, curve) of a trial."""
    reports, out = [], TrialDir(folder)
    if beginnings is not None:
        options["beginnings"] = beginnings
    result = run_trial(config, out, report=reports.append, **options)
    return result, reports, load_tensors(out.checkpoint_file, torch.device("cpu")), out


def check_equal(branched, alone):
    """To the last bit, but for times."""
    (result, reports, state, out), (other, other_reports, other_state, other_out) = branched, alone
    timeless = [{k: v for k, v in row.items() if k != "clips_per_s"} for row in reports]
    assert timeless == [{k: v for k, v in r.items() if k != "clips_per_s"} for r in other_reports]
    assert list(state["model"]) == list(other_state["model"])
    for name, tensor in state["model"].items():
        assert torch.equal(tensor, other_state["model"][name]), name
    moments, others = (each["optimizer"]["state"] for each in (state, other_state))
    assert moments.keys() == others.keys()
    for number, moment in moments.items():
        assert torch.equal(moment["momentum_buffer"], others[number]["momentum_buffer"]), number
    times = ("seconds", "shared_seconds", "shared_epochs", "history")
    for name in set(state["progress"]) - set(times):
        assert state["progress"][name] == other_state["progress"][name], name
    for name in ("selection_scores", "test_scores"):
        scores, theirs = (Scores.load(getattr(each, name)) for each in (out, other_out))
        assert np.array_equal(scores.logits, theirs.logits)
    curves = [pq.read_table(each.metrics_file).drop(["clips_per_s"]) for each in (out, other_out)]
    assert curves[0].equals(curves[1])
    assert (result.kept_epoch, result.selection_loss) == (other.kept_epoch, other.selection_loss)


CASES = {
    "random": UNPUNISHED,
    "by magnitude": {"generator": "magnitude_at_init", **UNPUNISHED},
    "sharing branches": {"sharing": "branches", **UNPUNISHED},
    "sharing fused": {"sharing": "fused", **UNPUNISHED},
    "rewinding": REWOUND,
}


@pytest.fixture(scope="module")
def left(store, tmp_path_factory):
    """Where a dense trial has left its first 2 and all of its 3 epochs."""
    folder, dense, told = tmp_path_factory.mktemp("shared"), config(store, 0.0, {}), []
    files = tuple(shared(folder, dense, epochs) for epochs in (2, 3))
    first = run(
        dense, folder / "dense", SharedStates(leave=files, left=lambda file, _: told.append(file))
    )
    assert told == [*files]
    check_equal(first, run(dense, folder / "alone" / "dense"))
    return folder


IN_EVERY_RUN = ("random", "sharing fused", "rewinding")


@pytest.mark.parametrize(
    "sparsity",
    [
        pytest.param(case, id=name, marks=() if name in IN_EVERY_RUN else pytest.mark.full)
        for name, case in CASES.items()
    ],
)
def test_a_trial_that_branches_from_the_dense_one_equals_itself_alone(
    store, tmp_path, left, sparsity
):
    sparse, begun = config(store, 0.8, sparsity), []
    epochs = sparse.branch_epoch
    assert epochs == (3 if sparsity is REWOUND else 2)
    started = SharedStates(
        start=shared(left, sparse, epochs), branched=lambda *told: begun.append(told)
    )
    branched = run(sparse, tmp_path / "trial", started)
    assert begun == [(started.start, branched[0].shared_seconds)]
    assert branched[0].shared_epochs == epochs
    assert 0 < branched[0].shared_seconds < branched[0].seconds
    check_equal(branched, run(sparse, tmp_path / "alone" / "trial"))


@pytest.mark.parametrize(
    ("sparsity", "changes"),
    [
        (
            UNPUNISHED,
            {
                "clip_norm": 0.5,
                "fast": "off",
                "model": {"backbone": "st_gcn", "dropout": 0.3},
            },
        ),
        pytest.param(
            {**REWOUND, "rewind_epoch": 2},
            {"model": {"backbone": "hpi_gcn_rp"}},
            marks=pytest.mark.full,
        ),
        ({**REWOUND, "rewind_epoch": 2, "branch_at": 1}, {}),
    ],
    ids=["clipped, dropout", "late rewinding", "before the rewind point"],
)
def test_levels_that_branch_from_each_other_equal_themselves_alone(
    store, tmp_path, sparsity, changes
):
    low, high = (config(store, level, sparsity, **changes) for level in (0.5, 0.9))
    file = shared(tmp_path / "shared", low, low.branch_epoch)
    assert file == shared(tmp_path / "shared", high, high.branch_epoch)
    both = SharedStates(start=file, leave=(file,))
    first = run(low, tmp_path / "low", both)
    second = run(high, tmp_path / "high", both)
    assert [each[0].shared_epochs for each in (first, second)] == [0, low.branch_epoch]
    check_equal(second, run(high, tmp_path / "alone" / "high"))


@pytest.fixture(scope="module")
def levels_alone(store, tmp_path_factory):
    """The weights that two levels come to, each trained alone, by level."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        level: run(config(store, level, UNPUNISHED), folder / f"{level}")[2]["model"]
        for level in (0.5, 0.9)
    }


@pytest.mark.parametrize("stop_after", [pytest.param(1, marks=pytest.mark.full), 5])
def test_whoever_dies_whenever_the_beginning_is_there_once(
    store, tmp_path, levels_alone, stop_after
):
    """The first trial is stopped in and behind the beginning, the second in its first step."""
    low, high = (config(store, level, UNPUNISHED) for level in (0.5, 0.9))
    file = shared(tmp_path / "shared", low, 2)
    both = SharedStates(start=file, leave=(file,))
    for each, steps in ((low, stop_after), (high, 1)):
        out, left = TrialDir(tmp_path / f"{each.sparsity.level}"), iter(range(steps - 1, -1, -1))
        with pytest.raises(Interrupted):
            run_trial(each, out, beginnings=both, should_stop=lambda left=left: next(left) == 0)
        result, _, state, _ = run(each, out.path, both)
        for name, tensor in levels_alone[each.sparsity.level].items():
            assert torch.equal(state["model"][name], tensor), name
        assert result.shared_epochs == (2 if each is high else 0)
    assert file.path.is_file()


def test_a_file_that_does_not_fit_is_not_used_and_the_trial_trains_alone(
    store, tmp_path, left, caplog
):
    found = shared(left, config(store, 0.5, UNPUNISHED), 2)
    file = dataclasses.replace(found, path=tmp_path / found.path.name)
    file.path.write_bytes(found.path.read_bytes())
    other = config(store, 0.5, UNPUNISHED, model={"channels": 16})
    result, *_ = run(other, tmp_path / "trial", SharedStates(start=file))
    assert result.shared_epochs == 0
    assert f"{file.path}: is not used, and is removed: " in caplog.text
    assert not file.path.exists()


def test_what_began_with_other_weights_is_another_beginning(store, tmp_path):
    sources = [tmp_path / f"source{seed}" for seed in (0, 1)]
    for seed, source in enumerate(sources):
        dense = config(store, 0.0, {}, epochs=2, milestones=[])
        run(dense.model_copy(update={"seed": seed}), source)
    low, high = (config(store, level, {**UNPUNISHED, "from": "dense"}) for level in (0.5, 0.9))
    file = shared(tmp_path / "shared", low, 2)
    assert file != shared(tmp_path / "shared", config(store, 0.5, UNPUNISHED), 2)
    run(low, tmp_path / "low", SharedStates(leave=(file,)), source=sources[0])
    sources[0] = sources[0].rename(tmp_path / "moved")
    same = run(high, tmp_path / "same", SharedStates(start=file), source=sources[0])
    check_equal(same, run(high, tmp_path / "alone" / "same", source=sources[0]))
    assert same[0].shared_epochs == 2
    other = run(high, tmp_path / "other", SharedStates(start=file), source=sources[1])
    assert other[0].shared_epochs == 0
