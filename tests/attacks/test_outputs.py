"""Whatever a file says, an output shows it as text: every field of every file, into every output."""

import contextlib
import copy
import csv
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from markdown_it import MarkdownIt
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import src.eval
import src.explain
import src.export
import src.predict
import src.report
import src.status
import src.train
from src.analysis.table import load_runs
from src.runs.errors import sentence
from src.runs.escaping import csv_cell, markdown, printable
from src.sweeps.jobs import find_sweep, how_to_finish, jobs, show
from tests.conftest import TINY, Run, launch
from tests.made_up import write_run

# What a terminal, Markdown, HTML, rich, TeX or a spreadsheet takes for something else.
NAME = "=1+1\x1b]0;t\x07\x1b[2J\u202e\x7f![x](e)[l](e)<b onclick=e>[red]x[ `c` $\\frac$ |:skull:\r\n@SUM"
TEXT = NAME + " ![i](http://evil.example/i.png) </script><script>alert(1)</script> \x00\ufffe\ud800"


def assert_plain(text: str, lines: bool = True) -> None:
    """No character of it does anything but show."""
    odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp", "Co", "Cn")}
    assert not odd - ({"\n"} if lines else set()), text


def assert_markdown(text: str) -> None:
    assert_plain(text)
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in (token, *(token.children or ())):
            assert child.type not in ("html_block", "html_inline", "link_open"), child
            assert child.type != "image" or str(child.attrs["src"]).startswith("figures/"), child


def assert_html(text: str) -> None:
    assert_plain(text)
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attributes)))

    Reader().feed(text)
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)
    assert {tag for tag, _ in found} >= {"table"} and not {"b", "iframe"} & {tag for tag, _ in found}
    assert all(re.fullmatch(r"#(top|s\d+)", str(attributes["href"])) for tag, attributes in found if tag == "a")
    assert sum(tag == "script" for tag, _ in found) == 1 and "<script>alert" not in text
    assert all(str(attributes["src"]).startswith("data:image/svg") for tag, attributes in found if tag == "img")


def assert_csv(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert_plain(text)
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            assert not cell.lstrip().startswith(("=", "+", "-", "@")) or re.fullmatch(r"-?[\d.e+-]+|-?inf", cell), cell


@pytest.mark.parametrize(
    "text", [NAME, TEXT, "a\u2028b", "-1", "[a][b]", "[x]: http://e", "# a", "\\", "www.e.org a@b.c"]
)
def test_text_is_shown_as_it_is(text: str) -> None:
    assert_plain(printable(text), lines=False)
    assert_markdown(f"{markdown(text)}\n\n- {markdown(text)}\n\n| a | b |\n| --- | --- |\n| {markdown(text)} | [x] |\n")
    assert not str(csv_cell(text)).startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", ["cat", "naïve café", "赤い\u3000花", "क्\u200dष", "👩\u200d🚀", "a  b", "C:\\x"])
def test_what_shows_is_left_alone(text: str) -> None:
    assert printable(text) == text == csv_cell(text)


# ------------------------------------------------------------------------------------------------------------
# Run folders and sweeps
# ------------------------------------------------------------------------------------------------------------


def altered(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The content with one value, or one key, replaced by text; for each of them."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, child in list(children):
        for hostile in altered(child):
            changed = copy.copy(content)
            changed[key] = hostile[1]
            yield (key, *hostile[0]), changed
        if isinstance(content, dict):
            yield (key, "as key"), {TEXT if name == key else name: value for name, value in content.items()}
    yield (), TEXT


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Run]:
    """A sweep of good runs and bad ones, each with one field of results.json replaced; its status and its report."""
    cwd = tmp_path_factory.mktemp("hostile")
    sweep = cwd / "logs/train/sweeps/s"
    for seed in (1, 2):
        for aug in ("none", "basic"):
            good = write_run(sweep, 0.5 + 0.1 * seed, seed=seed, aug=aug, by_class={"cat": 0.5, "dog": None})
    content = json.loads((good / "results.json").read_text())
    content |= {"overrides": ["aug=basic"], "verdict": {"kind": "x", "text": "x", "step": 1, "stopped": False}}
    factors = {key: content.pop(key) for key in ("config", "settings", "choices")}
    for number, (_, changed) in enumerate(altered(content)):
        folder = sweep / f"bad={number:03}"
        folder.mkdir()
        if isinstance(changed, dict):
            changed |= factors
        (folder / "results.json").write_text(json.dumps(changed))
        (folder / "metrics.csv").write_text((good / "metrics.csv").read_text())
    for number, (_, changed) in enumerate(altered(factors)):
        folder = cwd / "logs/train/sweeps" / f"config{number}" / "bad"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(content | changed if isinstance(changed, dict) else TEXT))
    failed = write_run(sweep, 0.5, seed=3, status="failed", error=TEXT, aug=TEXT)
    failed.rename(failed.with_name(NAME.replace("/", "_")))
    (sweep / os.fsdecode(b"bytes\xff")).mkdir()
    (sweep / os.fsdecode(b"bytes\xff") / "results.json").write_text("{")
    launches = [{"command": TEXT, "jobs": {TEXT: [TEXT], "asked": [TEXT]}}, {"command": 1}, 2, None]
    launches.append({"command": "python -m src.train --multirun sweep=s", "jobs": {"x" * 300: [], "good": ["a=b"]}})
    (sweep / "sweep.json").write_text(json.dumps({"launches": launches}))
    for name in ("metrics.csv", "signals.csv"):
        for number, text in enumerate(
            ("", "\0", TEXT.encode(errors="replace").decode(), "epoch,step,seconds\n1,1,x\n")
        ):
            folder = sweep / f"{name}{number}"
            folder.mkdir()
            (folder / "results.json").write_text(json.dumps(content | factors))
            (folder / name).write_text(text)
    status, report = (launch(main, cwd, "sweep=s") for main in (src.status.main, src.report.main))
    return cwd, status, report


