"""A checkpoint, a run folder, an image or a data set from a stranger runs no code here and writes nowhere else."""

import json
import os
import pickle
import re
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import EpsImagePlugin, Image

import src.eval
import src.explain
import src.export
import src.predict
import src.report
import src.status
import src.train
from src.data.image_folder import ImageFolder
from src.data.torchvision_sets import CIFAR10
from src.inference.load import load
from src.runs.checkpoints import load_checkpoint
from src.runs.trust import trusted
from tests.conftest import launch

ROOT = Path(__file__).parents[1]


class Malicious:
    """Unpickling this leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What exists once a stranger's code has run."""
    return tmp_path / "PWNED"


@pytest.fixture
def strangers_run(copy_of_finished: Any) -> Path:
    """A run folder that another has tampered with, as soon as a test does so."""
    return copy_of_finished.folder


def assert_refused(run: Any, mark: Path) -> None:
    assert not mark.exists()
    assert run.code == 1
    assert run.err.count("\n") == 1 and "Traceback" not in run.err, run.err


# ------------------------------------------------------------------------------------------------------------
# Pickles
# ------------------------------------------------------------------------------------------------------------

PICKLES: dict[str, Callable[[Malicious, Path], object]] = {
    "bare": lambda evil, file: file.write_bytes(pickle.dumps(evil)),
    "torch": lambda evil, file: torch.save(evil, file),
    "torch, old format": lambda evil, file: torch.save(evil, file, _use_new_zipfile_serialization=False),
    "in a checkpoint": lambda evil, file: torch.save(_checkpoint(evil), file),
}


def _checkpoint(evil: Malicious) -> dict[str, Any]:
    return {"state_dict": {}, "hyper_parameters": {"config": {"model": evil}, "classes": ["a", "b"]}}


# A command, and its argument that takes a checkpoint.
# The predicting and explaining ones take images as well.
CHECKPOINT_COMMANDS: dict[str, Callable[[], Any]] = {
    "eval": src.eval.main,
    "predict": src.predict.main,
    "export": src.export.main,
    "explain": src.explain.main,
}


def use_checkpoint(command: str, cwd: Path, file: Path) -> Any:
    image = cwd / "image.png"
    Image.new("RGB", (8, 8)).save(image)
    images = [f"images={image}"] if command in ("predict", "explain") else []
    return launch(CHECKPOINT_COMMANDS[command], cwd, f"ckpt={file}", *images)


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("command", CHECKPOINT_COMMANDS)
def test_no_command_unpickles_a_checkpoint(tmp_path: Path, mark: Path, command: str, kind: str) -> None:
    file = tmp_path / "strange.ckpt"
    PICKLES[kind](Malicious(mark), file)
    run = use_checkpoint(command, tmp_path, file)
    assert_refused(run, mark)
    assert f"{file} is no checkpoint of this project, or it is damaged" in run.err


@pytest.mark.parametrize("kind", PICKLES)
def test_loading_from_python_unpickles_nothing(tmp_path: Path, mark: Path, kind: str) -> None:
    file = tmp_path / "checkpoints" / "best.ckpt"
    file.parent.mkdir()
    PICKLES[kind](Malicious(mark), file)
    for path in (file, tmp_path):  # a checkpoint, a run folder
        with pytest.raises(ValueError, match="is no checkpoint of this project"):
            load(path)
    assert not mark.exists()


def test_the_pickles_would_have_left_their_mark(tmp_path: Path, mark: Path) -> None:
    for kind, write in PICKLES.items():
        write(Malicious(mark), tmp_path / "strange.ckpt")
        if kind == "bare":
            pickle.loads((tmp_path / "strange.ckpt").read_bytes())
        else:
            torch.load(tmp_path / "strange.ckpt", weights_only=False)
        assert mark.exists(), kind
        mark.unlink()


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_resumed_run_unpickles_nothing(strangers_run: Path, tmp_path: Path, mark: Path, name: str) -> None:
    file = strangers_run / "checkpoints" / name
    content = torch.load(file, weights_only=True)
    # Not reached by training again, so that the best one is read as it lies there.
    content["callbacks"]["Checkpoints"] = {"highest": 2.0}
    torch.save(content, strangers_run / "checkpoints" / "last.ckpt")
    torch.save(content | {"state_dict": Malicious(mark)}, file)
    run = launch(src.train.main, tmp_path, f"resume={strangers_run}", "trainer.max_epochs=4")
    assert not mark.exists()
    assert run.code == 1 and "Traceback" not in run.err


