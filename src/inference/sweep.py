"""Test every run of a sweep again. The results are a sweep of their own, whose factor is test-time augmentation."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.markup import escape

from src.inference.evaluator import PLAIN, Evaluator
from src.runs import identity
from src.runs.escaping import plural, printable
from src.runs.files import check_stays_within
from src.runs.folder import RunFolder, write_json
from src.runs.outcomes import save_outcomes
from src.sweeps.jobs import find_sweep, jobs
from src.sweeps.naming import folder_name
from src.training.outcomes import ImageOutcomes

log = logging.getLogger(__name__)


def evaluate_sweep(cfg: DictConfig, folder: Path) -> None:
    """Test the best checkpoint of each completed run of ``cfg.sweep`` with each test-time augmentation.

    For each pair, writes a run folder into ``folder`` which ``src.report`` reads: the run's results.json with the new
    test metrics and the setting ``tta``, and test_outcomes.npz. Pairs that are there are not tested again, unless the
    checkpoint or the request has changed.

    Raises:
        FileNotFoundError, ValueError: there is no such sweep, none of its runs can be tested, or a checkpoint cannot be
            used with these data or these settings.
    """
    check_stays_within(folder)
    if cfg.ckpt is not None or cfg.corruptions not in (False, None):
        raise ValueError("sweep tests all runs of a sweep with each tta; leave out ckpt and corruptions.")
    names = list(dict.fromkeys([PLAIN, *cfg.tta.settings]))
    sweep = find_sweep(str(cfg.sweep))
    for job in jobs(folder):
        if (other := job.results.get("evaluated", {}).get("sweep", str(sweep))) != str(sweep):
            raise ValueError(
                f"{folder} holds tests of {printable(other)}; choose another folder, hydra.run.dir=logs/eval/..."
            )
    done = [RunFolder(job.folder) for job in jobs(sweep) if job.folder and job.state == "completed"]
    kept = [run for run in done if run.best.exists()]
    if not kept:
        raise ValueError(
            f"Of the runs in {sweep}, {len(done)} have completed and none of these has its checkpoint; there is "
            "nothing to test."
        )
    if len(kept) < len(done):
        log.warning("%s without a checkpoint: not tested", plural(len(done) - len(kept), "run"))
    for number, run in enumerate(kept, start=1):
        places = {name: RunFolder(folder / folder_name([f"{run.path.name},tta={name}"], (), 0)) for name in names}
        request = {"sweep": str(sweep), **_request(cfg, run)}
        if all(_is_tested(place, request) for place in places.values()):
            log.info("run %d/%d: tested before", number, len(kept))
            continue
        log.info("run %d/%d: %s", number, len(kept), printable(run.path.name))
        with open_dict(cfg):
            cfg.ckpt = str(run.path)
        reached = _test(Evaluator(cfg), run, places, request)
        shown = ", ".join(f"{name} {accuracy:.2%}" for name, accuracy in reached.items())
        rich.get_console().print(f"{escape(printable(run.path.name))}: {shown}", highlight=False, soft_wrap=True)


def _request(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    """What a test depends on: the checkpoint, and the settings that change its result."""
    status = run.best.stat()
    settings: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["tta", "data"]), resolve=True)
    settings |= {name: cfg.trainer[name] for name in ("precision", "limit_test_batches")}
    return settings | {"checkpoint": [status.st_size, status.st_mtime_ns]}


def _is_tested(place: RunFolder, request: Mapping[str, Any]) -> bool:
    try:
        return place.results().get("evaluated") == request
    except (FileNotFoundError, ValueError):
        return False


def _test(
    evaluator: Evaluator, run: RunFolder, places: Mapping[str, RunFolder], request: Mapping[str, Any]
) -> dict[str, float]:
    """Test one run, and write its folders; returns the accuracy, 0 to 1, by name of the test-time augmentation."""
    found = evaluator.look("Evaluating", evaluator.settings)
    known, trained = run.results(), evaluator.trained
    former = identity.run_of(known)
    config: dict[str, Any] = dict(known["config"])
    if len(places) > 1:
        question = {"question": "What is test-time augmentation worth?"}
        config |= question | {"primary": {"factor": "tta", "levels": list(places)}}
    kept = {name: value for name, value in known["metrics"].items() if not name.startswith("test/")}
    reached = {}
    for name, place in places.items():
        images = ImageOutcomes(len(trained.classes))
        images.update(found.log_probabilities[name], found.labels, 0, 1)
        outcomes = images.compute()
        metrics = {
            "test/accuracy": float(outcomes.correct.mean()),
            "test/loss": -found.log_probabilities[name].gather(1, found.labels[:, None]).mean().item(),
        }
        if name == PLAIN:
            metrics = found.metrics  # the same, rounded as in training
        settings = {**former.settings, "tta": name, "tta.average": evaluator.settings[name].averaged}
        if "_target_" in request["data"]:
            settings["tested.content"] = evaluator.data.content
        reached[name] = metrics["test/accuracy"]
        place.path.mkdir(parents=True, exist_ok=True)
        save_outcomes(outcomes, place.outcomes_file)
        write_json(
            place.results_file,
            {
                **known,
                "config": config,
                "settings": settings,
                "choices": dict(former.choices),
                "fingerprint": identity.fingerprint(settings),
                "overrides": [*known.get("overrides", []), f"tta={name}"],
                "metrics": kept | metrics,
                "test_accuracy_by_class": outcomes.accuracy_by_class(trained.classes),
                "images": known.get("images", {}) | {"test": len(found.labels)},
                "flops_per_image": known.get("flops_per_image", 0) * len(evaluator.settings[name].views),
                "evaluated": request,
            },
        )
    return reached
