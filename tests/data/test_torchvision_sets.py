"""The official archives of public data sets, made in miniature."""

import gzip
import pickle
import shutil
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import md5
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.io import savemat
from torchvision import datasets

from src.data.torchvision_sets import CIFAR10, CIFAR100, MNIST, STL10, SVHN, FashionMNIST

CONF = Path(__file__).parents[2] / "conf" / "data"

NAMES = ["airplane", "automobile", "bird"]
IMAGES_PER_BATCH = 4
ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
REFUSED = f"http://127.0.0.1:9/{ARCHIVE}"  # the discard port: nothing listens there
BY_HAND = rf"or place {ARCHIVE} from .* in .* by hand, or choose data=digits, which needs no download\.$"


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A miniature of the official archive; torchvision is told its checksums and a URL without a server."""
    folder = tmp_path / "made" / FOLDER
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in BATCHES:
        pixels = rng.integers(0, 256, (IMAGES_PER_BATCH, 3072), dtype=np.uint8)
        labels = rng.integers(0, len(NAMES), IMAGES_PER_BATCH).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    (folder / "readme.html").write_text("not checked, not needed")
    packed = tmp_path / "made" / ARCHIVE
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, FOLDER)

    def checksum(file: Path) -> str:
        return md5(file.read_bytes()).hexdigest()

    official = datasets.CIFAR10
    lists = [[name, checksum(folder / name)] for name in BATCHES]
    monkeypatch.setattr(official, "train_list", lists[:5])
    monkeypatch.setattr(official, "test_list", lists[5:])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": checksum(folder / "batches.meta")})
    monkeypatch.setattr(official, "tgz_md5", checksum(packed))
    monkeypatch.setattr(official, "url", REFUSED)
    monkeypatch.setenv("no_proxy", "*")
    return packed


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A real server on this machine: ``serve(content, length)`` announces ``length`` bytes and hangs up."""
    answer: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(answer["length"]))
            self.end_headers()
            self.wfile.write(answer["content"])

        def log_message(self, *_: object) -> None:
            pass

    def start(content: bytes, length: int | None = None) -> None:
        answer.update(content=content, length=length or len(content))
        monkeypatch.setattr(datasets.CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{ARCHIVE}")

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield start
        server.shutdown()
        thread.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def place(archive: Path, root: Path, content: bytes | None = None) -> None:
    root.mkdir(exist_ok=True)
    (root / ARCHIVE).write_bytes(archive.read_bytes() if content is None else content)


def assert_complete(root: Path, download: bool = True) -> None:
    data = CIFAR10(str(root), download).load()
    assert len(data.train) == 5 * IMAGES_PER_BATCH and len(data.test) == IMAGES_PER_BATCH
    assert {file.name for file in root.iterdir()} <= {ARCHIVE, FOLDER}, "temporary folders are left"


def test_delivers_the_archive_as_it_is_without_a_second_copy(archive: Path, root: Path) -> None:
    place(archive, root)
    data = CIFAR10(str(root)).load()
    batches = [pickle.loads((archive.parent / FOLDER / name).read_bytes()) for name in BATCHES]
    for half, stored in ((data.train, batches[:5]), (data.test, batches[5:])):
        pixels = np.concatenate([batch["data"] for batch in stored]).reshape(-1, 3, 32, 32)
        assert half.images.dtype == torch.uint8 and half.images.is_contiguous()
        assert torch.equal(half.images, torch.from_numpy(pixels))
        assert half.images.untyped_storage().nbytes() == pixels.nbytes
        assert half.labels.dtype == torch.int64
        assert half.labels.tolist() == [label for batch in stored for label in batch["labels"]]
    assert data.classes == tuple(NAMES)


def test_downloads_unpacks_and_needs_neither_again(
    archive: Path, root: Path, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(archive.read_bytes())
    assert_complete(root)
    monkeypatch.setattr(datasets.CIFAR10, "url", REFUSED)
    (root / ARCHIVE).unlink()
    assert_complete(root, download=False)


def test_an_archive_placed_by_hand_is_used_without_network(archive: Path, root: Path) -> None:
    place(archive, root)
    assert_complete(root, download=False)


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_an_interrupted_extraction_is_repaired_from_the_archive(
    archive: Path, root: Path, name: str, damage: str
) -> None:
    place(archive, root)
    assert_complete(root)
    file = root / FOLDER / name
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    assert_complete(root, download=False)
    assert file.read_bytes() == whole


def test_a_damaged_archive_is_replaced_by_a_download(archive: Path, root: Path, serve: Callable[..., None]) -> None:
    place(archive, root, archive.read_bytes()[:-100])
    serve(archive.read_bytes())
    assert_complete(root)
    assert (root / ARCHIVE).read_bytes() == archive.read_bytes()


@pytest.mark.parametrize("download", [True, False])
def test_a_damaged_archive_that_cannot_be_replaced_is_named(archive: Path, root: Path, download: bool) -> None:
    place(archive, root, archive.read_bytes()[:-100])
    middle = (
        r"could not be downloaded \(.*refused.*\): delete it and run again with internet .* written, "
        if download
        else r"data\.download=false forbids downloading it: delete it and set data\.download=true, "
    )
    with pytest.raises(OSError, match=rf"root.{ARCHIVE} is incomplete or corrupted and {middle}{BY_HAND}"):
        CIFAR10(str(root), download).load()


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_a_damaged_file_that_cannot_be_restored_is_named(archive: Path, root: Path, name: str) -> None:
    root.mkdir()
    shutil.copytree(archive.parent / FOLDER, root / FOLDER)
    file = root / FOLDER / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(OSError, match=rf"{name} is incomplete or corrupted and .* delete it .*{BY_HAND}"):
        CIFAR10(str(root)).load()
    file.unlink()
    with pytest.raises(OSError, match=rf"{name} is missing and .*{BY_HAND}"):
        CIFAR10(str(root)).load()


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize("download", [True, False])
def test_nothing_there_and_no_way_to_get_it(root: Path, download: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    with pytest.raises(OSError) as caught:
        CIFAR10("root", download).load()
    why = "could not be downloaded ([Errno" if download else "data.download=false forbids downloading it: set"
    sentence = str(caught.value)
    assert sentence.startswith(f"CIFAR-10 was not found in {root} and {why}")
    assert f"place {ARCHIVE} from {REFUSED} in {root} by hand" in sentence
    assert sentence.endswith("or choose data=digits, which needs no download.")
    assert not list(root.glob("*")), "a failed download leaves nothing behind"


def test_a_download_that_breaks_off_is_not_kept(archive: Path, root: Path, serve: Callable[..., None]) -> None:
    serve(archive.read_bytes()[:-100], length=archive.stat().st_size)
    with pytest.raises(OSError, match=r"could not be downloaded \(what arrived is cut off or altered"):
        CIFAR10(str(root)).load()
    assert list(root.iterdir()) == []


def test_an_archive_that_cannot_be_unpacked(archive: Path, root: Path) -> None:
    place(archive, root)
    (root / FOLDER).write_text("a file where the folder belongs")
    with pytest.raises(OSError, match=rf"{ARCHIVE} could not be unpacked there \(.*\): make the folder"):
        CIFAR10(str(root)).load()


def test_nothing_is_unpacked_through_a_link(archive: Path, root: Path, tmp_path: Path) -> None:
    place(archive, root)
    (tmp_path / "elsewhere").mkdir()
    (root / "cifar-10-batches-py").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"could not be unpacked there .*is a link"):
        CIFAR10(str(root), download=False).load()
    assert not list((tmp_path / "elsewhere").iterdir())


# ------------------------------------------------------------------------------------------------------------
# The other sets: miniatures of their archives, of which torchvision is told the checksums
# ------------------------------------------------------------------------------------------------------------

COUNTS = {"train": 6, "test": 4}


def checksum(file: Path) -> str:
    return md5(file.read_bytes()).hexdigest()


def pixels(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


def make_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, official = root / "made" / datasets.CIFAR100.base_folder, datasets.CIFAR100
    folder.mkdir(parents=True)
    for name, count in COUNTS.items():
        content = {"data": pixels(count, 3072), "fine_labels": list(range(count)), "coarse_labels": [0] * count}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bear", "cup", "dog", "elk", "fox"]}))
    with tarfile.open(root / official.filename, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(official, "train_list", [["train", checksum(folder / "train")]])
    monkeypatch.setattr(official, "test_list", [["test", checksum(folder / "test")]])
    monkeypatch.setattr(official, "meta", {**official.meta, "md5": checksum(folder / "meta")})
    monkeypatch.setattr(official, "tgz_md5", checksum(root / official.filename))


def make_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = {}
    for half, count in COUNTS.items():
        file = root / f"{half}_32x32.mat"
        images = pixels(count, 3072).reshape(count, 3, 32, 32).transpose(2, 3, 1, 0)
        savemat(file, {"X": images, "y": (np.arange(count, dtype=np.uint8)[:, None] + 9) % 10 + 1})  # 10 is the digit 0
        halves[half] = [REFUSED, file.name, checksum(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", {**halves, "extra": halves["test"]})


def make_mnist(official: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, resources = root / official.__name__ / "raw", []
    folder.mkdir(parents=True)
    for prefix, count in (("train", COUNTS["train"]), ("t10k", COUNTS["test"])):
        images = np.array([0x803, count, 28, 28], ">i4").tobytes() + pixels(count, 28, 28).tobytes()
        labels = np.array([0x801, count], ">i4").tobytes() + bytes(range(count))
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            file = folder / f"{prefix}-{name}-ubyte.gz"
            file.write_bytes(gzip.compress(content))
            resources.append((file.name, checksum(file)))
    monkeypatch.setattr(official, "resources", resources)


def make_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = STL10.official
    folder = root / "made" / official.base_folder
    folder.mkdir(parents=True)
    for half, count in COUNTS.items():
        columns = pixels(count, 3072 * 9).reshape(count, 3, 96, 96).transpose(0, 1, 3, 2)
        (folder / f"{half}_X.bin").write_bytes(columns.tobytes())
        (folder / f"{half}_y.bin").write_bytes(bytes(range(1, count + 1)))
    (folder / "class_names.txt").write_text("\n".join(["airplane", "bird", "car", "cat", "deer", "dog"]))
    with tarfile.open(root / official.filename, "w:gz") as tar:
        tar.add(folder, folder.name)
    for half, names in (("train", official.train_list), ("test", official.test_list)):
        monkeypatch.setattr(official, f"{half}_list", [[name, checksum(folder / name)] for name, _ in names])
    monkeypatch.setattr(official, "tgz_md5", checksum(root / official.filename))


SETS: dict[str, tuple[type, Callable[..., None], tuple[int, ...], tuple[str, ...]]] = {
    "cifar100": (CIFAR100, make_cifar100, (3072,), ("apple", "bear", "cup", "dog", "elk", "fox")),
    "svhn": (SVHN, make_svhn, (3072,), tuple("0123456789")),
    "mnist": (MNIST, partial(make_mnist, datasets.MNIST), (28, 28), tuple("0123456789")),
    "fashion_mnist": (FashionMNIST, partial(make_mnist, datasets.FashionMNIST), (28, 28), ("T-shirt/top", "Trouser")),
    "stl10": (STL10, make_stl10, (3072 * 9,), ("airplane", "bird", "car", "cat", "deer", "dog")),
}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_from_archives_placed_by_hand(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, make, shape, classes = SETS[name]
    root.mkdir()
    make(root, monkeypatch)
    data = kind(str(root), download=False).load()
    assert data.classes[: len(classes)] == classes
    for half, count in ((data.train, COUNTS["train"]), (data.test, COUNTS["test"])):
        stored = torch.from_numpy(pixels(count, *shape))
        stored = stored.reshape(count, -1, *half.images.shape[-2:]).expand(-1, 3, -1, -1)
        assert half.images.dtype == torch.uint8 and torch.equal(half.images, stored)
        assert half.labels.dtype == torch.int64 and half.labels.tolist() == list(range(count))
    assert not list(root.rglob(".*")), "temporary folders are left"
    if "image_size" in OmegaConf.load(CONF / f"{name}.yaml"):
        assert kind(str(root), False, image_size=16).load().train.images.shape == (6, 3, 16, 16)


@pytest.mark.parametrize("name", SETS)
def test_every_set_that_is_missing_gets_a_sentence(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = SETS[name][0]
    with pytest.raises(
        OSError, match=rf"{kind.title} was not found in .*root and data.download=false forbids .* by hand"
    ):
        kind(str(root), download=False).load()


def test_a_mirror_is_tried_where_the_first_does_not_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., None], tmp_path: Path
) -> None:
    make_mnist(datasets.MNIST, tmp_path, monkeypatch)
    name, _ = datasets.MNIST.resources[0]
    serve((tmp_path / "MNIST/raw" / name).read_bytes())
    mirror = datasets.CIFAR10.url.removesuffix(ARCHIVE)
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/", mirror])
    monkeypatch.setattr(datasets.MNIST, "resources", datasets.MNIST.resources[:1])
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(OSError):  # the others are missing
        MNIST(str(root)).load()
    assert (root / "MNIST/raw" / name.removesuffix(".gz")).exists()