@pytest.mark.parametrize("file", ["results.json", "metrics.csv", "signals.csv", "../sweep.json"])
@pytest.mark.parametrize("command", ["resume", pytest.param("report", marks=pytest.mark.slow), "status"])
def test_what_other_commands_read_is_not_unpickled(
    strangers_run: Path, tmp_path: Path, mark: Path, command: str, file: str
) -> None:
    (strangers_run / file).write_bytes(pickle.dumps(Malicious(mark)))
    if command == "resume":
        run = launch(src.train.main, tmp_path, f"resume={strangers_run}", "trainer.max_epochs=4")
    else:
        main = {"report": src.report.main, "status": src.status.main}[command]
        run = launch(main, tmp_path, f"sweep={strangers_run.parent}")
    assert not mark.exists()
    assert "Traceback" not in run.err


def test_cifar10_unpickles_only_what_has_the_official_md5(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(OSError, match="is incomplete or corrupted"):
        CIFAR10(str(tmp_path), download=False).load()
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(OSError, match="is incomplete or corrupted"):
        CIFAR10(str(tmp_path), download=False).load()
    assert not mark.exists()


def test_nothing_else_in_the_source_unpickles() -> None:
    """Every call that could is listed here, with what keeps it from doing so."""
    source = {file: file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py")}
    calls = [call for text in source.values() for call in re.findall(r"\btorch\.load\([^\n]*", text)]
    assert calls and all("weights_only=True" in call for call in calls)
    fits = [call for text in source.values() for call in re.findall(r"trainer\.(?:fit|test)\([^\n]*", text)]
    assert fits and all("weights_only=True" in call for call in fits if "ckpt_path" in call)
    risky = r"\b(pickle\.|joblib\.load|read_pickle|allow_pickle=True|load_from_checkpoint|yaml\.load)"
    risky += r"|\bnp\.load\((?!.*allow_pickle=False)"
    assert not [(file, found) for file, text in source.items() for found in re.findall(risky, text)]


# ------------------------------------------------------------------------------------------------------------
# Configurations
# ------------------------------------------------------------------------------------------------------------

SHELL = {"_target_": "os.system", "command": "touch PWNED"}
HOSTILE: dict[str, Any] = {
    "a shell": {"model": SHELL},
    "eval": {"model": {"_target_": "builtins.eval", "_args_": ["open('PWNED', 'w')"]}},
    "a process": {"optim": {"_target_": "subprocess.run", "args": ["touch", "PWNED"]}},
    "half a call": {"optim": {"_target_": "os.system", "_partial_": True, "command": "touch PWNED"}},
    "nested": {"data": {"_target_": "src.data.datamodule.ImageDataModule", "source": {"deep": SHELL}}},
    "in lists": {"aug": {"_target_": "src.augment.Pipeline", "transforms": [[[SHELL]]]}},
    "in a tuple": {"aug": {"_target_": "src.augment.Pipeline", "transforms": (SHELL,)}},
    "in another mapping": {"model": OrderedDict(SHELL)},
    "in YAML": "model:\n  _target_: os.system\n  command: touch PWNED\n",
    "in a list of configs": [{"model": SHELL}],
    "a child of what is known": {"model": {"_target_": "src.models.simplecnn.SimpleCNN.__init__"}},
    "the module of what is known": {"model": {"_target_": "src.models.simplecnn"}},
    "known with a space": {"model": {"_target_": "src.models.simplecnn.SimpleCNN "}},
    "what conf/ names for Hydra": {"model": {"_target_": "src.sweeps.multirun.SweepSummary"}},
    "no name": {"model": {"_target_": None}},
    "a mapping for a name": {"model": {"_target_": {"_target_": "lightning.Trainer"}}},
    "interpolated target": {"name": "os.system", "model": {"_target_": "${name}", "command": "touch PWNED"}},
    "resolved from nothing": {"aug": {"transforms": ["${oc.create:'{_target_: os.system}'}"]}},
    "the environment": {"seed": "${oc.env:HOME}"},
    "the environment, in a sentence": {"model": {"init": "he${oc.env:HOME}"}},
    "positional arguments": {"model": {"_target_": "src.models.simplecnn.SimpleCNN", "_args_": [1]}},
    "not recursive": {"model": {"_target_": "src.models.simplecnn.SimpleCNN", "_recursive_": False}},
    "a dunder": {"model": {"_target_": "src.models.simplecnn.SimpleCNN", "__class__": "os.system"}},
    "a key that is no string": {"model": {1: SHELL}},
    "bytes": {"model": {"init": b"he"}},
    "a type": {"model": {"_target_": torch.float32}},
    "a tensor": {"optim": {"lr": torch.tensor(0.1)}},
}


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE)
def test_a_config_that_could_run_foreign_code_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match=r"^The config .*(it was not built|nothing was built from it)\b"):
        trusted(config)


