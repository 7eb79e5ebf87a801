"""A relaunched sweep skips its completed jobs before they are composed, unless something may have changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import src.train
from tests.conftest import TINY, launch

SWEEP = (*TINY, "trainer.max_epochs=1", "logger=none", "callbacks=none", "sweep=s", "seed=1,2", "--multirun")


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    assert launch(src.train.main, folder, *SWEEP).code == 0
    return folder


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the folders whose job was composed, and compared setting by setting."""
    from src.sweeps import relaunch

    names: list[str] = []
    compare: Callable[..., Any] = relaunch.resume_or_skip

    def noted(folder: Any, cfg: Any) -> Any:
        names.append(folder.path.name)
        return compare(folder, cfg)

    monkeypatch.setattr(relaunch, "resume_or_skip", noted)
    return names


def test_completed_jobs_are_not_composed(cwd: Path, composed: list[str]) -> None:
    before = {file: file.read_bytes() for file in cwd.rglob("results.json")}
    run = launch(src.train.main, cwd, *SWEEP)
    assert run.code == 0 and composed == []
    assert run.out.count("completed before, test accuracy") == 2 and "2 of 2 jobs completed." in run.out
    assert {file: file.read_bytes() for file in cwd.rglob("results.json")} == before


def test_only_what_is_new_is_composed(cwd: Path, composed: list[str]) -> None:
    run = launch(src.train.main, cwd, *SWEEP, "seed=1,2,3")
    assert run.code == 0 and len(composed) == 1 and composed[0].endswith("seed=3")
    assert "3 of 3 jobs completed." in run.out


def test_configuration_files_elsewhere_may_have_changed(
    cwd: Path, composed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(src.train.main, cwd, *SWEEP, "--config-dir", str(tmp_path))
    assert len(composed) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"composed_by": "of other code"},
        {"overrides": ["seed=1"]},
        {"settings": {"seed": 1}},
        {"config": {"data": {"source": {"_target_": "os.system"}}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_may_have_changed_is_compared(cwd: Path, composed: list[str], change: dict[str, Any]) -> None:
    (file,) = cwd.glob("logs/train/sweeps/s/*seed=1/results.json")
    whole = file.read_text()
    file.write_text(json.dumps(json.loads(whole) | change))
    try:
        launch(src.train.main, cwd, *SWEEP)
        assert composed == [file.parent.name]
    finally:
        file.write_text(whole)


def test_an_environment_variable_may_have_changed(
    cwd: Path, composed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("50", "40"):
        monkeypatch.setenv("SIZE", size)
        run = launch(src.train.main, cwd, *SWEEP, "data.batch_size=${oc.env:SIZE}", "sweep=sizes", "seed=1")
    assert len(composed) == 2 and "data.batch_size was 50 and is now 40" in run.err
