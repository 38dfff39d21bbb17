"""Compiled kernels of gradients of kept weights: products of rows of output gradients and shifted
pieces of feature maps, summed.

Needs numba, as `kernels` does; what is said there of compiled files holds here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from trainables.sparse.kept_code import kernel
from trainables.sparse.kernels import Triple, spread
from trainables.sparse.rows import Numbers
from trainables.sparse.vectors import LANES, Loop, Vectors

VECTORS = 16 if LANES == 16 else 8
"""Registers that hold a piece of a row of the gradient: half of those there are."""
CHAINS = 4
"""Sums that are added up beside each other."""
LONG = ir.IntType(64)


class Sums(Vectors):
    """Writes sums of lanes, and of products of vectors, into a function."""

    def first_left_out(self, number: Any, value: Any) -> Any:
        """Zeros in so many of the first lanes."""
        return self.builder.select(
            self.builder.icmp_signed(">=", *self._lanes_and(number)), value, self.zeros
        )

    @property
    def zeros(self) -> Any:
        return ir.Constant(self.kind, [0.0] * self.lanes)

    def add_products(
        self, held: list[Any], at: Callable[[Any], Any], sums: Any, first: Any, last: Any
    ) -> None:
        """sums[i] += the vectors `held` times those at `at(i)`, added up, i from first to last.

        Four at a time, which share most of the work of adding lanes.
        """
        builder, four = self.builder, ir.Constant(LONG, 4)
        together = builder.sdiv(builder.sub(last, first), four)
        loop = Loop(builder, ir.Constant(LONG, 0), together, [])
        begin = builder.add(first, builder.mul(loop.i, four))
        places = [builder.add(begin, ir.Constant(LONG, n)) for n in range(4)]
        total = self._added_lanes([self._products(held, at(i)) for i in places])
        self._add(total, builder.gep(sums, [begin]))
        loop.close([])
        rest = Loop(builder, builder.add(first, builder.mul(together, four)), last, [])
        one = self._products(held, at(rest.i))
        place = builder.gep(sums, [rest.i])
        self._add(self._added_lanes([one] * 4), place, only_first=True)
        rest.close([])

    def _products(self, held: list[Any], piece: Any) -> Any:
        """The vectors `held` times those at `piece`, added up but for their lanes."""
        totals: list[Any] = []
        for j, each in enumerate(held):
            here = self.load(piece, j)
            if j < CHAINS:
                totals.append(self.builder.fmul(each, here))
            else:
                totals[j % CHAINS] = self.multiply_add(totals[j % CHAINS], each, here)
        while len(totals) > 1:
            paired = zip(totals[::2], totals[1::2], strict=True)
            totals = [self.builder.fadd(left, right) for left, right in paired]
        return totals[0]

    def _added_lanes(self, values: list[Any]) -> Any:
        """The sum of the lanes of each of four vectors, as a vector of four."""
        if self.lanes == 1:
            four = ir.Constant(ir.VectorType(self.kind.element, 4), ir.Undefined)
            for place, value in enumerate(values):
                number = self.builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
                where = ir.Constant(ir.IntType(32), place)
                four = self.builder.insert_element(four, number, where)
            return four
        half, quarter = self.lanes // 2, self.lanes // 4
        chosen = [*range(half), *range(self.lanes, self.lanes + half)]
        first, second, third, fourth = values
        pairs = [
            self._fold(first, second, chosen, half),
            self._fold(third, fourth, chosen, half),
        ]
        begins = (0, half, self.lanes, self.lanes + half)
        chosen = [begin + lane for begin in begins for lane in range(quarter)]
        total = self._fold(pairs[0], pairs[1], chosen, quarter)
        while quarter > 1:
            chosen = [at * quarter + lane for at in range(4) for lane in range(quarter // 2)]
            quarter //= 2
            total = self._fold(total, total, chosen, quarter)
        return total

    def _fold(self, left: Any, right: Any, chosen: Sequence[int], ahead: int) -> Any:
        """The chosen lanes of both and those so many ahead of them, added."""
        shuffled = []
        for lanes in (chosen, [lane + ahead for lane in chosen]):
            places = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes))
            shuffled.append(self.builder.shuffle_vector(left, right, places))
        return self.builder.fadd(*shuffled)

    def _add(self, four: Any, place: Any, *, only_first: bool = False) -> None:
        if only_first:
            four = self.builder.extract_element(four, ir.Constant(ir.IntType(32), 0))
        else:
            place = self.builder.bitcast(place, four.type.as_pointer())
        before = self.builder.load(place, align=self.bytes)
        self.builder.store(self.builder.fadd(before, four), place, align=self.bytes)

    def _lanes_and(self, number: Any, first: int = 0) -> tuple[Any, Any]:
        """The numbers of the lanes, from `first` on, and `number` in all lanes."""
        integers = ir.VectorType(LONG, self.lanes)
        undefined = ir.Constant(integers, ir.Undefined)
        one = self.builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        lanes = ir.Constant(integers, list(range(first, first + self.lanes)))
        return lanes, self.builder.shuffle_vector(one, undefined, everywhere)


def data_of(context: Any, builder: Any, signature: Any, given: Any) -> Callable[..., Any]:
    """(position of an array among the arguments, at = 0) -> the place of its number `at`."""

    def data(position: int, at: Any | None = None) -> Any:
        kind = signature.args[position]
        base = context.make_array(kind)(context, builder, given[position]).data
        return base if at is None else builder.gep(base, [at])

    return data


def _products(vectors: int, lanes: int) -> Callable[..., Any]:
    """The operation below for vectors * lanes columns; the row of the gradient stays in
    registers.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def products(
        typing: Any,
        x: Any,
        x_at: Any,
        offsets: Any,
        first: Any,
        last: Any,
        gradient: Any,
        gradient_at: Any,
        unused: Any,
        out: Any,
    ) -> Any:
        """out[i] += sum over j of gradient[gradient_at + j] x[x_at + offsets[i] + j], i from first
        to last, but for the first `unused` columns. No bounds are checked.
        """
        arguments = (x, x_at, offsets, first, last, gradient, gradient_at, unused, out)

        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            data = data_of(context, builder, signature, given)
            vector = Sums(context, builder, signature.args[0].dtype, lanes)
            source, row = data(0, given[1]), data(5, given[6])
            held = [vector.load(row, j) for j in range(vectors)]
            held[0] = vector.first_left_out(given[7], held[0])

            def at(i: Any) -> Any:
                return builder.gep(source, [builder.zext(builder.load(data(2, i)), LONG)])

            vector.add_products(held, at, data(8), given[3], given[4])
            return context.get_dummy_value()

        return types.void(*arguments), written

    operation: Callable[..., Any] = products
    return operation


