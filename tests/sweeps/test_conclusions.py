"""A sweep that varies what nobody foresaw: every arm is an experiment of its own."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.analysis.caveats import caveats
from src.analysis.effects import without_repetitions
from src.analysis.table import load_runs, varying_factors

Launch = Callable[..., Any]
AS_LITTLE = ("data.batch_size=4", "data.image_size=8", "model=simplecnn", "aug=none", "trainer=cpu", "logger=none",
             "trainer.max_epochs=1", "callbacks=none", "sweep=s", "--multirun")  # fmt: skip
FOLDER = ("data=image_folder", "data.val_size=0", *AS_LITTLE)
DIGITS = ("data=digits", "data.train_size=20", *AS_LITTLE)
EMA = ("+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging",)


def write_images(root: Path, first: int = 0) -> Path:
    """Six training and three test images of each of two classes; other ones for another ``first``."""
    for half, count in (("train", 6), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (root / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.random.default_rng([first, label, number, count]).integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(root / half / name / f"{number}.png")
    return root


def results(cwd: Path) -> dict[str, Any]:
    files = (cwd / "logs" / "train" / "sweeps" / "s").glob("*/results.json")
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(files)}


def factors(cwd: Path) -> list[str]:
    runs = load_runs(cwd / "logs" / "train" / "sweeps" / "s")
    assert (runs.status == "completed").all()
    assert len(without_repetitions(runs)) == len(runs), "an arm was taken for a repetition of another"
    return varying_factors(runs)


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        (("trainer.gradient_clip_val=0.1", "+trainer.gradient_clip_algorithm=norm,value"), "gradient_clip_algorithm"),
        ((*EMA, "+callbacks.ema.decay=0.1,0.9"), "decay"),
        (("data.split_seed=1,2",), "split_seed"),
        (("+trainer.an_argument_that_is_not_handed_on=1,2",), None),
    ],
)
def test_whatever_is_swept_is_a_factor(
    train_as_given: Launch, tmp_path: Path, swept: Any, expected: str | None
) -> None:
    run = train_as_given(*DIGITS, *swept)
    if expected is None:  # Lightning refuses it, and both arms say so
        assert run.code == 1 and len(results(tmp_path)) == 2
    else:
        assert run.code == 0, run.out
        assert factors(tmp_path) == [expected]


def test_a_split_in_step_with_the_seed_is_no_factor(train_as_given: Launch, tmp_path: Path) -> None:
    assert train_as_given(*DIGITS, "seed=1,2", "model.norm=none,batch", "data.split_seed=${seed}").code == 0
    assert factors(tmp_path) == ["norm"]


@pytest.mark.parametrize(
    "added",
    [
        EMA,
        pytest.param(("+trainer.fast_dev_run=true",), marks=pytest.mark.slow),
        pytest.param(("+trainer.overfit_batches=1",), marks=pytest.mark.slow),
    ],
)
def test_a_job_with_something_added_is_not_the_one_without(
    train_as_given: Launch, tmp_path: Path, added: tuple[str, ...]
) -> None:
    assert train_as_given(*DIGITS, *added, "seed=1").code == 0
    (first,) = results(tmp_path).values()
    again = train_as_given(*DIGITS, "seed=1")
    assert again.code == 1 and "holds a run with other settings" in again.err
    assert added[0].partition("=")[0].lstrip("+") in again.err
    assert list(results(tmp_path).values()) == [first]


def test_images_count_by_content_wherever_they_lie(train_as_given: Launch, tmp_path: Path) -> None:
    write_images(tmp_path / "a"), write_images(tmp_path / "b", first=7)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert train_as_given(*FOLDER, "data.root=a,b,copy", "seed=1").code == 0
    runs = load_runs(tmp_path / "logs" / "train" / "sweeps" / "s")
    kept = without_repetitions(runs)
    assert [settings["data.content"] for settings in runs.settings][0::2][0] == runs.settings.iloc[2]["data.content"]
    assert list(kept.job.str.contains("copy")) == [False, False]
    assert train_as_given(*FOLDER, "data.root=copy", "seed=1").code == 0  # known by another name


def test_a_class_that_changed_its_name_between_seeds_is_told(train_as_given: Launch, tmp_path: Path) -> None:
    root = write_images(tmp_path / "a")
    assert train_as_given(*FOLDER, "data.root=a", "seed=1").code == 0
    for half in ("train", "test"):
        for before, after in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
            (root / half / before).rename(root / half / after)
    assert train_as_given(*FOLDER, "data.root=a", "seed=2").code == 0
    runs = load_runs(tmp_path / "logs" / "train" / "sweeps" / "s")
    assert "images, labels or classes are not the same" in " ".join(caveats(runs, runs, varying_factors(runs)))


def test_a_job_is_run_again_rather_than_believed_after_its_images_changed(
    train_as_given: Launch, tmp_path: Path
) -> None:
    root = write_images(tmp_path / "a")
    assert train_as_given(*FOLDER, "data.root=a", "seed=1").code == 0
    same = train_as_given(*FOLDER, "data.root=a", "seed=1")
    assert same.code == 0 and "completed before" in same.out
    shutil.copy(root / "train" / "cat" / "0.png", root / "train" / "dog" / "new.png")
    other = train_as_given(*FOLDER, "data.root=a", "seed=1")
    assert other.code == 1 and "data.content was" in other.err
