"""A folder of class folders of images, decoded once into one array that later runs read back at once."""

import os
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

from src.data.decode import SUFFIXES, THREADS, Pixels, decode
from src.data.image_set import ImageSet, LabelledImages, digest
from src.runs.folder import write_whole
from src.runs.text import printable

LAYOUT = 2  # of the cache and of how images are decoded; raise it when either changes
CHUNK = 64  # images per task: enough to hide the task's cost, few enough for the bar to move


@dataclass(frozen=True)
class ImageFolder:
    """Images in ``root/{train,test}/<class>/``, in any format that Pillow reads.

    Hidden files and files without an image's extension are passed over.

    Args:
        root: folder that holds ``train`` and ``test``. The decoded images are cached in
            the user's cache folder.
        image_size: side of the square images; see ``decode`` for how others are brought to it.
    """

    root: str
    image_size: int = 32

    def load(self) -> LabelledImages:
        """Read both halves from the cache, decoding them first if any file is new or changed.

        Returns:
            images uint8 ``[N, 3, S, S]``, RGB, values 0 to 255, as ``decode`` makes them; sorted by class
            name, then file name. Classes are numbered in the order of their names.

        Raises:
            FileNotFoundError: ``root``, ``root/train`` or ``root/test`` does not exist.
            ValueError: ``image_size`` is not a whole number of at least 1, a folder holds no images, there
                are fewer than two classes, train and test have different ones, or a file cannot be read.
        """
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(f"data.image_size must be a whole number >= 1, but it is {self.image_size}.")
        root = Path(self.root).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(
                f"There is no folder {root}: set data.root to one that holds the images in train/<class>/ "
                "and test/<class>/."
            )
        train, test = _scan(root / "train"), _scan(root / "test")
        for one, other in ((train, test), (test, train)):
            if extra := sorted(one.classes.keys() - other.classes.keys()):
                raise ValueError(
                    f"Train and test must have the same classes, but {', '.join(extra)} "
                    f"can be found in {one.folder} and not in {other.folder}: add or remove these folders."
                )
        return LabelledImages(self._image_set(train), self._image_set(test), tuple(map(printable, train.classes)))

    def _image_set(self, listing: "_Listing") -> ImageSet:
        images, content = _read_or_decode(listing, self.image_size)
        sizes = torch.tensor([len(files) for files in listing.classes.values()])
        labels = torch.arange(len(sizes)).repeat_interleave(sizes)
        return ImageSet(torch.from_numpy(images), labels, content=content)


# ---- What is there -------------------------------------------------------------------------------------


class _File(NamedTuple):
    name: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Listing:
    """One half of the data set: its classes and their files, both in the order of their names."""

    folder: Path
    classes: dict[str, list[_File]]

    def paths(self) -> list[str]:
        return [str(self.folder / name / file.name) for name, files in self.classes.items() for file in files]

    def key(self, image_size: int) -> str:
        """A hash that changes when the decoded array would."""
        return blake2b(repr((LAYOUT, image_size, self.classes)).encode(), digest_size=16).hexdigest()


def _scan(folder: Path) -> _Listing:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}: images are expected in {folder}/<class>/, one folder per class."
        )
    try:
        names = sorted(entry.name for entry in _visible(folder) if entry.is_dir())
        classes = {name: list(_image_files(folder / name)) for name in names}
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
    return _Listing(folder, classes)


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _image_files(folder: Path) -> Iterator[_File]:
    # os.scandir and DirEntry.stat: pathlib takes several times as long, and tens of thousands of files
    # are looked at on every start.
    for entry in sorted(_visible(folder), key=lambda entry: entry.name):
        if entry.name.lower().endswith(SUFFIXES) and not entry.is_dir():
            stat = entry.stat()
            yield _File(entry.name, stat.st_size, stat.st_mtime_ns)


# ---- The cache -----------------------------------------------------------------------------------------


def _read_or_decode(listing: _Listing, image_size: int) -> tuple[Pixels, str]:
    """The images, and their digest, which is kept beside them."""
    shape = (sum(len(files) for files in listing.classes.values()), 3, image_size, image_size)
    stem = f"{listing.folder.name}-{image_size}px-"
    file = _cache(listing.folder.parent) / f"{stem}{listing.key(image_size)}.npy"
    kept = file.with_suffix(".sha256")
    images = _read(file)
    if images is None or images.shape != shape:
        images = _decode_all(listing.paths(), image_size, f"Decoding {listing.folder.name} images, this once")
        try:
            _write(file, images, stem)
        except OSError as error:
            warn(f"The decoded images could not be cached and will be decoded again: {error}.", stacklevel=2)
    elif kept.is_file() and len(content := kept.read_text()) == 64:
        return images, content
    content = digest(torch.from_numpy(images))
    with suppress(OSError):  # told already
        kept.write_text(content)
    return images, content


def _cache(root: Path) -> Path:
    """The user's own folder for the images of ``root``: what comes along with a folder of images is not believed."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    # Named by the root as well: copies of a data set in another format may agree in all that the key sees.
    return Path(base, "ablation-bench", blake2b(os.fsencode(root), digest_size=8).hexdigest())


def _read(file: Path) -> Pixels | None:
    """The cached array in memory of its own, or None where there is none or it is damaged."""
    try:
        with file.open("rb") as stream:
            images: Pixels = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception:  # numpy reads the header as Python, which raises almost anything
        return None
    return images if images.dtype == np.uint8 else None


def _write(file: Path, images: Pixels, stem: str) -> None:
    """Write the array, and remove what other files of this stem were for, or killed processes left unfinished."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.parent / ".lock"):
        with write_whole(file, "wb") as stream:
            np.save(stream, images)
        for outdated in {*file.parent.glob(f"{stem}*"), *file.parent.glob(f".{stem}*.part")} - {file}:
            with suppress(OSError):  # another run may hold it open (Windows)
                outdated.unlink()


# ---- Decoding ------------------------------------------------------------------------------------------


def _decode_all(paths: list[str], image_size: int, title: str) -> Pixels:
    images = np.empty((len(paths), 3, image_size, image_size), dtype=np.uint8)

    def decode_chunk(start: int) -> int:
        chunk = paths[start : start + CHUNK]
        for offset, path in enumerate(chunk):
            images[start + offset] = decode(path, image_size).transpose(2, 0, 1)
        return len(chunk)

    # Threads, not processes: Pillow decodes and resizes outside the interpreter's lock, which is where large
    # images spend their time, and nothing has to be sent back or started under a __main__ guard.
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        task = progress.add_task(title, total=len(paths))
        for done in pool.map(decode_chunk, range(0, len(paths), CHUNK)):  # an error cancels what is left
            progress.advance(task, done)
    return images
