"""results.json: claimed once, merged, never half-written."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.runs.folder import SCHEMA_VERSION, RunFolder, RunInUse, write_json, write_whole


def test_claiming_makes_the_folder_and_says_it_is_running(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.create()
    process = folder.results()["process"]
    assert process.startswith(f"process {os.getpid()} on ")
    assert folder.results() == {"schema": SCHEMA_VERSION, "status": "running", "error": None, "process": process}


def test_only_one_of_many_gets_the_folder(tmp_path: Path) -> None:
    def claim(_: int) -> bool:
        try:
            RunFolder(tmp_path / "run").create()
        except FileExistsError as error:
            assert "already holds a run, which is never overwritten" in str(error)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(32))) == 1


def test_updates_are_merged(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    process = folder.results()["process"]
    folder.update(seed=1, metrics={"test/accuracy": 0.5})
    folder.update(seed=2, status="completed")
    results = {"schema": SCHEMA_VERSION, "status": "completed", "error": None, "seed": 2}
    results["metrics"] = {"test/accuracy": 0.5}
    results["process"] = process
    assert folder.results() == json.loads((tmp_path / "results.json").read_text()) == results
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": 2, "b": object()})
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_folder_without_results_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no run folder: it has no results.json"):
        RunFolder(tmp_path).results()


@pytest.mark.parametrize("content", [b"{", b"[1]", b"null", b"\xff\xfe"])
def test_damaged_results_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"results.json is damaged: .*\.$"):
        RunFolder(tmp_path).results()


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_locked()
    with folder.locked():
        folder.create()
        assert folder.is_locked()
        told = rf"run is being run by process {os.getpid()} on "
        with pytest.raises(RunInUse, match=told), RunFolder(tmp_path / "run").locked():
            pass
        assert folder.is_locked()
    assert not folder.is_locked()
    with folder.locked():
        pass


@pytest.mark.parametrize("at", ["writing", "moving"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, at: str) -> None:
    file = tmp_path / "a"
    for content in ("1", "2"):
        with write_whole(file, keep=tmp_path / "b") as writer:
            writer.write(content)
    if at == "moving":
        file.unlink()
        file.mkdir()  # nothing can be moved there
    with pytest.raises(OSError), write_whole(file) as writer:
        writer.write("3")
        if at == "writing":
            raise OSError
    assert at == "moving" or file.read_text() == "2"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"} and (tmp_path / "b").read_text() == "1"
