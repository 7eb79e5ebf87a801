import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from src.augment import Pipeline
from src.data import image_folder
from src.data.datamodule import ImageDataModule
from src.data.decode import decode, read_image
from src.data.image_folder import ImageFolder, _read
from src.data.image_set import ImageSet, LabelledImages

JPEGS = Path(__file__).parents[2] / "data" / "cifar10-jpeg"


def picture(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(autouse=True)
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    return tmp_path / "user-cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, 3 + 2 training and 1 + 1 test images of 8 x 8."""
    root = tmp_path / "pictures"
    for seed, name in enumerate(
        [
            "train/cat/a",
            "train/cat/b",
            "train/cat/c",
            "train/ant/a",
            "train/ant/b",
            "test/cat/a",
            "test/ant/a",
        ]
    ):
        file = root / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(file)
    return root


def load(root: Path, image_size: int = 8) -> LabelledImages:
    return ImageFolder(str(root), image_size).load()


def caches(folder: Path) -> list[str]:
    """The decoded arrays. Each has its digest and bits beside it, and nothing else is there."""
    files = sorted(file.name for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    arrays = [name for name in files if name.endswith(".npy")]
    assert files == sorted([*arrays, *(name.replace(".npy", ".txt") for name in arrays)])
    return arrays


def only_train_image(root: Path, image_size: int = 8) -> Tensor:
    """The first image of train/ant."""
    return load(root, image_size).train.images[0]


# ---- What is delivered ---------------------------------------------------------------------------------


def test_classes_and_files_come_in_the_order_of_their_names(root: Path) -> None:
    data = load(root)
    assert data.classes == ("ant", "cat")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1] and data.test.labels.tolist() == [0, 1]
    assert data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.images, torch.stack([as_tensor(picture(seed)) for seed in (3, 4, 0, 1, 2)]))
    assert torch.equal(data.test.images, torch.stack([as_tensor(picture(seed)) for seed in (6, 5)]))
    for half in (data.train, data.test):
        assert half.images.dtype == torch.uint8 and half.images.is_contiguous()


def test_hidden_files_and_other_files_are_passed_over(root: Path) -> None:
    for name in (".DS_Store", "._a.png", "Thumbs.db", "notes.txt", "png"):
        (root / "train/ant" / name).write_text("not an image")
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "train/readme.png").write_text("not in a class")
    (root / "train/ant/folder.png").mkdir()
    assert load(root).train.images.shape == (5, 3, 8, 8)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".bmp", ".gif", ".ppm", ".TIF"])
