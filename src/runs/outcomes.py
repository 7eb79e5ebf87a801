"""test_outcomes.npz: what a run's network predicted for each test image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.runs.files import open_regular
from src.runs.folder import write_whole


class Outcomes(NamedTuple):
    """Predictions for the test images, in the order of the test set; arrays ``[N]``.

    Args:
        label: true classes, unsigned integers.
        predicted: predicted classes, unsigned integers.
        probability: predicted for the true class, float32, 0 to 1; in the file to 3 significant digits.
    """

    label: NDArray[np.unsignedinteger]
    predicted: NDArray[np.unsignedinteger]
    probability: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.predicted == self.label

    def accuracy_by_class(self, classes: Sequence[str]) -> dict[str, float | None]:
        """The accuracy, 0 to 1, of each class; None for a class without images."""
        images = np.bincount(self.label, minlength=len(classes))
        right = np.bincount(self.label[self.correct], minlength=len(classes))
        return {name: int(r) / int(n) if n else None for name, r, n in zip(classes, right, images, strict=True)}


def save_outcomes(outcomes: Outcomes, path: Path) -> None:
    """Write the file atomically: compressed arrays, about 3 bytes per image."""
    bits = outcomes.probability.astype(np.float32).view(np.uint32) + 0x1000  # rounds to the 10 highest of 23 bits
    rounded = (bits & 0xFFFFE000).view(np.float32)
    with write_whole(path, "wb") as file:
        np.savez_compressed(file, **outcomes._replace(probability=rounded)._asdict())


def load_outcomes(path: Path) -> Outcomes:
    """Read a file of ``save_outcomes``.

    Raises:
        FileNotFoundError: there is none; runs of older versions have none.
        ValueError: it is damaged.
    """
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
            outcomes = Outcomes(*(arrays[name] for name in Outcomes._fields))
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds
        raise ValueError(f"{path} is damaged: {error}") from None
    label, predicted, probability = outcomes
    shapes = {array.shape for array in outcomes}
    kinds = label.dtype.kind + predicted.dtype.kind, probability.dtype
    if len(shapes) > 1 or label.ndim != 1 or not label.size or kinds != ("uu", np.dtype(np.float32)):
        raise ValueError(f"{path} is damaged: its arrays have other shapes or types than expected")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(f"{path} is damaged: a probability is not between 0 and 1")
    return outcomes
