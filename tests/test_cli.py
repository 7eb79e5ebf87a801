"""What the command line answers before anything is trained."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from tests.conftest import launch

Launch = Callable[..., Any]

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("command", "argument", "told"),
    [
        ("train", "--help", "resnet50_cifar_stem"),
        ("train", "--cfg=job", "seed: 42"),
        ("export", "--help", "format: onnx # onnx, torch_export or safetensors"),
        pytest.param("explain", "--help", "images: null", marks=pytest.mark.slow),
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


MISTAKES = {
    "trainer.max_epoch=3": "There is no trainer.max_epoch; did you mean trainer.max_epochs?",
    "optm=sgd": "There is no optm; did you mean optim?",
    "optimizer=sgd": "There is no optimizer; did you mean optim?",
    "callbacks.mine._target_=my.Own": "There is no callbacks.mine._target_; did you mean callbacks.",
    "optm.lr=0.1": "There is no optm.lr; did you mean optim.lr?",
    "experimnt=quickstart": "There is no experimnt; did you mean experiment?",
    "batch_size=64": "There is no batch_size; did you mean data.batch_size or data.eval_batch_size?",
    "epochs=3": "There is no epochs; did you mean trainer.max_epochs?",
    "hydra.verbos=true": "There is no hydra.verbos; did you mean hydra.verbose?",
    "foo=3": "There is no foo; train has aug, average, callbacks, channels_last,",
    "data.foo=3": "There is no data.foo; data has batch_size, channels, device,",
    "model=resnet101": "There is no model=resnet101; did you mean resnet10 or resnet110 or resnet20?",
    "model=vit": "There is no model=vit; choose one of:",
    "scale=tpu": "There is no scale=tpu; did you mean gpu",
    "hydra/launcher=condor": "There is no hydra/launcher=condor; choose one of: basic,",
    "aug=null": "aug=null chooses nothing; choose one of: autoaugment, basic, cutmix, cutout,",
    "logger=null": "logger=null chooses nothing; choose one of: csv, mlflow, none, tensorboard,",
    "optim=sgd,adam": "optim=sgd,adam gives several values: add --multirun",
    "seed=range(3)": "seed=range(3) gives several values: add --multirun",
    "optim.lr=[0.9": "optim.lr=[0.9 cannot be read: expected key=value without spaces, as in seed=1,2,3, with every",
    "data.root='a": "data.root='a cannot be read: expected key=value",
    "data.root=a=b": "data.root=a=b cannot be read: expected key=value",
    "seed": "seed cannot be read: expected key=value",
    "+optim.lr=3": "Could not append to config. An item is already at 'optim.lr'.",
    "~foo": "Could not delete from config. 'foo' does not exist.",
    "hydra.job.chdir=what": "Error merging override hydra.job.chdir=what: Value 'what' is not a valid bool",
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_a_mistake_is_explained_in_one_sentence(train_as_given: Launch, tmp_path: Path, argument: str) -> None:
    run = train_as_given(argument)
    assert run.code == 1 and run.err.startswith(MISTAKES[argument]) and run.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_slip_in_a_file_of_ones_own_is_told_by_its_line(train_as_given: Launch, tmp_path: Path) -> None:
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/bad.yaml").write_text("_target_: my_parts.Net\n  width: 3\n")
    run = train_as_given("--config-dir", "mine", "model=bad")
    assert run.code == 1 and "bad.yaml" in run.err and "line 2" in run.err and run.err.count("\n") == 1, run.err


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        ("los: {label_smoothing: 0.1}", "There is no los; did you mean loss"),
        ("scor: val/loss", "There is no scor; did you mean score"),
        ("seeds: {agument: 1}", "There is no seeds.agument; did you mean augment?"),
        ("smalest_effect: 1", "There is no smalest_effect; did you mean smallest_effect"),
    ],
)
@pytest.mark.parametrize("more", [("seed=1",), ("--multirun", "seed=1,2")], ids=["run", "sweep"])
def test_a_slip_in_a_key_of_ones_own_experiment(
    train: Launch, tmp_path: Path, slip: str, words: str, more: tuple[str, ...]
) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/own.yaml").write_text(f"# @package _global_\n{slip}\n")
    run = train("--config-dir", "mine", "experiment=own", *more)
    assert run.code == 1 and run.err.startswith(words) and run.err.count("\n") == 1, run.err


def test_keys_of_ones_own_may_be_referred_to(train: Launch, tmp_path: Path) -> None:
    (tmp_path / "mine/experiment").mkdir(parents=True)
    own = "# @package _global_\nmodels: 3\nmy_rate: 0.1\noptim: {lr: '${models}'}\n"
    (tmp_path / "mine/experiment/own.yaml").write_text(own)
    run = train("--config-dir", "mine", "experiment=own", "trainer.max_epochs=1", "callbacks=none", "logger=none")
    assert run.code == 0, run.err


@pytest.mark.parametrize("argument", ["optm=sgd", "model=resnet101", "optim.lr=[0.9", "~foo"])
def test_and_so_it_is_in_a_multirun(train_as_given: Launch, tmp_path: Path, argument: str) -> None:
    run = train_as_given(argument, "--multirun", "seed=1,2")
    assert run.code == 1 and run.err.startswith(MISTAKES[argument]) and run.err.count("\n") == 1
    assert not list(tmp_path.rglob("results.json")) and not list(tmp_path.rglob("sweep.json"))


@pytest.mark.parametrize(
    "command", ["train", "eval", "predict", "explain", "export", "status", "report", "benchmark", "tune"]
)
def test_every_command_explains_a_mistake(tmp_path: Path, command: str) -> None:
    main = import_module(f"src.{command}").main
    run = launch(main, tmp_path, "debg=true")
    assert (run.code, run.err) == (1, "There is no debg; did you mean debug?\n") and not list(tmp_path.iterdir())
    with pytest.raises(HydraException):
        launch(main, tmp_path, "debg=true", "debug=true")


@pytest.mark.parametrize("command", ["eval", "predict", "explain", "export", "status", "report", "benchmark"])
def test_only_training_and_tuning_are_multiruns(tmp_path: Path, command: str) -> None:
    run = launch(import_module(f"src.{command}").main, tmp_path, "--multirun")
    assert run.code == 1 and run.err.startswith(f"src.{command} takes no --multirun") and run.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "word"),
    [("train", "test=no"), ("train", "plan=Off"), ("tune", "test=on"), ("report", "images=yes"), ("eval", "debug=no"),
     ("eval", "corruptions=no"), ("status", "all=jobs")],
)  # fmt: skip
def test_no_is_not_true(tmp_path: Path, command: str, word: str) -> None:
    run = launch(import_module(f"src.{command}").main, tmp_path, word)
    key, value = word.split("=")
    assert (run.code, run.err) == (1, f"{key} is {value!r}; expected true or false.\n")
    assert not list(tmp_path.iterdir())


def test_a_key_that_may_be_added_is_told_how(train_as_given: Launch) -> None:
    assert "(+callbacks.mine._target_=... would add a key.)" in train_as_given("callbacks.mine._target_=my.Own").err
    assert train_as_given("seed=1,", "2").err.startswith("2 cannot be read: expected key=value without spaces")


def test_options_may_stand_anywhere(train_as_given: Launch) -> None:
    assert "seed: 3" in train_as_given("optim=adam", "--cfg", "job", "seed=3").out
    assert train_as_given("seed=3", "--config-name=trian").err.startswith("Cannot find primary config 'trian'")


def test_every_choice_of_every_group_composes(train_as_given: Launch, tmp_path: Path) -> None:
    defaults = OmegaConf.load(ROOT / "conf" / "train.yaml").defaults
    groups = [key for entry in defaults if isinstance(entry, DictConfig) for key in entry if " " not in key]
    assert {"data", "model", "optim", "schedule", "aug", "trainer", "experiment"} <= set(groups)
    choices = [[f"{group}={file.stem}" for file in (ROOT / "conf" / group).glob("[!_]*.yaml")] for group in groups]
    for overrides in zip_longest(*choices):  # one of each group at a time
        run = train_as_given(*filter(None, overrides), "--cfg", "job")
        assert run.code == 0, run.err
    assert not list(tmp_path.iterdir())
