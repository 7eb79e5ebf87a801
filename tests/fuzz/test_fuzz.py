"""Files of any content, into everything that reads them: what is good is still shown, and what is not gets a sentence.

FUZZ_EXAMPLES=1000 python -m pytest -n 0 tests/fuzz tries longer than the suite does.
"""

import copy
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from src.analysis.figures import draw_gradients
from src.analysis.page.contents import page_of
from src.analysis.page.written import to_html, to_markdown
from src.analysis.table import load_curves, load_runs
from src.analysis.test_set import load_all_outcomes
from src.data.decode import decode
from src.data.image_folder import ImageFolder, _read
from src.inference.load import load
from src.inference.model_card import find_evaluation, model_card
from src.runs.errors import sentence
from src.runs.escaping import csv_cell, markdown, printable
from src.runs.folder import RunFolder
from src.runs.outcomes import Outcomes, save_outcomes
from src.sweeps.jobs import commands, jobs, show
from tests.attacks.test_outputs import NAME, TEXT, assert_html, assert_markdown, assert_plain
from tests.conftest import Run
from tests.made_up import write_run

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def tried(fewest: int) -> Callable[[Any], Any]:
    """Settings for a test that tries so many examples in the suite."""
    return settings(
        max_examples=max(fewest, EXAMPLES),
        phases=(Phase.generate,),  # making a failing example smaller takes minutes
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """What takes longer hangs."""

    def hangs(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def content_of(path: Path) -> dict[Path, bytes | None]:
    return {file: file.read_bytes() if file.is_file() else None for file in path.rglob("*")}


# ------------------------------------------------------------------------------------------------------------
# What may stand in a file
# ------------------------------------------------------------------------------------------------------------

ODD = (
    NAME,
    TEXT,
    "",
    "test/accuracy",
    "folder",
    "status",
    "completed",
    "../x",
    "/tmp",
    "a" * 300,
    "${oc.env:HOME}",
    "1e400",
)
TEXTS = st.sampled_from(ODD) | st.text(max_size=20)
NUMBERS = st.sampled_from([0, 1, -1, 0.5, 2**63, 10**400, 1e308]) | st.integers() | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def mutated(data: st.DataObject, content: Any, values: st.SearchStrategy[Any] = VALUES) -> Any:
    """``content`` with a few values or keys of it replaced, added or left out."""
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        *above, key = ("", *data.draw(st.sampled_from(places(content)), "place"))
        node = content
        for step in above[1:]:
            node = node[step]
        if not above:
            return data.draw(values, "content")
        change = data.draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"]), "change")
        if change == "remove":
            del node[key]
        elif change == "rename" and isinstance(node, dict):
            node[data.draw(TEXTS, "key")] = node.pop(key)
        elif change == "add" and isinstance(node, dict):
            node[data.draw(TEXTS, "key")] = data.draw(values, "value")
        else:
            node[key] = data.draw(values, "value")
        if not isinstance(content, dict) or not content:
            break
    return content


def torn(data: st.DataObject, content: bytes) -> bytes:
    """``content`` with some of its bytes replaced, cut out or doubled."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4), "wounds")):
        start = data.draw(st.integers(0, len(changed)), "start")
        end = min(len(changed), start + data.draw(st.integers(0, 40), "length"))
        changed[start:end] = data.draw(st.binary(max_size=8) | st.just(bytes(changed[start:end]) * 2), "bytes")
    return bytes(changed)


def as_json(data: st.DataObject, content: Any) -> bytes:
    text = json.dumps(content, ensure_ascii=data.draw(st.booleans(), "ascii"))
    written = text.encode("utf-8", errors="surrogatepass")
    return torn(data, written) if data.draw(st.integers(0, 9), "tear") == 0 else written


# ------------------------------------------------------------------------------------------------------------
# Text
# ------------------------------------------------------------------------------------------------------------


@tried(100)
@given(st.text() | st.binary().map(os.fsdecode))
def test_any_text(text: str) -> None:
    assert_plain(printable(text), lines=False)
    assert printable(printable(text)) == printable(text)
    printable(text).encode()
    assert_markdown(f"{markdown(text)}\n\n- {markdown(text)}\n\n| a | b |\n| --- | --- |\n| {markdown(text)} | b |\n")
    assert not str(csv_cell(text)).lstrip().startswith(("=", "+", "-", "@"))


# ------------------------------------------------------------------------------------------------------------
# Run folders and sweeps
# ------------------------------------------------------------------------------------------------------------

SIGNALS = "step,depth,layer,kind,weight_gradient\n0,0,conv1,conv,0.5\n0,1,relu,relu,\n0,2,conv2,conv,0.25\n"


def write_sweep(sweep: Path) -> Path:
    """Four good runs; returns the folder of one more, which a test may change."""
    for seed in (1, 2):
        for aug in ("none", "basic"):
            write_run(sweep, 0.5 + 0.1 * seed, seed=seed, aug=aug, curve=(0.3, 0.5), by_class={"cat": 0.5, "dog": None})
    bad = write_run(sweep, 0.5, seed=3, aug="basic", curve=(0.3, 0.5))
    (bad / "signals.csv").write_text(SIGNALS)
    label = np.array([0, 1], np.uint8)
    save_outcomes(Outcomes(label, label[::-1], np.array([0.2, 0.4], np.float32)), bad / "test_outcomes.npz")
    return bad


def assert_good_is_shown(sweep: Path) -> None:
    before = content_of(sweep)
    out = io.StringIO()
    with within(60), redirect_stdout(out), redirect_stderr(out):
        found = jobs(sweep)
        show(sweep, found)
        print("\n".join(commands(sweep)))
        runs = load_runs(sweep)
        load_curves(runs)
    assert_plain(out.getvalue())
    assert [job.state for job in found if job.name[:7] == "number="][:4] == ["completed"] * 4
    assert [job.name for job in found if job.name[:7] == "number="][:4] == [f"number={i:03}" for i in range(4)]
    assert len(runs) == len(found) and list(runs.status) == [job.state for job in found]
    assert all(job.folder is None or job.folder.parent == sweep for job in found)
    completed = runs[runs.status == "completed"]
    assert completed["test/accuracy"].between(0, 1).all() and (completed.seed >= 0).all()
    assert content_of(sweep) == before


@tried(40)
@given(st.data())
def test_any_results(data: st.DataObject) -> None:
    with folder() as sweep:
        file = write_sweep(sweep) / "results.json"
        file.write_bytes(as_json(data, mutated(data, json.loads(file.read_text()))))
        assert_good_is_shown(sweep)


@tried(30)
@given(st.data(), st.sampled_from(["metrics.csv", "signals.csv", "test_outcomes.npz"]))
def test_any_table(data: st.DataObject, name: str) -> None:
    with folder() as sweep:
        file = write_sweep(sweep) / name
        file.write_bytes(torn(data, file.read_bytes()) if data.draw(st.booleans()) else data.draw(st.binary()))
        assert_good_is_shown(sweep)
        runs = load_runs(sweep)
        with within(60):
            load_all_outcomes(runs[runs.status == "completed"])
            draw_gradients(runs[runs.status == "completed"], ["aug"])


@tried(30)
@given(st.data())
def test_any_record_of_a_sweep(data: st.DataObject) -> None:
    launch = {"command": "python -m src.train --multirun sweep=s", "jobs": {"number=000": ["a=b"], "x=1": ["x=1"]}}
    with folder() as sweep:
        write_sweep(sweep)
        (sweep / "sweep.json").write_bytes(as_json(data, mutated(data, {"schema": 1, "launches": [launch, launch]})))
        (sweep / "plan.json").write_bytes(as_json(data, mutated(data, {"schema": 1, "seconds": {"number=000": 5.0}})))
        with within(60):
            found = jobs(sweep)
        assert {f"number={i:03}" for i in range(5)} <= {job.name for job in found}
        assert all(job.folder is None or job.folder.parent == sweep for job in found)
        assert all(job.planned is None or job.planned >= 0 for job in found)
        assert all(command.startswith("python -m src.train ") for command in commands(sweep))
        out = io.StringIO()
        with redirect_stdout(out):
            show(sweep, found)
        assert_plain(out.getvalue())


@tried(3)
@given(st.data())
def test_any_results_in_a_report(data: st.DataObject) -> None:
    with folder() as sweep:
        bad = write_sweep(sweep)
        for name in ("results.json", "metrics.csv", "signals.csv"):
            if data.draw(st.booleans(), name):
                content = (bad / name).read_bytes()
                json_like = name == "results.json"
                changed = as_json(data, mutated(data, json.loads(content))) if json_like else torn(data, content)
                (bad / name).write_bytes(changed)
        with within(120):
            page = page_of("s", load_runs(sweep), targets=[0.5])
            assert_markdown(to_markdown(page))
            assert_html(to_html(page))
        assert any("aug" in finding.text for finding in page.findings)


# ------------------------------------------------------------------------------------------------------------
# Checkpoints and evaluations
# ------------------------------------------------------------------------------------------------------------

# Of a network's settings only small numbers: a large one is a large network, which is slow and allowed.
FEW = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@tried(15)
@given(st.data())
def test_any_hyper_parameters(finished: Run, data: st.DataObject) -> None:
    content = torch.load(finished.folder / "checkpoints/best.ckpt", weights_only=True)
    content["hyper_parameters"] = mutated(data, content["hyper_parameters"], FEW)
    with folder() as place:
        torch.save(content, place / "x.ckpt")
        before = content_of(place)
        try:
            with within(60):
                trained = load(place / "x.ckpt")
        except Exception as error:
            assert_plain(sentence(error), lines=False)
        else:
            assert_plain("".join(trained.classes), lines=False)
            assert 1 <= trained.image_size <= 4096
        assert content_of(place) == before


@tried(20)
@given(st.data())
def test_any_evaluation(finished: Run, evaluated: Run, data: st.DataObject) -> None:
    trained = load(finished.folder)
    content = json.loads((evaluated.folder / "eval.json").read_text()) | {"ckpt": str(finished.folder)}
    with folder() as place:
        file = place / "eval.json"
        file.write_bytes(as_json(data, mutated(data, content)))
        try:
            evaluation = find_evaluation(trained.checkpoint, file)
        except ValueError as error:
            assert_plain(sentence(error), lines=False)
        else:
            assert_markdown(model_card(trained, "torch_export", trained.checkpoint, 0.0, evaluation))


# ------------------------------------------------------------------------------------------------------------
# Images
# ------------------------------------------------------------------------------------------------------------


def written_images() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "PCX", "ICO", "SGI"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form)
        yield buffer.getvalue()


@tried(60)
@given(st.data(), st.sampled_from(list(written_images())))
def test_any_image(data: st.DataObject, image: bytes) -> None:
    with folder() as place:
        file = place / "x.png"
        file.write_bytes(torn(data, image))
        try:
            with within(60):
                assert decode(file, 8).shape == (8, 8, 3)
        except ValueError as error:
            assert "cannot be read as an image" in str(error)
        assert content_of(place) == {file: file.read_bytes()}


@tried(30)
@given(st.data())
def test_any_cache(data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 3, 4, 4), np.uint8))
    with folder() as place:
        (place / "x.npy").write_bytes(torn(data, buffer.getvalue()))
        images = _read(place / "x.npy")
        assert images is None or images.dtype == np.uint8


@tried(10)
@given(
    st.sets(st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & set(b"/\0")), min_size=2, max_size=3)
)
def test_any_names_of_classes(names: set[bytes]) -> None:
    with folder() as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        for half in ("train", "test"):
            for name in names - {b".", b".."}:
                (place / half / os.fsdecode(name)).mkdir(parents=True)
                Image.new("RGB", (4, 4)).save(place / half / os.fsdecode(name) / "x.png")
        before = set(content_of(place))
        try:
            classes = ImageFolder(str(place), 4).load().classes
        except ValueError as error:
            assert "must hold at least two class folders" in sentence(error)
        else:
            assert_plain("".join(classes), lines=False)
        assert all(path.is_relative_to(place / "cache") for path in set(content_of(place)) - before)


def test_a_folder_is_told_from_a_run(tmp_path: Path) -> None:
    """What stands in the place of a file may be a folder."""
    bad = write_sweep(tmp_path)
    for name in ("results.json", "metrics.csv", "signals.csv"):
        (bad / name).unlink()
        (bad / name).mkdir()
    (tmp_path / "sweep.json").mkdir()
    assert_good_is_shown(tmp_path)
    assert RunFolder(bad).owner() == "another process"
