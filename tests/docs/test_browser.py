"The search for a Chromium: playwright's own comes before the system's, and only one that starts is returned."

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

import browser

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")


def stand_in(path: Path, says: str = "Chromium 1.0", status: int = 0) -> str:
    "Write a program that answers --version."
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def system(tmp_path, monkeypatch):
    "Return a folder that is the whole search path, and let playwright have no browser."
    monkeypatch.delenv("FACEKP_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(browser, "_of_playwright", lambda: str(tmp_path / "playwright" / "chrome"))
    return tmp_path / "bin"


def test_the_browser_of_playwright_comes_before_that_of_the_system(system, tmp_path, monkeypatch):
    assert browser.find_browser() is None
    installed = stand_in(system / "chromium")
    assert browser.find_browser() == installed
    own = stand_in(tmp_path / "playwright" / "chrome")
    assert browser.find_browser() == own
    monkeypatch.setenv("FACEKP_BROWSER", installed)
    assert browser.find_browser() == installed


@pytest.mark.parametrize("fault", [{"status": 127}, {"says": "another program"}])
def test_a_browser_that_does_not_start_is_passed_over(system, tmp_path, fault):
    stand_in(tmp_path / "playwright" / "chrome", **fault)
    assert browser.find_browser() is None
    installed = stand_in(system / "chromium")
    assert browser.find_browser() == installed
