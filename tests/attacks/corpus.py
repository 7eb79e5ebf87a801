"""Attacks by what another may have made: each prepares a folder, and names the commands that read what it prepared.

A case is a folder of its own, where the command runs: ``logs/train/sweeps/strange/run`` is a completed run, beside it
``photos`` to look at and ``images`` to train on. ``victim`` is what nothing may touch, with a profile and a run in it.
"""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.conftest import TINY, WATCHED

RUN = "logs/train/sweeps/strange/run"
SWEEP = "logs/train/sweeps/strange"


@dataclass(frozen=True)
class Command:
    """A command line, and the places where it may write, in the folder of its case."""

    module: str
    arguments: tuple[str, ...]
    output: tuple[str, ...]


_SAME_RUN = (*TINY, *WATCHED, "trainer.max_epochs=3", "trainer.log_every_n_steps=1", "optim.lr=0.02")
COMMANDS = {
    "status": Command("status", ("sweep=strange",), (f"{RUN}/.lock",)),
    "report": Command("report", ("sweep=strange",), ("logs/report", f"{RUN}/.lock")),
    "resume": Command("train", (f"resume={RUN}", "trainer.max_epochs=4"), (RUN,)),
    "relaunch": Command("train", ("--multirun", *_SAME_RUN, "hydra.sweep.subdir=run", "sweep=strange"), (SWEEP,)),
    "rerun": Command(
        "train",
        ("--multirun", *_SAME_RUN, "seed=1", "hydra.sweep.subdir=run", "sweep=strange", "on_conflict=rerun"),
        (SWEEP,),
    ),
    "tune": Command("tune", (*TINY, "trainer.max_epochs=1", "optim.lr=log(0.01,0.1)", "trials=1",
                            "sweep=strange"), (SWEEP,)),
    "eval": Command("eval", (f"ckpt={RUN}", "trainer=cpu"), ("logs/eval",)),
    "eval a sweep": Command("eval", ("sweep=strange", "trainer=cpu"), ("logs/eval", f"{RUN}/.lock")),
    "predict": Command("predict", (f"ckpt={RUN}", "images=photos", "trainer=cpu"), ()),
    "explain": Command("explain", (f"ckpt={RUN}", "images=photos", "out=out"), ("out",)),
    "export": Command("export", (f"ckpt={RUN}", "out=out"), ("out",)),
    "train": Command(
        "train",
        (*TINY, "data=image_folder", "data.root=images", "data.image_size=8", "data.train_size=null", "data.val_size=0",
         "data.batch_size=2", "trainer.max_epochs=1"),
        ("logs/train/runs", "cache"),
    ),
    "train on CIFAR-10": Command(
        "train",
        ("data=cifar10", "data.root=images", "data.download=false", "model=simplecnn", "trainer=cpu"),
        ("logs/train/runs",),
    ),
}  # fmt: skip

READ_RESULTS = ("status", "report", "resume", "relaunch", "export", "eval a sweep")
READ_CHECKPOINT = ("eval", "eval a sweep", "predict", "explain", "export", "resume")
WRITE_RUN = ("resume", "relaunch")


@dataclass(frozen=True)
class Attack:
    """What prepares the folder of a case; the commands that meet it; what each of them is to say about it, if anything.

    Without ``says``, a command may also do its work, as long as it harms nobody.
    """

    prepare: Callable[[Path], None]
    commands: tuple[str, ...]
    says: str = ""


