"""`models`, `bench` and `import-weights` from the outside: what they print, what they write, how
they end.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from orchestrator.cli.commands.networks import bench
from orchestrator.record.proposals import load_proposals
from tests import naive_networks
from tests.naive_models import narrow_backbone
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.contract.model import option_used
from trainables.cost.counting.count import count
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.deploy.form import deploy, load_deploy, save_deploy
from trainables.deploy.timing import structure_of
from trainables.deploy.weights import load_weights
from trainables.layouts import load_layout

RP = "hpi_gcn_rp_pa5_k5_joint"
SHORT = "--frames 8 --classes 5 --channels 8 --rounds 1 --device cpu --threads 1".split()


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder with a checkpoint of the released code and a store its network can score."""
    path = tmp_path_factory.mktemp("sources")
    tensors = {
        f"module.{name}": tensor.float() for name, tensor in naive_networks.checkpoint(RP).items()
    }
    torch.save({"state_dict": tensors, "epoch": 109}, path / "rp.pt")
    config = SyntheticConfig(
        classes=12, clips_per_class=2, subjects=2, views=1, frames=8, persons=2
    )
    recordings = synthetic_recordings(config, load_layout("ntu25"))
    write_store(path / "synth", recordings.clips, recordings.description)
    return path


def test_models_has_a_row_for_every_backbone_with_what_is_counted(orchestrate) -> None:
    code, out, err = orchestrate("models")
    assert (code, err) == (0, "")
    for name in BACKBONES.own:
        cost = count(
            ModelConfig(backbone=name),
            load_layout("ntu25"),
            classes=120,
            persons=2,
            frames=64,
            stream=StreamConfig(),
        )
        share = f"{100 * cost.maskable_params / cost.training.params:.0f}"
        numbers = (
            f"{cost.training.params:,}",
            share,
            f"{cost.deploy.params:,}",
            f"{cost.deploy.gmacs:.3f}",
        )
        released = cost.released
        published = (
            f"{released.params:,}",
            f"{released.leaf_params:,}",
            f"{released.gmacs:.3f}",
            f"{released.leaf_gmacs:.3f}",
        )
        assert re.search(
            rf"^ *{name} +{' +'.join(map(re.escape, (*numbers, *published)))} *$", out, re.MULTILINE
        ), name
    assert "groups=8, input_block=auto" in out
    assert re.search(
        r"graph +spatial, stgcn_spatial, random +what the adjacency matrices start from", out
    )
    assert re.search(r"dropout +a number from 0 below 1 +before the classifier", out)


def test_models_as_json_at_other_sizes(orchestrate) -> None:
    code, out, _ = orchestrate(
        "models", "--json", "--classes", 60, "--layout", "coco17", "--frames", 100, "--persons", 1
    )
    found = json.loads(out)
    assert (code, found["layout"], found["classes"], found["frames"], found["persons"]) == (
        0,
        "coco17",
        60,
        100,
        1,
    )
    assert [entry["backbone"] for entry in found["backbones"]] == list(BACKBONES.own)
    for entry in found["backbones"]:
        name = entry["backbone"]
        model = ModelConfig(backbone=name)
        cost = count(
            model, load_layout("coco17"), classes=60, persons=1, frames=100, stream=StreamConfig()
        )
        assert (entry["params"], entry["gmacs"]) == (cost.training.params, cost.training.gmacs)
        assert (entry["released_gmacs"], entry["released_leaf_gmacs"]) == (
            cost.released.gmacs,
            cost.released.leaf_gmacs,
        )
        used = {
            option
            for option in ModelConfig.model_fields
            if option != "backbone" and option_used(option, name, model.temporal)
        }
        assert entry["options"] == {
            option: model.model_dump(mode="json")[option] for option in used
        }
        own = model.card.own_settings
        assert set(list(entry["options"])[: len(own)]) == set(own)
    assert {option["name"] for option in found["options"]} == ModelConfig.model_fields.keys() - {
        "backbone"
    }
    assert all(option["allowed"] and option["meaning"] for option in found["options"])


