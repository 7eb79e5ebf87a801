"""A folder of class folders of images, decoded once into an array that later runs read from a cache."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from warnings import warn

import numpy as np
import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from src.data.decode import SUFFIXES, THREADS, Pixels, decode, largest_16_bit_value
from src.data.image_set import ImageSet, LabelledImages, digest
from src.runs.escaping import distinct, printable
from src.runs.folder import write_whole

log = logging.getLogger(__name__)

LAYOUT = 2  # of the cache and of how images are decoded; raise it when either changes
CHUNK = 64  # images per task: enough to hide its overhead, few enough for a smooth progress bar


@dataclass(frozen=True)
class ImageFolder:
    """Images in ``root/{train,test}/<class>/``, in any format that Pillow reads.

    Class folders may have subfolders. Hidden files and files without an image's extension are skipped; the number of
    the latter is logged.

    Args:
        root: folder that contains ``train`` and ``test``. The decoded images are cached in
            the user's cache folder.
        image_size: side of the square images; see ``decode`` for resizing.
        bits: significant bits per pixel of 16-bit grey images, 8 to 16. None: the smallest of 8, 10, 12, 14 and 16
            that the largest value of the training images needs.
        test_only: whether there is no training: the test images are used for both halves, and ``train`` is optional.
    """

    root: str
    image_size: int = 32
    bits: int | None = None
    test_only: bool = False

    def load(self) -> LabelledImages:
        """Read both halves from the cache, decoding them first if any file is new or changed.

        Returns:
            images uint8 ``[N, 3, S, S]``, RGB, values 0 to 255, as ``decode`` makes them; sorted by class
            name, then file name. Classes are numbered in the order of their names.

        Raises:
            FileNotFoundError: ``root``, ``root/train`` or ``root/test`` does not exist.
            ValueError: ``image_size`` is not a whole number of at least 1, a folder contains no images, there
                are fewer than two classes, train and test have different ones, or a file cannot be read.
        """
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(f"data.image_size must be a whole number >= 1, but it is {self.image_size}.")
        if self.bits is not None and self.bits not in range(8, 17):
            raise ValueError(f"data.bits is {self.bits!r}; expected 8 to 16, or null.")
        root = Path(self.root).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {root}: set data.root to one that holds the images in train/<class>/ "
                "and test/<class>/."
            )
        if self.test_only:
            test = _scan(root / "test")
            images, bits = self._image_set(test, self.bits)
            return LabelledImages(images, images, tuple(map(printable, test.classes)), bits)
        train, test = _scan(root / "train"), _scan(root / "test")
        for one, other in ((train, test), (test, train)):
            if extra := sorted(one.classes.keys() - other.classes.keys()):
                raise ValueError(
                    f"Train and test must have the same classes, but {distinct(extra, other.classes)} "
                    f"can be found in {one.folder} and not in {other.folder}: add or remove these folders."
                )
        learned, bits = self._image_set(train, self.bits)
        tested, _ = self._image_set(test, bits)
        return LabelledImages(learned, tested, tuple(map(printable, train.classes)), bits)

    def _image_set(self, listing: "_Listing", bits: int | None) -> tuple[ImageSet, int]:
        images, content, bits = _read_or_decode(listing, self.image_size, bits)
        if bits < 16:
            log.info("16-bit images are read as images of %d bits (data.bits).", bits)
        sizes = torch.tensor([len(files) for files in listing.classes.values()])
        labels = torch.arange(len(sizes)).repeat_interleave(sizes)
        return ImageSet(torch.from_numpy(images), labels, content=content), bits


# ---- Listing files -------------------------------------------------------------------------------------


class _File(NamedTuple):
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Listing:
    """One half of the data set: its classes and their files, both sorted by name."""

    folder: Path
    classes: dict[str, list[_File]]

    def paths(self) -> list[str]:
        return [str(self.folder / name / file.name) for name, files in self.classes.items() for file in files]

    def key(self, image_size: int, bits: int | None) -> str:
        """A hash that changes whenever the decoded array would change."""
        return blake2b(repr((LAYOUT, image_size, bits, self.classes)).encode(), digest_size=16).hexdigest()


def _scan(folder: Path) -> _Listing:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}: images are expected in {folder}/<class>/, one folder per class."
        )
    others: Counter[str] = Counter()  # skipped files, by extension
    try:
        names = sorted(entry.name for entry in _visible(folder) if entry.is_dir())
        others.update(Path(entry.name).suffix for entry in _visible(folder) if not entry.is_dir())
        classes = {name: list(_image_files(folder / name, "", others)) for name in names}
    except OSError as error:
        raise ValueError(
            f"{error.filename} cannot be read ({error.strerror}): make it readable or remove it."
        ) from error
    for name, files in classes.items():
        if not files:
            raise ValueError(
                f"{folder / name} holds no images (no file with an extension such as .png or .jpg): "
                "add some or remove the folder."
            )
    if len(classes) < 2:
        raise ValueError(
            f"{folder} must hold at least two class folders, but it holds {len(classes)}"
            f"{''.join(f' ({name})' for name in classes)}: put the images of each class in {folder}/<class>/."
        )
    if others:
        kinds = printable(", ".join(f"{count} {suffix or 'without one'}" for suffix, count in others.most_common()))
        log.warning("%s: %d files are left out, as they are not images in a class folder (by extension: %s).",
                    folder, others.total(), kinds)  # fmt: skip
    return _Listing(folder, classes)


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _image_files(folder: Path, within: str, others: Counter[str]) -> Iterator[_File]:
    """The images of a class folder, then of its subfolders, each by name; other files are counted in ``others``.

    Links to folders are not followed: they may form a cycle.
    """
    # os.scandir and DirEntry.stat: pathlib takes several times as long, and every start checks tens of
    # thousands of files.
    entries = sorted(_visible(folder), key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
            stat = entry.stat()
            yield _File(within + entry.name, stat.st_size, stat.st_mtime_ns)
        elif not entry.is_dir(follow_symlinks=False):
            others[Path(entry.name).suffix] += 1
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _image_files(folder / entry.name, f"{within}{entry.name}/", others)


# ---- The cache -----------------------------------------------------------------------------------------


def _read_or_decode(listing: _Listing, image_size: int, bits: int | None) -> tuple[Pixels, str, int]:
    """The images, their digest, and their significant bits; the cache stores all three."""
    shape = (sum(len(files) for files in listing.classes.values()), 3, image_size, image_size)
    stem = f"{listing.folder.name}-{image_size}px-"
    file = _cache(listing.folder.parent) / f"{stem}{listing.key(image_size, bits)}.npy"
    kept = file.with_suffix(".txt")
    images = _read(file)
    known = kept.read_text() if kept.is_file() else ""
    if images is not None and images.shape == shape and re.fullmatch(r"[0-9a-f]{64} (8|1[0-6])", known):
        return images, known[:64], int(known[65:])
    bits = bits or _significant_bits(listing.paths())
    images = _decode_all(listing.paths(), image_size, bits, f"Decoding {listing.folder.name} images, this once")
    content = digest(torch.from_numpy(images))
    try:
        _write(file, images, stem)
        kept.write_text(f"{content} {bits}")
    except OSError as error:
        warn(f"The decoded images could not be cached and will be decoded again: {error}.", stacklevel=2)
    return images, content, bits


def _significant_bits(paths: list[str]) -> int:
    """The smallest of 8, 10, 12, 14 and 16 bits for the largest value of all 16-bit grey images; 16 without any."""
    with ThreadPoolExecutor(THREADS) as pool:
        largest = max(pool.map(largest_16_bit_value, paths))
    return max(8, 2 * math.ceil(largest.bit_length() / 2)) if largest else 16


def _cache(root: Path) -> Path:
    """The cache for ``root``, in the user's own cache folder: a cache inside ``root`` could be untrusted."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    # Its name depends on the root: copies of a data set in another format may have the same key.
    return Path(base, "ablation-bench", blake2b(os.fsencode(root), digest_size=8).hexdigest())


