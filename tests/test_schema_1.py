"""A run, a sweep and a checkpoint that were made before src was ordered into rooms are used as they were.

tests/fixtures/made_with_schema_1.tar.xz holds what commit ffe5548 wrote (digits of 8 x 8, SimpleCNN, SGD without
momentum): ``run``, of which the weights were then rounded to bfloat16, so that the archive is small; ``eval.json`` and
``continued_metrics.csv``, what that commit's src.eval and resume made of it; ``old_sweep`` without its checkpoints.
"""

import csv
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.explain
import src.export
import src.predict
import src.report
import src.status
from tests.conftest import launch

Launch = Callable[..., Any]
ARCHIVE = Path(__file__).parent / "fixtures" / "made_with_schema_1.tar.xz"
SWEEP = ("data=digits", "data.image_size=8", "data.train_size=200", "data.batch_size=50", "model=simplecnn", "aug=none",
         "trainer=cpu", "optim.momentum=0", "optim.nesterov=false", "optim.lr=0.05", "trainer.max_epochs=1",
         "sweep=old_sweep", "optim=sgd", "model.norm=none,batch", "--multirun")  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "logs" / "train" / "sweeps").mkdir(parents=True)
    (tmp_path / "old_sweep").rename(tmp_path / "logs" / "train" / "sweeps" / "old_sweep")
    return tmp_path


def columns(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(stream)]


def test_a_run_resumes_to_the_same_figures(old: Path, resume: Launch) -> None:
    run = resume(old / "run", "trainer.max_epochs=2")
    assert run.code == 0, run.err
    assert columns(old / "run" / "metrics.csv") == columns(old / "continued_metrics.csv")
    assert run.results["schema"] == 2 and run.results["settings"]["trainer.max_epochs"] == 2


def test_a_checkpoint_evaluates_to_the_same_figures(old: Path, evaluate: Launch) -> None:
    run = evaluate(f"ckpt={old / 'run'}", "trainer=cpu")
    before, now = (json.loads(file.read_text()) for file in (old / "eval.json", run.folder / "eval.json"))
    assert now["metrics"] == pytest.approx(before["metrics"], rel=1e-6)
    assert now["confusion"] == before["confusion"] and now["classes"] == before["classes"]


@pytest.mark.parametrize("format", ["torch_export", "safetensors"])
def test_a_checkpoint_is_exported_with_its_card(old: Path, format: str) -> None:
    run = launch(src.export.main, old, f"ckpt={old / 'run'}", f"format={format}", "out=out")
    assert run.code == 0, run.err
    (card,) = (old / "out").glob("*.md")
    assert "simplecnn" in card.read_text().lower() and "unknown" not in card.read_text()


def test_a_sweep_is_reported_and_says_what_it_cannot_know(old: Path) -> None:
    run = launch(src.report.main, old, "sweep=old_sweep")
    assert run.code == 0, run.err
    assert "norm batch" in run.out and "4 of 4 runs did not record the content of their images" in run.out
    assert "2 of 4 completed jobs repeat" not in run.out
    status = launch(src.status.main, old, "sweep=old_sweep")
    assert status.code == 0 and "4 completed" in status.out


def test_a_sweep_is_extended_and_what_was_completed_stays(old: Path, train_as_given: Launch) -> None:
    folder = old / "logs" / "train" / "sweeps" / "old_sweep"
    before = {file: file.read_bytes() for file in folder.glob("*/results.json")}
    run = train_as_given(*SWEEP, "seed=1,2,3")
    assert run.code == 0, run.err
    assert run.out.count("completed before") == 4
    assert {file: file.read_bytes() for file in before} == before
    assert len(list(folder.glob("*/results.json"))) == 6


def test_a_sweep_with_other_settings_is_refused(old: Path, train_as_given: Launch) -> None:
    run = train_as_given(*SWEEP, "seed=1", "data.val_size=0.2")
    assert run.code == 1 and "data.val_size was 0.1 and is now 0.2" in run.err


def test_a_copy_without_its_run_folder_predicts(old: Path) -> None:
    checkpoint = shutil.copy(old / "run" / "checkpoints" / "best.ckpt", old / "alone.ckpt")
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    Image.fromarray((load_digits().images[0] * 15.9).astype(np.uint8)).save(old / "zero.png")
    run = launch(src.predict.main, old, f"ckpt={checkpoint}", "images=zero.png", "trainer=cpu")
    assert run.code == 0 and "zero.png" in run.out
