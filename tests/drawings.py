"""Pictures as people send them, good ones and bad ones."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

from PIL import Image

CANARY = b"canary-in-metadata-7f3q"
ORIENTATION = 0x0112


def picture(form: str = "PNG", size: tuple[int, int] = (300, 200), **how: Any) -> bytes:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    made = io.BytesIO()
    image.save(made, form, **how)
    return made.getvalue()


def turned_and_talkative() -> bytes:
    """A JPEG to be shown turned by a quarter, with a comment and a description."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = CANARY.decode()
    return picture("JPEG", exif=exif, comment=CANARY)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says that it is so large, and is a hundred bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def webp_of(side: int) -> bytes:
    """A WebP with a canvas of that size, without anything on it."""
    three = (side - 1).to_bytes(3, "little")
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\0" * 4 + three + three
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def gif_and_zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../../evil.sh", "echo")
    return picture("GIF") + packed.getvalue()


def jpeg_of_many_passes() -> bytes:
    """Each pass of a progressive JPEG is decoded in full."""
    whole = picture("JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    last = whole[at:-2]
    return whole[:at] + last * 500 + whole[-2:]


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
PNG, JPEG, WEBP = picture("PNG"), picture("JPEG"), picture("WEBP")
# What is sent as what, and what is said to it.
REFUSED: dict[str, tuple[str, bytes, int]] = {
    "a GIF that is a ZIP": ("image/png", gif_and_zip(), 422),
    "a GIF that is a ZIP, as it is": ("image/gif", gif_and_zip(), 415),
    "an SVG with a script": ("image/png", SVG, 422),
    "an SVG with a script, as it is": ("image/svg+xml", SVG, 415),
    "a JPEG as PNG": ("image/png", JPEG, 422),
    "a PNG as WebP": ("image/webp", PNG, 422),
    "nothing": ("image/png", b"", 422),
    "half a PNG": ("image/png", PNG[: len(PNG) // 2], 422),
    "half a JPEG": ("image/jpeg", JPEG[: len(JPEG) // 2], 422),
    "half a WebP": ("image/webp", WEBP[: len(WEBP) // 2], 422),
    "a broken PNG": ("image/png", PNG[:60] + b"xx" + PNG[62:], 422),
    "50,000 pixels": ("image/png", png_of(50_000, 50_000), 422),
    "a pixel too many": ("image/png", png_of(4097, 1), 422),
    "more pixels than there are bytes": ("image/png", png_of(4096, 4096), 422),
    "a WebP of 16,384 pixels": ("image/webp", webp_of(16_384), 422),
    "a JPEG of many passes": ("image/jpeg", jpeg_of_many_passes(), 422),
    "no type": ("", PNG, 415),
    "a form": ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="f"; '
               b'filename="../../x.png"\r\n\r\n' + PNG + b"\r\n--x--", 415),
}  # fmt: skip