_widest, _wide, _one, _single = (
    _products(VECTORS, LANES),
    _products(VECTORS // 4, LANES),
    _products(1, LANES),
    _products(1, 1),
)


@kernel
def sum_products(
    x: Numbers,
    spread_as: tuple[int, ...],
    spreads: bool,
    rows: Triple,
    gradient: Numbers,
    part: tuple[int, int, int],
    room: Numbers,
) -> None:
    """Add to every weight's number the sum over persons and columns of its output's gradient times
    its piece of x.

    x, gradient: (P, numbers of a map). rows: (starts, offsets, numbers), of which rows first to
    last are computed; part: (first, last, columns). room: a spread map, zero where nothing is
    written.
    """
    starts, offsets, out = rows
    first, last, columns = part
    for person in range(len(x)):
        source, given = x[person], gradient[person]
        if spreads:
            spread(source, spread_as, room)
            source = room
        at = 0
        for vectors in (VECTORS, VECTORS // 4, 1):
            while at + vectors * LANES <= columns:
                for o in range(first, last):
                    row = o * columns + at
                    if vectors == VECTORS:
                        _widest(source, at, offsets, starts[o], starts[o + 1], given, row, 0, out)
                    elif vectors == VECTORS // 4:
                        _wide(source, at, offsets, starts[o], starts[o + 1], given, row, 0, out)
                    else:
                        _one(source, at, offsets, starts[o], starts[o + 1], given, row, 0, out)
                at += vectors * LANES
        if columns >= LANES and at < columns:
            unused, at = LANES - (columns - at), columns - LANES
            for o in range(first, last):
                row = o * columns + at
                _one(source, at, offsets, starts[o], starts[o + 1], given, row, unused, out)
            at = columns
        for column in range(at, columns):
            for o in range(first, last):
                row = o * columns + column
                _single(source, column, offsets, starts[o], starts[o + 1], given, row, 0, out)
