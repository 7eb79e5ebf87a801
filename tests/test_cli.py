"""What the command line answers before anything is trained."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

Launch = Callable[..., Any]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("command", "argument", "told"),
    [
        ("train", "--help", "resnet50_cifar_stem"),
        ("train", "--cfg=job", "seed: 42"),
        ("export", "--help", "format: onnx"),
        ("explain", "--help", "images: null"),
    ],
)
def test_help_and_config_come_without_torch(tmp_path: Path, command: str, argument: str, told: str) -> None:
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"src.{command}", argument],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0 and told in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "torchvision", "sklearn", "pandas", "matplotlib"}
    assert not list(tmp_path.iterdir())


def test_a_wrong_choice_lists_the_valid_ones(train: Launch, tmp_path: Path) -> None:
    run = train("model=resnet")
    assert run.code == 1
    assert "Could not find 'model/resnet'" in run.err
    choices = {file.stem for file in (ROOT / "conf" / "model").iterdir()}
    assert choices <= set(run.err.split()) and "Traceback" not in run.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", ["optim.learning_rate=1", "modle=resnet10", "trainer.epochs=3"])
def test_a_wrong_key_says_so(train: Launch, override: str) -> None:
    run = train(override)
    assert run.code == 1
    assert f"Could not override '{override.partition('=')[0]}'" in run.err and "Traceback" not in run.err


def test_every_choice_of_every_group_composes(train_as_given: Launch, tmp_path: Path) -> None:
    defaults = OmegaConf.load(ROOT / "conf" / "train.yaml").defaults
    groups = [key for entry in defaults if isinstance(entry, DictConfig) for key in entry if " " not in key]
    assert {"data", "model", "optim", "schedule", "aug", "trainer", "experiment"} <= set(groups)
    choices = [[f"{group}={file.stem}" for file in (ROOT / "conf" / group).glob("[!_]*.yaml")] for group in groups]
    for overrides in zip_longest(*choices):  # one of each group at a time
        run = train_as_given(*filter(None, overrides), "--cfg", "job")
        assert run.code == 0, run.err
    assert not list(tmp_path.iterdir())
