"""test_outcomes.npz: small, complete, and refused where it is damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.runs.outcomes import Outcomes, load_outcomes, save_outcomes


def outcomes_of(images: int, classes: int = 10) -> Outcomes:
    random = np.random.default_rng(0)
    label, predicted = random.integers(classes, size=(2, images)).astype(np.min_scalar_type(classes - 1))
    return Outcomes(label, predicted, random.random(images, dtype=np.float32))


@pytest.mark.parametrize("classes", [10, 1000])
def test_what_is_saved_is_read(tmp_path: Path, classes: int) -> None:
    outcomes = outcomes_of(500, classes)
    save_outcomes(outcomes, tmp_path / "o.npz")
    read = load_outcomes(tmp_path / "o.npz")
    assert [array.dtype for array in read] == [array.dtype for array in outcomes]
    assert (read.label == outcomes.label).all() and (read.predicted == outcomes.predicted).all()
    assert read.probability == pytest.approx(outcomes.probability, rel=5e-4, abs=0)


def test_the_extremes_of_a_probability_stay(tmp_path: Path) -> None:
    extremes = np.array([0, 1e-44, np.finfo(np.float32).tiny, 1 - 2**-24, 1], np.float32)
    classes = np.zeros(len(extremes), np.uint8)
    save_outcomes(Outcomes(classes, classes, extremes), tmp_path / "o.npz")
    read = load_outcomes(tmp_path / "o.npz").probability
    assert read == pytest.approx(extremes, rel=5e-4, abs=1e-41) and read[0] == 0 and read[-1] == 1


def test_ten_thousand_images_take_at_most_40_kb(tmp_path: Path) -> None:
    save_outcomes(outcomes_of(10_000), tmp_path / "o.npz")
    assert (tmp_path / "o.npz").stat().st_size <= 40_000


def test_accuracy_by_class() -> None:
    label, predicted = np.array([0, 0, 2], np.uint8), np.array([0, 2, 2], np.uint8)
    outcomes = Outcomes(label, predicted, np.ones(3, np.float32))
    assert outcomes.accuracy_by_class(["cat", "cow", "dog"]) == {"cat": 0.5, "cow": None, "dog": 1.0}


def test_none_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_outcomes(tmp_path / "o.npz")


GOOD = outcomes_of(20)._asdict()
DAMAGED: dict[str, dict[str, Any] | bytes] = {
    "no zip": b"nonsense",
    "empty": b"",
    "pickled": GOOD | {"label": np.array([print], dtype=object)},
    "an array is missing": {name: GOOD[name] for name in ("label", "predicted")},
    "lengths differ": GOOD | {"label": GOOD["label"][:-1]},
    "no images": {name: array[:0] for name, array in GOOD.items()},
    "two axes": {name: array[None] for name, array in GOOD.items()},
    "other types": GOOD | {"predicted": GOOD["probability"]},
    "signed": GOOD | {"predicted": GOOD["predicted"].astype(np.int8)},
    "no probability": GOOD | {"probability": GOOD["probability"] + 1},
    "not a number": GOOD | {"probability": GOOD["probability"] * np.float32("nan")},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_what_is_damaged_is_refused(tmp_path: Path, content: dict[str, Any] | bytes) -> None:
    path = tmp_path / "o.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez_compressed(path, **content)
    with pytest.raises(ValueError, match=r"o\.npz is damaged"):
        load_outcomes(path)


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "o.npz"
    save_outcomes(outcomes_of(200), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        for torn in (whole[:place], whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]):
            path.write_bytes(torn)
            try:
                load_outcomes(path)  # a byte that means nothing may be another
            except ValueError as error:
                assert "is damaged" in str(error)
