"""What zeros are worth at inference: deploy forms of one network with different masks, in turns, on
this machine.

    python benchmarks/sparse_inference.py [--backbone hpi_gcn_op] [--batch 1] [--batch 16]
    [--threads 1] [--levels 0.6,0.8,0.95,0.99] [--structure 4x1] [--masks all] [--openvino]
    [--device cuda] [--json]

NTU size: 64 frames, 25 joints, 2 persons, 120 classes, full width; random weights, which take as
long as trained ones. A ratio is the median over rounds of (time of the dense form / time of the
one) in the same round, in CPU time of the process at one thread. kept weights: single zeros are not
computed, see `trainables.deploy.sparse`; "all levels" is an ensemble of one network of each level.
--structure: which weights of a level go together. compact: channels that masks made useless are not
computed. --openvino: the dense form in OpenVINO, float32. On a GPU that can (float16, compute
capability 8.0 and more) the 2:4 form also runs on sparse tensor cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig
from trainables.cost.measured import call_seconds, device_name
from trainables.deploy.compact import compact
from trainables.deploy.form import DeployForm, Execution, deploy, nonzero_params, save_deploy
from trainables.deploy.sparse.runtime import run_sparse
from trainables.deploy.two_of_four import run_two_of_four
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.models.layers import PointwiseProduct
from trainables.precision import full_float32
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import attach
from trainables.sparsity.sharing import SharedKernel, counted_kernels

FRAMES, PERSONS, CLASSES = 64, 2, 120
KEPT = ", kept weights"
MASKS: dict[str, SparsityConfig | None] = {
    "2:4": SparsityConfig(level=0.5, sharing="fused"),
    "half of the channels": SparsityConfig(level=0.75, sharing="channels"),
    "a quarter of the channels": SparsityConfig(level=0.9375, sharing="channels"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="hpi_gcn_op")
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--levels", default="0.6,0.8,0.95,0.99")
    parser.add_argument("--structure", default="weight", help="of the levels' masks")
    parser.add_argument("--masks", choices=["levels", "all"], default="levels")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    levels = [float(level) for level in options.levels.split(",")]
    settings = {"sharing": sharing_of(options), "structure": options.structure}
    masks: dict[str, SparsityConfig | None] = {
        "dense": None,
        **{
            f"level {level:g}": SparsityConfig.model_validate({"level": level, **settings})
            for level in levels
        },
        **(MASKS if options.masks == "all" else {}),
    }
    with torch.no_grad():  # made in inference mode, no weight of theirs would be packed
        forms = {
            name: form
            for mask, sparsity in masks.items()
            for name, form in made(options, mask, sparsity, device)
        }
    with full_float32(), torch.inference_mode():
        taking = {
            name: form
            for name, form in forms.items()
            # a level run densely takes as long as the dense form
            if options.masks == "all" or not name.startswith("level") or KEPT in name
        }
        found = {
            "device": device_name(device),
            "threads": options.threads,
            "torch": torch.__version__,
            "backbone": options.backbone,
            "structure": options.structure,
            "forms": [
                described(name, form) for name, form in forms.items() if not name.endswith(KEPT)
            ],
            "runs": [
                timed({**taking, **peers(options, forms, batch)}, batch, options.rounds, device)
                for batch in options.batch or (1, 16)
            ],
        }
    print(json.dumps(found, indent=2) if options.json else table(found))


def sharing_of(options: argparse.Namespace) -> Literal["fused", "none"]:
    """How masks survive re-parameterisation: HPI-GCN's are of its fused kernels."""
    return "fused" if options.backbone.startswith("hpi_gcn") else "none"


def made(
    options: argparse.Namespace, mask: str, sparsity: SparsityConfig | None, device: torch.device
) -> list[tuple[str, DeployForm]]:
    """(name, form) of the deploy form with such a mask, and of the ways to run it that torch offers
    here.
    """
    temporal = "rep_tcn" if sharing_of(options) == "fused" else None
    model = ModelConfig.model_validate(
        {"backbone": options.backbone, "channels": options.channels}
        | ({"temporal": temporal} if temporal else {})
    )
    network = (
        build_backbone(
            model,
            load_layout("ntu25"),
            classes=CLASSES,
            persons=PERSONS,
            stream=StreamConfig(),
            seed=0,
        )
        .to(device)
        .eval()
    )
    if mask == "2:4":
        two_of_four(list(network.blocks))
    elif sparsity is not None:
        generator = SparseGenerator(list(network.blocks), sparsity, 0, seed=0)
        generator.mask_constant_channels(network, torch.ones(1, 3, FRAMES, 25, PERSONS))
        generator.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    form = deploy(network, frames=FRAMES)
    found = [(mask, form)]
    small, kept = compact(form), run_sparse(form, forced=True)
    if kept is not None and mask.startswith("level"):
        found.append((f"{mask}{KEPT}", kept))
    if small is not None:
        found.append((f"{mask}, compact", small))
    if mask == "2:4" and device.type == "cuda":
        found.append(
            (f"{mask}, sparse tensor cores", run_two_of_four(deploy(network, frames=FRAMES).half()))
        )
        found.append((f"{mask}, float16", deploy(network, frames=FRAMES).half()))
    return found


