"""How fast this machine trains, beside what people would use instead: a table, with the spread of every figure.

python -m src.benchmark
python -m src.benchmark benchmark=quick
python -m src.benchmark rows=[training] models=[resnet10]
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import src.runs.names  # noqa: F401  (the resolver that conf/benchmark.yaml uses)

if TYPE_CHECKING:
    from src.benchmarks.measure import Row

ROWS = {
    "cpu": ("augmentation", "training", "choices", "start", "sweep", "memory"),
    "cuda": ("trivialaugment", "training", "accuracy", "together"),
}


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="benchmark")
def main(cfg: DictConfig) -> None:
    from rich.console import Console

    from src.benchmarks import page
    from src.runs.folder import write_json
    from src.runs.job import stop

    folder = Path(HydraConfig.get().runtime.output_dir)
    rows: list[Row] = []
    try:
        check(cfg)
        machine = describe(cfg.device)
        for measured in benchmark(cfg):
            rows += measured  # written at once: what was measured is not lost with what comes after it
            write_json(folder / "benchmark.json", {"machine": machine, "rows": [row.to_json() for row in rows]})
            (folder / "benchmark.md").write_text(page.markdown(rows, machine), encoding="utf-8")
            page.draw(rows).savefig(folder / "ratios.png")
    except Exception as error:
        if rows:
            print(f"What was measured before is in {folder}.", file=sys.stderr)
        stop(error, debug=cfg.debug)
    console = Console()
    console.print(page.table(rows, ", ".join(f"{name} {value}" for name, value in machine.items())))
    console.print(str(folder), soft_wrap=True)


def check(cfg: DictConfig) -> None:
    """Raise a ValueError of one sentence for a setting that is out of its range."""
    import torch

    if cfg.device not in ("cpu", "cuda"):
        raise ValueError(f"device is {cfg.device!r}; expected cpu or cuda.")
    if cfg.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no CUDA GPU here; use device=cpu.")
    if not isinstance(cfg.repeats, int) or cfg.repeats < 1:
        raise ValueError(f"repeats is {cfg.repeats!r}; expected a whole number, 1 or more.")
    every = tuple(dict.fromkeys(row for rows in ROWS.values() for row in rows))
    for name, choices in (("rows", every), ("models", tuple(cfg.training[cfg.device]))):
        for choice in cfg[name] or ():
            if choice not in choices:
                raise ValueError(f"{name} has {choice!r}; expected some of {', '.join(choices)}.")


def benchmark(cfg: DictConfig) -> "Iterator[list[Row]]":
    """Measure the rows that ``cfg.rows`` names, part by part."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from src.benchmarks import augmentation, commands, training

    trainer = {"cpu": "cpu", "cuda": "gpu"}[cfg.device]
    wanted = cfg.rows or ROWS[cfg.device]
    turns = cfg.repeats + 1
    parts: list[tuple[str, int, Callable[[Callable[[], None]], list[Row]]]] = []  # what, ticks, how
    if "augmentation" in wanted:
        cfgs = {aug: compose([f"aug={aug}", "data=noise", "trainer=cpu"]) for aug in augmentation.AUGMENTATIONS}
        parts.append(
            ("augmentation", augmentation.turns(cfg.repeats), partial(augmentation.measure, cfgs, cfg.repeats))
        )
    if "trivialaugment" in wanted:
        on_device = compose(["aug=trivialaugment", "data=noise", "data.batch_size=500", f"trainer={trainer}"])
        parts.append(("trivialaugment", turns, partial(augmentation.alone, on_device, cfg.device, cfg.repeats)))
    if "training" in wanted:
        sizes = cfg.training[cfg.device]
        for name in cfg.models or sizes:
            images = max(50_000, sizes[name].batch_size * sizes[name].steps * turns)
            overrides = [
                *(f"model={name}", f"trainer={trainer}", f"compile={cfg.device == 'cuda'}"),
                *("data=noise", f"data.batch_size={sizes[name].batch_size}", f"data.train_images={images}"),
                f"data.eval_batch_size={min(500, sizes[name].evaluated)}",
            ]
            of_one = partial(
                training.measure,
                compose(overrides),
                name,
                steps=sizes[name].steps,
                evaluated=sizes[name].evaluated,
                repeats=cfg.repeats,
                device=cfg.device,
            )
            parts.append((name, turns, of_one))
    if "choices" in wanted:
        choices = cfg.choices[cfg.device]
        for name, size in choices.networks.items():
            if cfg.models and name not in cfg.models:
                continue
            fixed = [f"model={name}", f"trainer={trainer}", "data=noise", f"data.batch_size={size.batch_size}"]
            of_one = partial(
                training.choices,
                {overrides: compose([*fixed, *overrides.split()]) for overrides in choices.overrides},
                name,
                steps=size.steps,
                repeats=cfg.repeats,
                device=cfg.device,
            )
            parts.append((f"choices for {name}", turns, of_one))
    if "start" in wanted:
        parts.append(("start", turns, partial(commands.start, trainer, cfg.repeats)))
    if "sweep" in wanted:
        parts.append(("sweep", turns, partial(commands.sweep, trainer, cfg.repeats)))
    if "memory" in wanted:
        few, noise = compose(["data=noise", "data.train_images=1000", "data.test_images=200"]), compose(["data=noise"])
        of_models = cfg.models or cfg.memory.models
        parts.append(("memory", 1 + len(of_models), partial(commands.memory, few, noise, of_models)))
    if "accuracy" in wanted:
        parts.append(
            (
                "accuracy",
                1,
                partial(commands.accuracy, [*cfg.accuracy.overrides, f"trainer={trainer}"], cfg.accuracy.targets),
            )
        )
    if "together" in wanted:
        overrides = [*cfg.together.overrides, f"trainer={trainer}"]
        parts.append(("together", 2, partial(commands.together, overrides, cfg.together.jobs)))

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(ticks for _, ticks, _ in parts))
        for what, _, measure in parts:
            progress.update(task, description=what)
            yield measure(lambda: progress.advance(task))


def compose(overrides: list[str]) -> DictConfig:
    """The configuration that ``python -m src.train`` would have."""
    config = hydra.compose("train", overrides)
    config.factors = {}  # they ask Hydra for this application's choices, which are others
    return config


def describe(device: str) -> dict[str, Any]:
    """The machine, and what of it was used."""
    import os

    import torch

    from src.runs.provenance import device_name, versions

    return {
        "device": device_name(torch.device(device)),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: version for name, version in versions().items() if name in ("python", "torch", "lightning")},
    }


if __name__ == "__main__":
    main()
