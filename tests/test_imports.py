"""Imports between the rooms of src point one way."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# What each room may import besides itself. A command, at the top of src, may import every room but no other command.
ROOMS = {
    "models": set(),
    "augment": set(),
    "runs": set(),
    "data": {"augment", "runs"},
    "sweeps": {"runs", "data"},
    "training": {"runs", "data", "augment", "models"},
    "analysis": {"runs", "sweeps"},
    "inference": {"runs", "data", "augment", "models", "training", "sweeps"},
}
ROOMS["benchmarks"] = set(ROOMS)


def imports_of(file: Path) -> set[str]:
    """First part of everything in src that the file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "src" else [f"src.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("src.")}
    return found


def test_every_room_is_known() -> None:
    assert {folder.name for folder in SRC.iterdir() if (folder / "__init__.py").exists()} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    for file in (SRC / room).rglob("*.py"):
        assert imports_of(file) <= ROOMS[room] | {room}, file


def test_a_command_imports_no_other_command() -> None:
    commands = list(SRC.glob("[!_]*.py"))
    assert commands
    for file in commands:
        others = {"train"} if file.name == "tune.py" else set()  # which is src.train with a tuner
        assert imports_of(file) <= {*ROOMS, *others}, file
