"""Seeds that are added until a comparison is decided."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.sweeps.jobs import jobs
from src.sweeps.sequential import Comparison, goes_on
from tests.made_up import write_run

Launch = Callable[..., Any]
COMMON = ("--multirun", "sweep=s", "until=decided", "logger=none", "callbacks=none", "data.val_size=0")
SMALL = (*COMMON, "data.train_size=100", "data.batch_size=100", "trainer.max_epochs=1", "data.device=auto,cpu")


def test_seeds_are_added_until_the_limit(train: Launch, tmp_path: Path) -> None:
    run = train(*SMALL, "seed=7,8", "max_seeds=5")
    assert run.code == 0 and "10 of 10 jobs completed." in run.out
    looks = [line for line in run.out.splitlines() if line.startswith("until=decided")]
    assert [line.rpartition(" ")[2] for line in looks] == ["undecided."] * 2
    assert "data.device cpu against auto after 5 seeds: +0.00 points" in looks[-1]
    sweep = tmp_path / "logs/train/sweeps/s"
    assert {job.results["seed"] for job in jobs(sweep)} == {7, 8, 9, 10, 11}
    (launch,) = json.loads((sweep / "sweep.json").read_text())["launches"]
    assert len(launch["jobs"]) == 10


def test_what_is_to_be_decided_must_be_clear(train: Launch) -> None:
    unclear = train(*COMMON, "optim=sgd,adam", "aug=none,basic")
    assert unclear.code == 1 and "state which, as in primary.factor=optim" in unclear.err
    assert "Swept are optim, aug." in unclear.err
    few = train(*COMMON, "optim=sgd,adam", "max_seeds=3")
    assert few.code == 1 and "max_seeds is 3; expected a whole number, 4 or more." in few.err
    halves = train(*COMMON, "optim=sgd,adam", "seed=1.5,2")
    assert halves.code == 1 and "seed is 1.5,2; until=decided adds seeds to whole numbers, such as" in halves.err
    untested = train(*COMMON, "optim=sgd,adam", "data.val_size=0.1", "test=false")
    assert (
        untested.code == 1 and "until=decided compares test/accuracy, which jobs with test=false lack." in untested.err
    )
    unvalidated = train(*COMMON, "optim=sgd,adam", "primary.metric=val/accuracy")
    assert unvalidated.code == 1 and "val/accuracy, which jobs with val_size=0 lack." in unvalidated.err


def asked_of(sweep: Path, last: str) -> dict[str, list[str]]:
    """Four seeds of a recipe, of Adam in its place, and of another change to it; Adam's last run has a status."""
    asked = {}
    for seed in (1, 2, 3, 4):
        for optim, aug, lost in (("sgd", "basic", 0.0), ("adam", "basic", 0.1 + seed / 100), ("sgd", "none", 0.4)):
            status = last if (optim, seed) == ("adam", 4) else "completed"
            folder = write_run(sweep, 0.9 - lost, seed=seed, optim=optim, aug=aug, status=status)
            asked[folder.name] = [f"optim={optim}", f"aug={aug}", f"seed={seed}"]
    return asked


def test_a_comparison_is_of_runs_that_differ_in_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Comparison("optim", ("sgd", "adam"), "test/accuracy", None)
    assert not goes_on(tmp_path, asked_of(tmp_path, "completed"), comparison)
    assert "optim adam against sgd after 4 seeds: -12.50 points" in capsys.readouterr().out


def test_a_job_that_failed_ends_the_adding_of_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Comparison("optim", ("sgd", "adam"), "test/accuracy", None)
    assert not goes_on(tmp_path, asked_of(tmp_path, "failed"), comparison)
    assert "after 3 seeds" in (told := capsys.readouterr().out) and "undecided" in told


def test_arms_at_chance_are_not_called_equivalent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {}
    for seed in (1, 2, 3, 4):
        for optim in ("sgd", "adam"):
            folder = write_run(tmp_path, 0.1, seed=seed, optim=optim)  # of ten classes
            asked[folder.name] = [f"optim={optim}", f"seed={seed}"]
    assert not goes_on(tmp_path, asked, Comparison("optim", ("sgd", "adam"), "test/accuracy", 0.01))
    told = capsys.readouterr().out
    assert "at chance: nothing was learned" in told and "equivalent" not in told


@pytest.mark.parametrize(
    ("primary", "sentence"),
    [
        ("primary.factor=optm", "primary.factor is optm, which this multirun does not vary; did you mean optim?"),
        (
            "primary.factor=skip",
            "primary.factor is skip, which this multirun does not vary; choose one of: norm, optim.",
        ),
        (
            "primary={factor:optim,levels:[sgd,adan]}",
            "primary.levels has adan, which is no value of optim here; did you",
        ),
        (
            "primary={factor:norm,levels:[none,bacth]}",
            "primary.levels has bacth, which is no value of model.norm here; ",
        ),
        (
            "primary={factor:norm,metric:val/acc}",
            "primary.metric is 'val/acc'; expected test/accuracy or val/accuracy.",
        ),
    ],
)
def test_a_mistake_in_the_primary_comparison_is_told_once_at_launch(
    train: Launch, tmp_path: Path, primary: str, sentence: str
) -> None:
    run = train("--multirun", "sweep=s", "optim=sgd,adam", "model.norm=none,batch", primary)
    assert run.code == 1 and run.err.startswith(sentence) and run.err.count("\n") == 1
    assert not list(tmp_path.glob("logs/train/sweeps/s/*/results.json"))


@pytest.mark.slow
def test_levels_of_another_launch_and_settings_of_a_choice_may_be_asked_for(train: Launch) -> None:
    quick = ("data.train_size=50", "trainer.max_epochs=1", "logger=none", "callbacks=none", "data.val_size=0")
    primary = ("primary={factor:lr,levels:[0.1,0.001]}", "primary={factor:optim,levels:[sgd,lion]}")
    for number, asked in enumerate(primary):
        run = train("--multirun", *quick, f"sweep=s{number}", "optim=sgd,adam", asked)
        assert run.code == 0, run.err


def test_the_question_of_a_file_is_not_answered_by_another_factor(train: Launch, tmp_path: Path) -> None:
    sweep = ("--multirun", "experiment=optimizers", "sweep=s", "primary.factor=aug", "aug=none,basic")
    for more in ("plan=true", "plan=false"):
        run = train(*sweep, more)
        assert run.code == 1
        assert run.err.startswith("primary.factor is aug, but the question is still that of a file: “")
    assert not list(tmp_path.glob("logs/train/sweeps/s/*/results.json"))


def test_a_comparison_that_the_report_would_tune_is_refused(train: Launch) -> None:
    run = train(*COMMON, "optim=sgd,adam", "optim.lr=0.1,0.01", "primary.factor=optim")
    assert run.code == 1 and "until=decided would average over optim.lr, while src.report chooses one" in run.err
