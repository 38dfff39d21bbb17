"""Deploy forms of HPI-GCN against their training form, the form the released code deploys, and the
networks the papers compare with.

    python benchmarks/inference.py [--batch 16] [--batch 64] [--threads 1] [--json]
    python benchmarks/inference.py --device cuda --variants eager,compile,graphs
                                   --precision fp32,tf32,bf16
    python benchmarks/inference.py --peers onnxruntime,openvino,compile [--batch 1]

NTU size: 64 frames, 25 joints, 2 persons, 120 classes, full width. All networks take turns in one
run; a ratio is the median over rounds of (time of the one / time of the other) in the same round.
"plain" is the deploy form as released: convolution-BatchNorm pairs, Rep-TCN and parallel
adjacencies folded, all persons of a batch at once. CTR-GCN, InfoGCN, HD-GCN and ST-GCN run as their
code bases run them (no deploy form), with our deploy form of them beside it. --peers: HPI-GCN's
deploy forms alone, in float32 on a CPU, beside other programs for the same graph (`pip install
'orchestrate[export]'`); compile is torch.compile with frozen weights, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch._inductor.config as inductor
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.config import ModelConfig, StreamConfig
from trainables.cost.counting.count import count
from trainables.cost.measured import call_seconds, device_name
from trainables.deploy.form import DeployForm, deploy
from trainables.layouts import load_layout
from trainables.models.build import Backbone, build_backbone
from trainables.reparam.fusible import RELEASED

HPI: dict[str, dict[str, Any]] = {
    "RP": {"backbone": "hpi_gcn_rp"},
    "OP-K9": {"backbone": "hpi_gcn_op", "kernel_size": 9},
}
OTHERS: dict[str, dict[str, Any]] = {
    "CTR-GCN": {"backbone": "ctr_gcn"},
    "InfoGCN": {"backbone": "info_gcn"},
    "HD-GCN": {"backbone": "hd_gcn"},
    "ST-GCN": {"backbone": "st_gcn", "adjacency": "scaled"},
}
FRAMES, PERSONS, CLASSES, SINGLE = 64, 2, 120, 0.8
GOALS = (  # (network, against, at least)
    ("RP deploy", "RP plain", 1.2),
    ("OP-K9 deploy", "OP-K9 plain", 1.15),
    ("RP deploy, 80 % single", "RP plain, 80 % single", 1.8),
    ("OP-K9 deploy, 80 % single", "OP-K9 plain, 80 % single", 1.8),
    ("RP deploy", "CTR-GCN", 2.8),
    ("RP deploy", "ST-GCN", 2.0),
)
Network = Callable[[Tensor], Tensor]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--batch", type=int, action="append", help="clips per batch; may be repeated (16 and 64)"
    )
    options.add_argument("--rounds", type=int, default=5, help="turns of every network")
    options.add_argument("--threads", type=int, default=1, help="CPU threads")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--precision", default="fp32", help="of fp32, tf32, bf16; comma-separated")
    options.add_argument(
        "--variants",
        default="eager",
        help="of eager, compile, graphs (CUDA graphs); comma-separated",
    )
    options.add_argument("--peers", default="", help=f"of {', '.join(PEERS)}; comma-separated")
    options.add_argument("--json", action="store_true", help="print JSON instead of tables")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    peers = [peer for peer in chosen.peers.split(",") if peer]
    networks = build(device, HPI if peers else {**HPI, **OTHERS})
    results = {
        "device": device_name(device),
        "threads": chosen.threads,
        "torch": torch.__version__,
        "difference": differences(networks, device),
        "runs": [
            run(
                networks,
                device,
                batch=batch,
                rounds=chosen.rounds,
                precision=precision,
                variant=variant,
                peers=peers,
            )
            for precision in chosen.precision.split(",")
            for variant in chosen.variants.split(",")
            for batch in chosen.batch or [16, 64]
        ],
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def build(
    device: torch.device, chosen: dict[str, dict[str, Any]]
) -> dict[str, Backbone | DeployForm]:
    """Every network by name, statistics away from their start so that folding changes numbers."""
    found: dict[str, Backbone | DeployForm] = {}
    for name, options in chosen.items():
        network = trained(ModelConfig(**options)).to(device)
        found[f"{name} training" if name in HPI else name] = network
        if name in HPI:
            found[f"{name} plain"] = deploy(network, RELEASED)
        found[f"{name} deploy"] = deploy(network, frames=FRAMES)
    return found


def trained(model: ModelConfig) -> Backbone:
    network = build_backbone(
        model, load_layout("ntu25"), classes=CLASSES, persons=PERSONS, stream=StreamConfig(), seed=0
    )
    generator = torch.Generator().manual_seed(1)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low in (
                (norm.weight, 0.5),
                (norm.bias, -0.5),
                (norm.running_mean, -0.5),
                (norm.running_var, 0.5),
            ):
                assert tensor is not None
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
    return network.eval()


def clips_of(batch: int, device: torch.device, *, single: float = 0.0) -> Tensor:
    """(N, 3, T, V, M) of noise; the second person is absent in
    that share of the clips, rounded up.
    """
    clips = torch.randn(batch, 3, FRAMES, 25, PERSONS, generator=torch.Generator().manual_seed(2))
    clips[: math.ceil(single * batch), ..., 1] = 0
    return clips.to(device)


@torch.inference_mode()
def differences(
    networks: dict[str, Backbone | DeployForm], device: torch.device
) -> dict[str, float]:
    """Largest |deploy - plain (or training) form| of 16 clips, 80 % of them with one person, over
    the largest logit.
    """
    clips, found = clips_of(16, device, single=SINGLE), {}
    for name, form in networks.items():
        if name.endswith("deploy"):
            base = name.removesuffix(" deploy")
            expected = networks[f"{base} plain" if base in HPI else base](clips)
            found[name] = float((form(clips) - expected).abs().max() / expected.abs().max())
    return found


@torch.inference_mode()
def run(
    networks: dict[str, Backbone | DeployForm],
    device: torch.device,
    *,
    batch: int,
    rounds: int,
    precision: str,
    variant: str,
    peers: Sequence[str],
) -> dict[str, Any]:
    """Median milliseconds of every network, and the ratios that are goals."""
    full, single = clips_of(batch, device), clips_of(batch, device, single=SINGLE)
    turns: dict[str, tuple[Network, Tensor]] = {}
    with computing(precision, device):
        for name, network in networks.items():
            turns[name] = (prepared(network, full, variant), full)
            if (
                name.endswith((" plain", " deploy"))
                and name.split()[0] in HPI
                and variant == "eager"
            ):
                turns[f"{name}, 80 % single"] = (network, single)
            if name.endswith(" deploy"):
                for peer in peers:
                    turns[f"{name}, {peer}"] = (PEERS[peer](network, full), full)
        seconds: dict[str, list[float]] = {name: [] for name in turns}
        for turn in range(rounds + 1):  # the first warms up
            print(f"{precision} {variant} batch {batch}: round {turn} of {rounds}", file=sys.stderr)
            for name, (call, clips) in turns.items():
                taken = call_seconds(call, clips)
                seconds[name] += [taken] if turn else []
        peak = convolution_peak(device, batch)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "batch": batch,
        "precision": precision,
        "variant": variant,
        "peak_gflops": peak / 1e9,
        "ms": {name: 1e3 * seconds for name, seconds in medians.items()},
        "share_of_peak": {
            name: 2e9 * work(name) * batch / medians[name] / peak
            for name in medians
            if "single" not in name
        },
        "ratios": [
            {
                "network": network,
                "against": against,
                "ratio": ratio(seconds[against], seconds[network]),
                "goal": goal,
            }
            for network, against, goal in (
                *GOALS,
                *(
                    (f"{name} deploy", f"{name} deploy, {peer}", 1.0)
                    for name in HPI
                    for peer in peers
                ),
            )
            if network in seconds and against in seconds
        ],
    }


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


@contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """float32 as it is, float32 with TF32 products, or autocast to bfloat16."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    with (
        torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    ):
        yield


