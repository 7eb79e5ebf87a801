"""Paths reach the application as they were typed."""

import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.sweeps.command_line import quote_path


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """The arguments that an application sees."""

    def typed(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["src", *arguments])
        return [quote_path(argument) for argument in arguments]

    return typed


@pytest.mark.parametrize(
    "path",
    [
        "a/best.ckpt",
        "sweeps/x/optim=sgd,optim.lr=0.1/best.ckpt",
        "my runs/a[1] (copy)/~b",
        "it's",
        "C:\\runs\\a=1",
        "1",
    ],
)
def test_a_path_may_hold_anything(typed, path: str) -> None:
    (argument,) = typed(f"ckpt={path}")
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert override.key_or_group == "ckpt" and override.value() == path


@pytest.mark.parametrize("end", ["/", "\\"])
def test_a_separator_at_the_end_is_of_no_account(typed, end: str) -> None:
    assert typed(f"resume=a=b{end}") == ["resume='a=b'"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["resume=null"],
        ["resume="],
        ["ckpt='a'"],
        ["ckpt=[a,b]"],
        ['ckpt="a,b"'],
        ["optim.lr=1", "--help"],
        ["-m", "ckpt=a,b"],
    ],
)
def test_the_rest_stays_as_it_is(typed, arguments: list[str]) -> None:
    assert typed(*arguments) == arguments


@pytest.mark.parametrize("name", ["a=1,b=2", "a, b (copy)", "[old] photos", "it's"])
@pytest.mark.parametrize("argument", ["data.root={}", "+data.extra={}", "--multirun data.root={} seed=1,2"])
def test_a_path_that_exists_is_taken_as_it_is_whatever_its_key(
    typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, argument: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    arguments = [word.format(name) for word in argument.split(" ")]
    path = next(word for word in typed(*arguments) if "data" in word)
    assert OverridesParser.create().parse_override(path).value() == name
    assert typed("seed=1,2", "optim=sgd") == ["seed=1,2", "optim=sgd"]
