"""Schemas of the files of runs, sweeps and evaluations, checked when a file is read.

Values that ``parse`` returns have the types and ranges declared here, whoever wrote the file.
"""

import json
import reprlib
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from src.runs.escaping import printable
from src.runs.files import read_regular

DEEPEST = 30  # levels of nesting
LARGEST = 2**63 - 1

Count = Annotated[int, 0, LARGEST]
Share = Annotated[float, 0, 1]
Amount = Annotated[float, 0, LARGEST]


class Revision(TypedDict, total=False):
    commit: str | None
    modified: bool | None
    diff: str | None


class Verdict(TypedDict, total=False):
    kind: str
    text: str
    step: Count
    stopped: bool


class TrainerConfig(TypedDict, total=False):
    max_epochs: Any  # as requested; maybe invalid, so that the run failed


class Config(TypedDict, total=False):
    trainer: TrainerConfig
    data: dict[str, Any]
    callbacks: dict[str, Any] | None


class Results(TypedDict, total=False):
    """results.json. Keys are added as they become known; a new run has the first four."""

    schema: Count
    status: Literal["running", "completed", "interrupted", "failed", "pruned"]
    error: str | None
    process: str
    overrides: list[str]
    config: Config
    choices: dict[str, str]
    settings: dict[str, Any]
    factors: dict[str, Any]  # schema 1; replaced by the two above
    seed: Count
    fingerprint: str
    started: str
    versions: dict[str, str]
    composed_by: str
    revision: Revision
    revisions: list[Revision]
    classes: list[str]
    images: dict[str, Count]
    wrong_labels: Share  # of the training images, if data.label_noise made some
    parameters: Count
    flops_per_image: Count
    metrics: dict[str, float]
    test_accuracy_by_class: dict[str, Share | None] | None
    best_epoch: Count
    epochs: Count
    ended: str
    steps: Count
    seconds: Amount
    images_per_second: Amount | None
    device: str
    precision: str
    processes: Count
    verdict: Verdict | None
    evaluated: dict[str, Any]  # what a test of a whole sweep was asked for
    remote_runs: dict[str, str]  # of loggers that keep them on a server: class to the run's name there


class _Requested(TypedDict):
    command: str
    jobs: dict[str, list[str]]


class Launch(_Requested, total=False):
    unfinished: bool  # a search that has yet to choose some of its jobs


class Code(TypedDict):
    """code.json of a sweep; ``files`` are hashes by path."""

    revision: Revision
    versions: dict[str, str]
    files: dict[str, str]


class Launches(TypedDict):
    """sweep.json; each launch is parsed separately, so that a damaged one does not hide the others."""

    launches: list[Any]


class Plan(TypedDict):
    """plan.json of a sweep: the seconds of training expected of its jobs, by folder name; "*" is any other job."""

    seconds: dict[str, Amount]


class _Tested(TypedDict):
    name: str
    accuracy: Share
    accuracy_interval: tuple[Share, Share]
    ece: Share


class _Corrupted(TypedDict):
    corruption: str
    severity: Count
    accuracy: Share
    accuracy_interval: tuple[Share, Share]


class _Measured(TypedDict, total=False):
    other_images: dict[str, Any] | None
    tta: list[_Tested]
    corruptions: list[_Corrupted] | None


class Evaluation(_Measured):
    """The part of eval.json that is read again."""

    ckpt: str
    images: Count
    metrics: dict[str, float]


_TYPES = {str: (str,), float: (int, float), int: (int,), bool: (bool,)}
_WORDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false", Any: "plain values"}


def read_json(file: Path, kind: Any) -> Any:
    """Read a JSON file and ``parse`` it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON, or not of this kind.
    """
    try:
        return parse(kind, json.loads(read_regular(file)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse(kind: Any, value: Any, name: str | tuple[Any, str | int] = "") -> Any:
    """Check that a value from a JSON file is of a kind.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``list[X]``, ``tuple[X, X]``, ``dict[str, X]``, ``X | None``,
            ``Literal[...]``, ``Annotated[X, lowest, highest]``, a TypedDict (keys that it does not declare are Any), or
            ``Any``: any JSON value, nested no deeper than ``DEEPEST``.
        value: the result of ``json.loads``.
        name: of the value, for the message; empty for the whole content; or the name of what contains it, and its key.

    Returns:
        The value with printable strings. Strings in an Any are unchanged: they may be paths.

    Raises:
        ValueError: the value is of another kind.
    """
    if type(value) is kind and kind is not int:  # in most cases; a large sweep has hundreds of thousands
        return printable(value) if kind is str else value
    if kind is Any and _is_plain(value):
        return value
    origin, arguments, declared, needed = _form(kind)
    expected = _WORDS.get(kind, "")
    if origin in (Union, UnionType):
        (kind,) = set(arguments) - {NoneType}
        return None if value is None else parse(kind, value, name)
    if origin is Annotated:
        kind, low, high = arguments
        if low <= parse(kind, value, name) <= high:
            return value
        expected = f"a number from {low} to {high}"
    elif origin is Literal:
        if value in arguments:
            return value
        expected = ", ".join(arguments)
    elif origin in (list, tuple):
        if isinstance(value, list) and (origin is list or len(value) == len(arguments)):
            return [parse(arguments[0], item, (name, place)) for place, item in enumerate(value)]
        expected = "a list" if origin is list else f"a list of {len(arguments)}"
    elif declared is not None:
        if isinstance(value, dict) and needed <= value.keys():
            other = arguments[1] if arguments else Any
            return {printable(key): parse(declared.get(key, other), value[key], (name, key)) for key in value}
        expected = " with ".join(["a mapping", *([", ".join(sorted(needed))] if needed else [])])
    elif kind is not Any and type(value) in _TYPES[kind] and _is_plain(value):
        return printable(value) if kind is str else value
    raise ValueError(printable(f"{_spelled(name) or 'it'} is {reprlib.repr(value)}; expected {expected}"))


def _spelled(name: str | tuple[Any, str | int]) -> str:
    if isinstance(name, str):
        return name
    whole, key = _spelled(name[0]), name[1]
    return f"{whole}[{key}]" if isinstance(key, int) else f"{whole}.{key}".strip(".")


@cache
def _form(kind: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any] | None, frozenset[str]]:
    """The origin and the arguments of a kind; of a mapping, the kinds of its declared keys, and the required ones."""
    keys: dict[str, Any] | None = {} if get_origin(kind) is dict else None
    if is_typeddict(kind):
        return None, (), get_type_hints(kind, include_extras=True), kind.__required_keys__
    return get_origin(kind), get_args(kind), keys, frozenset()


def parse_metrics(value: Any, name: str = "") -> dict[str, float]:
    """Metrics by name, ``stage/quantity``. An accuracy is from 0 to 1; a loss may be infinite or NaN.

    Raises:
        ValueError: the value is something else.
    """
    metrics = parse(dict[str, float], value, name)
    for key in metrics:
        if "/" not in key:
            raise ValueError(f"{name} has {key}; expected names such as test/accuracy")
        if key.endswith("/accuracy"):
            parse(Share, metrics[key], key)
    return metrics


def _is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Whether it is nested no deeper than ``depth``, and no integer in it exceeds ``LARGEST``."""
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(child, depth - 1) for child in children)
    return not isinstance(value, int) or abs(value) <= LARGEST