def prepared(network: nn.Module, clips: Tensor, variant: str) -> Network:
    """The network as it is, compiled, or recorded as a CUDA graph."""
    if variant == "compile":
        return torch.compile(network, dynamic=False)
    if variant == "graphs":
        return torch.compile(network, mode="reduce-overhead", dynamic=False)
    return network


def in_onnxruntime(form: nn.Module, clips: Tensor) -> Network:
    import onnxruntime

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "form.onnx")
        torch.onnx.export(form, (clips,), path, dynamo=True, external_data=False, verbose=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return checked(lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0]), form, clips)


def in_openvino(form: nn.Module, clips: Tensor) -> Network:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    graph = openvino.convert_model(torch.export.export(form, (clips,)))
    compiled = openvino.compile_model(graph, "CPU", settings)
    return checked(lambda x: torch.from_numpy(compiled(x.numpy())[0]), form, clips)


def compiled_by_torch(form: nn.Module, clips: Tensor) -> Network:
    with inductor.patch(freezing=True):
        return checked(torch.compile(form, dynamic=False), form, clips)


def checked(network: Network, form: nn.Module, clips: Tensor) -> Network:
    """The network, which computes what the form does."""
    expected = form(clips)
    difference = (network(clips) - expected).abs().max()
    assert difference <= 1e-5 * expected.abs().max(), f"another network: {difference}"
    return network