def test_status_shows_every_job(reported: tuple[Path, Run, Run]) -> None:
    cwd, run, _ = reported
    assert run.code == 0 and run.err == ""
    assert_plain(run.out)
    names = [job.name for job in jobs(cwd / "logs/train/sweeps/s")]
    assert "good" in names and "asked" in names
    assert all(printable(name) in run.out for name in names if len(name) < 20)
    assert run.out.count("│ unreadable") > 20


def test_names_of_sweeps_are_text(tmp_path: Path) -> None:
    for name in (NAME, os.fsdecode(b"byte\xff")):
        sweep = tmp_path / "logs/train/sweeps" / name
        write_run(sweep, 0.5, seed=1)
        write_run(sweep, 0.5, seed=2, status="failed", error="x")
        launches = [{"command": "python -m src.train --multirun seed=1,2", "jobs": {"number=001": ["seed=2"]}}]
        (sweep / "sweep.json").write_text(json.dumps({"launches": launches}))
        out = io.StringIO()
        with contextlib.chdir(tmp_path), contextlib.redirect_stdout(out):
            show(find_sweep(name), jobs(find_sweep(name)))
            print(how_to_finish(find_sweep(name), jobs(find_sweep(name))))
            with pytest.raises(FileNotFoundError) as error:
                find_sweep("none")
        assert_plain(out.getvalue() + sentence(error.value))
        assert "To finish the sweep: " in out.getvalue()


def test_the_report_is_text(reported: tuple[Path, Run, Run]) -> None:
    cwd, _, run = reported
    folder = cwd / "logs/report/s"
    assert run.code == 0, run.err
    assert_plain(run.out + run.err)
    assert_markdown((folder / "report.md").read_text(encoding="utf-8"))
    assert_html((folder / "report.html").read_text(encoding="utf-8"))
    assert_csv(folder / "runs.csv")
    for file in (folder / "figures").glob("*.svg"):
        ElementTree.parse(file)
    assert "aug basic: " in run.out and "| unreadable |" in (folder / "report.md").read_text()


def test_one_field_of_a_configuration_hides_no_run(reported: tuple[Path, Run, Run]) -> None:
    for sweep in (reported[0] / "logs/train/sweeps").glob("config*"):
        (job,) = jobs(sweep)
        assert job.state in ("completed", "unreadable")
        assert len(load_runs(sweep)) == 1


