"""The code of a sweep, from launch to launch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src.runs import provenance
from src.sweeps import code
from src.sweeps.code import keep_code

Launch = Callable[..., Any]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep that was launched from a tree with two files, which lies beside it."""
    for name in ("src/runs/provenance.py", "src/models/net.py", "src/analysis/page.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src/runs/provenance.py"))
    assert keep_code(tmp_path / "sweep", "error") == ""
    return tmp_path / "sweep"


def test_the_same_code_is_no_change_and_neither_is_other_code_of_the_report(sweep: Path) -> None:
    (sweep.parent / "src/analysis/page.py").write_text("a = 2\n")
    before = (sweep / "code.json").read_bytes()
    assert keep_code(sweep, "error") == "" and (sweep / "code.json").read_bytes() == before
    assert json.loads(before)["versions"]["torch"]


def test_other_code_is_refused_or_told_by_the_names_of_its_files(sweep: Path) -> None:
    (sweep.parent / "src/models/net.py").write_text("a = 2\n")
    (sweep.parent / "src/models/new.py").write_text("a = 2\n")
    with pytest.raises(ValueError, match=r"last launch: src/models/net.py, src/models/new.py\. on_code_change=warn"):
        keep_code(sweep, "error")
    assert "last launch: src/models/net.py, src/models/new.py. Completed jobs keep" in keep_code(sweep, "warn")
    assert keep_code(sweep, "error") == ""  # what was accepted is the sweep's code now
    (sweep.parent / "src/models/net.py").unlink()
    assert keep_code(sweep, "ignore") == ""


def test_modules_of_the_users_own_are_code(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.chdir(own)
    keep_code(sweep, "ignore")
    (own / "my_parts.py").write_text("gamma = 2\n")
    assert "last launch: ./my_parts.py." in keep_code(sweep, "warn") and keep_code(sweep, "warn") == ""
    (own / "my_parts.py").write_text("gamma = 5\n")
    assert "last launch: ./my_parts.py." in keep_code(sweep, "warn")
    (own / "pack" / "sub").mkdir(parents=True)
    for name in ("__init__.py", "sub/net.py"):
        (own / "pack" / name).touch()
    assert "last launch: ./pack/__init__.py, ./pack/sub/net.py." in keep_code(sweep, "warn")


def test_other_packages_that_compute_are_told(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = code.environment()
    monkeypatch.setattr(code, "environment", lambda: installed | {"torch": "0.1", "pytest": "0.1"})
    told = keep_code(sweep, "warn")
    assert f"torch was {installed['torch']} and is now 0.1." in told and "pytest" not in told


def test_a_damaged_record_is_replaced(sweep: Path) -> None:
    (sweep / "code.json").write_text("{")
    assert keep_code(sweep, "error") == ""
    assert json.loads((sweep / "code.json").read_text())["files"]


def test_a_launch_with_other_code_says_so_before_any_job_starts(train: Launch, tmp_path: Path) -> None:
    launch = ("--multirun", "sweep=s", "seed=1", "trainer.max_epochs=1", "logger=none")
    assert train(*launch).code == 0
    file = tmp_path / "logs/train/sweeps/s/code.json"
    kept = json.loads(file.read_text())
    kept["files"]["src/train.py"] = "0" * 12
    file.write_text(json.dumps(kept))
    refused = train(*launch, "on_code_change=error")
    assert refused.code == 1 and "last launch: src/train.py." in refused.err and "completed before" not in refused.out
    wrong = train(*launch, "on_code_change=maybe")
    assert wrong.code == 1 and "on_code_change is 'maybe'; expected warn, error or ignore." in wrong.err
    warned = train(*launch)
    assert warned.code == 0 and "last launch: src/train.py." in warned.out and "completed before" in warned.out
