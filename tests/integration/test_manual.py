"""The manual is built without a warning, holds every page, and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"^WARNING +-", done.stderr, re.M)
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_contents_is_there(site: Path) -> None:
    named = re.findall(r"([\w/]+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert len(named) > 20
    for name in named:
        folder = name.removesuffix("index").rstrip("/")
        page = (site / folder / "index.html").read_text()
        assert len(re.sub(r"<[^>]+>", "", page)) > 1000, name


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Scripts, styles, images and fonts lie beside the page; links may lead anywhere."""
    for page in pages(site):
        text = page.read_text()
        fetched = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"|<link[^>]+rel="stylesheet"[^>]+href="([^"]+)"', text)
        for path in ("".join(each) for each in fetched):
            assert not path.startswith(("http:", "https:", "//")), f"{page.name}: {path}"
            if page.name != "404.html":
                assert (page.parent / path.partition("?")[0]).resolve().is_file(), f"{page}: {path}"


def test_made_pages_are_pages_of_the_site(site: Path) -> None:
    text = (site / "reference" / "campaign" / "index.html").read_text()
    assert 'id="backbones"' in text and "learning_rate" in text
    assert 'id="frontier"' in (site / "facilities" / "figures" / "index.html").read_text()