# ------------------------------------------------------------------------------------------------------------
# Names of classes and of image files
# ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A network that was trained on classes of such names, where it was."""
    cwd = tmp_path_factory.mktemp("named")
    for half, number in product(("train", "test"), range(6)):
        folder = cwd / "images" / half / (NAME, "cat", os.fsdecode(b"dog\xff"))[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(folder / f"{number}.png")
    data = (
        "data=image_folder",
        f"data.root={cwd / 'images'}",
        "data.image_size=8",
        "data.batch_size=2",
        "data.val_size=0",
    )
    settings = ("model=simplecnn", "trainer=cpu", "trainer.max_epochs=1", "callbacks=signals", "aug=none")
    return cwd, launch(src.train.main, cwd, *data, *settings)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in (NAME.encode(), b"byte\xff", b"=1", b":skull:[red]"):
        Image.new("RGB", (8, 8)).save(folder / os.fsdecode(name + b".png"))
        (folder / os.fsdecode(name + b".jpg")).write_bytes(b"no image")
    return folder


def test_training_and_evaluation_show_names_as_they_are(trained: tuple[Path, Run]) -> None:
    cwd, run = trained
    assert run.code == 0, run.err
    assert_plain(run.out + run.err + run.log)
    assert_csv(run.folder / "predictions.csv")
    assert printable(NAME) in run.results["classes"] and "dog\\udcff" in run.results["classes"]
    evaluated = launch(src.eval.main, cwd, f"ckpt={run.folder}", "trainer=cpu")
    assert evaluated.code == 0, evaluated.err
    assert_plain(evaluated.out + evaluated.err)
    events = EventAccumulator(str(evaluated.folder), {"tensors": 0}).Reload()
    (text,) = events.Tensors("evaluation/by_class/text_summary")
    assert_markdown(text.tensor_proto.string_val[0].decode())
    exported = launch(src.export.main, cwd, f"ckpt={run.folder}", "format=safetensors", "out=model.safetensors")
    assert exported.code == 0, exported.err
    assert_markdown((cwd / "model.safetensors.md").read_text(encoding="utf-8"))


def test_prediction_shows_names_as_they_are(trained: tuple[Path, Run], photos: Path) -> None:
    cwd, run = trained
    for out in ("out.csv", "out.json"):
        found = launch(src.predict.main, cwd, f"ckpt={run.folder}", "trainer=cpu", f"images={photos}", f"out={out}")
        assert found.code == 1 and "4 of 8 files could not be read." in found.err
        assert found.err.count("cannot be read as an image") == 4
        assert_plain(found.out + found.err)
    assert_csv(cwd / "out.csv")
    rows = json.loads((cwd / "out.json").read_text(encoding="utf-8"))
    assert {Path(row["file"]) for row in rows} == set(photos.glob("*.png"))
    assert not list(cwd.glob("*.part")) + list(cwd.glob(".*.part"))


def test_explanation_shows_names_as_they_are(trained: tuple[Path, Run], photos: Path) -> None:
    pytest.importorskip("pytorch_grad_cam")
    cwd, run = trained
    found = launch(src.explain.main, cwd, f"ckpt={run.folder}", f"images={photos}", "out=explained")
    assert found.code == 1 and "4 images explained" in found.out
    assert_plain(found.out + found.err)
    assert len(list((cwd / "explained").iterdir())) == 5


def test_an_output_that_is_not_a_number_is_refused(trained: tuple[Path, Run], photos: Path, tmp_path: Path) -> None:
    content = torch.load(trained[1].folder / "checkpoints/best.ckpt", weights_only=True)
    for weight in content["state_dict"].values():
        weight.fill_(float("nan")) if weight.is_floating_point() else None
    torch.save(content, tmp_path / "nan.ckpt")
    commands = {src.predict.main: "trainer=cpu", src.explain.main: "out=explained"}
    runs = [
        launch(main, tmp_path, "ckpt=nan.ckpt", f"images={photos / '=1.png'}", more) for main, more in commands.items()
    ]
    runs.append(launch(src.eval.main, tmp_path, "ckpt=nan.ckpt", "trainer=cpu"))
    runs.append(launch(src.export.main, tmp_path, "ckpt=nan.ckpt", "format=torch_export"))
    for run in runs:
        assert run.code == 1 and run.err.startswith("The network's output is infinite or NaN") and "nan" not in run.out


# ------------------------------------------------------------------------------------------------------------
# What cannot be written
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [src.train.main, src.eval.main, src.report.main], ids=["train", "eval", "report"])
def test_a_file_in_the_place_of_logs_is_one_sentence(tmp_path: Path, command: Any) -> None:
    (tmp_path / "logs").touch()
    run = launch(command, tmp_path)
    assert run.code == 1 and run.err.startswith("[Errno 20] Not a directory: 'logs/") and run.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="takes a device that is full")
def test_a_screen_that_is_full_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "logs/train/sweeps/s").mkdir(parents=True)
    command = [sys.executable, "-m", "src.status", "sweep=s"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(command, cwd=tmp_path, env=environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1 and "No space left on device" in run.stderr and "Traceback" not in run.stderr


def test_an_export_whose_card_fails_can_be_tried_again(
    trained: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (f"ckpt={trained[1].folder}", "format=torch_export", "out=given")

    def fails(*_: Any) -> str:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("src.inference.export.model_card", fails)
        assert launch(src.export.main, tmp_path, *arguments).code == 1
    assert list((tmp_path / "given").iterdir()) == []
    assert launch(src.export.main, tmp_path, *arguments).code == 0
    assert {file.name for file in (tmp_path / "given").iterdir()} == {"model.pt2", "model.pt2.md"}


def test_a_damaged_result_is_kept_when_its_job_runs_again(tmp_path: Path) -> None:
    arguments = (*TINY, "sweep=s", "seed=1", "trainer.max_epochs=1", "callbacks=none", "logger=none", "--multirun")
    assert launch(src.train.main, tmp_path, *arguments).code == 0
    (file,) = tmp_path.glob("logs/train/sweeps/s/*/results.json")
    content = file.read_text().replace('"status": "completed"', '"status": 1')
    file.write_text(content)
    run = launch(src.train.main, tmp_path, *arguments)
    assert run.code == 0 and "results.json is damaged: status is 1; expected running" in " ".join(run.out.split())
    assert file.with_name("results.json.damaged").read_text() == content
    assert json.loads(file.read_text())["status"] == "completed"
