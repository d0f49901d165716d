"""The lessons run on data other than the default: a stand-in of Kaggle's files and, if they are given, real labels and real photographs.

FACEKP_LABEL_TABLE=training_labels.csv adds a stand-in with the labels of this table, and FACEKP_TEST_FACES=faces.npz adds a set of photographs: neither may be
part of the repository. A lesson checks itself: its assertions about data, and that each network beats the mean face by a quarter, must hold on all of them.
"""

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "nbs" / "_site"))

from kaggle_stand_in import write_rendered_table
from lessons import lesson_paths

from facekp.data.kaggle import load_kaggle_test
from facekp.keypoints import COLUMNS, MEAN_FACE
from facekp.synthetic.kaggle_files import write_kaggle_folder

LESSONS = [path for path in lesson_paths() if int(path.stem[:2]) <= 11]
KINDS = ["stand-in", *(["label table"] if "FACEKP_LABEL_TABLE" in os.environ else []), *(["photographs"] if "FACEKP_TEST_FACES" in os.environ else [])]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    "Return a function that writes each data set for the lessons once and returns its path."
    folder, written = tmp_path_factory.mktemp("kaggle"), {}

    def source(kind: str) -> str:
        if kind == "photographs":
            return str(Path(os.environ["FACEKP_TEST_FACES"]).resolve())
        if kind not in written:
            write_kaggle_folder(folder / kind, count=1500)
            if kind == "label table":
                write_rendered_table(Path(os.environ["FACEKP_LABEL_TABLE"]), folder / kind / "training.csv")
                (folder / kind / "truth.csv").unlink()  # it belongs to the replaced labels
            written[kind] = str(folder / kind)
        return written[kind]

    return source


def run_lesson(path: Path, folder: Path) -> list:
    "Run a lesson in an empty folder; return its cells with their outputs."
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_on_other_data(path, kind, sources, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEKP_DATA", sources(kind))
    monkeypatch.setenv("FACEKP_REPOSITORY_FILES", str(ROOT))  # use the weights of unit 9 without a download
    monkeypatch.setenv("FACEKP_PROFILE", "quick")
    cells = run_lesson(path, tmp_path)
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code" and cell.source.strip() and not cell.source.startswith("#| default_exp"))
    if path.stem == "01_tour" and kind != "photographs":  # the submission has exactly the requested rows
        test, lookup = load_kaggle_test(sources(kind), tmp_path)
        assert any(f"{len(lookup):,} rows for {len(test):,} images" in output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_rendered_table_keeps_every_label(tmp_path):
    import pandas as pd

    rows = np.repeat(MEAN_FACE[None], 6, axis=0) + np.random.default_rng(0).normal(0, 1, (6, 15, 2))
    rows[4:, 2:10] = rows[4:, 11:14] = np.nan
    labels = tmp_path / "labels.csv"
    pd.DataFrame(rows.reshape(6, 30), columns=COLUMNS).to_csv(labels, index=False)
    write_rendered_table(labels, tmp_path / "training.csv", cut=4)
    table = pd.read_csv(tmp_path / "training.csv")
    assert np.allclose(table[list(COLUMNS)].to_numpy().reshape(6, 15, 2), rows, equal_nan=True)
    images = np.stack([np.array(text.split(), np.uint8) for text in table["Image"]])
    assert images.shape == (6, 9216) and (images.std(axis=1) > 5).all() and len(np.unique(images, axis=0)) == 6
