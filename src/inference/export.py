"""Export a trained network to a common format, verified, with a model card."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from src.inference.formats import BATCHES, FORMATS, check_format, export
from src.inference.load import load
from src.inference.model_card import find_evaluation, model_card
from src.runs.escaping import printable
from src.runs.folder import write_whole


def export_with_card(cfg: DictConfig) -> None:
    """Write the files that ``cfg`` requests, and print what was written.

    Raises:
        OSError, ValueError: see ``load``, ``export`` and ``model_card``; nothing is written then.
    """
    if cfg.ckpt is None:
        raise ValueError("Name a run folder or a checkpoint: python -m src.export ckpt=RUN")

    check_format(cfg.format)
    if type(cfg.tolerance) not in (int, float) or not cfg.tolerance >= 0:
        raise ValueError(f"tolerance is {cfg.tolerance!r}; expected a number, 0 or more, such as 1e-4.")
    suffix = FORMATS[cfg.format].suffix
    out = Path(cfg.out)
    file = out if out.suffix == suffix else out / f"model{suffix}"
    card = file.with_name(f"{file.name}.md")
    if card.exists():
        raise FileExistsError(f"{card} is there already and is not overwritten; choose another place with out=.")
    trained = load(cfg.ckpt, cfg.trust)
    evaluation = find_evaluation(trained.checkpoint, cfg.eval and Path(cfg.eval))
    difference, allowed = export(trained, cfg.format, file, cfg.tolerance)
    try:
        with write_whole(card, encoding="utf-8") as stream:
            stream.write(model_card(trained, cfg.format, file, difference, evaluation))
    except BaseException:
        file.unlink()
        raise
    console = Console(highlight=False, soft_wrap=True)
    batches = ", ".join(map(str, BATCHES))
    console.print(
        f"verified: logits differ from PyTorch's by at most {difference:.1e} (allowed: {allowed:.0e}), over "
        f"batches of {batches} random images"
    )
    console.print(f"[bold]{escape(printable(file))}[/]  {file.stat().st_size / 1e6:.1f} MB")
    console.print(escape(printable(card)))
