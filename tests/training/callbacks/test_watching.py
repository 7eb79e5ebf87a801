"""What one sees of a run while it goes on: the progress bar, the speed, TensorBoard's page."""

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import WATCHED

Launch = Callable[..., Any]


def plain(screen: str) -> str:
    """Without colours and cursor movements."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen)


def test_the_progress_bar_shows_what_one_waits_for(train: Launch) -> None:
    run = train(*WATCHED, "trainer.log_every_n_steps=1", terminal=True)
    row = run.rows[-1]
    line = [line for line in re.split(r"[\r\n]+", plain(run.out)) if line.startswith("Epoch 2/2")][-1]
    assert f"loss: {float(row['train/loss']):.3f}" in line
    assert f"train acc: {float(row['train/accuracy']):.1%}" in line
    assert f"val acc: {float(row['val/accuracy']):.1%}" in line
    assert "images/s: " in line and "4/4" in line


def test_without_a_terminal_or_a_bar_the_epochs_are_told_all_the_same(finished: Any, train: Launch) -> None:
    run = train(*WATCHED, "~callbacks.progress", "trainer.max_epochs=1", terminal=True)
    assert run.code == 0
    for told in (plain(run.out), finished.out):
        assert re.search(r"epoch 1/\d  train loss", told) and "Epoch 1" not in told


def test_the_speed_of_every_epoch_is_recorded(finished: Any) -> None:
    speeds = sorted(float(row["speed/images_per_second"]) for row in finished.rows)
    assert speeds[0] > 0
    assert finished.results["images_per_second"] == pytest.approx(speeds[1])  # the median


def test_the_time_of_a_resumed_run_includes_what_went_before(finished: Any, resume: Launch, tmp_path: Any) -> None:
    shutil.copytree(finished.folder, tmp_path / "copy")
    run = resume(tmp_path / "copy", "trainer.max_epochs=4")
    assert run.results["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in run.rows))
    assert [row["seconds"] for row in run.rows[:3]] == [row["seconds"] for row in finished.rows]
    # And TensorBoard keeps one page of images, drawn when training began.
    assert len(run.events.Images("data/augmented_images")) == 1


def test_the_grid_holds_as_many_images_as_are_asked_for(train: Launch) -> None:
    run = train(*WATCHED, "+callbacks.tensorboard.images=8", "trainer.max_epochs=1")
    (image,) = run.events.Images("data/augmented_images")
    assert (image.width - 2) // (8 + 2) * ((image.height - 2) // (8 + 2)) == 8


def test_another_logger_gets_on_without_tensorboards_page(train: Launch) -> None:
    run = train(*WATCHED, "logger.tensorboard._target_=lightning.pytorch.loggers.CSVLogger", "trainer.max_epochs=1")
    assert run.code == 0, run.err
    assert run.results["status"] == "completed"


def test_tensorboard_is_named_only_where_there_is_something_to_see(finished: Any, train: Launch) -> None:
    assert "tensorboard --logdir" in finished.out
    assert "tensorboard --logdir" not in train("trainer.max_epochs=1").out
