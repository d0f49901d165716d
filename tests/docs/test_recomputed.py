"Published numbers of the comparisons, recomputed from runs.csv and errors.npz without the project's code."

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

RESULTS = Path(__file__).resolve().parents[2] / "results"
STUDIES = sorted(path.parent for path in RESULTS.rglob("table.csv") if (path.parent / "errors.npz").exists())


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=STUDIES, ids=lambda folder: folder.name)
def study(request):
    folder = request.param
    with np.load(folder / "errors.npz", allow_pickle=False) as file:
        errors = dict(zip(file["run"].tolist(), file["squared_errors"]))
        group = file["group"]
    runs: dict[tuple, list[str]] = defaultdict(list)
    for row in read_rows(folder / "runs.csv"):
        runs[row["model"], row["labels"], row["augment"]].append(row["run"])
    return folder, runs, errors, group


def test_each_published_rmse_is_the_root_of_the_mean_over_seeds_and_faces(study):
    folder, runs, errors, _ = study
    rows = read_rows(folder / "table.csv")
    assert rows
    for row in rows:
        squared = np.stack([errors[name] for name in runs[row["model"], row["labels"], row["augment"]]])
        assert len(squared) == int(row["seeds"])
        assert np.sqrt(squared.mean()) == pytest.approx(float(row["rmse"]), abs=2e-4), row["model"]


def test_each_paired_difference_is_that_of_the_mean_squared_errors(study):
    folder, runs, errors, _ = study
    means = {key: np.mean([errors[name] for name in names]) for key, names in runs.items()}
    checked = 0
    for row in read_rows(folder / "comparisons.csv"):
        model, labels, augment = row["model"], row["labels"], row["augment"]
        if row["question"] == "augmented against not":
            first, second = means[model, labels, augment], means[model, labels, "0"]
        elif row["question"].startswith("complete against"):
            first, second = means[model, "complete", augment], means[model, labels, augment]
        else:
            continue
        assert first - second == pytest.approx(float(row["mse_difference"]), abs=2e-3), row
        checked += 1
    assert checked >= 10


def test_each_planned_difference_is_that_of_the_mean_squared_errors():
    folder = RESULTS / "grid_table"
    with np.load(folder / "errors.npz", allow_pickle=False) as file:
        runs, squared = file["run"], file["squared_errors"]
    comparisons = read_rows(folder / "planned.csv")
    assert len(comparisons) == len(read_rows(RESULTS.parent / "studies" / "planned_comparisons.csv"))
    for row in comparisons:
        first, second = (squared[np.char.startswith(runs, f"{row[side]}-seed")] for side in ("first", "second"))
        assert (len(first), len(second)) == (int(row["runs_first"]), int(row["runs_second"]))
        assert first.mean() - second.mean() == pytest.approx(float(row["mse_difference"]), abs=1e-5), row["name"]


def test_the_interval_of_the_best_row_is_that_of_photographs_drawn_again(study):
    folder, runs, errors, group = study
    row = read_rows(folder / "table.csv")[0]
    squared = np.mean([errors[name] for name in runs[row["model"], row["labels"], row["augment"]]], axis=0)
    number = np.unique(group, return_inverse=True)[1]
    sums, counts = np.bincount(number, squared), np.bincount(number)
    drawn = np.random.default_rng(0).integers(0, len(counts), (4000, len(counts)))
    low, high = np.percentile(np.sqrt(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)), [2.5, 97.5])
    assert low == pytest.approx(float(row["low"]), abs=0.03) and high == pytest.approx(float(row["high"]), abs=0.03)


def test_each_published_error_of_the_ablation_is_that_of_its_runs():
    notebook = json.loads((RESULTS.parent / "nbs" / "results.ipynb").read_text(encoding="utf-8"))
    texts = ["".join(output["data"].get("text/markdown", "")) for cell in notebook["cells"] if cell["cell_type"] == "code" for output in cell["outputs"] if "data" in output]
    published = [line.strip("| ").split("|") for text in texts if "coordinates instead of heatmaps" in text for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(published) >= 8
    with np.load(RESULTS / "grid_table_ablation" / "errors.npz", allow_pickle=False) as file:
        errors = dict(zip(file["run"].tolist(), file["squared_errors"]))
    changes = {"coordinates instead of heatmaps": ("coordinates", "masked", "12"), "no batch normalisation": ("no_batch_normalisation", "masked", "12"), "unchanged": ("unchanged", "masked", "12"),
               "noNA instead of the masked loss": ("unchanged", "complete", "12"), "no augmentation": ("unchanged", "masked", "0")}
    runs = read_rows(RESULTS / "grid_table_ablation" / "runs.csv")
    for network, rate, rmse, *_, seeds in published:
        change = changes[network.strip()]
        names = [row["run"] for row in runs if (row["variant"], row["labels"], row["augment"]) == change and float(row["learning_rate"]) == pytest.approx(float(rate.split()[0]), rel=0.02)]
        assert len(names) == int(seeds) == 3, network
        assert np.sqrt(np.mean([errors[name] for name in names])) == pytest.approx(float(rmse), abs=0.005001), network
