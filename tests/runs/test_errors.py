"""How an error is told."""

import pytest
from hydra.utils import instantiate

from src.runs.errors import sentence, stop


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("optim.lr is -1."), "optim.lr is -1."),
        (FileNotFoundError("There is\n   no file."), "There is no file."),
        (FloatingPointError("nan"), "nan"),
        (KeyError("val/accuracy"), "KeyError: 'val/accuracy'"),
        (RuntimeError("size\nmismatch"), "RuntimeError: size mismatch"),
        (ValueError(), "ValueError: "),
        (
            RuntimeError(
                "[enforce] DefaultCPUAllocator: can't allocate memory: you tried to allocate 40 bytes. Error 12"
            ),
            "Out of memory (40 bytes more were needed): choose a smaller data.batch_size or data.eval_batch_size.",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"),
            "Out of memory (2.50 GiB more were needed): choose a smaller data.batch_size or data.eval_batch_size.",
        ),
        (MemoryError(), "Out of memory: choose a smaller data.batch_size or data.eval_batch_size."),
    ],
)
def test_an_error_is_one_line(error: Exception, told: str) -> None:
    assert sentence(error) == told


def test_hydras_wrapping_is_taken_off() -> None:
    config = {"_target_": "src.training.schedules.Cosine", "final": 3}
    with pytest.raises(Exception) as error:
        instantiate({"outer": {"inner": config}})
    assert sentence(error.value) == "schedule.final is 3; expected a number from 0 to 1."


@pytest.mark.parametrize("debug", [False, True])
def test_stopping_tells_and_exits_with_1(capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    with pytest.raises(SystemExit) as stopped:
        stop(ValueError("No."), debug=debug)
    assert stopped.value.code == 1
    assert capsys.readouterr().err == ("ValueError: No.\n" if debug else "No.\n")