def test_the_documented_figures_are_those_of_the_command(orchestrate) -> None:
    documented = [
        line
        for line in Path(__file__).parents[3].joinpath("docs", "models.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    for entry in json.loads(orchestrate("models", "--json")[1])["backbones"]:
        sizes = (
            f"{entry['params']:,}",
            f"{entry['deploy_params']:,}",
            f"{entry['deploy_gmacs']:.3f}",
        )
        params = (f"{entry['released_params']:,}", f"{entry['released_leaf_params']:,}")
        row = " | ".join(
            (
                f"| `{entry['backbone']}`",
                *sizes,
                *params,
                f"{entry['released_gmacs']:.3f}",
                f"{entry['released_leaf_gmacs']:.3f} |",
            )
        )
        assert row in documented


def test_models_of_a_layout_nobody_knows(orchestrate) -> None:
    code, out, err = orchestrate("models", "--layout", "ntu26")
    assert (code, out) == (2, "")
    assert "ntu26" in err
    assert err.count("\n") == 1


def test_bench_prints_a_table_per_batch_and_where_it_was(orchestrate) -> None:
    code, out, err = orchestrate(
        "bench", "hpi_gcn_rp", "hpi_gcn_op", "--batch", 1, "--batch", 2, "--single", 0.5, *SHORT
    )
    assert code == 0
    assert "Batch 1, 0 of 1 clips with one person" in out
    assert "Batch 2, 1 of 2 clips with one person" in out
    for name in ("hpi_gcn_rp", "hpi_gcn_op"):
        for form in ("training", "plain deploy", "deploy"):
            assert len(re.findall(rf"^ *{name} {form} ", out, re.MULTILINE)) == 2
    assert re.search(r"on +.+ CPU \(cpu\), 1 thread, torch 2\.", out)
    assert "ntu25, 8 frames, 2 persons, 5 classes, 8 channels" in out
    assert err.splitlines()[-1] == "round     batch 2  1/1"


def test_bench_as_json(orchestrate) -> None:
    code, out, _ = orchestrate(
        "bench", "hpi_gcn_rp", "--batch", 3, "--layout", "coco17", "--json", *SHORT
    )
    found = json.loads(out)
    assert (code, found["setting"]["batches"], found["setting"]["layout"], found["threads"]) == (
        0,
        [3],
        "coco17",
        1,
    )
    assert [row["form"] for row in found["measured"]] == ["training", "plain deploy", "deploy"]
    assert all(row["timings"][0]["median_ms"] > 0 for row in found["measured"])


def test_bench_of_a_backbone_nobody_knows(orchestrate) -> None:
    code, out, err = orchestrate("bench", "hpi_gcn", *SHORT)
    assert (code, out) == (2, "")
    place = "bench: hpi_gcn: must be a backbone or a sweep; the sweeps in runs/ are none; "
    assert err.startswith(f"{place}a backbone must be hpi_gcn_baseline, ")
    assert err.endswith(", got 'hpi_gcn', did you mean 'hpi_gcn_rp'?\n")


def test_bench_ends_at_ctrl_c_without_a_traceback(tmp_path) -> None:
    command = [
        sys.executable,
        "-c",
        "from orchestrator import cli; cli.main()",
        "bench",
        "hpi_gcn_rp",
        *SHORT,
        "--rounds",
        "1000000",
    ]
    with subprocess.Popen(
        command,
        cwd=Path.cwd(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs in the background inherits that it is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("round"):
                break
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_import_weights_reports_and_writes(orchestrate, sources, tmp_path) -> None:
    arguments = (
        "import-weights",
        sources / "rp.pt",
        "--as",
        "hpi_gcn_rp",
        "--out",
        "w.pt",
        "--deploy",
        "d.pt",
        "--frames",
        8,
    )
    code, out, err = orchestrate(*arguments)
    assert (code, err) == (0, "")
    for text in (
        "507 of 507 tensors",
        "HPI-GCN's released code, training form",
        "ntu25, 2 persons, 12 classes",
        "unused",
        "adjacencies=5",
    ):
        assert text in out
    assert re.search(r"^ *constructed +none", out, re.MULTILINE)
    assert load_weights(tmp_path / "w.pt").spec == load_deploy(tmp_path / "d.pt").spec
    code, out, err = orchestrate(*arguments)
    assert (code, out) == (2, "")
    assert (
        err == "w.pt: there is a file already; --force replaces it\nd.pt: there is a file already;"
        " --force replaces it\n"
    )
    code, out, _ = orchestrate(*arguments, "--force", "--json")
    report = json.loads(out)
    assert (code, report["backbone"], report["matched"], report["unused"]) == (
        0,
        "hpi_gcn_rp",
        507,
        {},
    )
    assert report["written"] == {"weights": "w.pt", "deploy form": "d.pt"}


def test_import_weights_scores_a_store_and_the_printed_command_evaluates_it(
    orchestrate, sources, tmp_path
) -> None:
    store = sources / "synth"
    scoring = ("--scores", "s.parquet", "--store", store, "--protocol", "xsub", "--frames", 8)
    code, out, _ = orchestrate("import-weights", sources / "rp.pt", "--as", "hpi_gcn_rp", *scoring)
    assert code == 0
    last = out.splitlines()[-1]
    assert last == f"next: orchestrate ensemble --scores s.parquet --labels {store}/clips.parquet"
    code, out, _ = orchestrate(*last.removeprefix("next: orchestrate ").split())
    assert code == 0
    assert "12 clips, aligned by id" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--as hpi_gcn_op",
            (
                "the checkpoint must be of hpi_gcn_op, got hpi_gcn_rp (HPI-GCN's released code,"
                " training form)"
            ),
        ),
        ("--as hpi_gcnrp", "got 'hpi_gcnrp', did you mean 'hpi_gcn_rp'?"),
        (
            "--as hpi_gcn_rp --layout ucla20",
            "layout must have the checkpoint's 25 joints, got ucla20 with 20",
        ),
        (
            "--as hpi_gcn_rp --scores s.parquet",
            "--scores, --store and --protocol: must be given together",
        ),
        (
            "--as hpi_gcn_rp --scores s.npy --store x --protocol y",
            "--scores: must end in .parquet, got s.npy",
        ),
        ("--as hpi_gcn_rp --scores s.parquet --store x --protocol y", "x: must be a store made by"),
        ("--as hpi_gcn_rp --stream bone", "--stream and --split: have no effect without --scores"),
        ("--as hpi_gcn_rp --frames 8", "--frames: has no effect without --deploy or --scores"),
        (
            "--as hpi_gcn_rp --set model.group=3",
            "--set model.group: unknown, did you mean 'model.groups'?",
        ),
        (
            "--as hpi_gcn_rp --set model.kernel_size=4",
            "--set model.kernel_size: must be odd, got 4",
        ),
        (
            "--as hpi_gcn_rp --set model.kernel_size",
            "--set model.kernel_size: must be model.option=value",
        ),
        (
            "--as hpi_gcn_rp --set model.channels=wide",
            "--set model.channels: must be a whole number, got 'wide'",
        ),
        ("--as hpi_gcn_rp --set model.groups=4", "--set model.groups: has no effect in hpi_gcn_rp"),
        (
            "--as hpi_gcn_rp --set model.dropout=0.5 --set model.dropout=0.1",
            "--set model.dropout: must be given once",
        ),
    ],
)
def test_import_weights_refuses(
    orchestrate, sources, tmp_path, arguments: str, message: str
) -> None:
    code, out, err = orchestrate(
        "import-weights", sources / "rp.pt", *arguments.split(), "--out", "w.pt"
    )
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_import_weights_of_files_that_are_none(orchestrate, tmp_path) -> None:
    for name, content in (("a.pt", None), ("b.pt", b"text")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        code, out, err = orchestrate("import-weights", name, "--as", "hpi_gcn_rp", "--out", "w.pt")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{name}: ")
    assert not (tmp_path / "w.pt").exists()


def test_options_of_the_model_reach_the_network(orchestrate, sources, tmp_path) -> None:
    code, _, _ = orchestrate(
        "import-weights",
        sources / "rp.pt",
        "--as",
        "hpi_gcn_rp",
        "--set",
        "model.dropout=0.5",
        "--out",
        "w.pt",
    )
    assert code == 0
    assert load_weights(tmp_path / "w.pt").spec.model.dropout == 0.5


@pytest.fixture
def threads():
    """A number of CPU threads that torch does not take by itself here."""
    own = torch.get_num_threads()
    yield own + 1
    torch.set_num_threads(own)


def test_the_networks_of_a_sweep_are_timed_again(tmp_path, capsys, monkeypatch, threads):
    """Two trials of one structure, one trial of another; the options of backbones are refused."""
    monkeypatch.setattr("trainables.deploy.timing.TURN_S", 0.0)
    run = make_run(tmp_path, [Trial("joint", 0.0, lr=0.1 * (n + 1)) for n in range(3)])
    folders = [proposal.folder(run) for proposal in load_proposals(run)]
    for folder, backbone in zip(folders, ("st_gcn", "hpi_gcn_op", "st_gcn"), strict=True):
        form = deploy(narrow_backbone(backbone, layout="coco17").float().eval(), frames=8)
        save_deploy(form, folder.deploy_file)
        result = folder.load()
        noted = {"deploy_structure": structure_of(form), "latency_threads": threads}
        cost = result.cost.model_copy(update=noted)
        folder.result_file.write_text(result.model_copy(update={"cost": cost}).model_dump_json())
    machine = "orchestrator.planning.machine.present"
    monkeypatch.setattr(machine, lambda: (threads - 1, []))
    with pytest.raises(UserError, match=rf"with {threads} threads, and this machine has"):
        bench([str(run)], rounds=1)
    monkeypatch.setattr(machine, lambda: (threads, []))
    bench([str(run)], rounds=1)
    printed = capsys.readouterr().out
    assert f"{folders[0].path.name} and 1 more" in printed
    costs = [folder.load().cost for folder in folders]
    assert {cost.latency_measured for cost in costs} == {"bench"}
    assert costs[0].deploy_latency_ms == costs[2].deploy_latency_ms != costs[1].deploy_latency_ms
    assert {cost.latency_threads for cost in costs} == {threads}  # as they were timed before
    folders[1].latency_file.unlink()
    fewer = costs[1].model_copy(update={"latency_threads": 1})
    changed = folders[1].load().model_copy(update={"cost": fewer})
    folders[1].result_file.write_text(changed.model_dump_json())
    bench([str(run)], rounds=1)
    said = f"threads   {threads}, the most of 1 and {threads} with which they were timed before;"
    assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="the trials decide everything else"):
        bench([str(run)], frames=32)
    with pytest.raises(UserError, match="name backbones or sweeps"):
        bench([str(run), "st_gcn"])
