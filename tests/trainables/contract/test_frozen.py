"""A name by content does not change when a later version adds a setting."""

from pydantic import Field

from trainables.contract.config import DataConfig, SparsityConfig, TrialConfig
from trainables.contract.frozen import Frozen, once_each, without_defaults

DATA = DataConfig(store="s", protocol="p")


class LaterSparsity(SparsityConfig):
    """With a setting that came later."""

    invented: int = 3


class LaterConfig(TrialConfig):
    """The same, in a section and beside them."""

    sparsity: SparsityConfig = LaterSparsity()
    added: str = "as before"
    derived: int = Field(default_factory=lambda before: before["seed"] + 1)


def test_a_setting_added_later_changes_no_digest():
    for sparsity in ({}, {"level": 0.6}):
        before = TrialConfig(data=DATA, sparsity=SparsityConfig(**sparsity), seed=2)
        after = LaterConfig(data=DATA, sparsity=LaterSparsity(**sparsity), seed=2)
        assert after.digest() == before.digest()
    assert LaterConfig(data=DATA, added="otherwise", seed=2).digest() != before.digest()


def test_what_differs_from_its_default_has_a_digest_of_its_own():
    one = TrialConfig(data=DATA)
    others = [
        TrialConfig(data=DATA, seed=1),
        TrialConfig(data=DATA, sparsity=SparsityConfig(level=0.6)),
        TrialConfig(data=DataConfig(store="s", protocol="q")),
        TrialConfig(data=DataConfig(store="s", protocol="p", stream={"bone": False})),
        TrialConfig(data=DataConfig(store="s", protocol="p", stream={"bone": True})),
    ]
    assert len({each.digest() for each in (one, *others)}) == len(others) + 1
    assert TrialConfig(data=DataConfig(store="s", protocol="p", frames=64)).digest() == one.digest()


def test_records_within_lists_and_mappings_are_shortened_too():
    class Inner(Frozen):
        a: int = 1
        b: int = 2

    class Outer(Frozen):
        each: tuple[Inner, ...]
        by_name: dict[str, Inner]

    outer = Outer(each=(Inner(), Inner(a=5)), by_name={"x": Inner(b=7)})
    assert without_defaults(outer) == {"each": [{}, {"a": 5}], "by_name": {"x": {"b": 7}}}


def test_what_a_record_answers_once_is_of_that_object_alone() -> None:
    asked = []

    class Counted(Frozen):
        value: int = 1

        @once_each
        def double(self) -> int:
            asked.append(self.value)
            return 2 * self.value

    one = Counted()
    assert (one.double(), one.double(), asked) == (2, 2, [1])
    other = one.model_copy(update={"value": 5})
    assert (other.double(), one.double(), asked) == (10, 2, [1, 5])
    del one
    assert Counted(value=7).double() == 14
