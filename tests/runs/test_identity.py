"""Equal for the same experiment, different for any other; and what tells runs apart."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import src.sweeps.naming  # noqa: F401  (the resolvers that conf uses)
from src.runs.identity import (
    ABSENT,
    CONTENT,
    NEUTRAL,
    Run,
    built,
    differences,
    factors,
    fingerprint,
    is_neutral,
    levels,
    run_of,
    settings,
)
from src.runs.trust import CONF

EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
EMA = {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.9}


def composed(*overrides: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration that ``python -m src.train`` would have, and Hydra's choices."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(config)
    try:
        resolved: Any = {key: config[key] for key in config if key != "hydra"}
        return OmegaConf.to_container(OmegaConf.create(resolved), resolve=True), dict(config.hydra.runtime.choices)  # type: ignore[return-value]
    finally:
        hydra.cfg = before  # what later tests in this process find


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return composed("data=image_folder")[0]


def put(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    config = node = deepcopy(config)
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    return config


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each scalar, also those in lists, by the path that leads there."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if isinstance(node, dict | list) and node:
        for name, child in children:
            yield from leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def changed(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The configuration with one leaf replaced by a value that it cannot have had."""
    config = deepcopy(config)
    node: Any = config
    *parents, last = path.split(".")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = "another value"
    return config


# ---- what counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", [None, *EXPERIMENTS])
@pytest.mark.parametrize("callbacks", ["default", "signals"])
def test_every_leaf_counts_or_is_declared_neutral(experiment: str | None, callbacks: str) -> None:
    config, _ = composed(*([f"experiment={experiment}"] if experiment else []), f"callbacks={callbacks}")
    before = fingerprint(settings(config))
    paths = [path for path, _ in leaves(config)]
    assert len(paths) > 50
    for path in paths:
        same = fingerprint(settings(changed(config, path))) == before
        watched = path.startswith("callbacks.") and not path.endswith(("_target_", "stop_hopeless"))
        assert same == (is_neutral(path) or watched), path


def test_every_neutral_key_has_a_reason_and_is_one_that_a_configuration_can_have() -> None:
    assert all(reason for reason in NEUTRAL.values())


@pytest.mark.parametrize(
    "key",
    [
        *("trainer.gradient_clip_algorithm", "trainer.fast_dev_run", "trainer.overfit_batches", "trainer.max_time"),
        *("trainer.val_check_interval", "trainer.max_steps", "trainer.an_argument_of_tomorrow", "loss._target_"),
        *(
            "factors.mine",
            "loss.weight",
            "model.an_axis_of_mine",
            "callbacks.mine._target_",
            "data.label_noise",
            "a_key_of_mine",
        ),
    ],
)
def test_what_a_user_adds_counts(config: dict[str, Any], key: str) -> None:
    assert fingerprint(settings(put(config, key, 1))) != fingerprint(settings(config))


def test_a_callback_counts_unless_it_only_watches(config: dict[str, Any]) -> None:
    before = fingerprint(settings(config))
    assert fingerprint(settings(put(config, "callbacks.ema", EMA))) != before
    lightnings = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "step"}
    assert fingerprint(settings(put(config, "callbacks.rate", lightnings))) == before
    signals = {"_target_": "src.training.callbacks.propagation.PropagationMonitor", "stop_hopeless": False}
    assert fingerprint(settings(put(config, "callbacks.signals", signals))) == before
    assert fingerprint(settings(put(config, "callbacks.signals", signals | {"stop_hopeless": True}))) != before
    assert fingerprint(settings(put(config, "callbacks.signals", {"_target_": signals["_target_"]}))) != before
    assert fingerprint(settings(put(config, "callbacks.none", None))) == before


