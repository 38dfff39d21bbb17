"""What kernels are written with in LLVM's own operations: vector registers and loops.

Needs numba, so it is imported only where `rows.compiled()`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import config


def lanes_of(chosen: str | None) -> int:
    """Single-precision numbers of a vector register that numba compiles for; chosen: its
    NUMBA_CPU_FEATURES, None: those of this machine.
    """
    if chosen is None:
        return 16 if binding.get_host_cpu_features().get("avx512f") else 8
    return 16 if "+avx512f" in chosen.split(",") else 8


LANES = lanes_of(config.CPU_FEATURES)
"""Single-precision numbers of a vector register."""
FUSED = ("contract", "nsz")  # a product and a sum may be one operation, rounded once


class Vectors:
    """Writes vector operations of `lanes` numbers of an array's kind into a function."""

    def __init__(self, context: Any, builder: Any, kind: Any, lanes: int) -> None:
        self.builder = builder
        number = context.get_value_type(kind)
        self.lanes, self.kind = lanes, ir.VectorType(number, lanes)
        self.bytes = number.get_abi_size(context.target_data)

    def load(self, base: Any, block: int = 0) -> Any:
        """lanes numbers of the block'th vector behind `base`."""
        return self.builder.load(self._at(base, block), align=self.bytes)

    def store(self, value: Any, base: Any, block: int = 0) -> None:
        self.builder.store(value, self._at(base, block), align=self.bytes)

    def splat(self, value: Any) -> Any:
        """One number in all lanes."""
        undefined = ir.Constant(self.kind, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, lanes)

    def multiply_add(self, total: Any, left: Any, right: Any) -> Any:
        product = self.builder.fmul(left, right, flags=FUSED)
        return self.builder.fadd(total, product, flags=FUSED)

    def at_least(self, floor: Any, value: Any) -> Any:
        """The larger one; what is no number stays so."""
        below = self.builder.fcmp_ordered("<", value, floor)
        return self.builder.select(below, floor, value)

    def _at(self, base: Any, block: int) -> Any:
        moved = self.builder.gep(base, [ir.Constant(ir.IntType(64), block * self.lanes)])
        return self.builder.bitcast(moved, self.kind.as_pointer())


class Loop:
    """for i in range(first, last) with values that are carried from one round to the next."""

    def __init__(self, builder: Any, first: Any, last: Any, carried: list[Any]) -> None:
        self.builder = builder
        before = builder.block
        self._head, self._body, self._done = (
            builder.append_basic_block(name) for name in ("head", "body", "done")
        )
        builder.branch(self._head)
        builder.position_at_end(self._head)
        self.i = builder.phi(ir.IntType(64))
        self.i.add_incoming(first, before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", self.i, last), self._body, self._done)
        builder.position_at_end(self._body)

    def close(self, carried: list[Any]) -> None:
        """The body ends; what follows stands behind the loop, where `carried` holds the results."""
        following = self.builder.add(self.i, ir.Constant(ir.IntType(64), 1))
        self.i.add_incoming(following, self.builder.block)
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, self.builder.block)
        self.builder.branch(self._head)
        self.builder.position_at_end(self._done)
