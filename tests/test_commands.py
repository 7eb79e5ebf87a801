"""Every command that is printed does what it is printed for when it is pasted."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch import nn

import src.eval
import src.report
import src.status
import src.train
from src.runs.command import command
from tests.conftest import TINY, Run, launch

VALUES = ["a/b", "2024_11_25", "null", "1e3", "on", "true", "nan", "0x10", "", "it's", "a\\", "\\'", "a\\\\'b", "a b"]
VALUES += ["x=1,y=2", "${x}", "a${b}c", "\\${x}", "$x", "!x", "`ls`", "$(touch x)", "über", "[1]", "{a: 1}", 'a"b']
VALUES += ["  x ", "a:b", "#a", "~x", "a*b?", "C:\\runs\\", "'q'", "a;b", "a|b&c", "(x)", "%PATH%"]


@pytest.mark.parametrize("value", VALUES)
def test_a_value_arrives_as_it_is(value: str) -> None:
    words = shlex.split(command("src.eval", "seed=1,2", **{"data.root": value}))
    assert words[:4] == ["python", "-m", "src.eval", "seed=1,2"]
    override = OverridesParser.create().parse_override(words[4])
    assert OmegaConf.create({"x": override.value()}).x == value and override.key_or_group == "data.root"


def printed(*runs: Run) -> list[str]:
    """The commands on their screens, each once."""
    found = [line for run in runs for line in re.findall(r"python -m src\.\w+ .*", run.out + run.err)]
    return list(dict.fromkeys(line.strip() for line in found))


def paste(text: str, cwd: Path) -> Run:
    """Run a command as a shell in ``cwd`` would."""
    program, _, module, *arguments = shlex.split(text)
    assert program == "python"
    return launch(import_module(module).main, cwd, *arguments)


EPOCH = ("trainer.max_epochs=1", "logger=none", "callbacks=none", "data.train_size=50")
SWEEPS: dict[str, tuple[str, ...]] = {
    "spaces, a quote and commas": ("sweep='it\\'s a,b=c'",),
}
MORE: dict[str, tuple[str, ...]] = {
    "another place": ("hydra.sweep.dir=else where/x=1",),
    "a number": ("sweep=2024_11_25",),
    "a folder in a folder": ("sweep=lr/null",),
    "a folder of its own": ("hydra.job.chdir=true",),
    "a new folder each time": ("sweep=s-${now:%f}",),
}


@pytest.mark.parametrize("place", SWEEPS.values(), ids=SWEEPS)
def test_what_a_sweep_prints_works(place: tuple[str, ...], tmp_path: Path) -> None:
    """One of two jobs completes, in a sweep of any name and place; the commands finish it and sum it up."""
    run = launch(src.train.main, tmp_path, *TINY, *EPOCH, *place, "optim.lr=0.003,-1", "--multirun")
    assert "1 of 2 jobs completed." in run.out, run.err
    finish, report = printed(run)
    assert paste(report, tmp_path).code == 0
    sweep = re.search(r"(sweep=.*)", shlex.split(report)[-1])[1]  # type: ignore[index]
    status = launch(src.status.main, tmp_path, sweep)
    assert printed(status) == [finish, report]
    finished = paste(finish, tmp_path)
    assert finished.out.count("completed before, test accuracy") == 1 and "1 of 2 jobs completed." in finished.out
    assert printed(finished) == [finish, report]
    (line,) = (line for line in finished.out.splitlines() if "completed before" in line)
    results = next(file for file in tmp_path.rglob("results.json") if file.parent.name == line.partition(":")[0])
    accuracy = OmegaConf.load(results).metrics["test/accuracy"]
    assert f"test accuracy {accuracy:.2%}" in line


@pytest.mark.slow
@pytest.mark.parametrize("place", MORE.values(), ids=MORE)
def test_what_a_sweep_prints_works_in_more_places(place: tuple[str, ...], tmp_path: Path) -> None:
    test_what_a_sweep_prints_works(place, tmp_path)


@pytest.mark.slow
def test_a_sweep_is_finished_where_it_was_moved_to(tmp_path: Path) -> None:
    launch(src.train.main, tmp_path, *TINY, *EPOCH, "sweep=one", "optim.lr=0.003,-1", "--multirun")
    sweeps = tmp_path / "logs/train/sweeps"
    for new in (sweeps / "my other", tmp_path / "moved"):
        shutil.copytree(sweeps / "one", new)
    for where in ("my other", str(tmp_path / "moved")):
        finish, report = printed(launch(src.status.main, tmp_path, f"sweep={where}"))
        assert "sweep=one" not in finish
        assert "completed before" in paste(finish, tmp_path).out
        assert paste(report, tmp_path).code == 0
    assert len(list(sweeps.iterdir())) == 2


def test_a_run_is_resumed_in_no_multirun(tmp_path: Path) -> None:
    run = launch(src.train.main, tmp_path, "--multirun", "resume=logs/a,'logs/b=1'", "trainer.max_epochs=6")
    assert run.code == 1 and run.err == (
        "resume continues one run, without --multirun: python -m src.train resume=logs/a trainer.max_epochs=6; "
        "python -m src.train \"resume='logs/b=1'\" trainer.max_epochs=6\n"
    )
    assert not list(tmp_path.iterdir())


def test_grids_of_experiments_are_not_dropped(tmp_path: Path) -> None:
    run = launch(src.train.main, tmp_path, "--multirun", "experiment=stem,augmentation", "scale=cpu", "sweep=x")
    assert run.code == 1 and run.err == (
        "An experiment with a grid of its own is launched by itself: "
        "python -m src.train --multirun experiment=stem scale=cpu; "
        "python -m src.train --multirun experiment=augmentation scale=cpu\n"
    )
    assert not list(tmp_path.rglob("results.json"))
    run = launch(src.train.main, tmp_path, "--multirun", "experiment=quickstart,fast_resnet50", "model=nope")
    assert "grid of its own" not in run.err


def test_what_a_run_prints_works(tmp_path: Path) -> None:
    for number, place in enumerate(["", "hydra.run.dir=my runs/a=1,b=2", "hydra.job.chdir=true"]):
        run = launch(src.train.main, tmp_path, *TINY, *EPOCH, *filter(None, [place]))
        (test_it_again,) = printed(run)
        assert paste(test_it_again, tmp_path).code == 0
        if number == 1:
            again = launch(src.train.main, tmp_path, *TINY, *EPOCH, place)
            resume = again.err.partition("continue it with ")[2].partition(", or choose")[0]
            assert "has completed epoch 1" in paste(f"python -m src.train {resume}", tmp_path).err


def test_an_interrupted_sweep_prints_what_finishes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Ctrl-C between two jobs, and while one of them trains."""
    started = []

    def stop_before_the_second_job(*_: Any, **__: Any) -> None:
        started.append(1)
        if len(started) == 2:
            raise KeyboardInterrupt

    def stop_while_training(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    sweep = (*TINY, *EPOCH, "sweep=cut short", "seed=1,2", "--multirun")
    with monkeypatch.context() as patch:
        patch.setattr("src.sweeps.multirun.SweepSummary.on_job_start", stop_before_the_second_job)
        between = launch(src.train.main, tmp_path, *sweep)
    with monkeypatch.context() as patch:
        patch.setattr("src.training.run.build_classifier", stop_while_training)
        within = launch(src.train.main, tmp_path, *sweep)
    for stopped in (between, within):
        assert stopped.code == 130 and "Traceback" not in stopped.out + stopped.err
        (finish,) = printed(stopped)
        assert f"To finish the sweep: {finish}\n" in stopped.out
    finished = paste(finish, tmp_path)
    assert finished.code == 0 and "2 of 2 jobs completed." in finished.out


def linear_network(*, num_classes: int, image_size: int, **_: Any) -> nn.Module:
    """A network that no file of conf/ names."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))


def test_what_only_trains_needs_no_trust_afterwards(tmp_path: Path) -> None:
    own = ["+callbacks.own._target_=lightning.pytorch.callbacks.ModelSummary", "optim=adamw"]
    own += ["logger=none", "+logger.own._target_=lightning.pytorch.loggers.CSVLogger"]
    settings = [setting for setting in EPOCH if setting.split("=")[0] not in ("logger", "callbacks")]
    run = launch(src.train.main, tmp_path, *TINY, *settings, *own)
    (again,) = printed(run)
    assert "trust" not in again and paste(again, tmp_path).code == 0
    longer = (f"resume={run.folder}", "trainer.max_epochs=2")
    refused = launch(src.train.main, tmp_path, *longer)
    assert refused.code == 1 and "which no file of conf/ names there; to build it all the same" in refused.err
    trust = "trust=[lightning.pytorch.callbacks.ModelSummary,lightning.pytorch.loggers.CSVLogger]"
    assert launch(src.train.main, tmp_path, *longer, trust).code == 0


def test_a_network_that_conf_does_not_name_needs_trust(tmp_path: Path) -> None:
    run = launch(src.train.main, tmp_path, *TINY, *EPOCH, f"model._target_={__name__}.linear_network")
    (again,) = printed(run)
    assert f"trust=[{__name__}.linear_network]" in again
    assert paste(again, tmp_path).code == 0
    refused = launch(src.eval.main, tmp_path, f"ckpt={run.folder}")
    assert refused.code == 1 and refused.err.count("\n") == 1 and "the setting trust=[...]" in refused.err
