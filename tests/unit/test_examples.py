"The examples and the Dockerfile: the functions and files that they use exist, and they run as far as possible without Gradio and Docker."

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scripts import load_script

from facekp.synthetic.renderer import synthetic_faces

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def app():
    return load_script("examples/gradio_app.py")


def test_the_gradio_example_finds_faces_without_gradio(app):
    faces = synthetic_faces(3, seed=3, workers=1).images[:2]
    photo = np.full((300, 700, 3), 120, np.uint8)
    for left, face in zip((30, 380), faces):
        photo[40:260, left:left + 220] = cv2.resize(face, (220, 220))[..., None]
    drawn, table, chips = app.find_faces(photo, 0.1)
    assert len(table) == len(chips) >= 1 and tuple(table.columns) == app.COLUMNS and all(chip.shape == (112, 112, 3) for chip in chips)
    assert drawn.shape == photo.shape and (drawn != photo).any()
    empty, none, no_chips = app.find_faces(None)
    assert empty is None and len(none) == 0 and tuple(none.columns) == app.COLUMNS and no_chips == []
    drawn, none, _ = app.find_faces(np.full((80, 90, 3), 90, np.uint8))
    assert drawn.shape == (80, 90, 3) and tuple(none.columns) == app.COLUMNS and len(none) == 0


def test_the_gradio_page_passes_its_inputs_to_the_function(app, monkeypatch):
    calls = []

    class Part:
        def __init__(self, *arguments, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def click(self, function, inputs, outputs):
            calls.append((function, len(inputs), len(outputs)))

    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(**dict.fromkeys(("Blocks", "Markdown", "Image", "Slider", "Button", "Dataframe", "Gallery"), Part)))
    assert isinstance(app.build_page(), Part) and calls == [(app.find_faces, 2, 3)]


def test_the_dockerfile_copies_what_is_there_and_runs_the_readmes_command():
    tracked = set(subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in names.split():
            assert name in tracked or any(path.startswith(f"{name}/") for path in tracked), name
            assert name not in (ROOT / ".dockerignore").read_text().splitlines()
    version = tuple(map(int, re.search(r"FROM python:(\d+)\.(\d+)-slim", DOCKERFILE).groups()))
    assert version >= tuple(map(int, re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()))
    command = re.search(r"docker run .* facekp (predict .+)$", DOCKERFILE, re.MULTILINE).group(1)
    assert f"facekp {command}\n" in (ROOT / "README.md").read_text() and command in (ROOT / "examples" / "README.md").read_text()
    from facekp.cli import build_parser

    assert build_parser().parse_args(shlex.split(command)).out == "found"
    assert "train" not in re.search(r"pip install .*", DOCKERFILE).group()


def test_what_the_dockerfile_copies_is_enough_to_build_the_package(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in names.split():
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tmp_path / "src" / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (tmp_path / "src").mkdir(exist_ok=True)
                shutil.copy(source, tmp_path / "src" / name)
    made = subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "out", tmp_path / "src"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-1500:]
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", next((tmp_path / "out").glob("*.whl"))], capture_output=True, text=True, check=True).stdout
    assert "facekp/weights/default.onnx" in listed and "facekp/weights/face_detector.onnx" in listed and "facekp/settings.ini" in listed
