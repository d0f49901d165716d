"Every lesson opens itself in Colab, and its set-up cell does what it says there and nothing elsewhere."

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
from lessons import lesson_paths, repository_url

SAMPLE = {"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Draw: faces\n", "\n", "> One line.\n", "\n", "You will learn."]},
                    {"cell_type": "code", "execution_count": None, "id": "b", "metadata": {}, "outputs": [], "source": ["#| default_exp draw"]}],
          "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_a_notebook_gets_its_line_and_its_cell_once():
    once = colab.with_colab(SAMPLE, "01_draw")
    first, set_up, module = once["cells"]
    assert "".join(first["source"]).split("\n\n") == ["# Draw: faces", "> One line.", colab.badge_line("01_draw"), "You will learn."]
    assert "".join(set_up["source"]) == colab.set_up_source() and set_up["metadata"]["tags"] == ["set-up"]
    assert module == SAMPLE["cells"][1]
    assert colab.with_colab(once, "01_draw") == once, "a second time changes nothing"
    moved = colab.with_colab(once, "02_draw")
    assert "01_draw" not in json.dumps(moved) and len(moved["cells"]) == 3, "a renamed notebook opens itself, not the old one"


def test_a_title_alone_is_enough():
    alone = {**SAMPLE, "cells": [SAMPLE["cells"][0] | {"source": ["# Draw"]}]}
    assert "".join(colab.with_colab(alone, "01_draw")["cells"][0]["source"]) == "# Draw\n\n" + colab.badge_line("01_draw")


@pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
def test_every_badge_opens_its_own_notebook(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    badges = [line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"] if "colab.research.google.com" in line]
    if not any("colab.research.google.com" in other.read_text(encoding="utf-8") for other in lesson_paths()):
        pytest.skip("no lesson has its badge yet: python nbs/_site/colab.py writes them")
    assert len(badges) == 1, "one badge a lesson"
    owner = repository_url().removeprefix("https://github.com/")
    assert re.findall(r"\]\((https://[^)]+\.ipynb)\)", badges[0]) == [
        f"https://colab.research.google.com/github/{owner}/blob/main/nbs/{path.name}", f"{repository_url()}/raw/main/nbs/{path.name}"]
    assert path not in colab.stale(), "run python nbs/_site/colab.py"


def test_the_notebooks_stay_clean(tmp_path):
    clean = shutil.which("nbdev-clean", path=str(Path(sys.executable).parent))
    if clean is None:
        pytest.skip("nbdev is not installed")
    (tmp_path / "nbs").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "nbs" / lesson_paths()[0].name
    path.write_text(colab.as_text(colab.with_colab(json.loads(lesson_paths()[0].read_text(encoding="utf-8")), path.stem)), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    subprocess.run([clean, "--fname", path], cwd=tmp_path, check=True, capture_output=True)
    assert path.read_text(encoding="utf-8") == before


def run_set_up(monkeypatch, in_colab: bool, fails: set[str] = frozenset()) -> list[str]:
    "Run the set-up cell with pip and Colab stood in for; what it asked pip to install."
    asked = []

    def run(command, **ignored):
        asked.append(command[-1])
        return types.SimpleNamespace(returncode=int(command[-1].split("==")[0].split("@")[0] in fails))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    if in_colab:
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    exec(colab.set_up_source(), {})
    return asked


def test_elsewhere_the_cell_does_nothing(monkeypatch, capsys):
    assert run_set_up(monkeypatch, in_colab=False) == []
    assert "FACEKP_PROFILE" not in os.environ and capsys.readouterr().out == ""


def test_in_colab_it_installs_this_release(monkeypatch, capsys):
    assert run_set_up(monkeypatch, in_colab=True) == [f"facekp=={colab.release()}"]
    assert os.environ["FACEKP_PROFILE"] == "quick" and "GPU" in capsys.readouterr().out


def test_without_a_release_it_takes_the_repositorys_tag(monkeypatch):
    source = f"git+{repository_url()}"
    assert run_set_up(monkeypatch, in_colab=True, fails={"facekp"}) == [f"facekp=={colab.release()}", f"{source}@v{colab.release()}"]
    with pytest.raises(SystemExit, match="could not be installed"):
        run_set_up(monkeypatch, in_colab=True, fails={"facekp", source})
