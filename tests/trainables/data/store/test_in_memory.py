"""A store in memory has what a store on disk has."""

from __future__ import annotations

import numpy as np

from trainables.data.store.in_memory import store_in_memory
from trainables.data.store.reading import Clip, Description, ProtocolRule, Store, write_store


def test_it_is_the_store_that_would_have_been_written(tmp_path):
    generator = np.random.default_rng(0)
    clips = [
        generator.normal(size=(persons, frames, 25, 3)).astype(np.float32)
        for persons, frames in ((1, 4), (2, 1), (2, 7))
    ]
    clips[2][1, 3:] = 0.0  # somebody leaves
    clips[0][0, 1, 2, 0] = np.nan
    description = Description(
        name="made",
        layout="ntu25",
        classes=("sit",),
        persons=2,
        pipeline="ctr",
        protocols={"split": ProtocolRule(column="label", train=(0,), test=(1,))},
    )
    recorded = [Clip(id=str(number), label=0, joints=clip) for number, clip in enumerate(clips)]
    write_store(tmp_path / "store", recorded, description)
    on_disk, in_memory = Store.open(tmp_path / "store"), store_in_memory(clips, description)
    np.testing.assert_array_equal(in_memory.joints, on_disk.joints)
    for name in ("persons", "length", "offset", "step", "absent", "broken"):
        values = in_memory.column(name)
        np.testing.assert_array_equal(values, on_disk.column(name), err_msg=name)
        assert values.dtype == on_disk.column(name).dtype, name
    ignored = {"checksums"}
    assert in_memory.info.model_dump(exclude=ignored) == on_disk.info.model_dump(exclude=ignored)
    np.testing.assert_array_equal(in_memory.clip(2), clips[2])
