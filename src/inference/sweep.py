"""Test every run of a sweep again. The results are a sweep of their own, whose factor is test-time augmentation."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.markup import escape

from src.inference.evaluator import PLAIN, Evaluator
from src.runs import identity
from src.runs.command import command
from src.runs.escaping import plural, printable
from src.runs.files import check_stays_within, relative
from src.runs.folder import RunFolder, write_json
from src.runs.outcomes import save_outcomes
from src.sweeps.jobs import SCHEMA_VERSION, Job, find_sweep, jobs
from src.sweeps.naming import folder_name
from src.training.image_outcomes import ImageOutcomes

log = logging.getLogger(__name__)


def evaluate_sweep(cfg: DictConfig, folder: Path) -> None:
    """Test the best checkpoint of each completed run of ``cfg.sweep`` with each test-time augmentation.

    Writes a sweep into ``folder`` that ``src.report`` reads: for each pair a run folder with the run's results.json,
    the new test metrics and the setting ``tta`` in it, and test_outcomes.npz. A run whose folders are all there is
    not tested again, unless its checkpoint has changed.

    Raises:
        FileNotFoundError, ValueError: there is no such sweep, it is a search, some of its runs could not be tested, or
            ``folder`` holds something else.
    """
    check_stays_within(folder)
    if cfg.ckpt is not None or cfg.corruptions not in (False, None):
        raise ValueError("sweep tests all runs of a sweep with each tta; leave out ckpt and corruptions.")
    names = list(dict.fromkeys([PLAIN, *cfg.tta.get("settings", ())]))
    sweep = relative(find_sweep(str(cfg.sweep)).resolve())
    asked = jobs(sweep)
    if any(override.startswith("tuner.trial=") for job in asked for override in job.overrides):
        raise ValueError(
            f"{sweep} is a search, whose trials are compared on validation images; test its best one: "
            "python -m src.eval ckpt=FOLDER"
        )
    done = [RunFolder(job.folder) for job in asked if job.folder and job.state == "completed"]
    kept = [run for run in done if run.best.exists()]
    if not kept:
        raise ValueError(
            f"Of the runs in {sweep}, {len(done)} have completed and none of these has its checkpoint; there is "
            "nothing to test."
        )
    if len(kept) < len(done):
        log.warning("%s without a checkpoint: not tested", plural(len(done) - len(kept), "run"))
    request = {"sweep": str(sweep), **_request(cfg, kept)}
    for job in jobs(folder):
        found = job.results.get("evaluated", {})
        if job.folder and {key: found.get(key) for key in request} != request:
            raise ValueError(
                f"{folder} holds other runs, or tests with other settings, images or sweep; delete it, or "
                "choose another folder, such as hydra.run.dir=logs/eval/sweeps/OTHER"
            )
    _record(sweep, asked, names, folder)
    failed = 0
    for number, run in enumerate(kept, start=1):
        places = {name: RunFolder(folder / _name(run.path.name, name)) for name in names}
        status = run.best.stat()
        wanted = request | {"checkpoint": [status.st_size, status.st_mtime_ns]}
        if all(_is_tested(place, wanted) for place in places.values()):
            log.info("run %d/%d: tested before", number, len(kept))
            continue
        log.info("run %d/%d: %s", number, len(kept), printable(run.path.name))
        try:
            reached = _test(_evaluator(cfg, run), run, places, wanted)
        except (FileNotFoundError, ValueError) as error:
            log.warning("%s: not tested: %s", printable(run.path.name), printable(error))
            failed += 1
            continue
        shown = ", ".join(f"{name} {accuracy:.2%}" for name, accuracy in reached.items())
        rich.get_console().print(f"{escape(printable(run.path.name))}: {shown}", highlight=False, soft_wrap=True)
    if failed:
        raise ValueError(f"{plural(failed, 'run')} could not be tested, for the reasons above; the others were.")


def _name(run: str, tta: str) -> str:
    return folder_name([f"{run},tta={tta}"], (), 0)


def _evaluator(cfg: DictConfig, run: RunFolder) -> Evaluator:
    cfg.ckpt = str(run.path)
    return Evaluator(cfg)


def _request(cfg: DictConfig, runs: Sequence[RunFolder]) -> dict[str, Any]:
    """What the tests depend on besides the checkpoints; images by the content of those that the first run is tested on.

    Raises:
        FileNotFoundError, ValueError: no run can be tested; the reason is that of the first.
    """
    reasons: list[Exception] = []
    for run in runs:
        try:
            content = _evaluator(cfg, run).data.content
            break
        except (FileNotFoundError, ValueError) as error:
            reasons.append(error)
    else:
        raise reasons[0]
    return {
        "tta": OmegaConf.to_container(cfg.tta, resolve=True),
        "images": OmegaConf.to_container(cfg.data.source, resolve=True) if "_target_" in cfg.data else None,
        "content": content,
        "precision": cfg.trainer.precision,
        "limit_test_batches": cfg.trainer.limit_test_batches,
    }


def _record(sweep: Path, asked: Sequence[Job], names: Sequence[str], folder: Path) -> None:
    """Write sweep.json, with the launches of the sweep: which seeds were asked for when, and in which order."""
    launches = []
    for number in range(1 + max((launch for job in asked for launch in job.launches), default=0)):
        tests = {
            _name(job.name, name): [*job.overrides, f"tta={name}"]
            for job in asked
            if number in (job.launches or (0,)) and job.state != "pruned"
            for name in names
        }
        launches.append({"command": command("src.eval", *HydraConfig.get().overrides.task), "jobs": tests})
    write_json(folder / "sweep.json", {"schema": SCHEMA_VERSION, "launches": launches})


def _is_tested(place: RunFolder, wanted: Mapping[str, Any]) -> bool:
    try:
        return place.results().get("evaluated") == wanted and place.outcomes_file.exists()
    except (FileNotFoundError, ValueError):
        return False


def _test(
    evaluator: Evaluator, run: RunFolder, places: Mapping[str, RunFolder], wanted: Mapping[str, Any]
) -> dict[str, float]:
    """Test one run, and write its folders; returns the accuracy, 0 to 1, by name of the test-time augmentation."""
    known, classes = run.results(), evaluator.trained.classes
    former, config = identity.run_of(known), dict(known.get("config", {}))
    if len(places) > 1:
        config["question"] = "What is test-time augmentation worth?"
        config["primary"] = {"factor": identity.TTA, "levels": list(places)}
    found = evaluator.look("Evaluating", evaluator.settings)
    kept = {name: value for name, value in known.get("metrics", {}).items() if not name.startswith("test/")}
    reached = {}
    for name, place in places.items():
        setting = evaluator.settings[name]
        images = ImageOutcomes(len(classes))
        images.update(found.log_probabilities[name], found.labels, 0, 1)
        outcomes = images.compute()
        metrics = {
            "test/accuracy": float(outcomes.correct.mean()),
            "test/loss": -found.log_probabilities[name].gather(1, found.labels[:, None]).mean().item(),
        }
        if name == PLAIN:
            metrics = found.metrics  # the same, rounded as in training
        reached[name] = metrics["test/accuracy"]
        settings = {**former.settings, identity.TTA: name, f"{identity.TTA}.average": setting.averaged}
        if source := wanted["images"]:
            settings[identity.TESTED] = evaluator.data.content
            settings[identity.TESTED_ON] = ", ".join(f"{key}={value}" for key, value in source.items())
        results = {
            **known,
            "config": config,
            "settings": settings,
            "choices": dict(former.choices),
            "fingerprint": identity.fingerprint(settings),
            "overrides": [*known.get("overrides", []), f"tta={name}"],
            "metrics": kept | metrics,
            "test_accuracy_by_class": outcomes.accuracy_by_class(classes),
            "images": known.get("images", {}) | {"test": len(found.labels)},
            "evaluated": wanted,
        }
        if "flops_per_image" in known:
            results["flops_per_image"] = known["flops_per_image"] * len(setting.views)
        place.path.mkdir(parents=True, exist_ok=True)
        save_outcomes(outcomes, place.outcomes_file)
        write_json(place.results_file, results)
    return reached
