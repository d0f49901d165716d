"Every lesson's badge opens it in Colab, its set-up cell installs facekp there and does nothing elsewhere, and every installation line is safe."

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

import colab
import install_lines
from lessons import colab_paths, lesson_paths, page_name, repository_url

import facekp
from facekp import errors

SAMPLE = {"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Draw: faces\n", "\n", "> One line.\n", "\n", "You will learn."]},
                    {"cell_type": "code", "execution_count": None, "id": "b", "metadata": {}, "outputs": [], "source": ["#| default_exp draw"]}],
          "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_a_notebook_gets_its_line_and_its_cell_once():
    once = colab.with_colab(SAMPLE, "01_draw")
    first, set_up, module = once["cells"]
    assert "".join(first["source"]).split("\n\n") == ["# Draw: faces", "> One line.", colab.badge_line("01_draw"), "You will learn."]
    assert "".join(set_up["source"]) == colab.set_up_source() and set_up["metadata"]["tags"] == ["set-up"]
    assert module == SAMPLE["cells"][1]
    assert colab.with_colab(once, "01_draw") == once, "a second pass changed something"
    moved = colab.with_colab(once, "02_draw")
    assert "01_draw" not in json.dumps(moved) and len(moved["cells"]) == 3, "a renamed notebook must open itself, not the old one"


def test_a_title_alone_is_enough():
    alone = {**SAMPLE, "cells": [SAMPLE["cells"][0] | {"source": ["# Draw"]}]}
    assert "".join(colab.with_colab(alone, "01_draw")["cells"][0]["source"]) == "# Draw\n\n" + colab.badge_line("01_draw")


@pytest.mark.parametrize("path", colab_paths(), ids=lambda path: path.stem)
def test_every_badge_opens_its_own_notebook(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    badges = [line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"] if "colab.research.google.com" in line]
    assert len(badges) == 1, "run python nbs/_site/colab.py"
    owner = repository_url().removeprefix("https://github.com/")
    assert re.findall(r"\]\((https://[^)]+\.ipynb)\)", badges[0]) == [
        f"https://colab.research.google.com/github/{owner}/blob/main/nbs/{page_name(path)}.ipynb", f"{repository_url()}/raw/main/nbs/{page_name(path)}.ipynb"]
    assert path not in colab.stale(), "run python nbs/_site/colab.py"


@pytest.mark.parametrize("path", colab_paths(), ids=lambda path: path.stem)
def test_every_link_opens_where_the_notebook_is_alone(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    links = [link for cell in cells if cell["cell_type"] == "markdown" for link in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"]))]
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_notebooks_stay_clean(tmp_path):
    clean = shutil.which("nbdev-clean", path=str(Path(sys.executable).parent))
    if clean is None:
        pytest.skip("nbdev is not installed")
    (tmp_path / "nbs").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "nbs" / lesson_paths()[0].name
    path.write_text(colab.as_text(colab.with_colab(json.loads(lesson_paths()[0].read_text(encoding="utf-8")), page_name(lesson_paths()[0]))), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    subprocess.run([clean, "--fname", path], cwd=tmp_path, check=True, capture_output=True)
    assert path.read_text(encoding="utf-8") == before


def run_set_up(monkeypatch, in_colab: bool, installed: bool = False, fails: bool = False) -> list[str]:
    "Run the set-up cell with stand-ins for pip and Colab; return what it asked pip to install."
    asked = []

    def run(command, **ignored):
        asked.append(command[-1])
        return types.SimpleNamespace(returncode=int(fails))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: types.SimpleNamespace() if installed else None)
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    if in_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(colab.set_up_source(), {})
    return asked


def test_elsewhere_the_cell_does_nothing(monkeypatch, capsys):
    assert run_set_up(monkeypatch, in_colab=False) == []
    assert "FACEKP_PROFILE" not in os.environ and capsys.readouterr().out == ""


def test_in_colab_it_installs_everything_from_the_tag_once(monkeypatch):
    assert run_set_up(monkeypatch, in_colab=True) == [errors.requirement("train")]
    assert os.environ["FACEKP_PROFILE"] == "quick"
    assert run_set_up(monkeypatch, in_colab=True, installed=True) == []


def test_a_failed_installation_says_so(monkeypatch):
    with pytest.raises(SystemExit, match="could not be installed"):
        run_set_up(monkeypatch, in_colab=True, fails=True)


# ---------------------------------------------------------------- installation lines

def test_one_switch_changes_every_line(monkeypatch):
    tag = f"git+{repository_url()}@v{facekp.__version__}"
    assert errors.requirement() == f"facekp @ {tag}" and errors.requirement("train") == f"facekp[train] @ {tag}"
    text = f"Run `pip install 'facekp[kaggle] @ {tag}'` or pip install facekp."
    assert install_lines.rewritten(text) == f"Run `pip install 'facekp[kaggle] @ {tag}'` or pip install 'facekp @ {tag}'."
    monkeypatch.setattr(errors, "ON_PYPI", True)
    assert errors.requirement("train") == "facekp[train]"
    assert install_lines.rewritten(text) == "Run `pip install 'facekp[kaggle]'` or pip install 'facekp'."


def test_no_line_installs_a_name_that_the_project_does_not_own():
    assert [str(path.relative_to(ROOT)) for path in install_lines.stale()] == [], "run python nbs/_site/install_lines.py"
    names = subprocess.run(["git", "ls-files", "facekp", "nbs", "tools", "benchmarks", "recipes", "studies", "slides"], cwd=ROOT, capture_output=True, text=True, check=True)
    for path in (ROOT / name for name in names.stdout.split()):
        if path.suffix in (".py", ".ipynb", ".md") and path.is_file():
            found = re.search(r"""pip["', ]+install [^`\n]*?['" ]facekp(?!\S* @ git)(?=[\['"\s])""", path.read_text(encoding="utf-8"))
            assert errors.ON_PYPI or not found, f"{path.relative_to(ROOT)}: {found.group()}"
