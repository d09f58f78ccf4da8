"""The pieces of a chart's SVG: texts, circles, sizes, and the area that stands for time and money."""

import re
from html import escape
from typing import Any, NamedTuple

# What XML cannot hold, and marks that would turn the direction of the text around them.
UNFIT = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u202a-\u202e\u2066-\u2069]"
)


class Sizes(NamedTuple):
    """In pixels; texts grow with the root of the picture."""

    scale: float
    small: float
    large: float
    gap: float  # between lines of text

    @classmethod
    def of(cls, width: int, height: int) -> "Sizes":
        scale = min(max(min(width / 600, height / 240) ** 0.5, 0.85), 1.6)
        return cls(scale, round(11 * scale, 1), round(13.5 * scale, 1), 14 * scale)


class Area(NamedTuple):
    """Where the lines are drawn, in pixels, and what it stands for."""

    left: float
    right: float
    top: float
    bottom: float
    start: int
    end: int
    low: float
    high: float

    def x(self, seconds: Any) -> Any:
        return self.left + (seconds - self.start) * (
            (self.right - self.left) / (self.end - self.start)
        )

    def y(self, price: Any) -> Any:
        return self.bottom - (price - self.low) * (
            (self.bottom - self.top) / (self.high - self.low)
        )


def circle(x: float, y: float, radius: float, style: str) -> str:
    return f'<circle class="{style}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"/>'


def diamond(x: float, y: float, reach: float, style: str) -> str:
    corners = ((x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y))
    points = " ".join(f"{number(left)},{number(top)}" for left, top in corners)
    return f'<polygon class="{style}" points="{points}"/>'


def text_at(
    text: str, x: float, y: float, style: str = "", *, size: float = 0, anchor: str = ""
) -> str:
    about = f' class="{style}"' if style else ""
    about += f' font-size="{number(size)}"' if size else ""
    about += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{number(x)}" y="{number(y)}"{about}>{clean(text)}</text>' if text else ""


def clean(text: str) -> str:
    """As XML may hold it: titles and names come from shops."""
    # Nothing that Python calls printable is unfit; asking that first is quicker than the pattern.
    return escape(text if text.isprintable() else UNFIT.sub("", text))


def number(pixels: float) -> str:
    return f"{round(pixels, 1):g}"
