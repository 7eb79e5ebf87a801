"""A folder of class folders of images, decoded once into a cache file that later runs map into their memory."""

import logging
import math
import mmap
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from warnings import warn

import numpy as np
import torch
from filelock import FileLock, Timeout
from joblib import Parallel, cpu_count, delayed, parallel_config
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from src.data.decode import SUFFIXES, THREADS, Pixels, decode, largest_16_bit_value
from src.data.image_set import ImageSet, LabelledImages, digest
from src.runs.escaping import distinct, printable
from src.runs.folder import write_whole

if sys.platform == "linux":
    import resource

log = logging.getLogger(__name__)

LAYOUT = 2  # of the cache and of how images are decoded; raise it when either changes
CHUNK = 64  # images per task: enough to hide its overhead, few enough for a smooth progress bar
KEPT = 1024  # after so many images, a multiple of CHUNK, it is noted that they are on the disk
PROCESSES = min(16, cpu_count())
MANY = 10_000 if PROCESSES > 2 else math.inf  # images; fewer are decoded before processes have started


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
        train = _scan(root / ("test" if self.test_only else "train"))
        test = train if self.test_only else _scan(root / "test")
        for one, other in ((train, test), (test, train)):
            if extra := sorted(one.classes.keys() - other.classes.keys()):
                raise ValueError(
                    f"Train and test must have the same classes, but {distinct(extra, other.classes)} "
                    f"can be found in {one.folder} and not in {other.folder}: add or remove these folders."
                )
        learned, bits = self._image_set(train, self.bits)
        tested = learned if self.test_only else self._image_set(test, bits)[0]
        return LabelledImages(learned, tested, tuple(map(printable, train.classes)), bits)

    def _image_set(self, listing: "_Listing", bits: int | None) -> tuple[ImageSet, int]:
        images, content, bits, ahead = _read_or_decode(listing, self.image_size, bits)
        if bits < 16:
            log.info("16-bit images are read as images of %d bits (data.bits).", bits)
        labels = torch.repeat_interleave(torch.tensor([len(files) for files in listing.classes.values()]))
        return ImageSet(images, labels, content=content, ahead=ahead), bits


# ---- Listing files -------------------------------------------------------------------------------------


_SUFFIXES = frozenset(SUFFIXES)


class _File(NamedTuple):
    name: str
    size: int
    mtime_ns: int


class _Listing(NamedTuple):
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
    # os.scandir and DirEntry.stat, in the order of the folder: pathlib and other orders take longer, and every start
    # checks all files.
    files, folders = [], []
    for entry in _visible(folder):
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        elif name[name.rfind(".") :].lower() in _SUFFIXES and not entry.is_dir():
            stat = entry.stat()
            files.append(_File(within + name, stat.st_size, stat.st_mtime_ns))
        else:
            others[Path(name).suffix] += 1
    yield from sorted(files)
    for name in sorted(folders):
        yield from _image_files(folder / name, f"{within}{name}/", others)


# ---- The cache -----------------------------------------------------------------------------------------


class _Cached(NamedTuple):
    images: Tensor
    content: str  # their digest
    bits: int  # significant ones
    ahead: Callable[[Tensor], None] | None = None


def _read_or_decode(listing: _Listing, image_size: int, bits: int | None) -> _Cached:
    shape = (sum(len(files) for files in listing.classes.values()), 3, image_size, image_size)
    stem = f"{listing.folder.name}-{image_size}px-"
    file = _cache(listing.folder.parent) / f"{stem}{listing.key(image_size, bits)}.npy"
    if cached := _cached(file, shape):
        return cached
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.parent):
            if not (cached := _cached(file, shape)):
                _decode_into_cache(listing, file, shape, bits)
                cached = _cached(file, shape)
            known = {file, file.with_suffix(".txt")}
            for outdated in {*file.parent.glob(f"{stem}*"), *file.parent.glob(f".{stem}*.part")} - known:
                with suppress(OSError):  # another run may have it open (Windows)
                    outdated.unlink()
        if cached:
            return cached
    except OSError as error:
        warn(f"The decoded images could not be cached and will be decoded again: {error}.", stacklevel=2)
    bits = bits or _significant_bits(listing.paths())
    images = np.empty(shape, dtype=np.uint8)
    for _ in _decode_all(listing, images, image_size, bits):
        pass
    return _Cached(torch.from_numpy(images), digest(torch.from_numpy(images)), bits)


