"""From a real sweep to its page."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import src.report
import src.train
from tests.conftest import TINY, Run, launch

GRID = ("sweep=study", "model=deepcnn", "model.skip=false,true", "model.init=torch,he", "seed=1,2")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The folder in which a 2 × 2 grid of two seeds was trained, and the report on it."""
    folder = tmp_path_factory.mktemp("sweep")
    small = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "callbacks=signals", "data.val_size=0")
    assert launch(src.train.main, folder, "--multirun", *TINY, *small, "logger=none", *GRID).code == 0
    return folder, launch(src.report.main, folder, "sweep=study")


def test_the_page_holds_every_configuration_and_effect(reported: tuple[Path, Run]) -> None:
    folder, run = reported
    assert run.code == 0
    page = (folder / "logs/report/study/report.md").read_text()
    assert page in run.out
    assert "8 of 8 runs completed: 200 training images, 1 epochs, seed 1, 2." in page
    assert page.count("| skip | False → True | init ") == 2
    assert "| skip × init | False → True, torch → he | 2 |" in page
    with (folder / "logs/report/study/runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert row["status"] == "completed"
        assert 0 <= float(row["test/accuracy"]) <= 1


def test_the_figures_are_drawn(reported: tuple[Path, Run]) -> None:
    report = reported[0] / "logs/report/study"
    for name in ("accuracy", "gradients", "loss"):
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        drawing = (report / f"{name}.svg").read_text()
        assert "200 training images, 1 epochs" in drawing or "<svg" in drawing
        assert f"![{name}]({name}.png)" in (report / "report.md").read_text()


def test_a_run_that_did_not_complete_is_named_and_left_out(reported: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    victim = next((tmp_path / "logs/train/sweeps/study").glob("*skip=True*seed=2"))
    file = victim / "results.json"
    file.write_text(file.read_text().replace('"status": "completed"', '"status": "failed"'))
    run = launch(src.report.main, tmp_path, "sweep=study")
    assert "7 of 8 runs completed" in run.out
    assert f"- not in the figures: {victim.name} (failed)" in run.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a sweep: python -m src.report sweep=<name of a folder in logs/train/sweeps>"),
        (["sweep=nope"], "There are no runs in logs/train/sweeps/nope"),
    ],
)
def test_a_mistake_gets_a_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    run = launch(src.report.main, tmp_path, *arguments)
    assert run.code == 1
    assert run.err.startswith(sentence)
    assert "Traceback" not in run.err


def test_all_runs_failed(reported: tuple[Path, Run], tmp_path: Path, train: Callable[..., Run]) -> None:
    launch(src.train.main, tmp_path, "--multirun", *TINY, "sweep=broken", "optim.lr=-1,-2")
    run = launch(src.report.main, tmp_path, "sweep=broken")
    assert run.err == "None of the 2 runs in logs/train/sweeps/broken has completed; there is nothing to report.\n"
