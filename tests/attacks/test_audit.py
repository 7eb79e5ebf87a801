"""No command, given a file of the corpus, hangs, writes elsewhere, starts a program, opens a socket or unpickles."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.corpus import CASES, SAMPLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="named pipes, /dev and /proc")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes(
    finished: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, dict[str, Any]]:
    """What came of each selected case, by its name; of none after one that did not end."""
    home = tmp_path_factory.mktemp("audited")
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    names = [item.callspec.params["name"] for item in items if item.function is test_it_harms_nobody]
    command = [sys.executable, "-m", "tests.attacks.audited", str(finished.folder), str(home), *names]
    audited = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = [json.loads(line) for line in (home / "outcomes").read_text().splitlines()]
    if audited.returncode:
        print(audited.stdout[-2000:], audited.stderr[-4000:])
    return {outcome["name"]: outcome for outcome in found}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in CASES]
)
def test_it_harms_nobody(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    assert name in outcomes, "it did not end, or one before it did not"
    outcome = outcomes[name]
    assert outcome["violations"] == []
    assert "Traceback" not in outcome["text"], outcome["text"]
    _, attack = CASES[name]
    assert attack.says in outcome["text"]
    assert outcome["code"] in ((1,) if attack.says else (0, 1)), outcome["text"]
    assert "victim" not in "".join(line for line in outcome["text"].splitlines() if "src.train" in line)
