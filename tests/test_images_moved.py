"""The images of a run lie elsewhere now, under any name, or only those to test on are left."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import src.eval
import src.train
from src.data.image_folder import ImageFolder
from tests.conftest import Run, launch

SETTINGS = ("data=image_folder", "data.image_size=8", "data.batch_size=4", "model=simplecnn", "aug=none", "trainer=cpu")
SETTINGS += ("trainer.max_epochs=1", "logger=none", "callbacks=none", "data.val_size=0")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run on images in ``images``, which have moved to ``a=1,b (2)`` since."""
    folder = tmp_path_factory.mktemp("moved")
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (folder / "images" / place).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (8, 8), (number, 100 * ("dog" in place), 0)).save(
                folder / "images" / place / f"{number}.png"
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        run = launch(src.train.main, folder, *SETTINGS, "data.root=images")
        assert run.code == 0, run.err
        (folder / "images").rename(folder / "a=1,b (2)")
        yield run


def test_a_checkpoint_is_evaluated_on_them(trained: Run) -> None:
    cwd = trained.folder.parents[3]
    ckpt = f"ckpt={trained.folder}"
    lost = launch(src.eval.main, cwd, ckpt)
    assert lost.code == 1 and "set data.root" in lost.err
    found = launch(src.eval.main, cwd, ckpt, "data.root=a=1,b (2)", "data.eval_batch_size=3")
    assert found.code == 0, found.err
    assert f"test accuracy {trained.results['metrics']['test/accuracy']:.2%}" in found.out
    run = launch(src.eval.main, cwd, ckpt, "data.download=true")
    assert run.code == 1 and "data.download" in run.err


def test_a_run_is_resumed_with_them_and_with_no_others(trained: Run, tmp_path: Path) -> None:
    cwd = trained.folder.parents[3]
    run = launch(src.train.main, cwd, f"resume={trained.folder}", "trainer.max_epochs=2", "data.root=a=1,b (2)")
    assert run.code == 0, run.err
    assert "resumed in epoch 2/2, after step 3" in run.out
    shutil.copytree(cwd / "a=1,b (2)", tmp_path / "other")
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "other/train/cat/0.png")
    run = launch(
        src.train.main, cwd, f"resume={trained.folder}", "trainer.max_epochs=3", f"data.root={tmp_path / 'other'}"
    )
    assert run.code == 1 and "the content of images, or their labels, has changed" in run.err


def test_testing_takes_only_the_test_images(trained: Run, tmp_path: Path) -> None:
    cwd = trained.folder.parents[3]
    shutil.copytree(cwd / "a=1,b (2)" / "test", tmp_path / "test")
    for data in (["data=image_folder", "data.image_size=8"], []):
        run = launch(src.eval.main, cwd, f"ckpt={trained.folder}", *data, f"data.root={tmp_path}")
        assert run.code == 0, run.err
    assert f"test accuracy {trained.results['metrics']['test/accuracy']:.2%}" in run.out


def test_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    for name in ("train/caf\u00e9", "train/tea", "test/cafe\u0301", "test/tea"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(ValueError, match=r"but caf\u00e9 \(caf\\xe9\) can be found"):
        ImageFolder(str(tmp_path), 8).load()