def _cache(root: Path) -> Path:
    """The cache for ``root``, in the user's own cache folder: a cache inside ``root`` could be untrusted."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    # Its name depends on the root: copies of a data set in another format may have the same key.
    return Path(base, "ablation-bench", blake2b(os.fsencode(root), digest_size=8).hexdigest())


def _locked(folder: Path) -> AbstractContextManager[Any]:
    lock = FileLock(folder / ".lock")
    try:
        return lock.acquire(timeout=1)
    except Timeout:
        log.info("Another run is decoding images of this data set; this one waits for it.")
        return lock.acquire()


def _cached(file: Path, shape: tuple[int, ...]) -> _Cached | None:
    """What a finished decode left. The images are mapped: read when they are used, and never to be written to."""
    images, known = _read(file), re.fullmatch(r"([0-9a-f]{64}) (8|1[0-6])", _note(file))
    if images is None or images.shape != shape or known is None:
        return None
    ahead = _Ahead(file, images) if sys.platform == "linux" else None
    # from_numpy would warn: torch knows no read-only memory.
    return _Cached(torch.from_dlpack(images), known[1], int(known[2]), ahead)


class _Ahead:
    """Asks the disk for all images of a batch at once; a page that is missing in a mapping is waited for by itself.

    As asking takes a third of the time of a batch, it stops while batches come from memory.
    """

    def __init__(self, file: Path, images: Pixels) -> None:
        self.file, self.size, self.reads = file, images[0].nbytes, -1
        self.header = file.stat().st_size - images.nbytes
        if images.nbytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2:
            self._ask(range(0, images.nbytes, 1 << 17), 1 << 17)  # all of them, in their order
        else:  # not megabytes around each page, which would displace others
            images.base.madvise(mmap.MADV_RANDOM)  # type: ignore[union-attr]  # the base of a memmap is its mmap

    def __call__(self, positions: Tensor) -> None:
        reads = resource.getrusage(resource.RUSAGE_SELF).ru_inblock  # by this process, from a disk
        if reads != self.reads:
            self._ask((positions * self.size + self.header).tolist(), self.size)
        self.reads = reads

    def _ask(self, starts: Iterable[int], size: int) -> None:
        with suppress(FileNotFoundError), self.file.open("rb") as stream:  # removed, but still mapped
            for start in starts:
                os.posix_fadvise(stream.fileno(), start, size, os.POSIX_FADV_WILLNEED)


def _read(file: Path) -> Pixels | None:
    """The array in a file, mapped read-only; None if there is none or it is damaged."""
    try:
        images: Pixels = np.lib.format.open_memmap(file, mode="r")
    except Exception:  # numpy parses the header as Python, which raises almost anything
        return None
    return images if images.dtype == np.uint8 else None


def _note(file: Path) -> str:
    note = file.with_suffix(".txt")
    return note.read_text() if note.is_file() else ""


def _decode_into_cache(listing: _Listing, file: Path, shape: tuple[int, ...], bits: int | None) -> None:
    """Decode into a file that gets its name at the end; go on with that of a killed process, after what it noted."""
    part = file.with_name(f".{file.name}.part")

    def note(text: str) -> None:
        with write_whole(file.with_suffix(".txt")) as stream:
            stream.write(text)

    done, begun, left = 0, re.fullmatch(r"(\d+) decoded with (8|1[0-6]) bits", _note(file)), _read(part)
    if begun and left is not None and left.shape == shape:
        done, bits = int(begun[1]), int(begun[2])
    del left
    size, free = (shape[0] - done) * math.prod(shape[1:]), shutil.disk_usage(part.parent).free
    if size > free:
        raise OSError(f"{size / 1e9:.1f} GB are needed in {part.parent}, and {free / 1e9:.1f} GB are free")
    bits = bits or _significant_bits(listing.paths())
    try:
        if not done:
            note(f"0 decoded with {bits} bits")
            part.unlink(missing_ok=True)  # a link is not followed
            np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        for count in _decode_all(listing, part, shape[-1], bits, done):
            if count % KEPT == 0 or count == shape[0]:
                with part.open("r+b") as stream:
                    os.fsync(stream.fileno())
                note(f"{count} decoded with {bits} bits")
    except OSError:
        part.unlink(missing_ok=True)  # the disk may be full
        raise
    content = digest(torch.from_dlpack(np.lib.format.open_memmap(part, mode="r")))
    note(f"{content} {bits}")
    part.replace(file)


# ---- Decoding ------------------------------------------------------------------------------------------


def _workers(processes: bool) -> Parallel:
    """Threads, or processes, of which more than two pay, as reading small images holds the GIL half of the time.

    joblib's processes need no ``__main__`` guard.
    """
    if not processes:
        return Parallel(THREADS, prefer="threads", return_as="generator")
    with parallel_config("loky", idle_worker_timeout=10):  # seconds that they outlive their work or a killed run
        return Parallel(PROCESSES, return_as="generator")


def _significant_bits(paths: list[str]) -> int:
    """The smallest of 8, 10, 12, 14 and 16 bits for the largest value of all 16-bit grey images; 16 without any."""
    chunks = (paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK))
    largest = max(_workers(len(paths) >= MANY)(delayed(_largest_16_bit_value)(chunk) for chunk in chunks))
    return max(8, 2 * math.ceil(largest.bit_length() / 2)) if largest else 16


def _largest_16_bit_value(paths: list[str]) -> int:
    return max(map(largest_16_bit_value, paths))


def _decode_all(listing: _Listing, into: Path | Pixels, image_size: int, bits: int, done: int = 0) -> Iterator[int]:
    """Decode all but the first ``done`` images to their places in an .npy file or an array; yields how many it has."""
    paths, half, before, began = listing.paths(), listing.folder.name, done, perf_counter()
    results = _workers(processes=isinstance(into, Path) and len(paths) - done >= MANY)(
        delayed(_decode_chunk)(paths[start : start + CHUNK], into, start - len(paths), image_size, bits)
        for start in range(done, len(paths), CHUNK)
    )
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with closing(results), Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"Decoding {half} images, this once", total=len(paths), completed=done)
        for result in results:
            if isinstance(result, ValueError):
                raise result
            done += result
            progress.update(task, completed=done)
            yield done
    rate = (done - before) / (perf_counter() - began)
    log.info("%d of %d %s images were decoded, %.0f per second.", done - before, done, half, rate)


def _decode_chunk(paths: list[str], into: Path | Pixels, place: int, image_size: int, bits: int) -> int | ValueError:
    """Decode images to a place counted from the end, below 0; returns their number, or the error of the first."""
    try:
        images = np.stack([decode(path, image_size, bits).transpose(2, 0, 1) for path in paths])
    except ValueError as error:
        return error  # not raised: joblib raises what comes first in time, this comes first in the order of the files
    if isinstance(into, Path):
        with into.open("r+b") as file:  # not mapped: a full disk is then an error, and not a crash
            file.seek(place * images[0].nbytes, os.SEEK_END)
            file.write(images.tobytes())
    else:
        into[len(into) + place :][: len(paths)] = images
    return len(paths)