def prepare(case: Path, finished: Path) -> None:
    """The folder of a case before the attack."""
    shutil.copytree(finished, case / RUN)
    shutil.copytree(finished, case / "victim" / "run")
    (case / "victim" / "profile").write_text("mine\n")
    for name in ("photos/1.png", *(f"images/{half}/{kind}/1.png" for half in ("train", "test") for kind in "ab")):
        (case / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(case / name)


def _replaced(name: str, make: Callable[[Path, Path], None]) -> Callable[[Path], None]:
    def replace(case: Path) -> None:
        file = case / name
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        make(file, case / "victim")

    return replace


def _pipe(file: Path, victim: Path) -> None:
    os.mkfifo(file)


def _device(file: Path, victim: Path) -> None:
    file.symlink_to("/dev/zero")


def _large(file: Path, victim: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(2**40)


def _link(file: Path, victim: Path) -> None:
    file.symlink_to(victim / "profile")


def _folder_link(file: Path, victim: Path) -> None:
    file.symlink_to(victim / "run")


def _new_link(file: Path, victim: Path) -> None:
    file.symlink_to(victim / "new")


def _hard_link(file: Path, victim: Path) -> None:
    file.hardlink_to(victim / "profile")


def _checkpoint(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def alter(case: Path) -> None:
        file = case / RUN / "checkpoints" / name
        content = torch.load(file, weights_only=True)
        change(content)
        torch.save(content, file)

    return alter


def _unfinished(case: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = case / RUN / "results.json"
    results = json.loads(file.read_text())
    change(results)
    file.write_text(json.dumps(results))


def _settings(**groups: Mapping[str, Any]) -> Callable[[Path], None]:
    """Settings of groups added to the config, wherever a command looks for it."""

    def add(config: dict[str, Any]) -> None:
        for group, settings in groups.items():
            config[group] = config[group] | settings

    def attack(case: Path) -> None:
        for name in ("best.ckpt", "last.ckpt"):
            _checkpoint(name, lambda content: add(content["hyper_parameters"]["config"]))(case)
        _unfinished(case, lambda results: add(results["config"]))

    return attack


def _bomb(case: Path) -> None:
    """A checkpoint of some kilobytes that unpacks to a thousand times as much."""
    file = case / RUN / "checkpoints" / "best.ckpt"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("best/data/0", "w") as entry:
        for _ in range(4):
            entry.write(bytes(2**24))


def _recommends(command: str) -> Callable[[Path], None]:
    def attack(case: Path) -> None:
        launch = {"command": command, "jobs": {"never_started": ["seed=1"]}}
        (case / SWEEP / "sweep.json").write_text(json.dumps({"schema": 1, "launches": [launch]}))

    return attack


# Hydra instantiates a _target_ within keyword arguments, too.
CALL = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["victim/new"]}]}


def _carry(content: dict[str, Any]) -> None:
    content["hyper_parameters"]["image_size"] = CALL


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("victim/new",)


ATTACKS: dict[str, Attack] = {
    "a call in a checkpoint": Attack(_checkpoint("best.ckpt", _carry), READ_CHECKPOINT, "checkpoint"),
    "a pickle in a checkpoint": Attack(
        _checkpoint("best.ckpt", lambda content: content.update(state_dict=_Malicious())), READ_CHECKPOINT, "checkpoint"
    ),
    "a checkpoint that fills the memory": Attack(_bomb, READ_CHECKPOINT, "checkpoint"),
    "a data set for a network": Attack(
        _settings(model={"_target_": "src.data.datamodule.ImageDataModule"}), READ_CHECKPOINT, "not built"
    ),
    "a plugin": Attack(_settings(trainer={"plugins": ["x"]}), ("resume",), "not built"),
    "a registry of models": Attack(_settings(trainer={"model_registry": "me/model"}), ("resume",), "not built"),
    "a logger that writes elsewhere": Attack(
        _settings(logger={"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": "../../victim"}),
        ("resume",),
        "outside the run folder",
    ),
    "a linked .cache": Attack(_replaced("images/.cache", _folder_link), ("train",)),
    "a linked folder of CIFAR-10": Attack(
        _replaced("images/cifar-10-batches-py", _folder_link), ("train on CIFAR-10",), "data.download=false forbids"
    ),
    "a pipe for a cache": Attack(_replaced("images/.cache", _pipe), ("train",)),
    "a pipe for an archive": Attack(
        _replaced("images/cifar-10-python.tar.gz", _pipe), ("train on CIFAR-10",), "data.download=false forbids"
    ),
    "a linked report": Attack(_replaced("logs/report/strange/report.md", _link), ("report",), "leads out"),
    "a linked result of a test": Attack(
        _replaced("logs/eval/sweeps/strange-tested/run,tta=none/results.json", _link), ("eval a sweep",), "leads out"
    ),
    "a linked run": Attack(_replaced(RUN, _folder_link), ("relaunch", "rerun"), "leads out"),
}

# What is read, and the commands that read it: all of them meet a pipe, one of them what is found in the same way.
_READ = {
    f"{RUN}/results.json": READ_RESULTS,
    f"{RUN}/metrics.csv": ("status", "report"),
    f"{RUN}/test_outcomes.npz": ("report",),
    f"{RUN}/signals.csv": ("report", *WRITE_RUN),
    f"{RUN}/train.log": WRITE_RUN,
    f"{RUN}/.lock": ("status", *WRITE_RUN),
    f"{RUN}/checkpoints/best.ckpt": READ_CHECKPOINT,
    f"{RUN}/checkpoints/last.ckpt": WRITE_RUN,
    f"{SWEEP}/sweep.json": ("status", "report", "relaunch"),
    f"{SWEEP}/plan.json": ("status", "report"),
    f"{SWEEP}/.refused/run": ("status", "relaunch"),
    "logs/eval/runs/1/eval.json": ("export",),
    "photos/2.png": ("predict", "explain"),
    "images/train/a/2.png": ("train",),
}
for _place, _readers in _READ.items():
    _says = "2.png" if "2.png" in _place else ""
    ATTACKS[f"a pipe for {_place}"] = Attack(_replaced(_place, _pipe), _readers, _says)
    for _made, _make in {"a device": _device, "a huge file": _large}.items():
        ATTACKS[f"{_made} for {_place}"] = Attack(_replaced(_place, _make), _readers[:1], _says)
# What is written to. Hydra writes .hydra and multirun.yaml before any code of ours.
for _made, _make in {"a link": _link, "a hard link": _hard_link}.items():
    for _name in ("train.log", "signals.csv", ".lock", ".results.json.part"):
        ATTACKS[f"{_made} for {_name}"] = Attack(_replaced(f"{RUN}/{_name}", _make), ("resume",), "link")
    for _name in ("multirun.yaml", ".sweep.json.lock", ".sweep.json.part", ".refused/run", "run/train.log"):
        ATTACKS[f"{_made} for {_name}"] = Attack(_replaced(f"{SWEEP}/{_name}", _make), ("relaunch",), "link")
    ATTACKS[f"{_made} to be locked"] = Attack(_replaced(f"{RUN}/.lock", _make), ("status",))


def _searched(make: Callable[[Path, Path], None]) -> Callable[[Path], None]:
    """The run is a trial of a search, whose study ``make`` makes."""

    def attack(case: Path) -> None:
        results = json.loads((case / RUN / "results.json").read_text())
        results["overrides"] = [*results.get("overrides", []), "tuner.trial=0"]
        (case / RUN / "results.json").write_text(json.dumps(results))
        make(case / SWEEP / "study.journal", case / "victim")

    return attack


def _torn(file: Path, victim: Path) -> None:
    file.write_text('5\n[]\n{"op_code": 0, "worker_id": null')


for _made, _make in {
    "a link": _link, "a hard link": _hard_link, "a pipe": _pipe, "a device": _device, "a huge file": _large,
    "a torn line": _torn,
}.items():  # fmt: skip
    ATTACKS[f"{_made} for study.journal"] = Attack(_searched(_make), ("report", "tune"))
for _name in (f"{RUN}/.hydra", f"{RUN}/checkpoints"):
    ATTACKS[f"a linked {_name}"] = Attack(_replaced(_name, _folder_link), WRITE_RUN, "leads out")
    ATTACKS[f"{_name} linked to nothing"] = Attack(_replaced(_name, _new_link), WRITE_RUN, "leads out")
for _name in (".refused", ".replaced"):
    ATTACKS[f"a linked {_name}"] = Attack(_replaced(f"{SWEEP}/{_name}", _folder_link), ("rerun",), "leads out")
for _command in (
    "python -m src.train --multirun sweep=strange; touch victim/new",
    "python -m src.train --multirun seed=1 +hydra.job.env_set.PATH=victim sweep=strange",
    "python -m src.train --multirun seed=1 hydra.sweep.dir=victim sweep=strange",
    "python -m src.train --multirun seed=1 'hydra.launcher.setup=[touch victim]' sweep=strange",
    """python -m src.train --multirun 'x=${oc.create:"{\\"\\x5ftarget_\\": os.system}"}' sweep=strange""",
    "python -m src.train --multirun model=../../victim/run sweep=strange",
    "python -m src.train --multirun 'model={_target_: os.system}' sweep=strange",
    "python -m src.train --multirun 'optim.lr=[{_target_: os.system}]' sweep=strange",
    "python -m src.train --multirun logger.name=/victim sweep=strange",
    "python -m src.train --multirun resume=victim/run",
    "python -m src.train --multirun seed=1 sweep=../../../../victim",
):
    ATTACKS[f"recommends {_command}"] = Attack(_recommends(_command), ("status",))

CASES = {
    f"{command} meets {name}": (command, attack) for name, attack in ATTACKS.items() for command in attack.commands
}
# One case for each command, and one of each kind, such as "a pipe for ...".
_KINDS = {re.sub(".* meets | (for|python) .*", "", name): name for name in reversed(CASES)}
SAMPLE = frozenset([*_KINDS.values(), *{command: name for name, (command, _) in CASES.items()}.values()])
