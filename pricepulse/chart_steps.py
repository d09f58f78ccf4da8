"""A price as a line of steps: it holds until it changes, and where it is unknown there is no line.

Times are seconds since 1970, prices units of 1/10,000, places on the picture tenths of a pixel: all
whole numbers, so that what is drawn can be compared with what it stands for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from warehouse.columns import Ints

Bools = np.ndarray[Any, np.dtype[np.bool_]]
UNKNOWN = np.iinfo(np.int64).max
SHORT = 20  # tenths of a pixel; a lone step below it is drawn as a dot, for it would not be seen


class Line(NamedTuple):
    """One offer's prices in one currency, by time. Each holds in [first, until); `until` equals `first`
    where it is known of an instant only. No list price is 0."""

    label: str
    first: Ints
    until: Ints
    price: Ints
    list_price: Ints
    available: Bools

    def within(self, start: int, end: int) -> "Line":
        """What was known in [start, end], cut to it."""
        keep = (self.first <= end) & ((self.until > start) | (self.first >= start))
        return self.only(keep)._replace(
            first=np.maximum(self.first[keep], start), until=np.minimum(self.until[keep], end)
        )

    def only(self, keep: Any) -> "Line":
        columns: Any = self[1:]
        return Line(self.label, *(column[keep] for column in columns))


class Steps(NamedTuple):
    """Tenths of a pixel: from `left` to `right` at the height `y`; `joined` where the step before ends
    where this one begins."""

    left: Ints
    right: Ints
    y: Ints
    joined: Bools


def lowest(lines: Sequence[Line], end: int) -> Line:
    """The lowest price at which the product could be bought, whoever asked it."""
    nothing = np.empty(0, np.int64)
    found = [_buyable(line) for line in lines] or [(nothing, nothing, nothing)]
    edges = np.sort(np.concatenate([np.concatenate(each[:2]) for each in found]))
    # np.unique hashes, which takes four times as long.
    edges = edges[np.append(np.ones(len(edges[:1]), np.bool_), np.diff(edges) > 0)]
    price = np.full(len(edges), UNKNOWN)
    for first, until, asked in found:
        if len(first):
            at = np.maximum(np.searchsorted(first, edges, side="right") - 1, 0)
            holds = (first[at] <= edges) & (edges < until[at])
            price = np.where(holds, np.minimum(price, asked[at]), price)
    # A step for every change: an edge at which another shop moved is none.
    begins = np.flatnonzero(np.diff(price, prepend=UNKNOWN))
    until = np.minimum(np.append(edges[begins[1:]], end), end)
    first, price = edges[begins], price[begins]
    known = price != UNKNOWN
    first, until, price = first[known], until[known], price[known]
    return Line("", first, until, price, np.zeros_like(price), np.ones(len(price), np.bool_))


def _buyable(line: Line) -> tuple[Ints, Ints, Ints]:
    first, until, price = (
        column[line.available] for column in (line.first, line.until, line.price)
    )
    # A price of an instant counts for a second, or it would be in no stretch between edges.
    return first, np.maximum(until, first + 1), price


def steps(line: Line, x: Any, y: Any) -> Steps:
    """`x` and `y` map seconds and prices to pixels."""
    left, right, height = (
        np.rint(10 * each).astype(np.int64)
        for each in (x(line.first), x(line.until), y(line.price))
    )
    joined = np.zeros(len(left), np.bool_)
    joined[1:] = line.until[:-1] >= line.first[1:]
    return Steps(left, right, height, joined)


def trace(given: Steps, keep: Bools, most: int) -> tuple[str, str]:
    """SVG paths of the steps named by `keep`: lines, and dots for what is too short to be one.

    More than `most` steps are merged by columns of equal width, each drawn with its highest and lowest
    price, so that no extreme is lost. The riser from the step before belongs to the step that it leads
    to, whether or not the one before is drawn in this path too.
    """
    kept = np.flatnonzero(keep)
    if not len(kept):
        return "", ""
    starts = _starts(given.left[kept], most)
    begin = kept[starts]
    final = kept[np.append(starts[1:], len(kept)) - 1]
    joined = given.joined[begin]
    columns = (
        given.left[begin],
        given.right[final],
        given.y[begin],
        np.minimum.reduceat(given.y[kept], starts),
        np.maximum.reduceat(given.y[kept], starts),
        given.y[final],
        np.where(joined, given.y[begin - 1], given.y[begin]),  # where the pen comes from
        joined,
        joined & (np.append(-1, final[:-1]) == begin - 1),  # and whether it is there already
        np.append(given.joined, False)[final + 1],
    )
    lines: list[str] = []
    dots: list[str] = []
    for left, right, first, low, high, last, pen, rises, drawn, goes_on in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        if not drawn:
            lines.append(f"M{left / 10:g},{pen / 10:g}")
        if right - left < SHORT and not rises and not goes_on:
            dots.append(f"M{left / 10:g},{last / 10:g}h0")
        for height in (first, low, high, last):
            if height != pen:
                lines.append(f"V{height / 10:g}")
                pen = height
        if right > left:
            if lines[-1][0] == "H":  # only something else than the price has changed
                lines.pop()
            lines.append(f"H{right / 10:g}")
    return "".join(lines), "".join(dots)


def _starts(left: Ints, most: int) -> Ints:
    """Where the columns begin that the steps are merged by; every step is one if they are few."""
    if len(left) <= most:
        return np.arange(len(left))
    width = (int(left[-1] - left[0]) + most) // most
    return np.flatnonzero(np.diff((left - left[0]) // width, prepend=-1))
