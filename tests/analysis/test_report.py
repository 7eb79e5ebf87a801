"""From a real sweep to its report."""

import contextlib
import csv
import shlex
import shutil
from pathlib import Path

import pytest

import src.report
import src.train
from src.sweeps.jobs import commands, jobs
from tests.conftest import TINY, Run, launch

GRID = ("sweep=study", "model=deepcnn", "model.skip=false,true", "model.init=torch,he", "seed=1,2")
TRAINED = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "data.val_size=0")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The folder in which a 2 × 2 grid of two seeds was trained, two runs of it watched, and the report on it."""
    folder = tmp_path_factory.mktemp("sweep")
    watched = ("callbacks=signals", "model.init=torch", "seed=1")
    for more in (watched, ()):
        assert launch(src.train.main, folder, *TINY, *TRAINED, *GRID, *more, "--multirun").code == 0
    return folder, launch(src.report.main, folder, "sweep=study")


def test_the_page_holds_every_configuration_and_effect(reported: tuple[Path, Run]) -> None:
    folder, run = reported
    assert run.code == 0 and run.err == ""
    page = (folder / "logs/report/study/report.md").read_text()
    assert "digits; 200 training images; 1 epoch; seeds 1, 2;" in page
    assert page.count("| skip | off → on | init torch | ") == 1 and page.count("| skip | off → on | 2 | 2 |") == 1
    assert "| skip | off → on | init | torch → he | 2 |" in page
    with (folder / "logs/report/study/runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        assert row["status"] == "completed"
        assert 0 <= float(row["test/accuracy"]) <= 1


def test_the_screen_shows_the_conclusion_and_where_the_report_is(reported: tuple[Path, Run]) -> None:
    folder, run = reported
    assert "skip on against off: " in run.out and "n = 2 seeds" in run.out
    assert "2 seeds: their spread is known to 1 degree of freedom" in run.out
    last = run.out.splitlines()[-1]
    assert last == "logs/report/study/report.html" and (folder / last).exists()


def test_the_figures_are_files_and_in_the_page(reported: tuple[Path, Run]) -> None:
    report = reported[0] / "logs/report/study"
    names = {"effects", "accuracy", "learning", "cost", "grid", "classes", "loss", "gradients"}
    assert {file.stem for file in (report / "figures").iterdir()} == names
    for name in names:
        assert (report / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (report / f"figures/{name}.svg").read_text()
        assert (report / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f"{{figures/{name}.pdf}}" in (report / "report.tex").read_text()
        assert f"![{name}](figures/{name}.png)" in (report / "report.md").read_text()
    assert (report / "report.html").read_text().count("data:image/svg+xml;base64,") == len(names)


def test_a_run_that_did_not_complete_is_named_and_left_out(reported: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    victim = next((tmp_path / "logs/train/sweeps/study").glob("*skip=True*seed=2"))
    file = victim / "results.json"
    file.write_text(
        file.read_text().replace('"status": "completed"', '"status": "failed"').replace("null", '"it broke"', 1)
    )
    run = launch(src.report.main, tmp_path, "sweep=study")
    assert "The sweep is incomplete: 7 of 8 jobs completed (1 failed)." in run.out
    page = (tmp_path / "logs/report/study/report.md").read_text()
    (line,) = (line for line in page.splitlines() if "| failed |" in line)
    assert "model.skip=True" in line and "seed=2" in line and "it broke" in line


@pytest.mark.slow
def test_a_job_that_never_started_is_told_with_the_command_that_runs_it(
    reported: tuple[Path, Run], tmp_path: Path
) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    for victim in (tmp_path / "logs/train/sweeps/study").glob("*skip=True*seed=2"):
        shutil.rmtree(victim)
    run = launch(src.report.main, tmp_path, "sweep=study")
    assert "The sweep is incomplete: 6 of 8 jobs completed (2 missing)." in run.out
    assert "skip on against off: " in run.out and "n = 1 seed, " in run.out
    page = (tmp_path / "logs/report/study/report.md").read_text()
    assert page.count("| missing |") == 2 and "To finish: python -m src.train" in page


@pytest.mark.slow
def test_seeds_that_would_decide_come_with_a_command_that_trains_them(
    reported: tuple[Path, Run], tmp_path: Path
) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    sweep = Path("logs/train/sweeps/study")
    with contextlib.chdir(tmp_path):
        (first,), found = commands(sweep, seeds=2, finish=False), jobs(sweep)
    assert '"seed=range(3,5)"' in first and "seed=1,2" not in first and first.endswith(" sweep=study")
    launch(src.train.main, tmp_path, *shlex.split(first)[3:])
    with contextlib.chdir(tmp_path):
        assert {job.results["seed"] for job in jobs(sweep)} == {1, 2, 3, 4} and len(jobs(sweep)) == 2 * len(found)
    run = launch(src.report.main, tmp_path, "sweep=study")
    assert "Not all launches of study asked for the same seeds (1; 1, 2; 3, 4)." in run.out


def test_a_question_may_be_stated_to_the_report(reported: tuple[Path, Run], tmp_path: Path) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    asked = ("question=Why not?", "primary.factor=skip", "primary.levels=[true,false]", "smallest_effect=1")
    run = launch(src.report.main, tmp_path, "sweep=study", *asked)
    assert run.code == 0, run.err
    assert run.out.startswith("Why not?\nskip off against on: ")
    assert "question is Why not? in this report, and was none when they were started; factor is skip" in run.out
    wrong = launch(src.report.main, tmp_path, "sweep=study", "primary.factor=skpi")
    sentence = "The primary comparison cannot be made: there is no factor skpi; did you mean skip?\n"
    assert (wrong.code, wrong.err) == (1, sentence)


@pytest.mark.slow
def test_several_sweeps_are_reported_as_one(reported: tuple[Path, Run], tmp_path: Path) -> None:
    """The second one is a copy, in which every experiment is one of the first."""
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    sweeps = tmp_path / "logs/train/sweeps"
    shutil.copytree(sweeps / "study", sweeps / "again")
    run = launch(src.report.main, tmp_path, "sweep=[study,again]", "+baseline.skip=true")
    assert run.code == 0, run.err
    assert "repeat others exactly (equal fingerprint): 8." in run.out and "skip off against on: " in run.out
    assert (tmp_path / "logs/report/study+again/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name a sweep: python -m src.report sweep=NAME"),
        (["sweep=nope"], "There is no sweep nope; in logs/train/sweeps there are: study."),
        (["sweep=study", "tune=depth"], "tune is depth; expected auto, [] for none, or one of the factors that vary"),
        (["sweep=study", "targets=[50]"], "targets is [50]; expected validation accuracies above 0, up to 1"),
        (["sweep=study", "smallest_effect=0"], "smallest_effect is 0; expected percentage points above 0, up to 100"),
        (["sweep=study", "baseline=he"], "baseline is 'he'; expected a level by factor, such as +baseline.optim=adam."),
        (["sweep=study", "+baseline.init=zero"], "baseline.init is 'zero'; the levels of init are torch, he."),
    ],
)
def test_a_mistake_gets_a_sentence(
    arguments: list[str], sentence: str, reported: tuple[Path, Run], tmp_path: Path
) -> None:
    shutil.copytree(reported[0] / "logs", tmp_path / "logs")
    run = launch(src.report.main, tmp_path, *arguments)
    assert run.code == 1
    assert run.err.startswith(sentence) and run.err.count("\n") == 1
    assert "Traceback" not in run.err


def test_all_runs_failed(tmp_path: Path) -> None:
    launch(src.train.main, tmp_path, *TINY, "sweep=broken", "optim.lr=-1,-2", "--multirun")
    run = launch(src.report.main, tmp_path, "sweep=broken")
    assert run.err == "None of the 2 runs in logs/train/sweeps/broken has completed; there is nothing to report.\n"
