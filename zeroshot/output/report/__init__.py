"""Report pages: one self-contained HTML file each.

Nothing is fetched and nothing in it can run but the script that stands in it: the page's content security policy
names style and script by their hashes. Without JavaScript everything is there to be read; with it tables sort and
images are filtered.
"""

from __future__ import annotations

from .classify_page import ClassifyReport
from .eval_page import eval_report

__all__ = ["ClassifyReport", "eval_report"]
