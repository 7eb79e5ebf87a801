"""Decode an image file of any format, mode and size to the square of pixels that a network takes."""

import os
from typing import Any
from warnings import filterwarnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from src.runs.files import open_regular

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

# Pillow warns above its pixel limit and raises above twice the limit. Here ``to_square`` raises above the limit, so the
# warning is ignored; for the whole process, because threads decode and share warning filters.
filterwarnings("ignore", category=Image.DecompressionBombWarning)
Image.init()  # all readers, of which formats= below chooses
# All formats except EPS, a program that Pillow passes to Ghostscript, and IPTC, which may contain EPS: an untrusted
# image must not run code.
FORMATS = [name for name in Image.ID if name not in ("EPS", "IPTC")]
SUFFIXES = tuple(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)

LARGEST = 2**30  # bytes of an image file

# Small images spend half their time under the GIL; more threads would only wait.
THREADS = min(8, os.cpu_count() or 1)


def read_image(image: str | os.PathLike[str] | Image.Image, image_size: int, bits: int = 16) -> Tensor:
    """Read an image for a network's ``preprocess``, resized as training images are.

    Args:
        image: a file in any format that Pillow reads, or a Pillow image; grey, palette, 16 bits and CMYK become RGB,
            transparency becomes white, and the EXIF orientation is applied.
        image_size: side S of the result.
        bits: significant bits per pixel of 16-bit grey images, 8 to 16; for a network ``Trained.bits``.

    Returns:
        uint8 ``[3, S, S]``.

    Raises:
        ValueError: it cannot be read, its range of values is unknown, or it is a decompression bomb.
    """
    if isinstance(image, Image.Image):
        pixels = to_square(ImageOps.exif_transpose(image), image_size, bits)  # a copy
    else:
        pixels = decode(image, image_size, bits)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def decode(path: str | os.PathLike[str], image_size: int, bits: int = 16) -> Pixels:
    """Read one image file.

    Args:
        path: a file in any format that Pillow reads by itself.
        image_size: side S of the result.
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
    """The largest value of a 16-bit grey image; 0 for any other file."""
    try:
        with open_regular(path, LARGEST) as file, Image.open(file, formats=FORMATS) as image:
            _check_size(image)
            return int(np.asarray(image).max()) if image.mode.startswith("I;16") else 0
    except Exception:  # ``decode`` reports the error
        return 0


def to_square(image: Image.Image, image_size: int, bits: int = 16) -> Pixels:
    """An image as uint8 ``[S, S, 3]``: upright as its EXIF says, in RGB, transparency on white.

    An image of another size is resized (bilinear, antialiased; the aspect ratio is not kept); others are not
    resized.

    Args:
        image: of any mode except I and F, whose range is unknown. May be modified.
        image_size: side S.
        bits: see ``read_image``.

    Raises:
        ValueError: the mode is I or F, or the image has more pixels than Pillow's limit.
    """
    _check_size(image)
    # Lets a JPEG decoder skip most of a large photo. At three times the target the result looks the same,
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
