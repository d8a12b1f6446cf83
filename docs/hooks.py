"""What MkDocs adds to the pages: the measured tables, taken from benchmarks/results as they are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MARKER = "<!-- tables -->"


def on_files(files: Files, config: Any) -> Files:
    """Bring the pictures of the results along."""
    for path in sorted(RESULTS.glob("*.png")):
        files.append(File.generated(config, f"measured/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put every table of results in the place of the marker."""
    if MARKER not in markdown:
        return markdown
    parts = []
    for path in sorted(RESULTS.glob("*.md")):
        title = path.stem.removeprefix("pipeline-")
        table = re.sub(r"^#", "####", path.read_text(encoding="utf-8"), flags=re.MULTILINE)  # below this heading
        parts.append(f"### {title}\n\n{table}")
    return markdown.replace(MARKER, "\n\n".join(parts))
