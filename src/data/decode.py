"""From an image file, whatever its format, mode and size, to the square of pixels a network is given."""

import os
from typing import Any
from warnings import filterwarnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from src.runs.files import open_regular

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# Pillow warns of more pixels than its limit and raises at twice that; here the limit is one. For the whole process,
# since threads decode, and a filter around each call would be shared by them.
filterwarnings("ignore", category=Image.DecompressionBombWarning)
Image.init()  # all readers, of which formats= below chooses
# All but EPS, which is a program that Pillow hands to Ghostscript, and IPTC, which may hold EPS within: an image from a
# stranger runs no code here.
FORMATS = [name for name in Image.ID if name not in ("EPS", "IPTC")]
SUFFIXES = tuple(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)

LARGEST = 2**30  # bytes of an image file

# Small images spend half their time under the interpreter's lock; more threads only queue.
THREADS = min(8, os.cpu_count() or 1)


def read_image(image: str | os.PathLike[str] | Image.Image, image_size: int, bits: int = 16) -> Tensor:
    """An image as a network's ``preprocess`` takes it, brought to its size as training images are.

    Args:
        image: a file in any format Pillow reads, or an image of Pillow's; grey, palette, 16 bits, CMYK become RGB,
            transparency white, and EXIF turns it upright.
        image_size: side S wanted.
        bits: how many a pixel of a grey image of 16 bits makes use of, 8 to 16; ``Trained.bits`` for a network's.

    Returns:
        uint8 ``[3, S, S]``.

    Raises:
        ValueError: it cannot be read, its range of values is not known, or it is a decompression bomb.
    """
    if isinstance(image, Image.Image):
        pixels = to_square(ImageOps.exif_transpose(image), image_size, bits)  # a copy
    else:
        pixels = decode(image, image_size, bits)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def decode(path: str | os.PathLike[str], image_size: int, bits: int = 16) -> Pixels:
    """Read one image file.

    Args:
        path: of a file in any format that Pillow reads by itself.
        image_size: side S of the square wanted.
        bits: see ``read_image``.

    Returns:
        See ``to_square``.

    Raises:
        ValueError: the file cannot be read as an image, or has more pixels than Pillow's limit against
            decompression bombs.
    """
    try:
        with open_regular(path, LARGEST) as file, Image.open(file, formats=FORMATS) as image:
            return to_square(image, image_size, bits)
    except Exception as error:  # a damaged file makes Pillow's readers raise almost anything
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{path} cannot be read as an image ({reason}): replace it by an intact file or remove it."
        ) from error


def largest_16_bit_value(path: str | os.PathLike[str]) -> int:
    """The largest value of a grey image of 16 bits; 0 for any other file."""
    try:
        with open_regular(path, LARGEST) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            return int(np.asarray(image).max()) if image.mode.startswith("I;16") else 0
    except Exception:  # ``decode`` says what is wrong with it
        return 0


def to_square(image: Image.Image, image_size: int, bits: int = 16) -> Pixels:
    """An image as uint8 ``[S, S, 3]``: upright as its EXIF says, in RGB, transparency on white.

    An image of another size is resized (bilinear, antialiased; the aspect ratio is not kept), others are not
    touched.

    Args:
        image: of any mode but I and F, whose range is not known. May be changed.
        image_size: side S.
        bits: see ``read_image``.

    Raises:
        ValueError: the mode is I or F, or the image has more pixels than Pillow's limit.
    """
    _check_size(image)
    # Lets a JPEG decoder skip most of a large photo; three times the target keeps the result the same to the eye,
    # and images up to six times the target are not affected.
    image.draft(None, (3 * image_size, 3 * image_size))
    ImageOps.exif_transpose(image, in_place=True)
    rgb = _to_rgb(image, bits)
    if rgb.size != (image_size, image_size):
        rgb = rgb.resize((image_size, image_size), Image.Resampling.BILINEAR)  # antialiases
    return np.asarray(rgb)


def _check_size(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"Image size ({image.width * image.height} pixels) exceeds limit of {limit} pixels")


def _to_rgb(image: Image.Image, bits: int) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits at 255, that is, to white
        image = Image.fromarray(np.minimum(np.asarray(image) >> (bits - 8), 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
