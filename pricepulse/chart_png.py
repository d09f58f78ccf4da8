"""SVG to PNG by resvg, in a process of its own: run as a program it reads the one and writes the other.

resvg-py keeps the interpreter's lock while it draws, 30 ms for 600 × 240 and up to 200 for 2000 × 1200,
in which a server could answer nobody. A process costs 25 ms more, on another core, and can be ended.
"""

import subprocess
import sys
from pathlib import Path

FONTS = Path(__file__).parent / "chart_fonts"
FAMILY = "Noto Sans"
SECONDS = 10
# Beyond Latin, Greek and Cyrillic our fonts have nothing; there may be others on this machine.
OURS = 0x0530


def draw(svg: str) -> bytes:
    """The PNG. Raises subprocess.TimeoutExpired, or RuntimeError with what resvg said. Blocks."""
    command = [sys.executable, "-P", __file__]
    run = subprocess.run(  # noqa: S603  # this file, by this interpreter
        command, input=svg.encode(), capture_output=True, check=False, timeout=SECONDS
    )
    if run.returncode:
        raise RuntimeError(run.stderr.decode(errors="replace")[-2000:])
    return run.stdout


def main() -> None:
    import resvg_py

    svg = sys.stdin.buffer.read().decode()
    own = all(ord(letter) < OURS or 0x1E00 <= ord(letter) < 0x2C00 for letter in svg)
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        skip_system_fonts=own,
        font_files=[str(path) for path in sorted(FONTS.glob("*.ttf"))],
        font_family=FAMILY,
        sans_serif_family=FAMILY,
    )
    sys.stdout.buffer.write(png)


if __name__ == "__main__":
    main()
