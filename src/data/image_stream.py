"""Image files, decoded a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice, pairwise
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from torch import Tensor

from src.data.decode import THREADS, read_image
from src.runs.escaping import printable


def watched(
    title: str, files: Sequence[Path], image_size: int, batch_size: int, bits: int
) -> Iterator[tuple[list[Path], Tensor]]:
    """``stream`` with a progress bar, images as uint8 ``[B, 3, S, S]``; errors are printed."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=len(files))
        for readable, images, errors in stream(files, image_size, batch_size, bits):
            for error in errors:
                console.print(printable(error))
            if readable:
                yield readable, torch.stack(images)
            progress.advance(task, len(readable) + len(errors))


def stream(
    files: Iterable[Path], image_size: int, batch_size: int, bits: int = 16
) -> Iterator[tuple[list[Path], list[Tensor], list[ValueError]]]:
    """Decode files in threads, the next batch while the current one is used; at most two are in memory.

    Args:
        files: images of any format, mode and size, see ``read_image``.
        image_size: side S of the results.
        batch_size: files per batch.
        bits: see ``read_image``.

    Yields:
        the files that could be read, their images uint8 ``[3, S, S]``, and the errors of the others.
    """

    def read(file: Path) -> Tensor | ValueError:
        try:
            return read_image(file, image_size, bits)
        except ValueError as error:
            return error

    remaining = iter(files)
    batches = iter(lambda: list(islice(remaining, batch_size)), [])
    with ThreadPoolExecutor(THREADS) as pool:
        decoded = (zip(batch, pool.map(read, batch), strict=True) for batch in batches)
        for former, _ in pairwise(chain(decoded, [()])):  # the next batch is begun before this one is waited for
            results = list(former)
            readable = [file for file, image in results if isinstance(image, Tensor)]
            images = [image for _, image in results if isinstance(image, Tensor)]
            yield readable, images, [error for _, error in results if isinstance(error, ValueError)]
