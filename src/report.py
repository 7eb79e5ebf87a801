"""From the run folders of one or more sweeps to a conclusion: report.html, report.md, report.tex, runs.csv and
figures.

python -m src.report sweep=optimizers
python -m src.report 'sweep=[optimizers,augmentation]'
"""

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# pandas, scipy and matplotlib are imported where they are used, so that --help answers at once.


def _test_images(run: Path) -> "NDArray[np.uint8]":
    from src.inference.load import test_images  # torch and lightning, for seconds

    return test_images(run)


@hydra.main(config_name="report", **MAIN)
def main(cfg: DictConfig) -> None:
    from rich.console import Console

    from src.analysis.report import write_report
    from src.runs.escaping import printable
    from src.runs.files import relative

    with errors_as_sentence(debug=cfg.debug):
        folder = relative(Path(HydraConfig.get().runtime.output_dir))
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        with console.status("reading runs, drawing figures"):
            page = write_report(cfg, folder, _test_images if cfg.images else None)
    exploratory = ("", "Exploratory:") if page.answers else ()
    found = (*(answer.text for answer in page.answers), *exploratory, *(finding.text for finding in page.findings))
    for line in (*filter(None, [page.question]), *found, "", *page.caveats):
        console.print(line)
    console.print(f"\n{printable(folder / 'report.html')}")


if __name__ == "__main__":
    gc.disable()  # what is read stays to the end; looking for garbage in it takes a tenth of the time
    run(main)
