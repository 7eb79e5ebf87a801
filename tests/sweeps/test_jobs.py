"""What a sweep's folder says of its jobs, and what ``python -m src.status`` makes of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.runs.folder import RunFolder
from src.sweeps.jobs import commands, find_sweep, jobs, record_launch, refusal_file, show

ROOT = Path(__file__).parents[2]
RESULT: dict[str, Any] = {"seed": 1, "metrics": {"test/accuracy": 0.75}}
CONFIG = {"trainer": {"max_epochs": 3}}
ROWS = "epoch,step,seconds,speed/images_per_second\n1,4,1.0,100.0\n2,8,1.0,120.0\n"

FIRST = "python -m src.train --multirun seed=1,2,3,4 sweep=s"
SECOND = "python -m src.train --multirun seed=4,5,6,7,8 sweep=s"


def write(sweep: Path, name: str, rows: str = "", **results: Any) -> RunFolder:
    folder = RunFolder(sweep / name)
    folder.path.mkdir(parents=True)
    if results:
        folder.results_file.write_text(json.dumps({"config": CONFIG, "error": None} | results))
    if rows:
        folder.metrics_file.write_text(rows)
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A job of every kind, asked for by two launches, and one that nobody asked for."""
    sweep = tmp_path / "logs/train/sweeps/s"
    done = RESULT | {"epochs": 3, "images_per_second": 90.0}
    write(sweep, "seed=1", status="completed", overrides=["seed=1", "a=b"], **done)
    write(sweep, "seed=2", ROWS, status="running", process="process 7 on host")
    write(sweep, "seed=3", ROWS, status="failed", error="No.")
    write(sweep, "seed=4", status="interrupted", error="interrupted by the user")
    write(sweep, "seed=5", ROWS, status="running", process="process 8 on host")
    write(sweep, "seed=6")  # killed before it began
    write(sweep, "seed=8").results_file.write_text("{")
    write(sweep, "seed=9").results_file.touch()
    write(sweep, ".replaced/seed=1-x", status="completed", **done)
    record_launch(sweep, ["seed=1,2,3,4"], {f"seed={seed}": [f"seed={seed}"] for seed in (1, 2, 3, 4)})
    record_launch(sweep, ["seed=4,5,6,7,8"], {f"seed={seed}": [f"seed={seed}"] for seed in (4, 5, 6, 7, 8)})
    return sweep


def test_every_job_has_a_state(sweep: Path) -> None:
    with RunFolder(sweep / "seed=2").locked():
        found = {job.name: job for job in jobs(sweep)}
    assert list(found) == [f"seed={seed}" for seed in range(1, 10)]
    damaged = found.pop("seed=8")
    assert damaged.state == "unreadable" and f"{sweep}/seed=8/results.json is damaged: Expecting" in damaged.error
    assert {name: (job.state, job.error) for name, job in found.items()} == {
        "seed=1": ("completed", None),
        "seed=2": ("running", None),
        "seed=3": ("failed", "No."),
        "seed=4": ("interrupted", "interrupted by the user"),
        "seed=5": ("interrupted", "killed"),
        "seed=6": ("missing", None),
        "seed=7": ("missing", None),
        "seed=9": ("interrupted", "killed"),
    }
    assert [name for name, job in found.items() if job.folder is None] == ["seed=6", "seed=7"]
    assert found["seed=1"].overrides == ("seed=1", "a=b") and found["seed=9"].overrides == ("seed=9",)
    assert (found["seed=1"].epochs, found["seed=2"].epochs, found["seed=4"].epochs) == (3, 2, 0)
    assert found["seed=2"].max_epochs == 3 and found["seed=2"].results["images_per_second"] == 120


def test_a_sweep_is_finished_by_the_latest_launch_that_asked(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert commands(sweep) == [FIRST, SECOND]
    for seed in (2, 3):
        RunFolder(sweep / f"seed={seed}").update(status="completed", **RESULT)
    assert commands(sweep) == [SECOND]


def test_the_same_launch_is_recorded_once(sweep: Path) -> None:
    before = (sweep / "sweep.json").read_bytes()
    record_launch(sweep, ["seed=1,2,3,4"], {f"seed={seed}": [f"seed={seed}"] for seed in (1, 2, 3, 4)})
    assert (sweep / "sweep.json").read_bytes() == before


def test_a_sweep_without_a_record_is_what_is_found(sweep: Path) -> None:
    (sweep / "sweep.json").write_text("{")
    assert [job.name for job in jobs(sweep)] == [f"seed={seed}" for seed in (1, 2, 3, 4, 5, 8, 9)]


def test_a_table_shows_them(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusal_file(sweep / "seed=1").parent.mkdir()
    refusal_file(sweep / "seed=1").write_text("Other [settings].")
    with RunFolder(sweep / "seed=2").locked():
        show(sweep, jobs(sweep))
    rows = {
        cells[0]: cells[1:]
        for line in capsys.readouterr().out.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 6
    }
    assert rows["seed=1"] == ["refused", "3/3", "90", "test 75.00%", "Other [settings]."]
    assert rows["seed=2"] == ["running", "2/3", "120", "", "by process 7 on host"]
    assert rows["seed=3"] == ["failed", "2/3", "", "", "No."]
    assert rows["seed=7"] == ["missing", "", "", "", ""]


def test_of_many_jobs_only_those_to_look_at_are_listed(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(100, 300):
        write(sweep, f"seed={seed}", status="completed", **RESULT)
    refusal_file(sweep / "seed=100").parent.mkdir()
    refusal_file(sweep / "seed=100").write_text("Other settings.")
    found = jobs(sweep)

    def listed(**options: bool) -> list[str]:
        show(sweep, found, **options)
        out = capsys.readouterr().out
        others = "202 jobs that completed, were pruned or never started are listed by: python -m src.status all=true "
        assert (others in out) is not options.get("everything", False)
        names = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
        return list(filter(None, names))  # a long remark takes several lines

    assert listed() == ["seed=2", "seed=3", "seed=4", "seed=5", "seed=8", "seed=100", "seed=9"]
    assert listed(everything=True) == [job.name for job in found]


def test_a_sweep_is_found_by_name_or_path(sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_sweep("s").resolve() == find_sweep(str(sweep)).resolve() == sweep
    with pytest.raises(FileNotFoundError, match=r"There is no sweep x; in logs/train/sweeps there are: s\."):
        find_sweep("x")


def test_status_tells_quickly(sweep: Path, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "src.status", "sweep=s"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0
    assert "4 interrupted, 2 missing, 1 completed, 1 failed, 1 unreadable\n" in answer.stdout
    assert f"To finish the sweep: {FIRST}\nTo finish the sweep: {SECOND}\n" in answer.stdout
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "rich" in imported and not imported & {"torch", "lightning", "pandas", "matplotlib"}
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_status_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "src.status", "sweep=s"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 1
    assert answer.stderr == "There is no sweep s; in logs/train/sweeps there are: none.\n"


@pytest.mark.parametrize("name", ["../elsewhere", "/elsewhere", "..", ""])
def test_the_record_of_a_stranger_leads_to_no_other_folder(tmp_path: Path, name: str) -> None:
    sweep = tmp_path / "s"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "results.json").write_text('{"status": "completed"}')
    record_launch(sweep, ["seed=1,2,3,4"], {"seed=1": ["seed=1"]})
    record_launch(sweep, ["seed=4,5,6,7,8"], {name: ["seed=2"]})
    assert [job.name for job in jobs(sweep)] == ["seed=1"]
