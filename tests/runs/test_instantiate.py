"""What is built from a config gets plain values, and nothing else is built."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from src.runs.errors import sentence
from src.runs.trust import check_targets, instantiate, trusted

CALL = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["MARK"]}]}


@pytest.mark.parametrize("partial", [False, True])
def test_arguments_are_plain_and_resolved(partial: bool) -> None:
    config = OmegaConf.create(
        {"own": {"_target_": "builtins.dict", "betas": [0.9, "${b}"], "of": {"x": [1]}}, "b": 0.99}
    )
    config.own._partial_ = partial
    made = instantiate(config.own, more=(1, 2))
    made = made() if partial else made
    assert made == {"betas": [0.9, 0.99], "of": {"x": [1]}, "more": (1, 2)}
    assert type(made["betas"]) is list and type(made["of"]) is dict and type(made["of"]["x"]) is list


def test_what_an_argument_describes_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for partial in (False, True):
        made: Any = instantiate({"_target_": "builtins.dict"}, _partial_=partial, image_size=CALL)
        assert (made() if partial else made) == {"image_size": CALL}
    assert not list(tmp_path.iterdir())
    instantiate(CALL)  # the user's own wish
    assert (tmp_path / "MARK").exists()


class Own:
    """Arguments of a user's own class, with annotations and without."""

    def __init__(
        self, scaled: bool, rate: float | None = None, kind: bool | str = False, pooled=True, count=3, names: str = ""
    ) -> None:
        raise AssertionError("nothing is built")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"scaled": "no"}, "model.scaled is 'no'; expected true or false."),
        ({"scaled": True, "rate": "fast"}, "model.rate is 'fast'; expected a number."),
        ({"scaled": True, "pooled": "off"}, "model.pooled is 'off'; expected true or false."),
        ({"scaled": True, "rate": True}, "model.rate is True; expected a number."),
        ({"scaled": True, "rate": None, "kind": "no", "count": "many", "names": "no"}, None),
        ({"scaled": "${other}"}, None),  # is looked up later
    ],
)
def test_a_text_is_neither_true_nor_a_number_and_true_is_no_number(
    arguments: dict[str, Any], sentence: str | None
) -> None:
    config = {"model": {"_target_": f"{__name__}.Own", **arguments}}
    expected = pytest.raises(ValueError, match=f"^{re.escape(sentence)}$") if sentence else nullcontext()
    with expected:
        check_targets(config)


def test_an_error_that_does_not_speak_for_itself_says_where_it_was_raised() -> None:
    try:
        {}["loss"]
    except KeyError as error:
        line = error.__traceback__.tb_lineno if error.__traceback__ else 0
        assert sentence(error) == f"KeyError: 'loss' (test_instantiate.py, line {line})"


def test_a_file_may_say_how_values_are_converted() -> None:
    config = {"optim": {"_target_": "src.training.optimizers.build_optimizer", "_convert_": "all", "lr": 0.1}}
    assert trusted(config) == config


def test_any_network_may_come_out_of_a_function_and_any_callable_of_a_nested_one() -> None:
    network = instantiate({"_target_": "torchvision.models.squeezenet1_0"}, num_classes=3)
    assert network.num_classes == 3
    nested = {"_target_": "src.augment.Pipeline", "transforms": [{"_target_": "src.augment.RandomCrop", "padding": 2}]}
    assert instantiate(nested).transforms[0].padding == 2


def test_a_config_without_a_target_is_said_to_have_none() -> None:
    with pytest.raises(ValueError, match="it has no _target_"):
        instantiate({"every": 3})


def test_a_value_that_must_be_given_gets_a_sentence() -> None:
    with pytest.raises(MissingMandatoryValue) as caught:
        OmegaConf.create({"loss": {"_target_": "???"}}).loss._target_  # noqa: B018
    assert sentence(caught.value) == "loss._target_ has no value: set it, as in loss._target_=VALUE."
