"""A multirun: every combination in a folder of its own, whatever becomes of the others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.train
from src.sweeps.jobs import jobs as list_jobs
from tests.conftest import TINY, launch

Launch = Callable[..., Any]


def jobs(cwd: Path) -> dict[str, dict[str, Any]]:
    """Results by folder name of the only sweep there is."""
    (sweep,) = cwd.glob("logs/train/sweeps/*")
    return {file.parent.name: json.loads(file.read_text()) for file in sweep.glob("*/results.json")}


@pytest.fixture(scope="module")
def sweep(launch_in: Launch) -> Any:
    return launch_in("optim=sgd,adam,adamw", "optim.lr=0.003,-1", "trainer.max_epochs=1", "--multirun")


def test_every_job_has_its_own_folder_and_results(sweep: Any) -> None:
    results = jobs(sweep.folder)
    assert len(results) == 6
    assert {(r["choices"]["optim"], r["settings"]["optim.lr"]) for r in results.values()} == {
        (optim, lr) for optim in ("sgd", "adam", "adamw") for lr in (0.003, -1)
    }
    for name, result in results.items():
        assert f"optim={result['choices']['optim']}" in name and f"optim.lr={result['settings']['optim.lr']}" in name
    completed = [r for r in results.values() if r["status"] == "completed"]
    assert len({r["metrics"]["test/loss"] for r in completed}) == len({r["fingerprint"] for r in completed}) == 3
    assert len({r["metrics"]["train/loss"] for r in completed}) == 3


def test_a_failing_job_does_not_stop_the_rest(sweep: Any) -> None:
    for result in jobs(sweep.folder).values():
        if result["settings"]["optim.lr"] == -1:
            assert result["status"] == "failed" and result["error"].startswith("optim.lr is -1")
        else:
            assert result["status"] == "completed" and result["error"] is None


def test_the_exit_code_and_a_table_tell(sweep: Any) -> None:
    assert sweep.code == 1
    assert "Traceback" not in sweep.out + sweep.err
    assert "3 of 6 jobs completed." in sweep.out
    for name, result in jobs(sweep.folder).items():
        varied = ", ".join(part for part in name.split(",") if part.startswith("optim"))
        (line,) = (line for line in sweep.out.splitlines() if f"│ {varied} " in line)
        assert result["status"] in line
        told = f"{result['metrics']['test/accuracy']:.2%}" if "metrics" in result else "optim.lr is -1"
        assert told in line


def test_a_sweep_without_failures_exits_with_0(train: Launch, tmp_path: Path) -> None:
    run = train("trainer.max_epochs=1", "sweep=named", "seed=1,2", "--multirun")
    assert run.code == 0 and "2 of 2 jobs completed." in run.out
    assert {r["seed"] for r in jobs(tmp_path).values()} == {1, 2}
    (folder,) = (tmp_path / "logs" / "train" / "sweeps").iterdir()
    assert folder.name == "named"
    assert all("sweep" not in job.name for job in folder.iterdir() if job.is_dir())


@pytest.mark.slow
def test_jobs_may_be_named_after_what_they_train(train: Launch, tmp_path: Path) -> None:
    names = "hydra.sweep.subdir=${hydra.runtime.choices.model}-${seed}"
    run = train("trainer.max_epochs=1", "sweep=named", "seed=1,2", names, "--multirun")
    assert run.code == 0 and "2 of 2 jobs completed." in run.out
    assert set(jobs(tmp_path)) == {"simplecnn-1", "simplecnn-2"}


@pytest.mark.parametrize(
    ("group", "overrides"),
    [
        ("loss", ("loss=cross_entropy,bce", "loss._target_=torch.nn.CrossEntropyLoss")),
        ("optim", ("experiment=optimizers", "optim._target_=torch.optim.RMSprop")),  # the grid is the experiment's
    ],
)
def test_arms_that_would_all_be_one_are_refused(
    train: Launch, tmp_path: Path, group: str, overrides: tuple[str, ...]
) -> None:
    run = train("--multirun", *overrides)
    assert run.code == 1 and f"{group}._target_ would replace every choice of {group}: write the one of" in run.err
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.slow
def test_two_sweeps_of_the_same_second_share_nothing(train: Launch, tmp_path: Path) -> None:
    for _ in range(2):  # both fail at once
        train("optim.lr=-1,-2", "--multirun")
    sweeps = list((tmp_path / "logs" / "train" / "sweeps").iterdir())
    assert len(sweeps) == 2
    assert all(len(list(sweep.glob("*/results.json"))) == 2 for sweep in sweeps)


def test_a_wrong_choice_is_found_before_anything_runs(train: Launch, tmp_path: Path) -> None:
    run = train("optim=sgd,foo", "--multirun")
    assert run.code == 1
    assert run.err == "There is no optim=foo; choose one of: adam, adamw, custom, lion, muon, sgd, timm.\n"
    assert not list(tmp_path.rglob("results.json"))


def test_what_is_on_the_screen_works_in_a_command(sweep: Any, evaluate: Launch, resume: Launch) -> None:
    (told, *_) = (line for line in sweep.out.splitlines() if ": test accuracy " in line)
    folder = sweep.folder / told.partition(": ")[0]
    assert "," in folder.name
    assert evaluate(f"ckpt={folder}/checkpoints/best.ckpt").code == 0
    run = resume(folder)
    assert run.code == 1 and "has completed epoch 1, its last" in run.err


# ------------------------------------------------------------------------------------------------------------
# Launched again
# ------------------------------------------------------------------------------------------------------------

GRID = ("trainer.max_epochs=1", "sweep=grid")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def grid(launch_in: Launch) -> Any:
    """Two completed jobs."""
    return launch_in(*GRID, "seed=1,2", "--multirun")


@pytest.fixture
def again(grid: Any, tmp_path: Path) -> Launch:
    """Launch a sweep again in a copy of the folder of ``grid``."""
    shutil.copytree(grid.folder, tmp_path, dirs_exist_ok=True)
    return lambda *overrides: launch(src.train.main, tmp_path, *TINY, *GRID, *overrides, "--multirun")


def folder_of(cwd: Path, seed: int) -> Path:
    return cwd / "logs/train/sweeps/grid" / f"model=simplecnn,seed={seed}"


def test_what_has_completed_is_not_touched_and_a_wider_grid_runs_only_what_is_new(
    again: Launch, tmp_path: Path
) -> None:
    before = contents(folder_of(tmp_path, 1))
    run = again("seed=1,2,3", "data.eval_batch_size=50", "logger=none")  # neither affects the result
    assert run.code == 0 and "3 of 3 jobs completed." in run.out
    assert run.out.count("epoch 1/1") == 1
    assert run.out.count("completed before, test accuracy") == 2
    assert contents(folder_of(tmp_path, 1)) == before
    assert jobs(tmp_path)["model=simplecnn,seed=3"]["status"] == "completed"


@pytest.mark.parametrize("policy", ["error", "rerun", "keep"])
def test_other_settings_are_a_conflict(again: Launch, tmp_path: Path, policy: str) -> None:
    folder = folder_of(tmp_path, 1)
    before, score = contents(folder), jobs(tmp_path)[folder.name]["metrics"]["test/accuracy"]
    run = again("seed=1", "data.val_size=0.2", "data.batch_size=40", f"on_conflict={policy}")
    assert run.code == (1 if policy == "error" else 0)
    told = "data.batch_size was 50 and is now 40; data.val_size was 0.1 and is now 0.2"
    assert told in run.err + run.out
    if policy == "rerun":
        (aside,) = (tmp_path / "logs/train/sweeps/grid/.replaced").iterdir()
        assert str(aside.relative_to(tmp_path)) in run.out
        lock = {".lock": b""}
        assert contents(aside) | lock == before
        result = jobs(tmp_path)[folder.name]
        assert result["status"] == "completed" and result["config"]["data"]["val_size"] == 0.2
        assert "data.val_size=0.2" in (folder / ".hydra" / "overrides.yaml").read_text()
    else:
        assert contents(folder) == before
    if policy == "keep":
        assert f"kept, test accuracy {score:.2%}" in run.out
    if policy == "error":
        assert "refused" in run.out
        assert again("seed=1").code == 0


def test_a_policy_there_is_not_is_refused(again: Launch, tmp_path: Path) -> None:
    before = contents(folder_of(tmp_path, 1))
    run = again("seed=1", "on_conflict=maybe")
    assert run.code == 1 and "on_conflict is 'maybe'; expected error, rerun or keep." in run.err
    assert contents(folder_of(tmp_path, 1)) == before


def test_a_failed_job_that_learned_nothing_gives_way_to_other_settings(again: Launch, tmp_path: Path) -> None:
    assert again("seed=3", "data.train_size=1e9").code == 1
    run = again("seed=1,2,3")
    assert run.code == 0 and run.out.count("completed before") == 2
    assert jobs(tmp_path)["model=simplecnn,seed=3"]["status"] == "completed"


@pytest.mark.parametrize(
    "content",
    ["{", *(pytest.param(text, marks=pytest.mark.slow) for text in ("", '{"schema": 1, "status": "running"}'))],
)
def test_results_that_were_lost_are_found_again(again: Launch, grid: Any, tmp_path: Path, content: str) -> None:
    folder = folder_of(tmp_path, 1)
    (folder / "results.json").write_text(content)
    run = again("seed=1,2")
    assert run.code == 0
    assert "epoch 1/1" not in run.out  # tested again, not trained
    for key in ("status", "metrics", "best_epoch", "epochs", "fingerprint"):
        assert jobs(tmp_path)[folder.name][key] == jobs(grid.folder)[folder.name][key]


def test_what_was_never_run_is_known_to_be_missing(again: Launch, tmp_path: Path) -> None:
    shutil.rmtree(folder_of(tmp_path, 2))
    again("seed=1")
    states = {job.name: job.state for job in list_jobs(tmp_path / "logs/train/sweeps/grid")}
    assert states == {"model=simplecnn,seed=1": "completed", "model=simplecnn,seed=2": "missing"}


def test_a_launch_that_is_refused_as_a_whole_asks_for_nothing(again: Launch, tmp_path: Path) -> None:
    assert again("seed=1,2", "optim=sgd,foo").code == 1
    assert len(list_jobs(tmp_path / "logs/train/sweeps/grid")) == 2