def peers(
    options: argparse.Namespace, forms: dict[str, DeployForm], batch: int
) -> dict[str, Callable[[Tensor], object]]:
    """The dense form in another program, where that is asked for."""
    if not options.openvino:
        return {}
    import openvino

    clips = torch.randn(batch, 3, FRAMES, 25, PERSONS)
    exported = torch.export.export(forms["dense"], (clips,))
    settings = {
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.compile_model(openvino.convert_model(exported), "CPU", settings)
    found = torch.from_numpy(compiled(clips.numpy())[0])
    expected = forms["dense"](clips)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    return {"dense, OpenVINO": lambda clips: compiled(clips.numpy())}


def two_of_four(blocks: list[nn.Module]) -> None:
    """Of every four neighbouring inputs of what ships, the two with the larger weights stay."""
    for kernel in (kernel for block in counted_kernels(blocks, "fused") for kernel in block):
        weight = kernel.weight.detach()
        if weight.shape[1] % 4:
            continue
        groups = weight.abs().transpose(1, 3).unflatten(3, (-1, 4))
        mask = (
            torch.zeros_like(groups)
            .scatter_(4, groups.topk(2, dim=4).indices, 1.0)
            .flatten(3)
            .transpose(1, 3)
            .contiguous()
        )
        masked = kernel.attach(mask) if isinstance(kernel, SharedKernel) else attach(kernel, mask)
        masked.active = True


def described(name: str, form: DeployForm) -> dict[str, object]:
    some = next(form.parameters())
    with TemporaryDirectory() as folder:
        size = (
            save_deploy(form, Path(folder) / "deploy.pt")
            if not form.compact and some.dtype == torch.float32
            else None
        )
    return {
        "form": name,
        "nonzero_params": nonzero_params(form),
        "gmacs": gmacs(form),
        "bytes": size,
    }


def gmacs(form: DeployForm) -> float | None:
    """Products that are computed, zeros among them; None where torch cannot count them."""
    if any(isinstance(part, PointwiseProduct) for part in form.modules()):
        return None
    some, usual = next(form.parameters()), form.execution
    form.arrange(Execution())  # in which torch counts every product but one
    in_place = {
        torch.ops.aten.baddbmm_: lambda _sum, left, right, **_: 2 * left.numel() * right[-1]
    }
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        form(torch.ones(1, 3, FRAMES, 25, PERSONS, dtype=some.dtype, device=some.device))
    form.arrange(usual)
    return counter.get_total_flops() / 2e9


def seconds_of(form: Callable[[Tensor], object], clips: Tensor) -> float:
    """Of one call; of one CPU thread whatever else runs on the machine does not count."""
    if clips.device.type != "cpu" or torch.get_num_threads() > 1:
        return call_seconds(form, clips)
    started = time.process_time()
    form(clips)
    return time.process_time() - started


def timed(
    forms: dict[str, Callable[[Tensor], object]], batch: int, rounds: int, device: torch.device
) -> dict[str, object]:
    """Every form one turn a round; the first round warms up."""
    clips = torch.randn(
        batch, 3, FRAMES, 25, PERSONS, generator=torch.Generator().manual_seed(0)
    ).to(device)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        print(f"batch {batch}: round {turn} of {rounds}", file=sys.stderr)
        for name, form in forms.items():
            half = isinstance(form, nn.Module) and next(form.parameters()).dtype == torch.half
            taken = seconds_of(form, clips.half() if half else clips)
            seconds[name] += [taken] if turn else []
    kept = [times for name, times in seconds.items() if name.endswith(KEPT)]
    if len(kept) > 1:
        seconds[f"all {len(kept)} levels{KEPT}"] = [sum(each) for each in zip(*kept, strict=True)]
    return {
        "batch": batch,
        "ms": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
        "faster": {
            name: statistics.median(a / b for a, b in zip(seconds["dense"], times, strict=True))
            for name, times in seconds.items()
        },
    }


def table(found: dict) -> str:
    lines = [
        (
            f"{found['backbone']}, levels {found['structure']}, {found['device']},"
            f" {found['threads']} thread(s), torch {found['torch']}"
        ),
        "",
    ]
    for form in found["forms"]:
        size = "" if form["bytes"] is None else f"{form['bytes'] / 1e6:8.2f} MB"
        products = "" if form["gmacs"] is None else f"{form['gmacs']:8.3f} GMACs"
        lines.append(f"  {form['form']:<36}{form['nonzero_params']:>12,} non-zero{products}{size}")
    for run in found["runs"]:
        lines += ["", f"batch {run['batch']}"]
        lines += [
            f"  {name:<36}{ms:10.1f} ms{run['faster'][name]:8.2f} x as fast as dense"
            for name, ms in run["ms"].items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
