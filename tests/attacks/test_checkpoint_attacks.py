"""What a checkpoint carries besides its config: parsed into a typed record, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.inference.load import load
from src.runs.checkpoints import load_checkpoint
from src.runs.folder import RunFolder
from tests.test_trust import CHECKPOINT_COMMANDS, assert_refused, use_checkpoint

# Hydra instantiates a _target_ within keyword arguments, too.
CALL = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["PWNED"]}]}


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


def _config(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        del content["hyper_parameters"]["image_size"]
        content["hyper_parameters"]["config"]["data"][key] = value

    return change


HYPER = "hyper_parameters"
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a call for an image size": _set(HYPER, "image_size", to=CALL),
    "a call for an image size in the config": _config("image_size", CALL),
    "what conf/ names for an image size": _config("image_size", {"_target_": "src.data.image_folder.ImageFolder"}),
    "a list for an image size": _set(HYPER, "image_size", to=[CALL]),
    "text for an image size": _set(HYPER, "image_size", to="8"),
    "a number with a fraction": _set(HYPER, "image_size", to=8.0),
    "a tensor for an image size": _set(HYPER, "image_size", to=torch.tensor(8)),
    "true for an image size": _set(HYPER, "image_size", to=True),
    "a negative image size": _set(HYPER, "image_size", to=-8),
    "a huge image size": _set(HYPER, "image_size", to=10**6),
    "text for classes": _set(HYPER, "classes", to="0123456789"),
    "numbers for classes": _set(HYPER, "classes", to=list(range(10))),
    "calls for classes": _set(HYPER, "classes", to=[CALL] * 10),
    "one class": _set(HYPER, "classes", to=["cat"]),
    "no classes": _set(HYPER, "classes", to=[]),
    "a mapping for classes": _set(HYPER, "classes", to=dict.fromkeys("0123456789")),
    "text for a config": _set(HYPER, "config", to="model: {_target_: os.system}"),
    "a list for a config": _set(HYPER, "config", to=[["model", CALL]]),
    "text for hyper-parameters": _set(HYPER, to="config"),
    "text for weights": _set("state_dict", "network.fc.weight", to="weights"),
    "a call for weights": _set("state_dict", "network.fc.weight", to=CALL),
    "a list for the state": _set("state_dict", to=[1, 2]),
    "text for an epoch": _set("epoch", to="[red]9"),
    "text for a history": _set("callbacks", "History", "rows", to="epoch"),
    "text in a history": _set("callbacks", "History", "rows", to=[{"epoch": "=cmd()"}]),
    "text for the highest": _set("callbacks", "Checkpoints", "highest", to="0.9"),
}


@pytest.fixture(params=CHANGES)
def checkpoint(request: pytest.FixtureRequest, copy_of_finished: Any) -> Path:
    content = copy_of_finished.checkpoint("best")
    CHANGES[request.param](content)
    file = copy_of_finished.folder / "checkpoints" / "best.ckpt"
    torch.save(content, file)
    return file


def test_what_is_of_another_type_is_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (checkpoint, checkpoint.parents[1]):
        with pytest.raises(ValueError, match="is no checkpoint of this project, or it is damaged"):
            load(path)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("checkpoint", ["a call for an image size", "a call for weights"], indirect=True)
@pytest.mark.parametrize("command", CHECKPOINT_COMMANDS)
def test_every_command_refuses_it(checkpoint: Path, tmp_path: Path, command: str) -> None:
    assert_refused(use_checkpoint(command, tmp_path, checkpoint), tmp_path / "PWNED")


def test_the_call_would_have_left_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydra.utils import instantiate

    monkeypatch.chdir(tmp_path)
    instantiate({"_target_": "builtins.dict"}, image_size=CALL)
    assert (tmp_path / "PWNED").exists()


def test_a_checkpoint_of_ours_is_read(finished: Any) -> None:
    checkpoint = load_checkpoint(RunFolder(finished.folder).last)
    assert checkpoint.config == finished.results["config"]
    assert (checkpoint.image_size, checkpoint.epoch, checkpoint.epochs) == (8, 2, 3)
