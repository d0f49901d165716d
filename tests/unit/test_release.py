"A release: one version everywhere, the recipe for conda-forge names the dependencies of pyproject.toml, and only a tag of that version is published."

import re
import subprocess
import sys
from pathlib import Path

import pytest

import facekp

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import release_check

yaml = pytest.importorskip("yaml", reason="the `docs` extra is not installed")
CONDA_NAMES = {"lazy_loader": "lazy-loader", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base", "opencv-python-headless": "py-opencv"}
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def base_dependencies() -> dict[str, str]:
    "Return the base dependencies of pyproject.toml: name and allowed versions."
    block = re.search(r"^dependencies = \[\n(.*?)^\]", PROJECT, re.MULTILINE | re.DOTALL).group(1)
    return dict(re.findall(r'^\s*"([\w-]+)([^"]*)"', block, re.MULTILINE))


def recipe() -> dict:
    return yaml.safe_load((ROOT / "tools" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    assert recipe()["context"]["version"] == facekp.__version__
    assert f"version: {facekp.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE).group(1) == facekp.__version__


def test_the_recipe_has_the_dependencies_of_the_project():
    runs = dict(line.split(" ", 1) for line in recipe()["requirements"]["run"])
    assert runs.pop("python") == ">=${{ python_min }}" and f'requires-python = ">={recipe()["context"]["python_min"]}"' in PROJECT
    wanted = {CONDA_NAMES.get(name, name): versions for name, versions in base_dependencies().items()}
    opencv = wanted.pop("py-opencv")
    assert opencv.startswith(runs.pop("py-opencv") + ".")  # PyPI's fourth number is the build of the wheel
    assert runs == wanted and len(runs) >= 10
    assert re.search(r'requires = \["(setuptools>=\d+)"', PROJECT).group(1).replace(">", " >") in recipe()["requirements"]["host"]
    assert recipe()["about"]["license"] == re.search(r'^license = "(.+?)"', PROJECT, re.MULTILINE).group(1)


def test_only_a_tag_of_this_version_is_published():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}} and workflow["permissions"] == {"contents": "read"}  # YAML reads the key `on` as true
    publish = workflow["jobs"]["publish"]
    assert publish["needs"] == "build" and publish["permissions"] == {"id-token": "write"} and "password" not in str(workflow)
    check = next(step["run"] for step in workflow["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in step.get("run", ""))
    for tag, allowed in ((f"v{facekp.__version__}", True), ("v9.9.9", False), (facekp.__version__, False)):
        assert (subprocess.run(["sh", "-c", check], cwd=ROOT, env={"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}, check=False).returncode == 0) == allowed, tag


def fake_python(folder: Path, name: str, version: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{version}\n")
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")
def test_the_release_is_tried_with_the_oldest_and_the_newest_python(tmp_path, monkeypatch):
    for name, version in (("python3.9", "echo 3 9"), ("python3.10", "echo not installed >&2; exit 127"), ("python3.11", "echo 3 11"), ("python3.12", "echo 3 12"), ("python3.13", "echo 3 13")):
        fake_python(tmp_path, name, version)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(release_check.subprocess, "run", lambda command, run=subprocess.run, **options: run(command, **{**options, "env": {"PATH": "/usr/bin:/bin"}}))
    assert release_check.find_pythons() == [str(tmp_path / "python3.11"), str(tmp_path / "python3.13")]
    for path in tmp_path.iterdir():
        path.unlink()
    assert release_check.find_pythons() == [sys.executable]
    assert release_check.python_version(str(tmp_path / "missing")) is None