@pytest.mark.parametrize("group", ["trainer", "logger", "callbacks"])
@pytest.mark.parametrize(
    "path", ["/tmp/x", "../x", "a/../../x", "..\\x", "C:\\x", "C:x", "\\\\host\\share", "//host/x"]
)
def test_a_config_that_would_write_elsewhere_is_refused(finished: Any, group: str, path: str) -> None:
    config = finished.results["config"]
    config[group]["some"] = [{"setting": path}]
    with pytest.raises(ValueError, match=f"^The config's {group} would write to .* outside the run folder"):
        trusted(config)


@pytest.mark.parametrize("kind", ["a shell", "in a tuple", "in YAML", "in lists"])
def test_what_a_checkpoint_carries_is_refused(strangers_run: Path, tmp_path: Path, mark: Path, kind: str) -> None:
    _poison(strangers_run / "checkpoints" / "best.ckpt", HOSTILE[kind])
    for command in CHECKPOINT_COMMANDS:
        assert_refused(use_checkpoint(command, tmp_path, strangers_run / "checkpoints" / "best.ckpt"), mark)


def _poison(file: Path, hostile: Any) -> None:
    content = torch.load(file, weights_only=True)
    carried = content["hyper_parameters"]
    carried["config"] = carried["config"] | hostile if isinstance(hostile, dict) else hostile
    torch.save(content, file)


@pytest.mark.parametrize("kind", ["a shell", "in lists", "in YAML", "interpolated target"])
def test_resume_refuses_what_a_run_folder_carries(strangers_run: Path, tmp_path: Path, mark: Path, kind: str) -> None:
    file = strangers_run / "results.json"
    results, hostile = json.loads(file.read_text()), HOSTILE[kind]
    results["config"] = results["config"] | hostile if isinstance(hostile, dict) else hostile
    file.write_text(json.dumps(results))
    before = (strangers_run / "train.log").read_bytes()
    assert_refused(launch(src.train.main, tmp_path, f"resume={strangers_run}", "trainer.max_epochs=4"), mark)
    assert (strangers_run / "train.log").read_bytes() == before


