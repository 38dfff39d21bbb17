"""RigL and SET: which weights are exchanged, when, and that their number stays."""

import math

import pytest
import torch

from tests.naive_sparsity import exchanged
from tests.trainables.sparsity.small import STEPS, Clips, attached, fit_of, network, outside
from trainables.contract.errors import UserError
from trainables.sparsity.masks import removed_count


@pytest.mark.parametrize("generator", ["rigl", "set"])
def test_every_exchange_is_that_of_the_naive_twin(tmp_path, generator):
    """Dropped by size, grown by the gradient that the network has without masks; grown weights
    start from zero without momentum.
    """
    model = network()
    run = fit_of(
        model,
        generator=generator,
        update_every=2,
        update_share=0.7,
        update_until=1.0,
        level=0.6,
        train={"epochs": 5, "milestones": ()},
    )
    schedule, promises, exchanges = run.schedule, [], []
    before_update, promise = schedule.before_update, schedule._promise

    def watched_promise(weight, generator):
        found = promise(weight, generator)
        promises.append(found.clone())
        return found

    def watched(epoch, step, optimizer):
        share = schedule.share(epoch, step)
        old = [
            (w.detach().flatten().clone(), m.flatten().clone())
            for w, m in zip(schedule.weights, schedule.masks, strict=True)
        ]
        gradients = [w.grad.abs().flatten().clone() for w in schedule.weights]
        before_update(epoch, step, optimizer)
        if not share:
            assert not promises
            return
        exchanges.append(epoch * STEPS + step)
        for (weight, mask), gradient, promised, now, raw in zip(
            old, gradients, promises, schedule.masks, schedule.weights, strict=True
        ):
            if generator == "rigl":
                assert torch.equal(promised, gradient)
                assert gradient[mask == 0].any()  # of weights that are not there
            kept = int(mask.sum())
            assert now.flatten().tolist() == exchanged(
                weight.tolist(), mask.tolist(), promised.tolist(), int(share * kept)
            )
            momentum = optimizer.state[raw]["momentum_buffer"].flatten()
            grown = (now.flatten() == 1) & (mask == 0)
            assert grown.any() == (int(share * kept) > 0) or generator == "rigl"
            assert not raw.detach().flatten()[grown].any()
            assert not momentum[grown].any()
            assert not momentum[now.flatten() == 0].any()
            assert torch.equal(
                raw.detach().flatten()[now.flatten() == 1], (weight * mask)[now.flatten() == 1]
            )
        promises.clear()

    schedule.before_update = watched
    schedule._promise = watched_promise
    run.run(Clips(), None, outside(tmp_path))
    assert exchanges == [2, 4, 6, 8, 10, 12, 14]
    assert [int((mask == 0).sum()) for mask in schedule.masks] == [
        removed_count(18, 0.6),
        removed_count(36, 0.6),
    ]


def test_an_exchange_takes_the_place_of_the_update():
    model = network()
    run = fit_of(model, generator="rigl", update_every=1, update_until=1.0)
    model.train()
    run.schedule.begin_epoch(0, run.optimizer)
    run._step(next(Clips().epoch(0)), 0, 0)
    before, masks = model[6].weight.detach().clone(), [mask.clone() for mask in run.schedule.masks]
    run._step(next(Clips().epoch(0, 1)), 0, 1)
    assert torch.equal(model[6].weight, before)
    assert any(not torch.equal(a, b) for a, b in zip(masks, run.schedule.masks, strict=True))


def test_the_loss_of_an_exchange_is_that_of_the_sparse_network():
    model = network().double()
    schedule = attached(model, generator="rigl", update_every=2)
    schedule.begin_epoch(0, torch.optim.SGD(model.parameters(), lr=0.1))
    x = Clips().x[0].double()
    model.eval()
    expected = model(x)
    schedule.begin_step(0, 2)
    assert not any(masked.active for block in schedule._masked for masked in block)
    assert torch.equal(model(x), expected)


def test_the_share_falls_as_a_cosine_and_ends():
    schedule = attached(
        network(), epochs=100, generator="rigl", update_every=10, update_share=0.4, update_until=0.5
    )
    end = 100 * STEPS * 0.5
    for t in range(100 * STEPS):
        share = schedule.share(t // STEPS, t % STEPS)
        assert share == (
            0.2 * (1 + math.cos(math.pi * t / end)) if 0 < t < end and t % 10 == 0 else 0.0
        )


@pytest.mark.parametrize("scope", ["block", "global"])
def test_each_tensor_keeps_as_many_as_were_drawn(tmp_path, scope):
    model = network()
    run = fit_of(model, generator="set", update_every=1, scope=scope, level=0.7)
    drawn = [int(mask.sum()) for mask in run.schedule.masks]
    run.run(Clips(), None, outside(tmp_path))
    assert [int(mask.sum()) for mask in run.schedule.masks] == drawn


def test_exchanges_that_would_never_happen_are_an_error():
    said = (
        r"update_every must be less than the 9 steps in which weights are exchanged \(update_until"
        r" = 0.75 of 4 epochs of 3 steps\), got 100"
    )
    with pytest.raises(UserError, match=said):
        attached(network(), generator="rigl")
