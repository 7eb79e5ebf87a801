"""A page's results as LaTeX: the table of configurations, the figures and a paragraph on the methods."""

from src.analysis.page.page import Page
from src.runs.escaping import tex

_DOCUMENT = r"""\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx}
\begin{document}
\begin{table}
\centering
\caption{%s}
\begin{tabular}{%s}
\toprule
%s \\
\midrule
%s
\bottomrule
\end{tabular}
\end{table}
%s
\paragraph{Methods.} {\sloppy %s\par}
\end{document}
"""
_FIGURE = r"""\begin{figure}
\centering
\includegraphics[width=\linewidth]{figures/%s.pdf}
\caption{%s}
\end{figure}"""


def to_tex(page: Page) -> str:
    """A whole document, to copy from. Figures are ``figures/<name>.pdf``."""
    results = page.results
    rows = []
    for (*levels, mean, n), best in zip(results.rows, results.best, strict=True):
        score = tex(mean).replace("±", r"\pm")
        rows.append(
            " & ".join([*map(tex, levels), rf"$\mathbf{{{score}}}$" if best else f"${score}$", tex(n)]) + r" \\"
        )
    figures = [_FIGURE % (drawing.name, tex(drawing.caption)) for drawing in page.drawings()]
    heads = " & ".join([*map(tex, results.factors), r"test accuracy, \%", "$n$"])
    parts = (tex(results.caption), "l" * len(results.factors) + "cr", heads, "\n".join(rows), "\n".join(figures))
    return _DOCUMENT % (*parts, tex(results.methods))
