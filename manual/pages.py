"""A hook of mkdocs: adds the pages that are made when the manual is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # `mkdocs` is a command, which does not look in the folder it is called in

from manual import campaign, commands, datasets, site  # noqa: E402

PAGES = {
    "reference/campaign.md": campaign.page,
    "reference/site.md": site.page,
    "reference/commands.md": commands.page,
    "reference/datasets.md": datasets.page,
    "facilities/figures.md": site.figures,
}


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages to those that are written."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files
