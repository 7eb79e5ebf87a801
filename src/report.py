"""From the run folders of one or more sweeps to a conclusion: report.html, report.md, report.tex, runs.csv and
figures.

python -m src.report sweep=optimizers
python -m src.report 'sweep=[optimizers,augmentation]'
"""

import gc
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src.runs.errors import errors_as_sentence
from src.runs.hydra_versions import MAIN
from src.sweeps.command_line import run

# pandas, scipy and matplotlib are imported where they are used, so that --help answers at once.


@hydra.main(config_name="report", **MAIN)
def main(cfg: DictConfig) -> None:
    from rich.console import Console

    from src.analysis.report import write_report
    from src.runs.escaping import printable
    from src.runs.files import relative

    images = None
    with errors_as_sentence(debug=cfg.debug):
        if cfg.images:
            from src.inference.load import test_images as images  # type: ignore[assignment]  # imports torch, for seconds
        folder = relative(Path(HydraConfig.get().runtime.output_dir))
        console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        with console.status("reading runs, drawing figures"):
            page = write_report(cfg, folder, images)
    exploratory = ("", "Exploratory:") if page.answers else ()
    found = (*(answer.text for answer in page.answers), *exploratory, *(finding.text for finding in page.findings))
    for line in (*filter(None, [page.question]), *found, "", *page.caveats):
        console.print(line)
    console.print(f"\n{printable(folder / 'report.html')}")


if __name__ == "__main__":
    gc.disable()  # what is read stays to the end; looking for garbage in it takes a tenth of the time
    run(main)