def test_a_callback_of_ones_own_may_declare_that_it_only_watches(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = "class Mine:\n    only_watches = True\n\n\nclass Other:\n    pass\n\n\nraise RuntimeError('imported')\n"
    (tmp_path / "my_callbacks_of_this_test.py").write_text(classes)
    monkeypatch.syspath_prepend(tmp_path)
    before = fingerprint(settings(config))
    mine, other = ({"_target_": f"my_callbacks_of_this_test.{name}"} for name in ("Mine", "Other"))
    assert fingerprint(settings(put(config, "callbacks.mine", mine), own=True)) == before
    assert fingerprint(settings(put(config, "callbacks.mine", other), own=True)) != before
    assert fingerprint(settings(put(config, "callbacks.mine", mine))) != before  # nobody asked for this one's module


def test_what_means_the_same_is_the_same(config: dict[str, Any]) -> None:
    before = fingerprint(settings(config))
    assert fingerprint(settings(dict(reversed(config.items())))) == before
    assert fingerprint(settings(put(config, "trainer.limit_test_batches", None))) == before
    assert fingerprint(settings(put(config, "loss.label_smoothing", 0))) == before  # it was 0.0
    moved = put(config, "schedule._target_", "src.schedules.Cosine")  # as schema 1 wrote it
    assert fingerprint(settings(moved)) == before


def test_a_run_from_before_the_group_loss_is_the_same_experiment(config: dict[str, Any]) -> None:
    def former(smoothing: float) -> dict[str, Any]:
        return {key: node for key, node in put(config, "label_smoothing", smoothing).items() if key != "loss"}

    smoothed, bce = composed("label_smoothing=0.1")[0], composed("loss=bce")[0]
    assert smoothed["loss"]["label_smoothing"] == 0.1
    smoothed["data"] = bce["data"] = config["data"]
    assert fingerprint(settings(former(0.0))) == fingerprint(settings(config))
    assert fingerprint(settings(former(0.1))) == fingerprint(settings(smoothed)) != fingerprint(settings(config))
    recorded = settings(former(0.1))
    recorded["label_smoothing"] = recorded.pop("loss.label_smoothing")  # as results.json has it
    del recorded["loss._target_"]
    assert fingerprint(run_of({"settings": recorded}).settings) == fingerprint(settings(smoothed))  # type: ignore[dict-item]
    choices = ({"loss": "cross_entropy"}, {}, {"loss": "bce"})
    runs = [Run(settings(node), choice) for node, choice in zip((config, former(0.0), bce), choices, strict=True)]
    assert factors(runs) == {"loss": ["cross_entropy", "cross_entropy", "bce"]}
    target = "src.training.losses.BinaryCrossEntropy"
    assert differences(settings(former(0.0)), settings(bce)) == {"loss._target_": ("torch.nn.CrossEntropyLoss", target)}


def test_a_residual_network_from_before_its_axes_is_the_same_experiment(config: dict[str, Any]) -> None:
    young = ("activation", "zero_init_residual", "stem", "shortcut", "width", "depth")
    former = put(config, "model", {key: value for key, value in config["model"].items() if key not in young})
    assert fingerprint(settings(former)) == fingerprint(settings(config))
    wide = put(config, "model.width", 2)
    assert factors([Run(settings(node), {}) for node in (former, wide)]) == {"width": [1, 2]}
    assert run_of({}).settings == {}


def test_no_average_is_a_level_of_its_group(config: dict[str, Any]) -> None:
    nodes = [composed(f"average={name}", "data=image_folder") for name in ("none", "ema", "swa")]
    runs = [Run(settings(node), built(choices, node)) for node, choices in nodes]
    assert factors(runs)["average"] == ["none", "ema", "swa"]


def test_images_count_by_their_content_and_not_by_their_place(config: dict[str, Any]) -> None:
    def identity(content: str, root: str, **source: Any) -> str:
        moved = put(put(config, "data.root", root), "data.source", {"root": root, "_target_": "x", **source})
        return fingerprint(settings(moved) | {CONTENT: content})

    assert identity("one", "a") == identity("one", "b") == identity("one", "a", path="of a source of one's own")
    assert identity("one", "a") != identity("other", "a")


def test_differences_are_named_with_both_values(config: dict[str, Any]) -> None:
    other = put(put(put(config, "model.skip", False), "aug.transforms", []), "data.root", "b")
    other["optim"] |= {"dampening": 0.5}
    del other["optim"]["nesterov"]
    found = differences(settings(config), settings(other))
    assert found == {
        "model.skip": (True, False),
        "optim.dampening": (None, 0.5),
        "aug.transforms": (config["aug"]["transforms"], []),
        "optim.nesterov": (True, None),
    }
    assert differences(settings(config), settings(deepcopy(config))) == {}


def test_content_that_one_of_two_runs_does_not_know_is_no_difference(config: dict[str, Any]) -> None:
    old, new = settings(config), settings(config) | {CONTENT: "one"}
    assert differences(old, new) == {}
    assert differences(new, new | {CONTENT: "other"}) == {CONTENT: ("one", "other")}
    assert set(differences(old, settings(put(config, "data.source._target_", "other")) | {CONTENT: "one"})) == {
        "data.source._target_"
    }


# ---- what was built ----------------------------------------------------------------------------------------------


def test_what_is_recorded_is_what_was_built() -> None:
    config, choices = composed("model._target_=torchvision.models.mobilenet_v3_large", "trainer=cpu", "data=digits")
    chosen = built(choices, config)
    assert chosen["model"] == "torchvision.models.mobilenet_v3_large"
    assert {chosen[group] for group in ("trainer", "data", "optim", "callbacks")} == {"cpu", "digits", "sgd", "default"}
    assert not {"experiment", "scale", "hydra/launcher"} & set(chosen)


def test_a_choice_that_no_file_of_conf_describes_is_taken_at_its_word() -> None:
    assert built({"loss": "mine", "model": "../../etc"}, {"loss": {"_target_": "x"}, "model": {"_target_": "y"}}) == {
        "loss": "mine",
        "model": "../../etc",
    }


# ---- factors ----------------------------------------------------------------------------------------------------


def run(seed: int = 1, choices: dict[str, str] | None = None, place: str | None = None, **leaves: Any) -> Run:
    """Leaves with a double underscore in place of the dot."""
    return Run({key.replace("__", "."): value for key, value in leaves.items()} | {"seed": seed}, choices or {}, place)


def sgd(seed: int = 1, **leaves: Any) -> Run:
    return run(seed, {"optim": "sgd"}, **({"optim__lr": 0.1, "optim__momentum": 0.9} | leaves))


def adam(seed: int = 1, **leaves: Any) -> Run:
    return run(seed, {"optim": "adam"}, **({"optim__lr": 0.001, "optim__eps": 1e-8} | leaves))


def test_a_group_comes_under_its_own_name_before_its_settings() -> None:
    assert factors([sgd(), adam()]) == {
        "optim": ["sgd", "adam"],
        "lr": [0.1, 0.001],
        "momentum": [0.9, ABSENT],
        "eps": [ABSENT, 1e-8],
    }
    assert factors([sgd(1), sgd(2)]) == {}
    assert factors([sgd(optim__lr=1), sgd(optim__lr=2)]) == {"lr": [1, 2]}


def test_what_a_choice_is_made_of_is_no_factor_beside_it() -> None:
    more = {"callbacks__noise___target_": "mine.Noise"}
    runs = [run(choices={"callbacks": "default"}, seed=1), run(choices={"callbacks": "noise"}, seed=1, **more)]
    assert factors(runs) == {"callbacks": ["default", "noise"]}
    runs += [run(choices={"callbacks": "noise"}, seed=1, callbacks__noise___target_="mine.Other")]
    assert factors(runs)["noise"] == [ABSENT, "mine.Noise", "mine.Other"]  # one choice, made of either


def test_a_choice_that_changes_nothing_that_counts_is_no_factor() -> None:
    runs = [run(choices={"trainer": name}, trainer__max_epochs=3) for name in ("cpu", "gpu")]
    assert factors(runs) == {}


@pytest.mark.parametrize("key", ["data__split_seed", "seeds__init"])
@pytest.mark.parametrize("values", [(1, 2, 3), (10, 20, 30)])
def test_what_follows_the_seed_belongs_to_it(key: str, values: tuple[int, ...]) -> None:
    runs = [run(seed, optim__lr=lr, **{key: value}) for seed, value in enumerate(values, 1) for lr in (0.1, 0.2)]
    assert set(factors(runs)) == {"lr"}
    crossed = [run(seed, **{key: value}) for seed in (1, 2) for value in values]
    assert set(factors(crossed)) == {key.partition("__")[2]}


def test_a_factor_in_step_with_the_seed_is_still_a_factor() -> None:
    assert set(factors([sgd(1), adam(2)])) >= {"optim"}
    assert factors([run(1, batch=32), run(2, batch=64)]) == {"batch": [32, 64]}
    assert factors([run(1, data__fold=1), run(2, data__fold=2)]) == {}


def test_a_factor_of_some_runs_only_has_no_level_in_the_others() -> None:
    runs = [run(choices={"model": "wide"}, model__width=width, model___target_="w") for width in (1, 2)]
    runs += [run(choices={"model": "plain"}, model___target_="p")]
    assert factors(runs) == {"width": [1, 2, ABSENT], "model": ["wide", "wide", "plain"]} or factors(runs) == {
        "model": ["wide", "wide", "plain"],
        "width": [1, 2, ABSENT],
    }


def test_null_is_what_leaving_a_setting_out_is() -> None:
    assert factors([run(a=None), run()]) == {}
    assert factors([run(a=None), run(), run(a=5)]) == {"a": [None, None, 5]}


def test_a_setting_that_is_left_out_is_not_one_called_none() -> None:
    assert factors([run(model__norm="none"), run()]) == {"norm": ["none", "not set"]}
    assert factors([run(model__norm="batch"), run()]) == {"norm": ["batch", "none"]}


def test_only_known_classes_take_1_for_1_point_0() -> None:
    def keep(target: str, value: float) -> str:
        return fingerprint(settings({"model": {"_target_": target, "keep": value}}))

    assert keep("src.models.resnet.resnet10", 1) == keep("src.models.resnet.resnet10", 1.0)
    assert keep("torch.nn.Linear", 1) == keep("torch.nn.Linear", 1.0)
    assert keep("mine.Crop", 1) != keep("mine.Crop", 1.0)
    for place in ({"part": {"_target_": "mine.Crop", "keep": 0}}, {"parts": [{"_target_": "mine.Crop", "keep": 0}]}):
        own = [json.loads(json.dumps({"aug": {"_target_": "src.x", **place}}).replace(": 0", f": {value}"))
               for value in (1, 1.0)]  # fmt: skip
        assert fingerprint(settings(own[0])) != fingerprint(settings(own[1]))


def test_settings_of_one_name_are_told_apart_by_their_keys() -> None:
    assert set(factors([run(a__decay=1, b__decay=1), run(a__decay=2, b__decay=3)])) == {"a.decay", "b.decay"}
    assert set(factors([run(status=1), run(status=2)], reserved=["status"])) == {"status"}
    assert set(factors([run(a__status=1), run(a__status=2)], reserved=["status"])) == {"a.status"}
    near = factors(
        [run(data__image_size=8, data__source__image_size=8), run(data__image_size=9, data__source__image_size=9)]
    )
    assert near == {"image_size": [8, 9], "data.source.image_size": [8, 9]}


def test_images_are_named_by_their_place_where_that_tells_them_apart() -> None:
    contents = {"a": "1" * 64, "b": "2" * 64}
    runs = [run(seed, place=place, **{"data.content": contents[place]}) for place in "ab" for seed in (1, 2)]
    assert factors(runs) == {"root": ["a", "a", "b", "b"]}
    runs = [run(seed, place="a", **{"data.content": content}) for seed, content in enumerate(contents.values())]
    assert factors(runs) == {"images": ["1" * 8, "2" * 8]}


def test_initial_weights_count_by_their_content_and_not_by_their_place() -> None:
    def start(place: str | None, content: str | None = None, seed: int = 1) -> Run:
        return run(seed, init_from=place, **({"weights.content": content * 64} if content else {}))

    assert fingerprint(start("a", "1").settings) == fingerprint(start("b", "1").settings)
    assert fingerprint(start("a", "1").settings) != fingerprint(start("a", "2").settings)
    assert differences(start("a", "1").settings, start("b", "1").settings) == {}
    assert set(differences(start("a", "1").settings, start("a", "2").settings)) == {"weights.content"}
    assert set(differences(start("a", "1").settings, start(None).settings)) == {"init_from"}
    assert factors([start("a", "1"), start("b", "1", 2)]) == {}
    assert factors([start(None), start("a", "1"), start("b", "2")]) == {"init_from": [None, "a", "b"]}
    assert factors([start("a", "1"), start("a", "2"), start(None)]) == {"init_from": ["1" * 8, "2" * 8, None]}
    assert levels(start("a", "1")) == {"init_from": "a", "seed": 1}


def test_the_levels_of_one_run_are_its_choices_and_settings() -> None:
    found = levels(sgd(7, optim___target_="x", trainer__max_epochs=3, **{"data.content": "c"}))
    assert found == {"optim": "sgd", "lr": 0.1, "momentum": 0.9, "max_epochs": 3, "seed": 7}


def test_a_run_of_schema_1_tells_what_it_can(config: dict[str, Any]) -> None:
    recorded = {"data": "image_folder", "model": "resnet10", "optim": "sgd", "lr": 0.1, "seed": 42}
    written = {key: node for key, node in config.items() if key != "trust"} | {"factors": recorded}
    old = run_of({"config": written, "factors": recorded})
    assert old.settings == settings(config) and CONTENT not in old.settings
    assert old.choices == {"data": "image_folder", "model": "resnet10", "optim": "sgd"}
    other = put(config, "model._target_", "torchvision.models.resnet18")
    assert run_of({"config": other, "factors": recorded}).choices["model"] == "torchvision.models.resnet18"
    assert run_of({}).settings == {}


# ---- holes that a sceptical reader found -----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["limit_train_batches", "limit_test_batches", "overfit_batches", "val_check_interval"])
def test_one_batch_is_not_all_of_them(config: dict[str, Any], key: str) -> None:
    one, all_of_them = (settings(put(config, f"trainer.{key}", value)) for value in (1, 1.0))
    assert fingerprint(one) != fingerprint(all_of_them) and set(differences(one, all_of_them)) == {f"trainer.{key}"}


def test_the_evaluation_batch_counts_where_batches_are_counted(config: dict[str, Any]) -> None:
    def identity(batches: int | None, size: int) -> str:
        return fingerprint(
            settings(put(put(config, "trainer.limit_test_batches", batches), "data.eval_batch_size", size))
        )

    assert identity(None, 10) == identity(None, 500) and identity(2, 10) != identity(2, 500)


def test_processes_count_where_each_normalises_its_share(config: dict[str, Any]) -> None:
    def identity(accelerator: str, devices: int, sync: bool | None) -> str:
        trainer = config["trainer"] | {"accelerator": accelerator, "devices": devices, "sync_batchnorm": sync}
        return fingerprint(settings(config | {"trainer": trainer}))

    assert identity("gpu", 4, True) == identity("gpu", 1, True) == identity("gpu", 1, None) == identity("cpu", 1, True)
    assert len({identity("cpu", 1, True), identity("cpu", 2, True), identity("gpu", 4, False)}) == 3


def test_null_is_a_choice_of_a_class_that_is_not_ours(config: dict[str, Any]) -> None:
    assert fingerprint(settings(put(config, "model.norm_layer", None))) != fingerprint(settings(config))
    assert fingerprint(settings(put(config, "data.train_size", None))) == fingerprint(settings(config))


def test_choices_with_equal_settings_are_one_level() -> None:
    runs = [run(1, {"trainer": name}, trainer__max_epochs=3, optim__lr=lr) for name in "ab" for lr in (0.1, 0.2)]
    assert factors(runs) == {"lr": [0.1, 0.2, 0.1, 0.2]}
    mine = [run(1, {"callbacks": "mine"}, callbacks__mine___target_="m")]
    plain = [run(seed, {"callbacks": name}) for seed, name in ((1, "default"), (2, "none"))]
    assert factors(plain + mine)["callbacks"] == ["default", "default", "mine"]


def test_with_and_without_a_callback_are_two_levels() -> None:
    runs = [
        run(seed, model__norm=norm, **ema) for seed in (1, 2) for norm in "ab" for ema in ({}, {"callbacks__e__x": 1})
    ]
    assert factors(runs) == {"norm": ["a", "a", "b", "b"] * 2, "x": ["none", 1] * 4}
