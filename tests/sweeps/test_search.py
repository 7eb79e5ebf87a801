"""A search: trials chosen by Optuna, each a run of the sweep."""

import os
import random
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.eval
import src.report
import src.status
import src.train
import src.training.run
import src.tune
from src.runs.folder import RunFolder
from src.runs.study import open_study
from src.sweeps.jobs import commands, jobs
from tests.conftest import TINY, Run, launch
from tests.launched import run, start

pytest.importorskip("optuna")
Launch = Callable[..., Any]
PLACE = Path("logs/train/sweeps/s")
COMMON = (*TINY, "sweep=s", "trainer.max_epochs=1", "logger=none", "callbacks=none")
RANGES = ("optim=sgd,adamw", "optim.lr=log(1e-3,1e-1)", "optim.momentum=interval(0.5,0.9)")
KILLS = int(os.environ.get("KILLS", "2"))  # KILLS=20 python -m pytest -n 0 tests/sweeps/test_search.py tries longer


def params(cwd: Path) -> list[dict[str, Any]]:
    return [trial.params for trial in open_study(cwd / PLACE).trials]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of three trials, the best of which gets a second seed."""
    cwd = tmp_path_factory.mktemp("searched")
    done = launch(src.tune.main, cwd, *COMMON, *RANGES, "trials=3", "best=1", "seeds=2")
    assert done.code == 0, done.err
    return Run(done.code, done.out, done.err, cwd)


def test_every_trial_is_a_run_of_the_sweep(searched: Run) -> None:
    trials = open_study(searched.folder / PLACE).trials
    found = {job.name: job for job in jobs(searched.folder / PLACE)}
    assert len(trials) == 3 and len(found) == 4 and "4 of 4 jobs completed." in searched.out
    for trial in trials:
        job = found[trial.user_attrs["folder"]]
        assert job.state == "completed" and trial.value == job.results["metrics"]["val/accuracy"]
        assert {f"{key}={value}" for key, value in trial.params.items()} <= set(job.overrides)
        assert ("optim.momentum" in trial.params) == (trial.params["optim"] == "sgd")  # adamw has none


@pytest.mark.slow
def test_the_test_images_are_left_to_src_eval(searched: Run) -> None:
    for job in jobs(searched.folder / PLACE):
        assert not any(name.startswith("test/") for name in job.results["metrics"]) and job.folder is not None
        assert not RunFolder(job.folder).outcomes_file.exists()
    (line,) = (line for line in searched.out.splitlines() if line.startswith("To test the best one: "))
    tested = launch(src.eval.main, searched.folder, *shlex.split(line)[-1:], "trainer=cpu")
    assert tested.code == 0 and "test accuracy" in tested.out
    report = launch(src.report.main, searched.folder, "sweep=s")
    assert report.code == 0, report.err
    text = (searched.folder / "logs/report/s/report.md").read_text()
    assert "validation accuracy over" in text and "were not tested (test=false)" in text
    assert "est accuracy, %" not in text


def test_the_best_is_run_again_with_more_seeds(searched: Run) -> None:
    trial = open_study(searched.folder / PLACE).best_trial
    (again,) = [job for job in jobs(searched.folder / PLACE) if job.results["seed"] == 43]
    assert {f"{key}={value}" for key, value in trial.params.items()} <= set(again.overrides)
    assert f"trial {trial.number}, val/accuracy" in searched.out and "src.eval" in searched.out


def test_launched_again_it_finds_nothing_to_do_and_with_more_trials_it_goes_on(searched: Run) -> None:
    before = params(searched.folder)
    assert commands(searched.folder / PLACE) == []
    again = launch(src.tune.main, searched.folder, *COMMON, *RANGES, "trials=3", "best=1", "seeds=2")
    assert again.code == 0 and params(searched.folder) == before
    more = launch(src.tune.main, searched.folder, *COMMON, *RANGES, "trials=4")
    assert more.code == 0 and params(searched.folder)[:3] == before and len(params(searched.folder)) == 4


def test_one_process_repeats_its_trials(searched: Run, tmp_path: Path) -> None:
    assert launch(src.tune.main, tmp_path, *COMMON, *RANGES, "trials=2").code == 0
    assert params(tmp_path) == params(searched.folder)[:2]


@pytest.mark.slow
def test_a_grid_ends_when_all_is_tried(tmp_path: Path) -> None:
    grid = ("tuner=grid", "optim=sgd,adamw", "data.batch_size=range(50,150,50)")
    for _ in range(2):
        assert launch(src.tune.main, tmp_path, *COMMON, *grid).code == 0
        assert len(params(tmp_path)) == 4 == len(jobs(tmp_path / PLACE))


@pytest.mark.parametrize("tuner", [pytest.param(name, marks=pytest.mark.slow) for name in ("qmc", "cmaes")])
def test_a_sampler_of_numbers_goes_on_where_it_was(tmp_path: Path, tuner: str) -> None:
    pytest.importorskip("cmaes")
    numbers = ("optim.lr=log(1e-3,1e-1)", "optim.momentum=interval(0.5,0.9)", f"tuner={tuner}")
    for trials in (1, 3):  # the second launch adds two
        done = launch(src.tune.main, tmp_path, *COMMON, *numbers, "data.train_size=50", f"trials={trials}")
        assert done.code == 0, done.err
    found = params(tmp_path)
    assert len(found) == 3 and len({each["optim.lr"] for each in found}) == 3
    assert all(1e-3 <= each["optim.lr"] <= 1e-1 and 0.5 <= each["optim.momentum"] <= 0.9 for each in found)


@pytest.mark.slow
def test_workers_share_the_trials(tmp_path: Path) -> None:
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trials=3", "tuner=random")
    done = launch(src.tune.main, tmp_path, *COMMON, *RANGES, *parallel)
    assert done.code == 0 and "3 trials completed, 0 pruned." in done.out
    assert len(jobs(tmp_path / PLACE)) == 3 and commands(tmp_path / PLACE) == []


def test_a_pruned_trial_is_neither_completed_nor_failed(tmp_path: Path) -> None:
    hopeless = ("trainer.max_epochs=3", "+pruner._target_=optuna.pruners.ThresholdPruner", "+pruner.lower=2")
    done = launch(src.tune.main, tmp_path, *COMMON, "optim.lr=log(1e-3,1e-1)", *hopeless, "trials=1")
    assert (
        done.code == 0 and "0 trials completed, 1 pruned." in done.out and "0 of 1 job completed, 1 pruned." in done.out
    )
    (job,) = jobs(tmp_path / PLACE)
    assert (job.state, job.error, job.epochs, job.max_epochs) == ("pruned", "pruned at epoch 1 of 3", 1, 3)
    (trial,) = open_study(tmp_path / PLACE).trials
    assert trial.state.name == "PRUNED" and trial.intermediate_values == {1: job.curve[0]["val/accuracy"]}
    assert commands(tmp_path / PLACE) == []
    status = launch(src.status.main, tmp_path, "sweep=s")
    assert "pruned at epoch 1 of 3" in status.out and "To finish" not in status.out
    assert job.folder is not None
    gone_on = launch(src.train.main, tmp_path, f"resume={job.folder}", "trust=[optuna.pruners.ThresholdPruner]")
    assert gone_on.code == 0 and RunFolder(job.folder).results()["status"] == "completed"


def test_a_trial_that_failed_is_tried_again_by_the_next_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no such luck")

    search = (*COMMON, "optim.lr=log(1e-3,1e-1)", "trials=2")
    with monkeypatch.context() as patch:
        patch.setattr(src.training.run, "build_data", fail)
        assert launch(src.tune.main, tmp_path, *search).code == 1
    assert [job.state for job in jobs(tmp_path / PLACE)] == ["failed", "failed"]
    done = launch(src.tune.main, tmp_path, *search)
    assert done.code == 0 and [job.state for job in jobs(tmp_path / PLACE)] == ["completed", "completed"]
    assert [trial.state.name for trial in open_study(tmp_path / PLACE).trials] == ["FAIL"] * 2 + ["COMPLETE"] * 2


def test_several_objectives(tmp_path: Path) -> None:
    objectives = ("tuner=nsga2", "objectives=[val/accuracy,-parameters]", "model=resnet20", "model.width=0.25,0.5")
    done = launch(src.tune.main, tmp_path, *COMMON, *objectives, "trials=2", "data.train_size=50")
    assert done.code == 0, done.err
    for trial in open_study(tmp_path / PLACE, 2).trials:
        assert trial.values[0] >= 0 and trial.values[1] < -1000
    one = launch(src.tune.main, tmp_path, *COMMON, "model=resnet20", "model.width=0.25,0.5")
    assert one.code == 1 and "has 2 objectives, not 1" in one.err


MISTAKES = {
    "optim.lr=interval(1,0)": "optim.lr=interval(1,0) is empty: the first number must be below the second.",
    "optim.lr=log(0,1)": "optim.lr=tag(log,interval(0,1)) is logarithmic, so it must begin above 0.",
    "optim.lrr=log(1e-3,1)": "There is no optim.lrr; did you mean optim.lr?",
    "optim=sgd,adamw optim.momentm=interval(0,1)": "There is no optim.momentm; did you mean optim.momentum?",
    "optim=sgd,adan": "There is no optim=adan; did you mean adam",
    "optim=sgd,adam objectives=[val/f2]": "objectives has val/f2; expected some of val/accuracy, val/loss, seconds,",
    "optim=sgd,adam objectives=[test/accuracy]": "objectives has test/accuracy; expected some of val/accuracy,",
    "optim=sgd,adam data.val_size=0": "data.val_size is 0, and a search compares validation images",
    "optim=sgd,adam trials=0": "trials is 0; expected a whole number, 1 or more.",
    "optim=sgd,adam best=true": "best is True; expected a whole number, 1 or more.",
    "optim=sgd,adam seeds=some": "best_seeds is 'some'; expected a whole number, 1 or more.",
    "optim=sgd": "Nothing is searched: give ranges or values,",
    "seed=1,2,3": "seed=1,2,3 would choose the luckiest seed: give one,",
    "tuner=grid optim.lr=log(1e-3,1)": "tuner=grid tries all values, and optim.lr is an interval: give values,",
    "tuner=bayes optim=sgd,adam": "There is no tuner=bayes; did you mean",
    "pruner=asha optim=sgd,adam objectives=[val/accuracy,-seconds]": "Trials of several objectives cannot be pruned",
    "until=decided optim=sgd,adam": "until and design choose the jobs of a multirun, and so does a search",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_gets_a_sentence(tmp_path: Path, arguments: str) -> None:
    told = launch(src.tune.main, tmp_path, "data=digits", "sweep=s", *arguments.split())
    assert told.code == 1 and told.err.startswith(MISTAKES[arguments]) and told.err.count("\n") == 1
    assert not jobs(tmp_path / PLACE) if (tmp_path / PLACE).exists() else True


@pytest.mark.slow
def test_killed_at_random_moments_it_comes_to_the_same(tmp_path: Path) -> None:
    """Also with a second process on the same search. Random search: trial n follows from the seed and n alone."""
    search = (*COMMON, "checkpoint_minutes=0", *RANGES, "--multirun", "tuner=random", "trials=3")
    (undisturbed := tmp_path / "undisturbed").mkdir()
    (killed := tmp_path / "killed").mkdir()
    assert run(undisturbed, *search) == 0  # the first one also waits for the process to fork from
    begin = time.monotonic()
    assert run(undisturbed, *search, "sweep=timed") == 0
    seconds = time.monotonic() - begin
    moments = random.Random(0)
    for _ in range(KILLS):
        processes = [start(killed, *search) for _ in range(moments.choice((1, 2)))]
        for process in processes:
            process.join(moments.uniform(0, seconds))
            process.kill()
            process.join()
    assert run(killed, *search) == 0, (killed / "out").read_text()
    assert params(killed) == params(undisturbed)
    assert {trial.state.name for trial in open_study(killed / PLACE).trials} == {"COMPLETE"}
    results = [
        {job.name: (Run(0, "", "", job.folder).trained(), job.results["metrics"]) for job in jobs(cwd / PLACE)}
        for cwd in (undisturbed, killed)
    ]
    assert results[0] == results[1] and len(results[0]) == 3 and commands(killed / PLACE) == []
