"""The presets of conf/debugging, the settings of this machine, and what a run says at its start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.train
from tests.conftest import TINY, launch

LOOK = ("data=digits", "data.image_size=8", "model=simplecnn", "trainer=cpu")


@pytest.mark.parametrize(
    ("preset", "epochs", "steps"),
    [("fast_dev_run", 1, 1), ("limit", 3, 30), ("profile", 1, 20), ("detect_anomaly", 2, 8)],
)
def test_every_preset_runs(train_as_given: Callable[..., Any], preset: str, epochs: int, steps: int) -> None:
    settings = TINY if preset == "detect_anomaly" else (*LOOK, "data.batch_size=50")
    run = train_as_given(*settings, f"debug={preset}", "callbacks=none", "logger=none")
    assert run.code == 0, run.err
    assert (run.results["epochs"], run.results["steps"]) == (epochs, steps)
    assert bool(list(run.folder.glob("*.trace.json*"))) == (preset == "profile")


@pytest.mark.slow
def test_overfit_learns_its_images_by_heart(train_as_given: Callable[..., Any]) -> None:
    run = train_as_given(*LOOK, "debug=overfit", "callbacks=none", "logger=none")
    assert run.code == 0, run.err
    assert float(run.rows[-1]["train/accuracy"]) > 0.99


def test_this_machines_settings_come_before_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "own" / "local").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /logger: csv\ntrainer:\n  max_epochs: 1\nnotes: here\n"
    (tmp_path / "own" / "local" / "default.yaml").write_text(text)
    settings = [setting for setting in TINY if not setting.startswith(("trainer.max_epochs", "logger"))]
    run = launch(src.train.main, tmp_path, "--config-dir", str(tmp_path / "own"), *settings, "notes=there")
    assert run.code == 0, run.err
    assert run.results["epochs"] == 1 and (run.folder / "csv").exists()
    assert run.results["config"]["notes"] == "there"
    panel = run.out[: run.out.index("epoch 1/1")]
    assert "200 training, 144 validation, 359 test; 10 classes" in panel and "98,378 parameters" in panel
    assert "model simplecnn" in panel and "data.train_size=200" in panel and "model=simplecnn" not in panel
