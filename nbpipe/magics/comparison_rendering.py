"""The output of ``compare`` in a notebook."""

from __future__ import annotations

from nbpipe.magics.display import COLUMNS, show_table
from nbpipe.magics.kernel_session import KernelSession
from nbpipe.verbs.comparison_calls import ComparisonResponse
from nbpipe.views.run_comparison import comparison_html, comparison_lines


def render_comparison(_session: KernelSession, response: ComparisonResponse) -> None:
    """Show two runs side by side."""
    left, right = response.left, response.right
    show_table(comparison_lines(left, right, COLUMNS), comparison_html(left, right))
