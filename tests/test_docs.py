"""The documentation site builds, with every warning an error."""

import inspect
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import keras
import pytest

import keras_uq_layers as uq

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="one site, not one a backend"
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q"),
            # The theme of the site computes its side bar anew for each page,
            # which takes half of the build.
            *("-D", "html_theme=basic", "-d", folder / "doctrees"),
            *(ROOT / "docs", folder / "html"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return folder / "html"


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "a" and attrs.get("href"):
            self.targets.append(attrs["href"])
        self.anchors.add(attrs.get("id"))


def test_the_site(site):
    """One test: two workers that build the site at once write over each other."""
    check_links(site)
    check_pages(site)


def check_links(site):
    pages = {page: Links(page.read_text()) for page in site.rglob("*.html")}
    checked = 0
    for page, links in pages.items():
        for target in links.targets:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), (page, target)
            if anchor and found in pages:
                assert anchor in pages[found].anchors, (page, target)
            checked += 1
    assert checked > 1000


def check_pages(site):
    pages = {page.stem for page in (site / "api" / "generated").glob("*.html")}
    modules = [getattr(uq, name) for name in uq.__all__]
    spaces = [uq, *filter(inspect.ismodule, modules)]
    assert len(spaces) > 10
    for space in spaces:
        for name in space.__all__:
            if getattr(getattr(space, name), "__module__", "").startswith(
                "keras_uq_layers"
            ):
                full = {f"{space.__name__}.{name}", f"keras_uq_layers.{name}"}
                assert full & pages, f"{space.__name__}.{name}"
