"""The official CIFAR-10 archive, checked by MD5 and read through torchvision."""

from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_url, extract_archive

from src.data.image_set import ImageSet, LabelledImages


@dataclass(frozen=True)
class CIFAR10:
    """60,000 colour images of 32 x 32 in 10 classes.

    Args:
        root: folder for the archive and its unpacked files.
        download: whether to download the archive if it is missing or damaged. Without it the network is not used,
            but an intact archive in ``root`` is still unpacked.
    """

    root: str
    download: bool = True

    def load(self) -> LabelledImages:
        """Read both halves, after restoring files that are missing or fail their MD5.

        Returns:
            images uint8 ``[50000, 3, 32, 32]`` and ``[10000, 3, 32, 32]``, values 0 to 255; class names from
            the archive.

        Raises:
            OSError: the data are missing or damaged and could not be restored; the message names the
                file or folder and says how to place the archive by hand.
        """
        root = Path(self.root).expanduser().absolute()
        damaged = _damaged_files(root)
        if damaged:
            self._fetch(root, damaged)
            _unpack(root)
        train, test = (datasets.CIFAR10(root, train=half) for half in (True, False))
        return LabelledImages(_image_set(train), _image_set(test), tuple(train.classes))

    def _fetch(self, root: Path, damaged: list[Path]) -> None:
        """Ensure that ``root`` contains an intact archive."""
        official = datasets.CIFAR10
        archive = root / official.filename
        if check_integrity(archive, official.tgz_md5):
            return
        cause: Exception | None = None
        if self.download:
            try:
                root.mkdir(parents=True, exist_ok=True)
                # In a temporary folder: an unfinished download never has the archive's name, and two
                # runs that start together do not write into one file.
                with TemporaryDirectory(prefix=".download-", dir=root) as folder:
                    download_url(official.url, folder, official.filename, official.tgz_md5)
                    Path(folder, official.filename).replace(archive)
                return
            except (OSError, HTTPException) as error:
                cause = error
                why = f"could not be downloaded ({getattr(error, 'reason', error)})"
            except RuntimeError as error:  # torchvision raises it for a wrong MD5
                cause = error
                why = "could not be downloaded (what arrived is cut off or altered: its MD5 differs)"
            remedy = "run again with internet access and a folder that can be written"
        else:
            why = "data.download=false forbids downloading it"
            remedy = "set data.download=true"
        bad = next((file for file in (archive, *damaged) if file.exists()), None)
        if bad is not None:
            problem = f"{bad} is incomplete or corrupted"
            remedy = f"delete it and {remedy}"
        elif (root / official.base_folder).is_dir():
            problem = f"{damaged[0]} is missing"
        else:
            problem = f"CIFAR-10 was not found in {root}"
        raise OSError(
            f"{problem} and {why}: {remedy}, or place {official.filename} from {official.url} in {root} "
            "by hand, or choose data=digits, which needs no download."
        ) from cause


def _damaged_files(root: Path) -> list[Path]:
    """The unpacked files that are missing or fail their MD5."""
    official = datasets.CIFAR10
    files = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
    paths = {root / official.base_folder / name: md5 for name, md5 in files}
    return [path for path, md5 in paths.items() if not check_integrity(path, md5)]


def _unpack(root: Path) -> None:
    """Unpack the archive into a temporary folder and move each file into place, as for the download."""
    target = root / datasets.CIFAR10.base_folder
    try:
        if target.is_symlink():
            raise OSError(f"{target} is a link")
        target.mkdir(exist_ok=True)
        with TemporaryDirectory(prefix=".unpack-", dir=root) as folder:
            extract_archive(str(root / datasets.CIFAR10.filename), folder)
            for file in Path(folder, target.name).iterdir():
                file.replace(target / file.name)
    except OSError as error:
        raise OSError(
            f"{root / datasets.CIFAR10.filename} could not be unpacked there ({error}): "
            "make the folder writable and free some disk space, then run again."
        ) from error


def _image_set(half: datasets.CIFAR10) -> ImageSet:
    # torchvision shows the stored channel-first images through a transposed view; undoing the view gives
    # the contiguous original back without a copy.
    images = torch.from_numpy(half.data.transpose(0, 3, 1, 2)).contiguous()
    return ImageSet(images, torch.tensor(half.targets))
