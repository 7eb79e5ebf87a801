"""The progress bar: one line, however wide the terminal."""

import lightning as L
import pytest
import rich
from rich.progress import BarColumn

from src.training.callbacks.progress import ProgressBar


@pytest.mark.parametrize(("width", "bars"), [(80, 0), (160, 1)])
def test_a_narrow_terminal_has_no_room_for_the_bar_itself(
    width: int, bars: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich.get_console(), "width", width)
    columns = ProgressBar().configure_columns(L.Trainer(logger=False, accelerator="cpu"))
    assert sum(isinstance(column, BarColumn) for column in columns) == bars