PEERS: dict[str, Callable[[nn.Module, Tensor], Network]] = {
    "onnxruntime": in_onnxruntime,
    "openvino": in_openvino,
    "compile": compiled_by_torch,
}
"""Programs that run the same graph on a CPU."""


def work(name: str) -> float:
    """1e9 multiply-accumulates of one clip."""
    name, _, _ = name.partition(",")
    base = next(each for each in {**HPI, **OTHERS} if name.startswith(each))
    counted = count(
        ModelConfig(**{**HPI, **OTHERS}[base]),
        load_layout("ntu25"),
        classes=CLASSES,
        persons=PERSONS,
        frames=FRAMES,
        stream=StreamConfig(),
    )
    if name.endswith("deploy"):
        return counted.deploy.gmacs
    return counted.released.gmacs if name.endswith("plain") else counted.training.gmacs


def convolution_peak(device: torch.device, batch: int) -> float:
    """FLOP/s of the fastest large convolution of these networks: 256 channels, 9 taps, both memory
    formats, best of several calls.
    """
    best = 0.0
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(min(32, 2 * batch), 256, 16, 25, device=device).to(memory_format=layout)
        weight = torch.randn(256, 256, 9, 1, device=device).to(memory_format=layout)
        seconds = min(
            call_seconds(partial(F.conv2d, weight=weight, padding=(4, 0)), x) for _ in range(5)
        )
        best = max(best, 2 * weight.numel() * x.shape[0] * 16 * 25 / seconds)
    return best


def table(results: dict[str, Any]) -> str:
    lines = [f"{results['device']}, {results['threads']} thread(s), torch {results['torch']}"]
    lines += [
        f"largest difference to the plain form, {name}: {difference:.1e} of the largest logit"
        for name, difference in results["difference"].items()
    ]
    for found in results["runs"]:
        lines += [
            "",
            (
                f"{found['precision']} {found['variant']}, batch {found['batch']} (convolution peak"
                f" {found['peak_gflops']:.0f} GFLOP/s)"
            ),
        ]
        for name, milliseconds in found["ms"].items():
            share = found["share_of_peak"].get(name)
            lines.append(
                f"  {name:<30}{milliseconds:10.1f} ms"
                + (f"{100 * share:8.0f} % of peak" if share is not None else "")
            )
        for each in found["ratios"]:
            verdict = "reached" if each["ratio"] >= each["goal"] else "missed"
            lines.append(
                f"  {each['network']} over {each['against']}: {each['ratio']:.2f}x (goal"
                f" {each['goal']}x, {verdict})"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
