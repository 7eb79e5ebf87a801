"""A multirun: every combination in a folder of its own, whatever becomes of the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    assert {(r["factors"]["optim"], r["factors"]["lr"]) for r in results.values()} == {
        (optim, lr) for optim in ("sgd", "adam", "adamw") for lr in (0.003, -1)
    }
    for name, result in results.items():
        assert f"optim={result['factors']['optim']}" in name and f"optim.lr={result['factors']['lr']}" in name
    completed = [r for r in results.values() if r["status"] == "completed"]
    assert len({r["metrics"]["test/loss"] for r in completed}) == len({r["fingerprint"] for r in completed}) == 3
    assert len({r["metrics"]["train/loss"] for r in completed}) == 3


def test_a_failing_job_does_not_stop_the_rest(sweep: Any) -> None:
    for result in jobs(sweep.folder).values():
        if result["factors"]["lr"] == -1:
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
    assert all("sweep" not in job.name for job in folder.iterdir())


def test_two_sweeps_of_the_same_second_share_nothing(train: Launch, tmp_path: Path) -> None:
    for _ in range(2):  # both fail at once
        train("optim.lr=-1,-2", "--multirun")
    sweeps = list((tmp_path / "logs" / "train" / "sweeps").iterdir())
    assert len(sweeps) == 2
    assert all(len(list(sweep.glob("*/results.json"))) == 2 for sweep in sweeps)


def test_a_wrong_choice_is_found_before_anything_runs(train: Launch, tmp_path: Path) -> None:
    run = train("optim=sgd,foo", "--multirun")
    assert run.code == 1
    assert "Could not find 'optim/foo'" in run.err and "adamw" in run.err and "Traceback" not in run.err
    assert not list(tmp_path.rglob("results.json"))


def test_the_commands_on_the_screen_work_for_a_job_of_a_sweep(sweep: Any, evaluate: Launch, resume: Launch) -> None:
    (told, *_) = (line for line in sweep.out.splitlines() if line.startswith("test it again"))
    ckpt = told.split()[-1]
    assert "," in ckpt and ckpt.startswith("ckpt=")
    assert evaluate(f"ckpt={sweep.folder / ckpt.removeprefix('ckpt=')}").code == 0
    folder = (sweep.folder / ckpt.removeprefix("ckpt=")).parents[1]
    run = resume(folder)
    assert run.code == 1 and "has completed its 1 epochs" in run.err
