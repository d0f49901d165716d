"Checks of the repository itself: the package is what the notebooks say, and nothing is there that should not be."

import configparser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
TEXT_ENDINGS = {".py", ".ipynb", ".md", ".ini", ".toml", ".yml", ".json", ".csv", ""}


def tracked_files() -> list[Path]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    "A copy of the sources, exported and cleaned afresh."
    copy = tmp_path_factory.mktemp("copy")
    for name in ("nbs", "facekp"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("pyproject.toml", "settings.ini", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    scripts = Path(sys.executable).parent
    for command in ("nbdev-export", "nbdev-clean"):
        subprocess.run([scripts / command], cwd=copy, check=True, capture_output=True, text=True)
    return copy


def test_the_package_is_what_the_notebooks_export(exported):
    modules = {path.name for path in (ROOT / "facekp").glob("*.py")}
    assert modules == {path.name for path in (exported / "facekp").glob("*.py")}
    for name in modules:
        assert (ROOT / "facekp" / name).read_text() == (exported / "facekp" / name).read_text(), f"run nbdev-export: facekp/{name} is not its notebook"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean(notebook, exported):
    assert notebook.read_text() == (exported / "nbs" / notebook.name).read_text(), f"run nbdev-clean: {notebook.name} holds what differs at every run"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_their_results_and_run_every_cell(notebook):
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs, "no stored output: a reader sees no result"
    assert not [output for output in outputs if output["output_type"] == "error"]
    left_out = [cell for cell in cells if re.search(r"#\|\s*(eval:\s*false|notest)", "".join(cell["source"]))]
    assert not left_out, "cells that no test runs"


def test_modules_import_only_from_modules_above_them():
    order = {notebook.stem.split("_", 1)[1]: notebook.stem for notebook in NOTEBOOKS if notebook.stem != "index"}
    for module, stem in order.items():
        text = (ROOT / "facekp" / f"{module}.py").read_text()
        for used in set(re.findall(r"(?:from|import) (?:facekp)?\.(\w+)", text)):
            assert order[used] < stem, f"{stem} imports {used}, which comes later"


def test_no_star_imports_and_no_unpickling():
    for path in (ROOT / "facekp").glob("*.py"):
        text = path.read_text()
        assert not re.search(r"^from .* import \*", text, re.MULTILINE), path
        assert "allow_pickle=True" not in text and "import pickle" not in text, path


def test_no_paths_of_somebodys_machine():
    pattern = re.compile(r"/(?:home|root|Users)/\w+|/(?:tmp|work|farm)/\w")
    for path in tracked_files():
        if path.suffix in TEXT_ENDINGS and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="ignore")
            text = re.sub(r'"image/png": "[^"]*"', "", text)
            found = pattern.search(text)
            assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_no_large_files():
    assert not [path for path in tracked_files() if path.stat().st_size > 3_000_000]


def test_settings_file_says_what_the_package_defaults_to():
    from facekp.config import PROFILES, Settings

    parser = configparser.ConfigParser(inline_comment_prefixes=("#",))
    parser.read(ROOT / "settings.ini")
    assert set(parser.sections()) == {"course", "paths", *PROFILES}
    for profile, differences in PROFILES.items():
        defaults = {field.name: field.default for field in fields(Settings)} | differences
        for section in ("course", "paths", profile):
            for key, text in parser[section].items():
                if key != "profile":
                    assert text == str(defaults[key]), f"[{section}] {key}"


def test_records_of_full_runs_say_all_they_must():
    import numpy as np

    from facekp.experiments.results import read_study

    folders = [path.parent for path in (ROOT / "results").rglob("runs.csv")]
    assert len(folders) >= 5
    for folder in folders:
        study = read_study(folder)
        assert len(study) and study.runs.index.is_unique and len(study.meta["data"]["sha256"]) == 3, folder
        assert study.squared_errors.shape == (len(study), study.meta["data"]["n_test"]) and np.isfinite(study.squared_errors).all(), folder
        assert set(study.history.run) <= set(study.runs.index), folder
        assert max(study.runs.machine) < len(study.meta["machines"]) and max(study.runs.versions) < len(study.meta["versions"]), folder
        if folder.parent.name == "full":
            assert (study.runs.profile == "full").all()
            assert study.runs.index.tolist() == [f"{row.model}-{row.labels}-augment{row.augment}-seed{row.seed}" for row in study.runs.itertuples()]
            np.testing.assert_allclose(np.sqrt(study.squared_errors.mean(axis=1)), study.runs.rmse, rtol=1e-4)


@pytest.mark.parametrize("folder", sorted(path for path in (ROOT / "results" / "full").glob("*") if path.is_dir()), ids=lambda path: path.name)
def test_tables_are_what_the_records_say(folder):
    from facekp.experiments.results import read_study
    from facekp.experiments.statistics import compare_trials, summarize_runs
    from facekp.experiments.tables import table_markdown

    study = read_study(folder)
    table = summarize_runs(study)
    assert (folder / "table.md").read_text() == table_markdown(table)
    assert (folder / "table.csv").read_text() == table.round(6).to_csv(index=False)
    assert (folder / "answers.csv").read_text() == compare_trials(study).round(6).to_csv(index=False)


def test_readme_is_made_from_the_index_notebook(tmp_path):
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--to", "markdown", "--TagRemovePreprocessor.remove_input_tags=hide_input",
                    "--output-dir", tmp_path, "--output", "README", ROOT / "nbs" / "index.ipynb"], check=True, capture_output=True)
    made = (tmp_path / "README.md").read_text().replace("(../", "(")
    assert (ROOT / "README.md").read_text().strip() == made.strip(), "run make readme"


def test_index_shows_what_the_records_say_now():
    import nbformat
    from nbclient import NotebookClient

    stored = nbformat.read(ROOT / "nbs" / "index.ipynb", 4)
    fresh = NotebookClient(nbformat.from_dict(stored), resources={"metadata": {"path": str(ROOT / "nbs")}}, timeout=300).execute()

    def tables(notebook):
        return [output["data"]["text/markdown"] for cell in notebook.cells if cell.cell_type == "code"
                for output in cell.outputs if "text/markdown" in output.get("data", {})]

    assert tables(stored) and tables(stored) == tables(fresh), "run nbs/index.ipynb again"
