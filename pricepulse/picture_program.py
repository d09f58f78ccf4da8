"""A picture that somebody sent, decoded and encoded anew: run as a program, since decoders are not to be trusted.

    python picture_program.py FORMAT SIDE cut|whole < picture > picture.webp

A process can be limited in memory and time and be ended, and what a broken or hostile picture does to a
decoder happens to it alone. Nothing of the file comes out but pixels: no metadata, nothing after its end.
Exit status 3: the picture is refused, and stderr says why in words for who sent it.
"""

import io
import resource
import sys

MOST_SIDE = 4096
MEMORY = 1 << 30  # 4096 × 4096 pixels are 64 MB, some steps hold three copies
SECONDS = 10
# A JPEG comes in as many passes as it says, and each is decoded in full; encoders make ten.
MOST_SCANS = 100
START_OF_SCAN = b"\xff\xda"
REFUSED = 3


class RefusedError(Exception):
    """Why, in words for who sent it."""


def encoded_anew(content: bytes, kind: str, side: int, *, cut: bool) -> bytes:
    """A WebP: cut, the middle of the picture with `side` × `side` pixels; else all of it, no wider and no
    higher than that."""
    from PIL import Image, ImageOps

    # Checked when the head has been read and before anything is decoded; Pillow raises at twice this.
    Image.MAX_IMAGE_PIXELS = MOST_SIDE * MOST_SIDE // 2
    if kind == "JPEG" and content.count(START_OF_SCAN) > MOST_SCANS:
        raise RefusedError(f"is a JPEG of more than {MOST_SCANS} passes")
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=[kind])
    except Image.DecompressionBombError as error:
        raise RefusedError(TOO_MANY) from error
    except Exception as error:
        raise RefusedError(f"is no {kind}, whatever it is called") from error
    if max(image.size) > MOST_SIDE:
        raise RefusedError(TOO_MANY)
    try:
        image.load()
    except Exception as error:
        raise RefusedError("is broken or cut off") from error
    image = ImageOps.exif_transpose(image)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if cut:
        image = ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)
    else:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
    image.info.clear()
    made = io.BytesIO()
    image.save(made, "WEBP", quality=85, method=4)
    return made.getvalue()


TOO_MANY = f"has more than {MOST_SIDE} × {MOST_SIDE} pixels"


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    _, kind, side, how = sys.argv
    content = sys.stdin.buffer.read()
    try:
        made = encoded_anew(content, kind, int(side), cut=how == "cut")
    except RefusedError as error:
        sys.stderr.write(str(error))
        return REFUSED
    sys.stdout.buffer.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
