"""From a config to the objects it describes, and what a config from a file may not describe."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from src.runs.folder import RunFolder
from src.runs.trust import known_targets, trusted
from src.training.build import build_classifier, build_data, build_run_trainer, build_trainer
from src.training.callbacks.checkpoints import Checkpoints
from src.training.callbacks.history import History
from src.training.callbacks.interrupt import InterruptCheckpoint

Launch = Callable[..., Any]

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def config(finished: Any) -> DictConfig:
    """A complete, resolved one, as it was recorded."""
    return OmegaConf.create(finished.results["config"])


def test_what_a_run_recorded_can_be_built_again(config: DictConfig) -> None:
    data = build_data(config)
    module = build_classifier(config, data)
    assert len(data.train) == 200 and data.classes == tuple("0123456789")
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
    assert module.hparams["config"] == OmegaConf.to_container(config)


def test_the_seed_decides_the_initial_weights(config: DictConfig) -> None:
    data = build_data(config)
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(build_classifier(config, data).network.fc.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_run_always_keeps_history_and_checkpoints(config: DictConfig, tmp_path: Path) -> None:
    config.callbacks = config.logger = None
    trainer, history = build_run_trainer(config, RunFolder(tmp_path), validates=False)
    kinds = {type(callback) for callback in trainer.callbacks}
    assert kinds >= {History, Checkpoints, InterruptCheckpoint} and history in trainer.callbacks
    assert trainer.loggers == []


def test_a_callback_can_be_switched_off(config: DictConfig, tmp_path: Path) -> None:
    config.callbacks.progress = None
    trainer, _ = build_run_trainer(config, RunFolder(tmp_path), validates=False)
    assert trainer.progress_bar_callback is None


@pytest.mark.parametrize(
    ("setting", "value", "validates"),
    [("max_steps", 10, True), ("check_val_every_n_epoch", 2, True), ("limit_train_batches", 0, False)],
)
def test_a_trainer_that_could_not_choose_or_train_is_refused(
    config: DictConfig, tmp_path: Path, setting: str, value: int, validates: bool
) -> None:
    config.trainer[setting] = value
    with pytest.raises(ValueError, match=f"^trainer.{setting} "):
        build_run_trainer(config, RunFolder(tmp_path), validates)


@pytest.mark.parametrize("epochs", [0, -1, None, 1.5, "ten"])
def test_a_run_has_at_least_an_epoch(config: DictConfig, epochs: Any) -> None:
    config.trainer.max_epochs = epochs
    with pytest.raises(ValueError, match=r"^trainer.max_epochs is .*; expected a whole number, 1 or more.$"):
        build_trainer(config)


# ------------------------------------------------------------------------------------------------------------
# Trust: see test_trust.py for what is refused
# ------------------------------------------------------------------------------------------------------------


def test_what_conf_names_is_trusted(finished: Any) -> None:
    config = finished.results["config"]
    assert OmegaConf.to_container(trusted(config)) == config
    targets = {
        "model": "src.models.resnet.resnet10",
        "trainer": "lightning.Trainer",
        "data": "src.data.torchvision_sets.CIFAR10",
        "logger": "lightning.pytorch.loggers.TensorBoardLogger",
    }
    for group, target in targets.items():
        assert target in known_targets(group)
        assert all(known.startswith(("src.", "lightning.")) for known in known_targets(group))
        others = targets.keys() - {group}
        assert not any(target in known_targets(other) for other in (*others, "hydra", "", "..", "*", "../conf/data"))


# ------------------------------------------------------------------------------------------------------------
# Experiments
# ------------------------------------------------------------------------------------------------------------

EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=() if name in ("quickstart", "optimizers") else pytest.mark.slow)
        for name in EXPERIMENTS
    ],
)
def test_every_experiment_runs(train_as_given: Launch, experiment: str) -> None:
    run = train_as_given(
        f"experiment={experiment}", "data=digits", "data.image_size=8", "trainer=cpu", "trainer.max_epochs=1",
        "data.train_size=64", "data.batch_size=32", "data.eval_batch_size=50",
        "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1",
        "compile=false",  # which takes a minute, and has a test of its own
    )  # fmt: skip
    assert run.code == 0, run.err
    assert run.results["status"] == "completed"


PRESETS = {"stem": 6, "augmentation": 9, "optimizers": 27, "ablation": 54}  # and the runs they promise


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
@pytest.mark.parametrize(("experiment", "runs"), PRESETS.items())
def test_a_preset_is_a_grid_of_the_promised_size_at_either_scale(experiment: str, runs: int, scale: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", f"scale={scale}"], return_hydra_config=True)
        full = compose("train", [f"experiment={experiment}"])
    grid = [str(levels).split(",") for levels in cfg.hydra.sweeper.params.values()]
    assert math.prod(len(set(levels)) for levels in grid) == runs
    assert f"{runs} runs" in (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert cfg.hydra.sweeper.params.seed == "1,2,3"
    assert cfg.trainer.max_epochs < full.trainer.max_epochs
    assert cfg.trainer.accelerator == ("gpu" if scale == "gpu" else "auto")
    assert (cfg.data.train_size is None) == (scale == "gpu")


def test_every_optimizer_has_rates_of_its_own(train: Launch, tmp_path: Path) -> None:
    """Around its usual one, each a level of the factor lr."""
    grid = ("experiment=optimizers", "optim=sgd,adam", "lr_multiplier=3", "seed=1")
    run = train(*grid, "trainer.limit_train_batches=1", "callbacks=none", "logger=none", "--multirun")
    assert run.code == 0, run.err
    results = [json.loads(file.read_text()) for file in tmp_path.glob("logs/train/sweeps/*/*/results.json")]
    assert {(r["choices"]["optim"], r["settings"]["optim.lr"], r["config"]["optim"]["lr"]) for r in results} == {
        ("sgd", 0.3, 0.3),
        ("adam", 0.003, 0.003),
    }
    files = [file for file in (CONF / "optim").glob("*.yaml") if file.stem not in ("custom", "timm")]
    usual = {file.stem: OmegaConf.load(file).lr for file in files}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("train", ["experiment=optimizers"]).usual_lr == usual
