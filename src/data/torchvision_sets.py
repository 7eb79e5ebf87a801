"""Public data sets by their official archives, checked by MD5 and read through torchvision."""

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_url, extract_archive
from torchvision.transforms.v2 import functional as F

from src.data.image_set import ImageSet, LabelledImages


class Archive(NamedTuple):
    """A file to download."""

    name: str  # below the root, as all paths here
    urls: list[str]  # the first that answers is used
    md5: str
    files: Mapping[str, str | None]  # what it unpacks to, with MD5 where known; itself if it is not packed


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set of torchvision. A subclass says where its files are, and how torchvision's class holds its images.

    Args:
        root: folder for the archives and their unpacked files.
        download: whether to download archives that are missing or damaged. Without it the network is not used,
            but an intact archive in ``root`` is still unpacked.
        image_size: side that images are resized to (bilinear, antialiased); None keeps theirs.
    """

    root: str
    download: bool = True
    image_size: int | None = None

    title: ClassVar[str]
    official: ClassVar[Any]

    def archives(self) -> list[Archive]:
        raise NotImplementedError

    def half(self, root: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        """Images uint8 ``[N, 1 or 3, H, W]``, labels int64 ``[N]``, and the names of the classes."""
        raise NotImplementedError

    def load(self) -> LabelledImages:
        """Read both halves, after restoring files that are missing or fail their MD5.

        Returns:
            images uint8 ``[N, 3, S, S]``, values 0 to 255, grey ones in three equal channels; the official names.

        Raises:
            OSError: the data are missing or damaged and could not be restored; the message names the
                file or folder and says how to place the archive by hand.
            ValueError: ``image_size`` is not a whole number above 0.
        """
        if self.image_size is not None and (not isinstance(self.image_size, int) or self.image_size < 1):
            raise ValueError(f"data.image_size is {self.image_size!r}; expected a number of pixels, 1 or more.")
        root = Path(self.root).expanduser().absolute()
        for archive in self.archives():
            damaged = [root / name for name, md5 in archive.files.items() if not check_integrity(root / name, md5)]
            if damaged:
                self._fetch(root, archive, damaged)
                if archive.name not in archive.files:
                    _unpack(root, archive)
        (images, labels, classes), (test_images, test_labels, _) = (self.half(root, train) for train in (True, False))
        train = ImageSet(self._resized(images).expand(-1, 3, -1, -1), labels)
        test = ImageSet(self._resized(test_images).expand(-1, 3, -1, -1), test_labels)
        return LabelledImages(train, test, tuple(classes))

    def _resized(self, images: Tensor) -> Tensor:
        if self.image_size in (None, images.shape[-1]):
            return images
        size = [self.image_size, self.image_size]
        return torch.cat([F.resize(part, size, antialias=True) for part in images.split(1000)])

    def _fetch(self, root: Path, archive: Archive, damaged: list[Path]) -> None:
        """Ensure that ``root`` contains the archive, intact."""
        file = root / archive.name
        if check_integrity(file, archive.md5):
            return
        cause: Exception | None = None
        if self.download:
            try:
                self._download(file, archive)
                return
            except (OSError, HTTPException) as error:
                cause, reason = error, getattr(error, "reason", error)
            except RuntimeError as error:  # torchvision raises it for a wrong MD5
                cause, reason = error, "what arrived is cut off or altered: its MD5 differs"
            why = f"could not be downloaded ({reason})"
            remedy = "run again with internet access and a folder that can be written"
        else:
            why = "data.download=false forbids downloading it"
            remedy = "set data.download=true"
        bad = next((path for path in (file, *damaged) if path.exists()), None)
        if bad is not None:
            problem = f"{bad} is incomplete or corrupted"
            remedy = f"delete it and {remedy}"
        elif damaged[0].parent.is_dir() and damaged[0].parent != root:
            problem = f"{damaged[0]} is missing"
        else:
            problem = f"{self.title} was not found in {root}"
        raise OSError(
            f"{problem} and {why}: {remedy}, or place {file.name} from {archive.urls[0]} in {file.parent} "
            "by hand, or choose data=digits, which needs no download."
        ) from cause

    def _download(self, file: Path, archive: Archive) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # In a temporary folder: an unfinished download never has the archive's name, and two
        # runs that start together do not write into one file.
        with TemporaryDirectory(prefix=".download-", dir=file.parent) as folder:
            for url in archive.urls:
                try:
                    download_url(url, folder, file.name, archive.md5)
                    break
                except (OSError, HTTPException, RuntimeError):
                    if url == archive.urls[-1]:
                        raise
            Path(folder, file.name).replace(file)


def _unpack(root: Path, archive: Archive) -> None:
    """Unpack the archive into a temporary folder and move each file into place, as for the download."""
    file = root / archive.name
    target = (root / next(iter(archive.files))).parent
    try:
        for folder in (target, *target.parents):
            if folder == root:
                break
            if folder.is_symlink():
                raise OSError(f"{folder} is a link")
        target.mkdir(exist_ok=True)
        with TemporaryDirectory(prefix=".unpack-", dir=root) as temporary:
            extract_archive(str(file), temporary)
            packed = Path(temporary, target.name)
            for content in (packed if packed.is_dir() else Path(temporary)).iterdir():
                content.replace(target / content.name)
    except OSError as error:
        raise OSError(
            f"{file} could not be unpacked there ({error}): make the folder writable and free some disk space, then "
            "run again."
        ) from error


class CIFAR10(TorchvisionSet):
    """60,000 colour images of 32 x 32 in 10 classes."""

    title = "CIFAR-10"
    official = datasets.CIFAR10

    def archives(self) -> list[Archive]:
        official = self.official
        files = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
        paths = {f"{official.base_folder}/{name}": md5 for name, md5 in files}
        return [Archive(official.filename, [official.url], official.tgz_md5, paths)]

    def half(self, root: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        half = self.official(root, train=train)
        # torchvision shows the stored channel-first images through a transposed view; undoing the view gives
        # the contiguous original back without a copy.
        images = torch.from_numpy(half.data.transpose(0, 3, 1, 2)).contiguous()
        return images, torch.tensor(half.targets), half.classes


class CIFAR100(CIFAR10):
    """60,000 colour images of 32 x 32 in 100 classes."""

    title = "CIFAR-100"
    official = datasets.CIFAR100


class SVHN(TorchvisionSet):
    """99,289 colour images of 32 x 32: digits of house numbers. The easier, "extra" images are not used."""

    title = "SVHN"
    official = datasets.SVHN

    def archives(self) -> list[Archive]:
        halves = (self.official.split_list[half] for half in ("train", "test"))
        return [Archive(name, [url], md5, {name: md5}) for url, name, md5 in halves]

    def half(self, root: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        half = self.official(root, split="train" if train else "test")
        images = torch.from_numpy(np.ascontiguousarray(half.data))
        return images, torch.from_numpy(half.labels), [str(digit) for digit in range(10)]


class MNIST(TorchvisionSet):
    """70,000 grey images of 28 x 28: handwritten digits."""

    title = "MNIST"
    official = datasets.MNIST

    def archives(self) -> list[Archive]:
        folder = f"{self.official.__name__}/raw"
        return [
            Archive(
                *(f"{folder}/{name}", [mirror + name for mirror in self.official.mirrors], md5),
                {f"{folder}/{name.removesuffix('.gz')}": None},
            )
            for name, md5 in self.official.resources
        ]

    def half(self, root: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        half = self.official(root, train=train)
        return half.data[:, None], half.targets, [name.partition(" - ")[0] for name in half.classes]


class FashionMNIST(MNIST):
    """70,000 grey images of 28 x 28: articles of clothing."""

    title = "Fashion-MNIST"
    official = datasets.FashionMNIST


class _Labelled(datasets.STL10):
    """STL-10 without its 100,000 images that have no label, described as CIFAR-10 is."""

    train_list = datasets.STL10.train_list[:2]
    meta: ClassVar = {"filename": datasets.STL10.class_names_file, "md5": None}


class STL10(CIFAR10):
    """13,000 colour images of 96 x 96 in 10 classes, 500 of each for training. The unlabelled ones are not used."""

    title = "STL-10"
    official = _Labelled

    def half(self, root: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
        half = self.official(root, split="train" if train else "test")
        images = torch.from_numpy(np.ascontiguousarray(half.data))
        return images, torch.from_numpy(half.labels).long(), half.classes
