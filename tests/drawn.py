"""A chart's SVG read back: its lines as prices over time, whatever its texts and colours."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from xml.etree import ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"
Point = tuple[float, float]


@dataclass
class Drawn:
    """`lines(style)`: of the paths of that class, each stretch as its corners, in pixels."""

    root: ET.Element

    @classmethod
    def read(cls, svg: bytes) -> Drawn:
        return cls(ET.fromstring(svg))

    def lines(self, *styles: str) -> list[list[Point]]:
        """Paths that have all of these classes and neither `dot` nor `out`, unless asked for."""
        found = []
        for path in self.root.iter(f"{SVG}path"):
            has = set((path.get("class") or "").split())
            if set(styles) <= has and not ({"dot", "out"} - set(styles)) & has:
                found += corners(path.get("d") or "")
        return found

    def texts(self) -> list[str]:
        return ["".join(text.itertext()) for text in self.root.iter(f"{SVG}text")]

    @property
    def said(self) -> str:
        return self.root.findtext(f"{SVG}desc") or ""

    @property
    def axis(self) -> tuple[float, float, float]:
        """Left, right and height of the time axis."""
        ((left, low), (right, _)) = self.lines("axis")[0]
        return left, right, low

    def prices(self) -> list[tuple[float, float]]:
        """(height, price) of the grid's lines."""
        heights = [line[0][1] for line in self.lines("grid")]
        left = self.axis[0]
        labels = [
            "".join(text.itertext())
            for text in self.root.iter(f"{SVG}text")
            if text.get("text-anchor") == "end" and float(text.get("x", "inf")) < left
        ]
        numbers = [float(re.sub(r"[^\d.]", "", label)) for label in labels]
        return list(zip(heights, numbers, strict=True))

    def in_words(self, line: list[Point], start: int, end: int) -> list[Point]:
        """The corners as (seconds, price)."""
        left, right, _ = self.axis
        (low_y, low), *_, (high_y, high) = self.prices()
        return [
            (
                start + (x - left) / (right - left) * (end - start),
                low + (y - low_y) / (high_y - low_y) * (high - low),
            )
            for x, y in line
        ]


def corners(path: str) -> list[list[Point]]:
    """Of the commands M, L, H, V, h and v: all that charts use."""
    lines: list[list[Point]] = []
    x = y = 0.0
    for command, given in re.findall(r"([MLHVhv])([-\d.,e]+)", path):
        numbers = [float(each) for each in given.split(",")]
        if command in "ML":
            x, y = numbers
        elif command == "H":
            (x,) = numbers
        elif command == "V":
            (y,) = numbers
        elif command == "h":
            x += numbers[0]
        else:
            y += numbers[0]
        if command == "M":
            lines.append([])
        lines[-1].append((x, y))
    assert re.sub(r"[MLHVhv][-\d.,e]+", "", path) == "", path
    return lines


def png_size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    assert png[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", png[16:24])
    return width, height
