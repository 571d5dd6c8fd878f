"""What is checked on the encoded bytes of an image before the native decoder sees them.

1. The declared size, from the JPEG frame header or the PNG header: a file of a few kilobytes may
   declare gigapixels, and a decoder allocates them before it reads on.
2. The whole of a PNG: checksums, the length of the inflated stream and its row filters. torchvision's
   PNG decoder recovers from an error in the header, but one inside the pixels ends the *process* with
   a segmentation fault, and a data set of a million files must not die of one flipped bit. Inflating
   twice makes a PNG cost about 1.6 times its decoding. JPEGs need no such check: their decoder raises.

Cost otherwise: a walk over some five markers, about 3 us.
"""

from __future__ import annotations

import struct
import zlib

MAX_PIXELS = 89_478_485  # above it PIL warns of a decompression bomb: 1 GiB / 4 / 3, 268 MB of pixels in RGB

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS_BY_COLOR_TYPE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7: first column, first row, column step and row step of each pass.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class BadImage(ValueError):  # noqa: N818  - it names the image, not the event
    """An image that cannot be decoded; the message says why, as the end of "FILE ..."."""


def verify(data: bytes | bytearray) -> tuple[int, int]:
    """Check encoded bytes and return the size they declare.

    Args:
        data: a whole JPEG or PNG file; its name does not matter.

    Returns:
        (height, width) in pixels, as stored (EXIF orientation is not applied).

    Raises:
        BadImage: neither JPEG nor PNG, empty, cut short, damaged, animated, or more than MAX_PIXELS pixels.
    """
    if not data:
        raise BadImage("is empty (0 bytes)")
    if data.startswith(b"\xff\xd8"):
        height, width = struct.unpack_from(">HH", data, jpeg_frame(data) + 5)
    elif data.startswith(PNG_SIGNATURE):
        if len(data) < 33:
            raise BadImage("is a PNG cut short in its header")
        if data[8:16] != b"\0\0\0\rIHDR":
            raise BadImage("is a damaged PNG (no header)")
        width, height = struct.unpack_from(">II", data, 16)
    else:
        raise BadImage(f"is neither a JPEG nor a PNG (it begins with {bytes(data[:8])!r})")
    if not height or not width:
        raise BadImage(f"declares a size of {height} x {width} pixels")
    if height * width > MAX_PIXELS:
        raise BadImage(
            f"declares {height} x {width} pixels, more than the limit of {MAX_PIXELS:,}; scale it down"
        )
    if data[0] == PNG_SIGNATURE[0]:
        _check_png(data, height, width)
    return height, width


def jpeg_frame(data: bytes | bytearray) -> int:
    """Where the first frame header of a JPEG begins (SOF0 to SOF15 without DHT, JPG and DAC)."""
    at = 2
    while (at := data.find(0xFF, at)) >= 0 and at + 9 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x00 or 0xD0 <= marker <= 0xD7 or marker == 0x01:
            at += 1 if marker == 0xFF else 2  # fill byte, stuffed byte, or a marker without a length
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return at
        elif marker in (0xD9, 0xDA):
            break
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise BadImage("is a JPEG without a frame header: damaged or cut short")


def _check_png(data: bytes | bytearray, height: int, width: int) -> None:
    depth, color_type, _, _, interlaced = struct.unpack_from(">5B", data, 24)
    if color_type not in CHANNELS_BY_COLOR_TYPE or depth not in (1, 2, 4, 8, 16):
        raise BadImage(f"is a PNG of unknown color type {color_type} and depth {depth}")
    bits = depth * CHANNELS_BY_COLOR_TYPE[color_type]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    # Rows and bytes a row (one filter byte, then the pixels) of each pass that has pixels.
    shapes = [
        (-(-(height - y) // dy), 1 + (-(-(width - x) // dx) * bits + 7) // 8)
        for x, y, dx, dy in passes
        if x < width and y < height
    ]
    expected = sum(rows * row_bytes for rows, row_bytes in shapes)
    inflater = zlib.decompressobj()
    try:
        rows_of_bytes = inflater.decompress(_pixel_stream(data), expected + 1)
    except zlib.error as error:
        raise BadImage(f"is a damaged PNG ({error})") from error
    # A stream that stops right behind the pixels, before its own end, also trips the decoder.
    if len(rows_of_bytes) != expected or not inflater.eof:
        raise BadImage(f"is a damaged PNG (expected exactly {expected} bytes of pixels)")
    start = 0
    for rows, row_bytes in shapes:
        stop = start + rows * row_bytes
        if max(rows_of_bytes[start:stop:row_bytes]) > 4:
            raise BadImage("is a damaged PNG (unknown row filter)")
        start = stop


def _pixel_stream(data: bytes | bytearray) -> bytes:
    """The contents of the first run of IDAT chunks; every chunk up to its end is checked.

    Raises:
        BadImage: a chunk is damaged, or says that the PNG is animated: decoders show one frame, and perhaps
            none of the animation.
    """
    view, at = memoryview(data), len(PNG_SIGNATURE)
    parts: list[memoryview] = []
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if parts and kind != b"IDAT":
            return b"".join(parts)
        if end + 4 > len(data):
            break
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise BadImage(f"is a damaged PNG (checksum of {kind!r})")
        if kind == b"acTL" and length >= 4 and (frames := int.from_bytes(view[at + 8 : at + 12])) > 1:
            raise BadImage(f"is an animated PNG of {frames} frames; save the one that is meant as a PNG")
        if kind == b"IDAT":
            parts.append(view[at + 8 : end])
        at = end + 4
    raise BadImage("is a PNG cut short")
