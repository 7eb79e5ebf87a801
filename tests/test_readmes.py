"""What the documents say is so: commands compose, links lead somewhere, code runs."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import launch

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(file for room in ("conf", "src", "notebooks") for file in (ROOT / room).rglob("README.md"))]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path, *languages: str) -> list[str]:
    """The contents of the document's code blocks in one of these languages; "" for blocks without one."""
    return [text for language, text in BLOCK.findall(document.read_text(encoding="utf-8")) if language in languages]


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Every ``python -m src.X`` in a block: the document, X and the arguments."""
    for document in DOCUMENTS:
        for block in blocks(document, "", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                for place, word in enumerate(words):
                    if word.startswith("src.") and words[place - 1] == "-m":
                        yield str(document.relative_to(ROOT)), word, words[place + 1 :]


def jobs(arguments: list[str]) -> Iterator[list[str]]:
    """The arguments of single jobs that make, together, every choice of a multirun's arguments; of other keys, which
    are all set in the same way, the first value."""
    words = [re.sub(r"=log\((.*)\)", r"=interval(\1)", word) for word in arguments if word != "--multirun"]
    overrides = OverridesParser.create().parse_overrides(words)
    values = [
        [f"{o.key_or_group}={o.value().start}"]
        if o.is_interval_sweep()
        else [f"{o.key_or_group}={v}" for v in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        for o in overrides
    ]
    choices = [len(v) for o, v in zip(overrides, values, strict=True) if (ROOT / "conf" / o.key_or_group).is_dir()]
    for number in range(max(choices, default=1)):
        yield [str(v[number % len(v)]) for v in values]


COMMANDS = list(dict.fromkeys((module, *arguments) for _, module, arguments in commands()))


def test_commands_are_found_in_every_room() -> None:
    rooms = {document for document, *_ in commands()}
    assert {"README.md", "conf/README.md", "src/README.md", "src/sweeps/README.md", "src/analysis/README.md"} <= rooms
    assert {"src/inference/README.md", "src/benchmarks/README.md", "notebooks/README.md"} <= rooms


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_composes(command: tuple[str, ...], tmp_path: Path) -> None:
    module, *arguments = command
    main = import_module(module).main
    if "--help" in arguments or "--cfg" in arguments:
        assert launch(main, tmp_path, *arguments).code == 0
        return
    for job in jobs(arguments):
        run = launch(main, tmp_path, *job, "--cfg", "job")
        assert run.code == 0, run.err


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", target.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_the_readme_is_read_in_five_minutes() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200 and max(map(len, lines)) <= 110


def test_every_choice_of_every_group_is_in_the_table() -> None:
    text = (ROOT / "conf/README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\S+)` \| (.*?) \|", text, re.MULTILINE))
    groups = {file.parent for file in (ROOT / "conf").rglob("[!_]*.yaml") if "local" not in file.parts}
    names = {group.relative_to(ROOT / "conf").as_posix(): group for group in groups - {ROOT / "conf"}}
    for name in names.keys() - {"benchmark", "hydra/job_logging", "hydra/sweeper"}:  # of other commands, or one choice
        missing = {file.stem for file in names[name].glob("[!_]*.yaml")} - set(re.findall(r"`(\w+)`", rows[name]))
        assert not missing, f"name {missing} in the row {name} of the table in conf/README.md"


def test_the_backbone_and_the_transform_of_the_architecture_work() -> None:
    backbone, transform = blocks(ROOT / "src/README.md", "python")
    names: dict = {}
    exec(backbone, names)
    network = names["mynet"](num_classes=4, image_size=8, width=2)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    exec(transform, names)
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert names["Invert"]()(images, torch.tensor([[0.1], [0.9]])).unique().tolist() == [0, 255]
