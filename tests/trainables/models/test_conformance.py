"""Laws that every backbone keeps. A new one enters with one line of CASES."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests import naive_models
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import STREAMS, ModelConfig, StreamConfig
from trainables.cost.counting.count import count
from trainables.deploy.form import Execution, deploy, load_deploy, nonzero_params, save_deploy
from trainables.layouts import load_layout
from trainables.models.build import Backbone, build_backbone
from trainables.reparam.fusible import FULL, RELEASED
from trainables.sparsity.masks import attach

CASES: dict[str, dict] = {  # name of the case -> options of the model
    "hpi_gcn_baseline": {"backbone": "hpi_gcn_baseline"},
    "hpi_gcn_baseline as released": {"backbone": "hpi_gcn_baseline", "normalised": False},
    "hpi_gcn_rp": {"backbone": "hpi_gcn_rp"},
    "hpi_gcn_rp K7": {
        "backbone": "hpi_gcn_rp",
        "kernel_size": 7,
        "branches": ("pointwise", 7, "average"),
    },
    "hpi_gcn_rp single convolution": {"backbone": "hpi_gcn_rp", "temporal": "conv"},
    "hpi_gcn_op": {"backbone": "hpi_gcn_op"},
    "hpi_gcn_op K9": {"backbone": "hpi_gcn_op", "kernel_size": 9},
    "st_gcn": {"backbone": "st_gcn"},
    "st_gcn RP-K5": {"backbone": "st_gcn", "temporal": "rep_tcn"},
    "st_gcn scaled graph": {"backbone": "st_gcn", "adjacency": "scaled"},
    "aa_gcn": {"backbone": "aa_gcn"},
    "aa_gcn with attention": {"backbone": "aa_gcn", "attention": True},
    "ctr_gcn": {"backbone": "ctr_gcn"},
    "ctr_gcn of PYSKL": {"backbone": "ctr_gcn", "convention": "pyskl"},
    "ctr_gcn RP-K5": {"backbone": "ctr_gcn", "temporal": "rep_tcn"},
    "dg_stgcn": {"backbone": "dg_stgcn"},
    "dg_stgcn 3 subsets": {"backbone": "dg_stgcn", "subsets": 3, "temporal": "ms_tcn6"},
    "st_gcn_pp": {"backbone": "st_gcn_pp"},
    "st_gcn_k5": {"backbone": "st_gcn_k5"},
    "st_gcn_k5 RP-K5": {"backbone": "st_gcn_k5", "temporal": "rep_tcn"},
    "info_gcn": {"backbone": "info_gcn"},
    "hd_gcn": {"backbone": "hd_gcn"},
    "hd_gcn centre 2": {"backbone": "hd_gcn", "centre": 2},
}
STEPS = 150
"""Updates within which a network must have learned 16 clips by heart."""

SILENT = ("logvar",)
"""Parameters that evaluation and cross entropy do not see."""


def narrow(case: str, **changes) -> Backbone:
    options = {**CASES[case], **changes}
    return naive_models.narrow_backbone(options.pop("backbone"), **options)


def clips_for(network: Backbone, count: int = 2, frames: int = 8) -> Tensor:
    return naive_models.random_clips(count, 3, frames, network.spec.joints, network.spec.persons)


def assert_same(logits: Tensor, expected: Tensor, tolerance: float) -> None:
    """`tolerance` holds as it is for logits up to 1 and relative to the largest logit beyond:
    adjacencies of ones make them large.
    """
    assert (logits - expected).abs().max().item() <= tolerance * max(
        1.0, expected.abs().max().item()
    )


def test_every_backbone_has_a_case():
    assert {options["backbone"] for options in CASES.values()} == set(BACKBONES.own)


@pytest.mark.parametrize("case", CASES)
class TestBackbone:
    @pytest.mark.parametrize("persons", [1, 2])
    @pytest.mark.parametrize("layout", ["ntu25", "ucla20", "coco17"])
    @pytest.mark.parametrize("frames", [7, 8])
    def test_deploy_form_gives_the_same_logits(self, case, layout, persons, frames):
        network = narrow(case, layout=layout, persons=persons).eval()
        clips = clips_for(network, frames=frames)
        with torch.no_grad():
            expected = network(clips)
            assert_same(deploy(network, FULL, frames=frames)(clips), expected, 1e-9)
            assert_same(deploy(network, RELEASED)(clips), expected, 1e-9)
            single = network.float()
            assert_same(
                deploy(single, FULL, frames=frames)(clips.float()), single(clips.float()), 1e-4
            )

    def test_absent_persons_change_nothing(self, case):
        network = narrow(case, persons=2).eval()
        clips = clips_for(network, count=4)
        clips[0, ..., 1] = 0
        clips[2, ..., 0] = 0
        clips[3] = 0
        form = deploy(network, FULL, frames=8)
        with torch.no_grad():
            expected = network(clips)
            assert_same(form(clips), expected, 1e-9)
            assert_same(form(clips[3:]), expected[3:], 1e-9)
            # clips of another length
            assert_same(deploy(network, FULL, frames=5)(clips), expected, 1e-9)
            rows = []
            hook = form.blocks[0].register_forward_pre_hook(
                lambda _module, args: rows.append(len(args[0]))
            )
            form(clips)
            hook.remove()
        assert rows == [4]  # of 8 places

    def test_every_parameter_learns(self, case):
        network = narrow(case, persons=2, classes=4, dropout=0.0).train()
        # a negative scale can silence a channel
        naive_models.randomise_batch_norm(network, torch.Generator().manual_seed(2), smallest=0.5)
        logits = network(clips_for(network))
        assert logits.shape == (2, 4)
        nn.functional.cross_entropy(logits, torch.tensor([0, 3])).backward()
        silent = [
            name
            for name, parameter in network.named_parameters()
            if parameter.grad is None or not parameter.grad.any()
        ]
        # A bias or shift right before a BatchNorm in training mode has no effect; the padded ones
        # act through the constant rows alone.
        assert [
            name
            for name in silent
            if not name.endswith("bias") and not any(part in name for part in SILENT)
        ] == []

    def test_trains_and_runs_in_bfloat16(self, case):
        """Autocast, as GPUs train; the deploy form with an absent person and in every way to run
        it.
        """
        # the second block has an identity residual
        network = narrow(case, persons=2, classes=4, stages=(2, 1)).float().train()
        clips = clips_for(network, count=4).float()
        clips[1, ..., 1] = 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, logits = network.objective(clips, torch.arange(4))
        loss.backward()
        assert loss.isfinite()
        assert logits.isfinite().all()
        assert all(
            parameter.grad is None or parameter.grad.isfinite().all()
            for parameter in network.parameters()
        )
        form = deploy(network, frames=8)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            for rows in (False, True):
                form.arrange(Execution(rows=rows, at_once=3))
                assert form(clips).isfinite().all()

    def test_clips_do_not_influence_each_other(self, case):
        network = narrow(case, persons=2).eval()
        clips = clips_for(network, count=3, frames=6)
        with torch.no_grad():
            together, alone = network(clips), torch.cat([network(clip[None]) for clip in clips])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-10)

    def test_weights_depend_on_the_seed_alone(self, case):
        config = ModelConfig(**({"channels": 8, "stages": (1, 1), "groups": 2} | CASES[case]))

        def state(seed):
            network = build_backbone(
                config, load_layout("ntu25"), classes=3, persons=1, stream=StreamConfig(), seed=seed
            )
            return network.state_dict()

        torch.manual_seed(123)
        before = torch.random.get_rng_state()
        first = state(5)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(3)
        second, other = state(5), state(6)
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert any(
            not torch.equal(first[key], other[key]) for key in first if key.startswith("head.")
        )

    def test_nothing_but_kernels_is_left_and_no_memory_is_shared(self, case):
        network = narrow(case).train()
        before = copy.deepcopy(network.state_dict())
        form = deploy(network, FULL, frames=8)
        assert not form.training
        assert not any(parameter.requires_grad for parameter in form.parameters())
        with torch.no_grad():
            for tensor in form.state_dict().values():
                tensor.fill_(7)
        assert network.training
        assert all(
            torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()
        )

    def test_attached_masks_are_applied_and_stay_attached(self, case):
        network = narrow(case).eval()
        dense = nonzero_params(deploy(network, FULL))
        generator = torch.Generator().manual_seed(8)
        convs = [module for module in network.blocks.modules() if isinstance(module, nn.Conv2d)]
        for conv in convs:
            attach(
                conv, (torch.rand(conv.weight.shape, generator=generator) > 0.8).float()
            ).active = True
        clips = clips_for(network)
        form = deploy(network, frames=8)
        with torch.no_grad():
            assert_same(form(clips), network(clips), 1e-9)
        assert not any("parametrizations" in name for name in form.state_dict())
        assert all(nn.utils.parametrize.is_parametrized(conv) for conv in convs)
        assert nonzero_params(form) < dense

    def test_file_comes_back_bit_for_bit(self, case, tmp_path):
        form = deploy(narrow(case, persons=2), frames=8)
        save_deploy(form, tmp_path / "deploy.pt")
        loaded = load_deploy(tmp_path / "deploy.pt")
        clips = clips_for(form)
        clips[0, ..., 1] = 0
        assert not loaded.training
        assert (loaded.spec, loaded.folding, loaded.frames) == (form.spec, form.folding, 8)
        with torch.no_grad():
            assert torch.equal(loaded(clips), form(clips))
        assert [path.name for path in tmp_path.iterdir()] == ["deploy.pt"]

    def test_pickles_and_copies(self, case):
        network = narrow(case).eval()
        clips = clips_for(network)
        with torch.no_grad():
            for module in (network, deploy(network, frames=8)):
                expected = module(clips)
                assert torch.equal(pickle.loads(pickle.dumps(module))(clips), expected)
                assert torch.equal(copy.deepcopy(module)(clips), expected)

    def test_compiles_without_a_break(self, case):
        """Whole-graph capture is what a compiler needs of us; the code it then generates is its own
        business.
        """
        torch._dynamo.reset()
        network = narrow(case, persons=2).eval()
        clips = clips_for(network)
        with torch.no_grad():
            for module in (network, deploy(network, frames=8)):
                compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
                assert_same(compiled(clips), module(clips), 1e-12)

    def test_exports_for_any_batch(self, case):
        network = narrow(case, persons=2).eval()
        clips = clips_for(network, count=5)
        clips[1, ..., 1] = 0
        for module in (network, deploy(network, frames=8)):
            program = torch.export.export(
                module,
                (clips_for(network, count=3),),
                dynamic_shapes=({0: torch.export.Dim("N", min=1, max=64)},),
            )
            with torch.no_grad():
                assert_same(program.module()(clips), module(clips), 1e-9)

    def test_overfits_sixteen_clips(self, case):
        network = naive_models.build_narrow(CASES[case] | {"dropout": 0.0}, classes=4)
        clips = naive_models.random_clips(16, 3, 8, 20, 1).float()
        labels = torch.arange(16) % 4
        optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, nesterov=True)
        torch.manual_seed(0)
        network.train()
        for _ in range(STEPS):
            loss, logits = network.objective(clips, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if (logits.argmax(dim=1) == labels).all():
                break
        assert (logits.argmax(dim=1) == labels).all()

    @pytest.mark.parametrize(
        ("layout", "persons", "frames", "changes"),
        [
            ("ntu25", 2, 64, {}),
            ("ucla20", 1, 52, {"channels": 32}),
            ("coco17", 3, 33, {"channels": 16, "stages": (2, 1), "adjacencies": 2, "groups": 4}),
            (
                "openpose18",
                1,
                5,
                {"channels": 8, "stages": (1, 1, 2, 1), "strides": (1, 2, 1, 2), "groups": 2},
            ),
        ],
    )
    def test_counted_equals_built(self, case, layout, persons, frames, changes):
        if layout == "coco17" and CASES[case].get("centre") is not None:
            pytest.skip("the centre is NTU's")
        skeleton, config, classes = load_layout(layout), ModelConfig(**(changes | CASES[case])), 12
        counted = count(
            config,
            skeleton,
            classes=classes,
            persons=persons,
            frames=frames,
            stream=STREAMS["joint"],
        )
        with torch.device("meta"):
            network = build_backbone(
                config, skeleton, classes=classes, persons=persons, stream=STREAMS["joint"], seed=0
            ).eval()
            form = deploy(network, FULL)
        sizes = [
            sorted(part.weight.numel() for part in block.modules() if isinstance(part, nn.Conv2d))
            for block in network.blocks
        ]
        assert [sorted(block) for block in counted.maskable] == sizes
        for cost, module in ((counted.training, network), (counted.deploy, form)):
            assert cost.params == sum(parameter.numel() for parameter in module.parameters())
            gmacs, leaf = measured_gmacs(module, frames)
            assert cost.gmacs == pytest.approx(gmacs, rel=1e-12)
            assert cost.leaf_gmacs == pytest.approx(leaf, rel=1e-12)


def measured_gmacs(module, frames):
    """(all, convolutions and linear layers alone) as torch counts the operations of one clip."""
    clip = torch.empty(1, 3, frames, module.spec.joints, module.spec.persons, device="meta")
    # torch counts only the form that allocates
    in_place = {
        torch.ops.aten.baddbmm_: lambda _sum, left, right, **_: 2 * left.numel() * right[-1]
    }
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        module(clip)
    operations = counter.get_flop_counts()["Global"]
    leaf = sum(
        number
        for operation, number in operations.items()
        if str(operation) in ("aten.convolution", "aten.addmm")
    )
    return sum(operations.values()) / 2e9, leaf / 2e9
