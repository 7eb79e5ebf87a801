"""What a file may say: types, ranges, and sentences over anything else."""

import json
from pathlib import Path
from typing import Any

import pytest

from src.runs.file_schema import Launch, Results, parse
from src.runs.folder import RunFolder

GOOD: dict[str, Any] = {
    "status": "completed",
    "error": None,
    "seed": 1,
    "metrics": {"test/accuracy": 1, "test/loss": 1e400},
    "test_accuracy_by_class": {"cat": 0.5, "dog": None},
    "revision": {"commit": "c0ffee", "modified": None},
    "config": {"data": {"root": "a\x1b"}, "trainer": {}},
    "a key of a later version": [{"x": None}],
}
BAD = {
    "status is 'done'; expected running, completed, interrupted, failed": {"status": "done"},
    "metrics is 'x'; expected a mapping": {"metrics": "x"},
    "test/accuracy is 50; expected a number from 0 to 1": {"metrics": {"test/accuracy": 50}},
    "test/accuracy is inf; expected a number from 0 to 1": {"metrics": {"test/accuracy": float("inf")}},
    "test/accuracy is nan; expected a number from 0 to 1": {"metrics": {"test/accuracy": float("nan")}},
    "metrics.test/accuracy is '0.5'; expected a number": {"metrics": {"test/accuracy": "0.5"}},
    "metrics has folder; expected names such as test/accuracy": {"metrics": {"test/accuracy": 1, "folder": 1}},
    "error is 5; expected text": {"error": 5},
    "config is None; expected a mapping": {"config": None},
    "seed is True; expected a whole number": {"seed": True},
    "seed is -1; expected a number from 0": {"seed": -1},
    "seed is 1000000000": {"seed": 10**400},
    "test_accuracy_by_class.cat is 50; expected a number from 0 to 1": {"test_accuracy_by_class": {"cat": 50}},
    "revision.commit is ['x']; expected text": {"revision": {"commit": ["x"]}},
    "it is completed, and has no seed": {"status": "completed", "metrics": {}, "seed": None},
    "it is completed, and has neither test/accuracy nor val/accuracy": {"status": "completed", "metrics": {}},
    "other is {'a': {'a':": {"other": json.loads('{"a":' * 50 + "1" + "}" * 50)},
}


def results(folder: Path, content: Any) -> Results:
    known = {key: value for key, value in content.items() if (key, value) != ("seed", None)}
    (folder / "results.json").write_text(json.dumps(known))
    return RunFolder(folder).results()


def test_what_is_right_is_left_as_it_is(tmp_path: Path) -> None:
    assert results(tmp_path, GOOD) == json.loads(json.dumps(GOOD))


@pytest.mark.parametrize(("sentence", "change"), BAD.items(), ids=BAD)
def test_what_is_wrong_is_named(tmp_path: Path, sentence: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:
        results(tmp_path, GOOD | change)
    assert f"results.json is damaged: {sentence}" in str(error.value) and len(str(error.value)) < 500


def test_strings_become_printable_and_what_is_missing_is_named() -> None:
    launch = {"command": "a\x1b[2J", "jobs": {"\u202ex": ["\udcff"]}}
    assert parse(Launch, launch) == {"command": "a\\x1b[2J", "jobs": {"\\u202ex": ["\\udcff"]}}
    with pytest.raises(ValueError, match=r"^it is \{'jobs': \{\}\}; expected a mapping with command, jobs$"):
        parse(Launch, {"jobs": {}})


def test_a_table_of_epochs_is_checked(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.epochs() == []
    folder.metrics_file.write_text("epoch,step,seconds,val/accuracy,val/loss\n1,4,2.5,,nan\n2,8,2.5,0.5,1\n")
    assert [row.get("val/accuracy") for row in folder.epochs()] == [None, 0.5]
    wrong = (
        "epoch,step\n1,4\n",
        "epoch,step,seconds,val/accuracy\n1,4,2.5,50\n",
        "epoch,step,seconds\n1,4,x\n",
        "a,b\n1,2,3\n",
    )
    for text in wrong:
        folder.metrics_file.write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.csv is damaged"):
            folder.epochs()