@pytest.mark.parametrize("name", ["train.log", "checkpoints", ".lock", ".results.json.part", "deep/er"])
def test_a_resumed_run_does_not_write_through_a_link(strangers_run: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    profile = mine / "profile"
    profile.write_text("mine\n")
    link = strangers_run / name
    link.parent.mkdir(exist_ok=True)
    if link.is_dir():
        shutil.move(link, mine / "checkpoints")
    link.unlink(missing_ok=True)
    link.symlink_to(mine / "checkpoints" if name == "checkpoints" else profile)
    before = {file: file.read_bytes() for file in mine.rglob("*") if file.is_file()}
    run = launch(src.train.main, tmp_path, f"resume={strangers_run}", "trainer.max_epochs=4")
    assert run.code == 1 and run.err.count("\n") == 1 and "Traceback" not in run.err
    assert f"{link.relative_to(tmp_path)} is a link that leads out of" in run.err
    launch(src.status.main, tmp_path, f"sweep={strangers_run.parent}")
    assert {file: file.read_bytes() for file in mine.rglob("*") if file.is_file()} == before


def test_a_link_within_the_run_folder_is_no_matter(strangers_run: Path, tmp_path: Path) -> None:
    shutil.move(strangers_run / "train.log", strangers_run / "other.log")
    (strangers_run / "train.log").symlink_to("other.log")
    assert launch(src.train.main, tmp_path, f"resume={strangers_run}", "trainer.max_epochs=4").code == 0


@pytest.mark.parametrize("classes", ["0123456789", [0, 1], None, {"a": 1}])
def test_classes_are_a_list_of_names(strangers_run: Path, classes: Any) -> None:
    file = strangers_run / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["classes"] = classes
    torch.save(content, file)
    with pytest.raises(ValueError, match="is no checkpoint of this project"):
        load_checkpoint(file)


# ------------------------------------------------------------------------------------------------------------
# What reports and status quote
# ------------------------------------------------------------------------------------------------------------


def test_names_of_factors_are_not_evaluated(strangers_run: Path, tmp_path: Path, mark: Path) -> None:
    sweep = tmp_path / "sweep"
    code = f"__import__('pathlib').Path('{mark.name}').touch()"
    for seed in (1, 2, 3):
        for level in (f"I({code})", f"@{code}"):
            folder = sweep / f"{seed}{level[0]}"
            shutil.copytree(strangers_run, folder)
            results = json.loads((folder / "results.json").read_text())
            results["seed"] = results["settings"]["seed"] = seed
            results["settings"] |= {code: level, f"C({code})": level, "model._target_": level}
            results["choices"]["model"] = level
            (folder / "results.json").write_text(json.dumps(results))
    run = launch(src.report.main, tmp_path, f"sweep={sweep}")
    assert run.code == 0, run.err
    assert not mark.exists()


COMMANDS = {
    "python -m src.train --multirun model=resnet10,resnet20 sweep=x": True,
    "python -m src.train -m model=resnet10 hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra.sweep.dir=/else": True,
    "python -m src.train --multirun sweep=x; touch PWNED": False,
    # Where the sweep lies is not taken from the record.
    "python -m src.train --multirun 'sweep=$(touch PWNED)' model=resnet10": True,
    'python -m src.train --multirun "sweep=$(touch PWNED)" model=resnet10': True,
    "python -m src.train --multirun 'sweep=\x1b[2Jx' model=resnet10": True,
    "python -m src.train --multirun 'hydra.sweep.dir=/PWNED' model=resnet10": True,
    "python -m src.train --multirun 'data.root=$(touch PWNED)'": False,
    "python -m src.train --multirun 'data.root=\x1b[2Jx'": False,
    "python -m src.train --multirun sweep=x\ntouch PWNED": False,
    "python -m src.train --multirun sweep=x 'unfinished": False,
    "python -c 'import os'": False,
    "python -m src.train --experimental-rerun evil.pickle": False,
    "python -m src.train --config-dir=evil --multirun sweep=x": False,
    "python -m src.train --multirun model._target_=os.system": False,
    "python -m src.train --multirun 'model={_target_: os.system}'": False,
    'python -m src.train --multirun \'model=${oc.create:"{\\"\\\\x5ftarget_\\": os.system}"}\'': False,
    "python -m src.train --multirun 'hydra.searchpath=[file://evil]'": False,
    "python -m src.train --multirun +hydra.job.env_set.PATH=PWNED": False,
    "python -m src.train --multirun hydra/launcher=slurm 'hydra.launcher.setup=[touch PWNED]'": False,
    "python -m src.train --multirun hydra/launcher=evil": False,
    "python -m src.train --multirun 'model@hydra.launcher=resnet10'": False,
}


@pytest.mark.parametrize(("command", "shown"), COMMANDS.items())
def test_status_recommends_no_foreign_command(strangers_run: Path, tmp_path: Path, command: str, shown: bool) -> None:
    sweep = strangers_run.parent
    launch_record = {"command": command, "jobs": {"seed=1": ["seed=1"]}}
    (sweep / "sweep.json").write_text(json.dumps({"schema": 1, "launches": [launch_record]}))
    run = launch(src.status.main, tmp_path, f"sweep={sweep}")
    assert run.code == 0 and ("To finish the sweep: python -m src.train --multirun " in run.out) == shown
    assert not any(mark in run.out for mark in ("PWNED", "\x1b", "/else", "os.system"))


# ------------------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"


def _iptc(payload: bytes) -> bytes:
    """An IPTC file, whose image Pillow opens whatever it is."""

    def field(section: int, number: int, content: bytes) -> bytes:
        return bytes([0x1C, section, number]) + len(content).to_bytes(2, "big") + content

    fields = {60: b"\x01\x00", 20: b"\x08", 30: b"\x08", 120: b"\x05"}
    return b"".join(field(3, *entry) for entry in fields.items()) + field(8, 10, payload)


def _bomb(side: int) -> bytes:
    """A small PNG that claims to have side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    data = zlib.compress(bytes((side // 8 + 1) * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


IMAGES = {"EPS": EPS, "EPS within IPTC": _iptc(EPS), "a bomb": _bomb(20_000), "a smaller bomb": _bomb(10_000)}


@pytest.fixture
def ghostscript(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter of EPS that says when it was called."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_an_image_runs_no_program_and_fills_no_memory(
    finished: Any, tmp_path: Path, mark: Path, ghostscript: None, command: str, kind: str
) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(IMAGES[kind])
    run = launch(CHECKPOINT_COMMANDS[command], tmp_path, f"ckpt={finished.folder}", f"images={file}")
    assert not mark.exists()
    assert run.code == 1 and f"{file} cannot be read as an image" in run.err and "Traceback" not in run.err


@pytest.mark.parametrize("kind", IMAGES)
def test_nor_does_one_among_those_to_train_on(tmp_path: Path, mark: Path, ghostscript: None, kind: str) -> None:
    for split, name in product(("train", "test"), ("cat", "dog")):
        (tmp_path / "images" / split / name).mkdir(parents=True)
        (tmp_path / "images" / split / name / "1.png").write_bytes(IMAGES[kind])
    with pytest.raises(ValueError, match=r"1\.png cannot be read as an image"):
        ImageFolder(str(tmp_path / "images"), 8).load()
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["EPS", "EPS within IPTC"])
def test_pillow_alone_would_have_run_the_program(tmp_path: Path, mark: Path, ghostscript: None, kind: str) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(IMAGES[kind])
    with pytest.raises(Exception), Image.open(file) as image:  # noqa: B017 (the program is none of theirs)
        image.load()
    assert mark.exists()