def _read(file: Path) -> Pixels | None:
    """The cached array, copied into memory; None if there is none or it is damaged."""
    try:
        with file.open("rb") as stream:
            images: Pixels = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception:  # numpy parses the header as Python, which raises almost anything
        return None
    return images if images.dtype == np.uint8 else None


def _write(file: Path, images: Pixels, stem: str) -> None:
    """Write the array, and remove this stem's old files and the unfinished files of killed processes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.parent / ".lock"):
        with write_whole(file, "wb") as stream:
            np.save(stream, images)
        for outdated in {*file.parent.glob(f"{stem}*"), *file.parent.glob(f".{stem}*.part")} - {file}:
            with suppress(OSError):  # another run may have it open (Windows)
                outdated.unlink()


# ---- Decoding ------------------------------------------------------------------------------------------


def _decode_all(paths: list[str], image_size: int, bits: int, title: str) -> Pixels:
    images = np.empty((len(paths), 3, image_size, image_size), dtype=np.uint8)

    def decode_chunk(start: int) -> int:
        chunk = paths[start : start + CHUNK]
        for offset, path in enumerate(chunk):
            images[start + offset] = decode(path, image_size, bits).transpose(2, 0, 1)
        return len(chunk)

    # Threads, not processes: Pillow decodes and resizes large images mostly outside the GIL, and threads need
    # neither pickling of results nor a __main__ guard.
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(THREADS) as pool:
        task = progress.add_task(title, total=len(paths))
        for done in pool.map(decode_chunk, range(0, len(paths), CHUNK)):  # an error cancels the other tasks
            progress.advance(task, done)
    return images