def test_any_format_and_any_case(root: Path, suffix: str) -> None:
    file = root / f"train/ant/0{suffix}"
    picture(9).save(file)
    with Image.open(file) as image:
        assert torch.equal(only_train_image(root), as_tensor(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_any_mode_becomes_rgb(root: Path, mode: str) -> None:
    image = picture(9).convert(mode)
    image.save(root / f"train/ant/0.{'tif' if mode == 'CMYK' else 'png'}")
    assert torch.equal(only_train_image(root), as_tensor(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_what_is_transparent_becomes_white(root: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.convert(mode).save(root / "train/ant/0.png")
    assert only_train_image(root)[:, :, :4].eq(0).all() and only_train_image(root)[:, :, 4:].eq(255).all()


def test_16_bit_grey_keeps_its_range(root: Path) -> None:
    grey = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    Image.fromarray(grey).save(root / "train/ant/0.png")
    assert torch.equal(only_train_image(root), torch.from_numpy(grey // 256).byte().expand(3, 8, 8))


@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (1000, 10), (4095, 12), (9000, 14), (20000, 16)])
def test_16_bit_grey_is_read_by_the_range_of_the_training_images(
    root: Path, caplog: pytest.LogCaptureFixture, largest: int, bits: int
) -> None:
    caplog.set_level("INFO")
    for name, value in (("train/ant/0", largest), ("train/cat/0", 100), ("test/ant/0", 60000)):
        Image.fromarray(np.full((8, 8), value, dtype=np.uint16)).save(root / f"{name}.png")
    for _ in range(2):  # the second time from the cache
        images = load(root)
        assert images.bits == bits
        assert images.train.images[0].unique().tolist() == [largest >> (bits - 8)]
        assert images.train.images[3].unique().tolist() == [100 >> (bits - 8)]
        assert images.test.images[0].unique().tolist() == [min(60000 >> (bits - 8), 255)]
    assert (f"16-bit images are read as images of {bits} bits" in caplog.text) == (bits < 16)
    assert torch.equal(read_image(root / "train/ant/0.png", 8, bits), images.train.images[0])
    assert ImageFolder(str(root), 8, bits=16).load().train.images[0].unique().tolist() == [largest >> 8]


@pytest.mark.parametrize("bits", [7, 17, "many", True])
def test_bits_that_there_are_none_of(root: Path, bits: Any) -> None:
    with pytest.raises(ValueError, match=r"^data\.bits is .*; expected 8 to 16, or null\.$"):
        ImageFolder(str(root), 8, bits=bits).load()


def test_folders_of_a_class_folder_belong_to_it(root: Path) -> None:
    for seed, name in enumerate(("b/1", "a/1", "a/c/1", ".hidden/1"), start=20):
        (root / "train/ant" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / "train/ant" / f"{name}.png")
    (root / "train/ant/a/back").symlink_to(root / "train/ant")
    images = load(root)
    assert images.train.labels.tolist() == [0] * 5 + [1] * 3
    for place, seed in enumerate((21, 22, 20), start=2):  # after the folder's own images
        assert torch.equal(images.train.images[place], as_tensor(picture(seed)))


def test_what_is_left_out_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(root)
    assert caplog.text == ""
    for name in ("ant/a.heic", "ant/b.heic", "cat/within/no suffix", "ant/.hidden", "outside.png"):
        (root / "train" / name).parent.mkdir(exist_ok=True)
        (root / "train" / name).touch()
    assert len(load(root).train) == 5
    assert "train: 4 files are left out" in caplog.text
    assert "(by extension: 2 .heic, 1 .png, 1 without one)" in caplog.text


def test_exif_rotation_is_applied(root: Path) -> None:
    image, exif = picture(9), Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    image.save(root / "train/ant/0.png", exif=exif)
    assert torch.equal(only_train_image(root), as_tensor(image.transpose(Image.Transpose.ROTATE_270)))


def test_other_sizes_are_resized_with_antialiasing(root: Path) -> None:
    stripes = np.zeros((64, 96, 3), dtype=np.uint8)
    stripes[::2] = 255
    for suffix in ("png", "jpg"):
        file = root / f"train/ant/0.{suffix}"
        Image.fromarray(stripes).save(file)
        image = only_train_image(root)
        assert image.shape == (3, 8, 8)
        assert (image.float() - 127.5).abs().max() < 8, "without antialiasing the stripes would survive"
        file.unlink()


# ---- The cache -----------------------------------------------------------------------------------------


def test_the_second_start_reads_the_cache_and_never_the_images(root: Path) -> None:
    first = load(root)
    for file in root.rglob("*.png"):  # same names, sizes, times, other bytes
        stat = file.stat()
        file.write_bytes(b"x" * stat.st_size)
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = load(root)
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert other.images.untyped_storage().nbytes() == other.images.numel()
    assert first.classes == second.classes


def rewrite(file: Path) -> None:
    picture(9).save(file)
    os.utime(file, ns=(0, 10**18))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda train: rewrite(train / "ant/a.png"), id="content"),
        pytest.param(lambda train: picture(9).save(train / "ant/z.png"), id="one more"),
        pytest.param(lambda train: (train / "cat/a.png").unlink(), id="one less"),
        pytest.param(lambda train: (train / "cat/a.png").rename(train / "cat/z.png"), id="renamed"),
        pytest.param(lambda train: (train / "cat/c.png").rename(train / "ant/c.png"), id="other class"),
    ],
)
def test_a_change_rebuilds_the_cache_and_removes_the_old_one(
    root: Path, user_cache: Path, change: Callable[[Path], object]
) -> None:
    load(root)
    before = caches(user_cache)
    change(root / "train")
    data = load(root)
    fresh = [np.asarray(Image.open(file)) for file in sorted((root / "train").rglob("*.png"))]
    assert torch.equal(data.train.images, torch.from_numpy(np.stack(fresh)).permute(0, 3, 1, 2))
    after = caches(user_cache)
    assert len(after) == 2 and len(set(before) & set(after)) == 1, "the cache of the other half stays"


def test_every_image_size_has_its_own_cache(root: Path, user_cache: Path) -> None:
    assert only_train_image(root, 8).shape == (3, 8, 8)
    assert only_train_image(root, 4).shape == (3, 4, 4)
    assert len(caches(user_cache)) == 4


@pytest.mark.parametrize("keep", [0, 5, 100, 300])
def test_a_damaged_cache_is_rebuilt(root: Path, user_cache: Path, keep: int) -> None:
    whole = load(root).train.images.clone()
    for file in user_cache.rglob("*.npy"):
        file.write_bytes(file.read_bytes()[:keep])
    assert torch.equal(load(root).train.images, whole)
    assert all(file.stat().st_size > 300 for file in user_cache.rglob("*.npy"))


def test_the_content_is_known_without_looking_at_every_image_again(
    root: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(root).content
    monkeypatch.setattr("src.data.image_folder.digest", None)  # not called
    assert load(root).content == first


def test_a_cache_is_never_unpickled(root: Path, user_cache: Path) -> None:
    whole = load(root).train.images.clone()
    for file in user_cache.rglob("*.npy"):
        np.save(file, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    assert torch.equal(load(root).train.images, whole)


def test_a_decode_that_fails_leaves_no_cache(root: Path, user_cache: Path) -> None:
    for name in ("train/cat/z.png", "train/cat/c.png"):
        (root / name).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"c\.png cannot be read"):  # the first
        load(root)
    assert not list(user_cache.rglob("*.npy"))


KILLED = """
import sys, time
from pathlib import Path
from src.data import image_folder

decode, cache = image_folder.decode, Path(sys.argv[2])

def slow(path, *settings):
    if path.endswith("1150.png"):
        while not any(note.read_text().startswith("1024 ") for note in cache.rglob("*.txt")):
            time.sleep(0.01)
        print("now", flush=True)
        time.sleep(60)
    return decode(path, *settings)

image_folder.decode = slow
image_folder.ImageFolder(sys.argv[1], 8).load()
"""


def test_a_killed_decode_goes_on_where_it_stopped(
    root: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(1200):
        picture(place).save(root / f"train/ant/{place:04}.png")
    with subprocess.Popen([sys.executable, "-c", KILLED, str(root), str(user_cache)], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None and run.stdout.readline().strip() == b"now"
        run.kill()
    assert not list(user_cache.rglob("*.npy"))
    decoded: list[str] = []
    monkeypatch.setattr(image_folder, "decode", lambda path, *rest: decoded.append(path) or decode(path, *rest))
    monkeypatch.setattr(image_folder, "largest_16_bit_value", None)  # not called: this is noted too
    images = load(root).train.images
    files = sorted((root / "train").rglob("*.png"))
    assert sorted(decoded) == [*map(str, sorted((root / "test").rglob("*.png"))), *map(str, files[1024:])]
    assert torch.equal(images, torch.stack([as_tensor(Image.open(file)) for file in files]))
    assert len(caches(user_cache)) == 2


def test_processes_decode_what_threads_do(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = load(root)
    monkeypatch.setattr(image_folder, "MANY", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    processes = load(root)
    assert torch.equal(processes.train.images, threads.train.images) and processes.content == threads.content
    file = root / "train/ant/b.png"
    file.write_bytes(b"broken")
    assert refusal(root).startswith(f"{file} cannot be read as an image (cannot identify image file")


@pytest.mark.parametrize("memory", [10**9, 1])
def test_batches_from_the_mapped_cache_are_those_from_memory(
    root: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: memory, raising=False)  # that the images fill a part of, or more
    settings = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "batch_size": 2, "eval_batch_size": 2, "val_size": "test"}

    class InMemory:
        def load(self) -> LabelledImages:
            images = load(root)
            halves = (ImageSet(half.images.clone(), half.labels) for half in (images.train, images.test))
            return LabelledImages(*halves, images.classes)

    load(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch may warn of memory that cannot be written
        mapped = ImageDataModule(ImageFolder(str(root), 8), Pipeline(), 0, **settings)
    in_memory = ImageDataModule(InMemory(), Pipeline(), 0, **settings)
    assert mapped.content == in_memory.content
    for one, other in zip(mapped.test_dataloader(), in_memory.test_dataloader(), strict=True):
        assert all(map(torch.equal, one, other))
    for batch in torch.randperm(5).split(2):
        for file in user_cache.rglob("*.npy"):
            with file.open("rb") as stream, suppress(AttributeError):  # not on Linux
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk again
        assert all(map(torch.equal, mapped.train.__getitems__(batch), in_memory.train.__getitems__(batch)))


@pytest.mark.skipif(sys.platform != "linux", reason="asks no other system")
def test_the_disk_is_asked_for_every_batch_until_one_is_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(root)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "sysconf", lambda _: 1)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, advice: asked.append((start, size)))
    reads = iter([0, 8, 8, 9])
    monkeypatch.setattr(image_folder.resource, "getrusage", lambda _: SimpleNamespace(ru_inblock=next(reads)))
    images = load(root).train.select(torch.arange(5))
    for batch, expected in (([0, 2], [0, 2]), ([1], [1]), ([3], []), ([4], [4])):
        images.__getitems__(batch)
        assert asked == [(128 + 192 * place, 192) for place in expected]
        asked.clear()


def test_the_mapping_is_read_only(root: Path, user_cache: Path) -> None:
    load(root)
    for file in user_cache.rglob("*.npy"):
        assert not _read(file).flags.writeable


def test_a_disk_that_is_full_is_told_before_and_found_while_decoding(
    root: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = pytest.importorskip("resource")
    whole = load(root, 64).train.images.clone()
    shutil.rmtree(user_cache)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.warns(UserWarning, match=r"could not be cached and will be decoded again: 0\.0 GB are needed in"):
            assert torch.equal(load(root, 64).train.images, whole)
    soft, hard = limits.getrlimit(limits.RLIMIT_FSIZE)
    limits.setrlimit(limits.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.warns(UserWarning, match="could not be cached and will be decoded again"):
            assert torch.equal(load(root, 64).train.images, whole)
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, (soft, hard))
    assert not [file for file in user_cache.rglob("*train*") if file.stat().st_size > 100]


def test_a_cache_that_comes_along_with_the_images_is_not_believed(root: Path, user_cache: Path) -> None:
    first = load(root).train.images.clone()
    shutil.copytree(user_cache, root / ".cache")  # what a stranger may have altered
    shutil.rmtree(user_cache)
    for file in (root / ".cache").rglob("*.npy"):
        np.save(file, np.zeros_like(np.load(file)))
    assert torch.equal(load(root).train.images, first)


@pytest.mark.parametrize("left", [".train-8px-0.npy.part", ".train-8px-{key}.npy.part"])
def test_what_a_killed_process_left_is_removed(root: Path, user_cache: Path, left: str) -> None:
    load(root)
    (file,) = user_cache.rglob("train-8px-*.npy")
    part = file.with_name(left.format(key=file.stem.rpartition("-")[2]))
    part.write_bytes(b"half of it")
    (root / "train/cat/a.png").unlink()
    load(root)
    assert not part.exists() and len(caches(user_cache)) == 2


def test_without_any_place_for_a_cache_it_still_loads(root: Path, user_cache: Path) -> None:
    user_cache.touch()
    with pytest.warns(UserWarning, match="could not be cached and will be decoded again"):
        assert len(load(root).train) == 5


def test_runs_that_start_together_do_not_disturb_each_other(
    root: Path, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Barrier(4)
    decoded: list[str] = []
    monkeypatch.setattr(image_folder, "decode", lambda path, *rest: decoded.append(path) or decode(path, *rest))

    def run(_: int) -> Tensor:
        together.wait()
        return load(root).train.images

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, range(4)))
    assert len(decoded) == 7, "each image is decoded by one of them"
    assert all(torch.equal(images, load(root).train.images) for images in results)
    assert len(caches(user_cache)) == 2, "no partial files are left"


# ---- What is refused -----------------------------------------------------------------------------------


def refusal(root: Path, image_size: int = 8) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        load(root, image_size)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def empty(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(Path("nowhere")).startswith(f"There is no folder {tmp_path / 'nowhere'}: set data.root to")


@pytest.mark.parametrize("half", ["train", "test"])
def test_half_a_data_set(root: Path, half: str) -> None:
    (root / half).rename(root / "elsewhere")
    assert refusal(root).startswith(f"There is no folder {root / half}: images are expected in ")


def test_a_class_without_images(root: Path) -> None:
    empty(root / "test/ant")
    assert refusal(root).startswith(f"{root / 'test' / 'ant'} holds no images (no file with an extension")


def test_no_class_folders(root: Path) -> None:
    empty(root / "train")
    picture(0).save(root / "train/a.png")
    assert refusal(root).startswith(f"{root / 'train'} must hold at least two class folders, but it holds 0: put")


def test_a_single_class(root: Path) -> None:
    for half in ("train", "test"):
        (root / half / "cat").rename(root / f"{half}-cat")
    assert refusal(root).startswith(f"{root / 'train'} must hold at least two class folders, but it holds 1 (ant): put")


def test_classes_that_differ_are_named(root: Path) -> None:
    for name in ("dog", "elk"):
        (root / "train" / name).mkdir()
        picture(0).save(root / "train" / name / "a.png")
    assert refusal(root) == (
        f"Train and test must have the same classes, but dog, elk can be found in {root / 'train'} "
        f"and not in {root / 'test'}: add or remove these folders."
    )
    (root / "train/dog").rename(root / "test/dog")
    (root / "train/elk").rename(root / "test/elk")
    assert f"dog, elk can be found in {root / 'test'} and not in {root / 'train'}" in refusal(root)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF\0"]
)
def test_a_file_that_is_no_image_is_named(root: Path, content: bytes) -> None:
    file = root / "test/cat/broken.png"
    file.write_bytes(content)
    assert refusal(root).startswith(f"{file} cannot be read as an image (")


def test_a_truncated_image_is_named(root: Path) -> None:
    file = root / "train/cat/broken.jpg"
    picture(0, 64, 64).save(file)
    file.write_bytes(file.read_bytes()[:-500])
    assert refusal(root).startswith(f"{file} cannot be read as an image (image file is truncated")


@pytest.mark.filterwarnings("ignore:.*decompression bomb")  # pytest undoes what src.data.decode chose
@pytest.mark.parametrize("limit", [700, 1500])  # Pillow itself would only warn of the second
def test_a_decompression_bomb_is_named(root: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    file = root / "train/cat/bomb.png"
    picture(0, 40, 40).save(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    sentence = refusal(root)
    assert sentence.startswith(f"{file} cannot be read as an image (Image size (1600 pixels) exceeds limit")


def test_a_program_for_ghostscript_is_no_image(root: Path) -> None:
    file = root / "train/cat/program.png"
    Image.new("RGB", (8, 8)).save(file, "EPS")
    assert refusal(root).startswith(f"{file} cannot be read as an image (cannot identify image file")


def test_pixels_without_a_known_range_are_refused(root: Path) -> None:
    file = root / "train/cat/float.tif"
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(file)
    assert "its pixels are of Pillow's mode F, whose range is not known" in refusal(root)


def test_a_link_to_nowhere_is_named(root: Path) -> None:
    link = root / "train/cat/link.png"
    try:
        link.symlink_to(root / "gone.png")
    except OSError:
        pytest.skip("this system does not let its user make symbolic links")
    assert refusal(root).startswith(f"{link} cannot be read (No such file")


@pytest.mark.parametrize("size", [0, -1, 8.5])
def test_a_senseless_size(root: Path, size: int) -> None:
    assert refusal(root, size) == f"data.image_size must be a whole number >= 1, but it is {size}."


# ---- The real thing ------------------------------------------------------------------------------------


def test_real_jpegs(tmp_path: Path) -> None:
    if not JPEGS.is_dir():
        pytest.skip(f"needs CIFAR-10 as JPEG files in {JPEGS}")
    for half in ("train", "test"):
        for folder in (JPEGS / half).iterdir():
            if folder.name.startswith("."):
                continue
            (tmp_path / half / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:5]:
                (tmp_path / half / folder.name / file.name).write_bytes(file.read_bytes())
    data = load(tmp_path, 32)
    assert data.train.images.shape == data.test.images.shape == (50, 3, 32, 32)
    assert len(data.classes) == 10 and data.train.labels.bincount().tolist() == [5] * 10
    assert 100 < data.train.images.float().mean() < 140
