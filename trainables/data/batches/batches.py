"""A store as batches on a device, in an order and with an augmentation that any step can be dealt
again with. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.pipelines import PIPELINES
from trainables.data.batches.ragged import load_ragged
from trainables.data.batches.sampling import Plan
from trainables.data.batches.settings import check_settings, pipeline_of, views_of
from trainables.data.batches.streams import image_matrices, joint_matrix, to_stream
from trainables.data.batches.transforms import (
    Floats,
    Ints,
    gather,
    gather_seen,
    place,
    subtract_centre,
    turn,
)
from trainables.data.store.description import LEAST_CONFIDENCE
from trainables.data.store.reading import Store
from trainables.seeding import derive

CPU = torch.device("cpu")
AHEAD = 256  # clips made in one go: the cost of a call is shared by a few small batches


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """N clips. `x` (N, 3, T, V, M) float32 and `y` (N,) int64 are on the device; `index` (N,) int64
    on the CPU is their place in the store. `persons` (N,) int64 on the CPU: how many of the M
    places are taken, the others are zero; None where nobody asked.

    Views of one recording are clips one behind the other, with the same place. The memory order of
    `x` is N, M, C, T, V: backbones take persons as further clips, and that view costs nothing.
    """

    x: Tensor
    y: Tensor | None
    index: Tensor
    persons: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Dealing:
    """How clips are dealt as batches; in evaluation unless said."""

    batch_size: int
    device: torch.device = CPU
    training: bool = False
    seed: int = 0  # of everything that is drawn in training
    labelled: bool = False  # whether the store's labels are read
    views: int | None = None  # of each clip in evaluation; None: what the data's settings ask for
    persons: bool = False  # whether batches say how many persons each clip has


class Batches:
    """The clips at `indices` of a store, as batches of one stream.

    Training: shuffled anew in every epoch, from (seed, epoch); augmented from (seed, epoch, step),
    a few neighbouring steps sharing one generator; `data.repeat` passes per epoch; only whole
    batches, unless there is not one. Evaluation: every clip once, ascending, nothing random, the
    last batch may be short. A clip of which there are several views is dealt as often; batches then
    may begin and end within it.
    """

    def __init__(
        self,
        store: Store,
        indices: npt.NDArray[np.int64],
        data: DataConfig,
        dealing: Dealing,
    ) -> None:
        device, training = dealing.device, dealing.training
        if len(indices) == 0:
            raise UserError(
                f"{data.store}: {'training' if training else 'evaluation'} needs at least one clip,"
                " got none"
            )
        check_settings(data, store.info, store.layout)
        indices = np.sort(np.asarray(indices, dtype=np.int64))
        self._frames, self._device, self._training = data.frames, device, training
        self._seed = dealing.seed
        self._full_precision = torch.autocast(device.type, enabled=False)
        self._persons, self._counted = store.info.persons, dealing.persons
        self._clips = load_ragged(store, indices, device, data.residence)
        asked = views_of(data, store.info) if dealing.views is None else dealing.views
        self._views = 1 if training else asked
        self._pipeline = PIPELINES[pipeline_of(data, store.info)](
            store, self._clips, data, training=training, views=self._views
        )
        self._confident = store.info.channels == "xyc"
        self._labels = store.column("label")[indices].astype(np.int64) if dealing.labelled else None
        stream = data.stream_config
        self._motion = stream.motion and not self._pipeline.by_joint
        matrix = (
            (image_matrices if self._confident else joint_matrix)(store.layout, stream)
            if stream.bone or stream.hops > 0
            else None
        )
        self._matrix = (
            None if matrix is None else torch.from_numpy(matrix).to(device, torch.float32)
        )
        self._passes = data.repeat if training else 1
        total = len(indices) * self._passes * self._views
        self._batch_size = min(dealing.batch_size, total)
        self.steps = total // self._batch_size if training else -(-total // self._batch_size)
        self.clips = self.steps * self._batch_size if training else total
        """Clips dealt in one epoch, every view counted."""

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from `first_step` on; what they hold depends on nothing that was
        dealt before.
        """
        order = self._order(epoch)
        size, ahead = self._batch_size, max(1, AHEAD // self._batch_size)
        for begin in range(first_step - first_step % ahead, self.steps, ahead):
            clips, views = np.divmod(
                order[begin * size : min(begin + ahead, self.steps) * size], self._views
            )
            rng = np.random.default_rng(derive(self._seed, "augment", epoch, begin))
            yield from self._deal(clips, views, rng, skip=max(0, first_step - begin))

    def _order(self, epoch: int) -> Ints:
        """What is dealt, in order: clip number times number of views plus number of the view; one
        shuffle per pass.
        """
        clips = np.arange(len(self._clips.position) * self._views)
        if not self._training:
            return clips
        rng = np.random.default_rng(derive(self._seed, "order", epoch))
        return np.concatenate([rng.permutation(clips) for _ in range(self._passes)])

    def _deal(
        self, clips: Ints, views: Ints, rng: np.random.Generator, *, skip: int
    ) -> Iterator[Batch]:
        """Several batches made in one go, without the first `skip`."""
        plan = self._pipeline.plan(clips, views, rng)
        # Not for autocast: coordinates in half precision would lose centimetres. The context is
        # left before a batch is handed out.
        with torch.no_grad(), self._full_precision:
            x = self._clip_streams(clips, plan)
        y = None if self._labels is None else self._send(self._labels[clips])
        index = torch.from_numpy(self._clips.position[clips])
        persons = torch.from_numpy(self._clips.persons[clips]) if self._counted else None
        for begin in range(skip * self._batch_size, len(clips), self._batch_size):
            part = slice(begin, begin + self._batch_size)
            yield Batch(
                x[part],
                None if y is None else y[part],
                index[part],
                None if persons is None else persons[part],
            )

    def _clip_streams(self, clips: Ints, plan: Plan) -> Tensor:
        """The planned frames of all persons as the stream, (N, 3, T, V, M); persons that a clip
        does not have are zero.
        """
        persons = self._clips.persons[clips]
        clip = np.repeat(np.arange(len(clips)), persons)  # of each track: one person of one clip
        person = np.arange(len(clip)) - np.repeat(np.cumsum(persons) - persons, persons)
        who = (
            person
            if self._pipeline.leader is None
            else trading_places(person, self._pipeline.leader[clips][clip])
        )
        first = (self._clips.start[clips][clip] + who * self._clips.length[clips][clip])[
            :, None, None
        ]
        chosen = plan.take(clip)
        if self._pipeline.turns is not None:
            turns = self._pipeline.turns[clips][clip, who]
            chosen = replace(chosen, linear=chosen.linear @ turns)
        tracks = to_stream(
            self._tracks(first, self._clips.units[clips][clip], chosen),
            self._matrix,
            moving=self._motion,
        )
        if len(clip) < len(clips) * self._persons:
            free = np.arange(self._persons) >= persons[:, None]
            tracks = place(
                tracks, self._send(clip * self._persons + person), self._send(np.flatnonzero(free))
            )
        return tracks.view(len(clips), self._persons, 3, self._frames, -1).movedim(1, -1)

    def _tracks(self, first: Ints, unit: Floats, plan: Plan) -> Tensor:
        """The joints of P tracks, each as a clip of one person, (P, 3, T, V, 1).

        first (P, 1, 1): their first rows; unit (P, 3): of what is stored: linear (unit q - centre)
        = (linear unit) (q - centre / unit).
        """
        row, centre, present = first + plan.frame, plan.centre / unit, self._pipeline.present
        if self._pipeline.by_joint:
            least = (LEAST_CONFIDENCE / unit[:, 2],) if self._confident else ()
            frames = self._read(gather_seen, row, plan.weight, centre, *least)
        else:
            real = plan.weight if present is None else plan.weight * present.take(row)
            share = sum(real[:, :, tap] for tap in range(real.shape[2]))
            frames = subtract_centre(
                self._read(gather, row, plan.weight),
                self._send(centre),
                self._send(np.asarray(share)),
            )
        return turn(frames, self._send(plan.linear * unit[:, None])).view(
            len(row), 3, self._frames, -1, 1
        )

    def _read(self, gathering: Callable[..., Tensor], *arrays: Ints | Floats) -> Tensor:
        """Frames (P, T, V * 3) on the device, gathered wherever the rows are."""
        rows = self._clips.rows
        if rows.device.type == self._device.type:
            return gathering(rows, *map(self._send, arrays))
        return self._send_tensor(gathering(rows, *map(as_tensor, arrays)))

    def _send(self, values: Ints | Floats) -> Tensor:
        """`values` on the device, in float32 if they are not integers."""
        return self._send_tensor(as_tensor(values))

    def _send_tensor(self, tensor: Tensor) -> Tensor:
        """To a GPU from pinned memory, so that nobody waits for it."""
        return (
            tensor.pin_memory().to(self._device, non_blocking=True)
            if self._device.type == "cuda"
            else tensor
        )


def trading_places(person: Ints, leader: Ints) -> Ints:
    """Who stands in place `person` once person 0 and `leader` have changed places; both (P,)."""
    return np.where(person == 0, leader, np.where(person == leader, 0, person))


def as_tensor(values: Ints | Floats) -> Tensor:
    """In float32 if they are not integers."""
    return torch.from_numpy(
        np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else np.int64)
    )
