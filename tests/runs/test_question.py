"""What runs are to find out: read from a config, and by nothing that is not of its kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from src.runs.hydra_versions import CONF
from src.runs.identity import settings
from src.runs.question import Question, question_of, restated
from tests.conftest import Run

PRIMARY = {"factor": "optim", "levels": ["sgd", "adam"], "metric": "val/accuracy"}


def test_a_question_is_read_from_a_config() -> None:
    asked = question_of({"question": "Does it\n help?", "primary": PRIMARY, "smallest_effect": 0.5})
    assert asked == Question("Does it help?", "optim", ("sgd", "adam"), "val/accuracy", 0.005)
    assert question_of({}) == Question() == question_of(OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml")))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"question": ["Why?"]}, "question is ['Why?']"),
        ({"primary": "optim"}, "expected a sentence and a mapping"),
        ({"primary": {"factor": 3}}, "expected factor, a name such as optim"),
        ({"primary": {"factors": "optim"}}, "expected factor, a name such as optim"),
        ({"primary": {"levels": ["sgd"]}}, "expected two levels or more, the baseline first"),
        ({"primary": {"levels": "sgd,adam"}}, "expected two levels or more, the baseline first"),
        ({"primary": {"metric": "test/loss"}}, "expected test/accuracy or val/accuracy"),
        ({"smallest_effect": 0}, "smallest_effect is 0; expected percentage points above 0"),
        ({"smallest_effect": "0,5"}, "expected percentage points above 0, up to 100, such as 0.5"),
        ({"smallest_effect": True}, "expected percentage points above 0"),
    ],
)
def test_a_value_of_another_kind_gets_a_sentence(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        question_of(config)
    assert sentence in str(caught.value)


def test_what_is_asked_is_no_part_of_what_a_run_is() -> None:
    asked = {"question": "Why?", "primary": PRIMARY, "smallest_effect": 2}
    assert settings({"seed": 1, "trust": []} | asked) == settings({"seed": 1, "trust": []})


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_asks_for_what_it_varies(file: Path) -> None:
    config: Any = OmegaConf.to_container(OmegaConf.load(file))
    if not (grid := config.get("hydra", {}).get("sweeper", {}).get("params")):
        return  # a single run
    asked = question_of(config)
    assert asked.question.endswith("?") and asked.smallest_effect
    values = {key.split(".")[-1]: [str(value) for value in str(choices).split(",")] for key, choices in grid.items()}
    assert {str(level).lower() for level in asked.levels} <= set(values[str(asked.factor)])


def test_a_mistake_is_told_before_anything_is_trained(train: Callable[..., Run]) -> None:
    run = train("primary.factor=optim", "smallest_effect=0")
    assert run.code == 1 and run.err.startswith("smallest_effect is 0; expected percentage points") and not run.rows


def test_a_report_of_another_factor_does_not_answer_the_old_question() -> None:
    asked = question_of({"question": "SGD or Adam?", "primary": {"factor": "optim", "levels": ["sgd", "adam"]}})
    assert restated(asked, {"primary": {"factor": "aug"}}) == Question(factor="aug")
    assert restated(asked, {"primary": {"factor": "optim"}}) == asked
