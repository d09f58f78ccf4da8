"""The colours and the style sheet of a price chart.

The shops' colours are Okabe and Ito's, made for eyes that tell few colours apart, each shifted until it
has a contrast of 3:1 with its background. Every rule names the picture's own class: put into an HTML
page, a style sheet holds for the whole page.
"""

from functools import lru_cache
from typing import NamedTuple

THEMES = ("light", "dark", "auto")
SHOPS = 6  # lines with a colour and a name; more are left out, and the picture says so
# What browsers have; resvg takes the font that it is given for the last.
FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"


class Colours(NamedTuple):
    back: str
    ink: str
    muted: str
    grid: str
    axis: str
    odd: str
    shops: tuple[str, ...]


LIGHT = Colours(
    back="#ffffff",
    ink="#1c2127",
    muted="#5d6670",
    grid="#e9ecef",
    axis="#adb5bd",
    odd="#b42318",
    shops=("#0072b2", "#d55e00", "#00875f", "#b8568f", "#9a7400", "#4d86b8"),
)
DARK = Colours(
    back="#14181d",
    ink="#f1f3f5",
    muted="#a3adb8",
    grid="#272e36",
    axis="#59636e",
    odd="#ff7a70",
    shops=("#56b4e9", "#ff8a47", "#2bbf91", "#e08fbd", "#e6b422", "#9fb4ff"),
)


@lru_cache(64)
def sheet(theme: str, scale: float) -> str:
    if theme != "auto":
        return _rules(theme, DARK if theme == "dark" else LIGHT, scale)
    return (
        _rules(theme, LIGHT, scale)
        + "@media(prefers-color-scheme:dark){"
        + _rules(theme, DARK, scale, only_colours=True)
        + "}"
    )


def _rules(theme: str, colours: Colours, scale: float, *, only_colours: bool = False) -> str:
    back, ink, muted, grid, axis, odd, shops = colours
    rules = {
        "text": f"fill:{ink}",
        ".ink": f"fill:{ink}",
        ".back": f"fill:{back}",
        ".muted": f"fill:{muted}",
        ".grid": f"stroke:{grid}",
        ".axis": f"stroke:{axis}",
        ".best": f"stroke:{ink}",
        ".list": f"stroke:{muted}",
        ".now": f"fill:{ink};stroke:{back}",
        ".low": f"fill:{back};stroke:{ink}",
        ".odd": f"fill:{back};stroke:{odd}",
        ".halo": f"stroke:{back}",
        ".other": f"stroke:{axis}",
        **{f".shop{n}": f"stroke:{colour}" for n, colour in enumerate(shops)},
    }
    made = "".join(f".price-{theme} {name}{{{rule}}}" for name, rule in rules.items())
    if only_colours:
        return made
    shapes = {
        "path": "fill:none;stroke-linejoin:round",
        ".thin": f"stroke-width:{1.25 * scale:g}",
        ".medium": f"stroke-width:{1.6 * scale:g}",
        ".thick": f"stroke-width:{2.25 * scale:g}",
        ".dot": f"stroke-width:{4 * scale:g};stroke-linecap:round",
        ".out": f"stroke-dasharray:{1.5 * scale:g} {3 * scale:g};stroke-opacity:.75",
        ".list": f"stroke-dasharray:{5 * scale:g} {3 * scale:g}",
        ".bold": "font-weight:600",
        ".halo": f"paint-order:stroke;stroke-width:{3 * scale:g};stroke-linejoin:round",
    }
    return "".join(f".price-{theme} {name}{{{rule}}}" for name, rule in shapes.items()) + made
