"""``zeroshot compare``: two runs in, whether one is better out."""

from __future__ import annotations

from typing import Annotated

import typer

from ..enums import ReportFormat
from ..errors import ExitCode
from . import console, option_groups, options
from .option_values import choose_report_format


@console.reports_errors
@option_groups.expand_option_groups
def compare(
    first: Annotated[
        str, typer.Argument(help="The old run: JSON that `zeroshot eval` wrote.", metavar="A.json"), options.Use.READ
    ],
    second: Annotated[
        str, typer.Argument(help="The new run, over the same images.", metavar="B.json"), options.Use.READ
    ],
    format_: options.ReportFormatOption = None,
    output: options.Output = None,
) -> ExitCode:
    """Say whether run B is better than run A, or whether no difference is shown.

    Both are compared image by image: the exact McNemar test on the images that only one of them has right,
    and a bootstrap interval of the difference.
    """
    from ..evaluation.compare import compare as compare_runs
    from ..evaluation.eval_file import load_run
    from ..output.destination import check_output, open_output
    from ..output.render import comparison as render_compare
    from ..output.render.evaluation import encode

    check_output(output)
    runs = load_run(first), load_run(second)
    result = compare_runs(*runs)
    for note in result.notes:
        console.warn(note)
    form = choose_report_format(format_, output)
    with open_output(output) as stream:
        if form is ReportFormat.JSON:
            stream.write(encode(render_compare.to_document(result, *runs)))
        else:
            stream.write(render_compare.to_text(result, *runs).encode("utf-8", "backslashreplace"))
    return ExitCode.OK
