"studies/grid.py at a tiny size: the split, the gaps in table order, and a queue that continues where it stopped."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scripts import load_script

pytest.importorskip("keras")
from facekp.data.npz import save_npz
from facekp.data.split import split_by_group
from facekp.experiments.results import read_study
from facekp.impute import forward_fill
from facekp.synthetic.renderer import synthetic_faces

grid = load_script("studies/grid.py")


@pytest.fixture(scope="module")
def photographs():
    faces = replace(synthetic_faces(80, seed=5, workers=1), truth=None)
    lfpw = faces[50:]
    return faces[:50], replace(lfpw, group=np.array([f"lfpw/{number}" for number in range(len(lfpw))]))


def test_the_former_test_set_stays_in_the_test_set(photographs):
    settings = grid.load_settings("full")
    train, validation, test = grid.split_photographs(*photographs, settings)
    former = split_by_group(photographs[0], settings.test_share, settings.seed)[1]
    assert set(former.group) < set(test.group) and any(group.startswith("lfpw/") for group in test.group)
    assert not set(train.group) & set(test.group) and not set(validation.group) & set(test.group) and not set(train.group) & set(validation.group)


def test_forward_fill_of_the_table_copies_one_face(photographs):
    settings = grid.load_settings("full")
    parts = grid.split_photographs(*photographs, settings)
    table, random = (grid.impose(parts, gaps, settings) for gaps in ("table", "random"))
    incomplete = np.flatnonzero(np.isnan(table.train.points).any(axis=(1, 2)))
    second = incomplete[incomplete >= round(len(table.train) * grid.SOURCE_CUT / 7049)]
    brows = forward_fill(table.train.points)[second, 6:10]
    assert len(second) > 20 and (brows == brows[0]).all(), "all rows of the second source get the eyebrows of one face"
    filled = forward_fill(random.train.points)[:, 6]
    assert len(np.unique(filled, axis=0)) > 5
    assert not np.array_equal(table.test.points, random.test.points) and np.array_equal(random.test.points, parts[2].points)
    assert np.isfinite(table.test.points).all() and np.array_equal(table.test.images, parts[2].images)


def test_the_order_alone_moves_no_label(photographs):
    settings = grid.load_settings("full")
    parts = grid.split_photographs(*photographs, settings)
    table, order = (grid.impose(parts, gaps, settings) for gaps in ("table", "order"))
    assert np.array_equal(np.isnan(table.train.points), np.isnan(order.train.points)) and np.array_equal(table.train.images, order.train.images)
    labels = dict(zip(map(bytes, parts[0].images), parts[0].points))
    assert all(np.array_equal(points, labels[bytes(image)]) for image, points in zip(order.train.images, order.train.truth))
    assert not np.array_equal(table.train.truth, order.train.truth) and np.array_equal(order.test.points, parts[2].points)


def test_learning_rates_are_tuned_once_for_all_gaps(tmp_path):
    works = [grid.Work(None, None, tmp_path / f"grid_{gaps}", tmp_path, tmp_path) for gaps in ("table", "random")]
    assert works[0].study_folder("tune") == works[1].study_folder("tune") and works[0].study_folder("grid") != works[1].study_folder("grid")


@pytest.mark.parametrize("variant, layer", [("unchanged", "SoftArgmax"), ("coordinates", "Dense"), ("no_batch_normalisation", "SoftArgmax")])
def test_each_variant_of_the_ablation_changes_one_part(variant, layer, photographs):
    model = grid.build_variant(variant)
    kinds = [type(part).__name__ for part in model.layers]
    assert layer in kinds and ("BatchNormalization" in kinds) == (variant != "no_batch_normalisation")
    points = model.predict_on_batch(photographs[0].images[:2, ..., None])
    assert points.shape == (2, 15, 2) and np.isfinite(points).all()


def test_variants_are_compared_at_the_rate_of_the_unchanged_network_and_at_their_own(monkeypatch):
    unchanged, coordinates = (grid.GridTrial("heatmap", "masked", 12, variant=variant) for variant in ("unchanged", "coordinates"))
    best = {"unchanged": 3, "coordinates": 1 / 27}
    runs = pd.DataFrame({"validation_rmse": pd.Series(dtype=float)})
    work = SimpleNamespace(study=lambda stage: SimpleNamespace(runs=runs) if stage == "ablation" else None)

    def train(trials, stage, work):
        for trial in trials:
            assert trial.name not in runs.index, "trained twice"
            runs.loc[trial.name] = 2 + abs(np.log(trial.rate / best[trial.variant]))

    monkeypatch.setattr(grid, "run_trials", train)
    for variant in (unchanged, coordinates):
        grid.search_rates(variant, work)
    steps = [round(np.log(float(name.split("rate")[1].split("-")[0])) / np.log(3)) for name in runs.index if "coordinates" in name]
    assert sorted(steps) == [-4, -3, -2, -1, 0, 1], "the search ends where both neighbours of the best rate are worse"
    assert grid.matched_trials([unchanged, coordinates], work) == [replace(unchanged, rate=3), replace(coordinates, rate=3), replace(coordinates, rate=3.0**-3)]


@pytest.mark.parametrize("faces, images, expected", [(231, 30_000, 12), (461, 30_000, 12), (957, 30_000, 9), (1353, 30_000, 10), (231, 10_000, 10), (1353, 10_000, 12)])
def test_learning_curves_show_one_number_of_images(faces, images, expected):
    copies = grid.copies_for_budget(faces, images, 12)
    an_epoch = min(faces * (copies + 1), images)
    assert copies == expected and abs(round(images / an_epoch) * an_epoch / images - 1) <= 0.05


def test_fewer_photographs_are_a_part_of_the_training_set(photographs):
    faces = photographs[0]
    few = grid.choose_photos(faces, 10)
    assert len(np.unique(faces.group[few])) == 10 and np.array_equal(few, np.isin(faces.group, faces.group[few])) and np.array_equal(few, grid.choose_photos(faces, 10))
    assert grid.choose_photos(faces, 0).all()


@pytest.mark.slow
def test_a_queue_continues_where_it_stopped(photographs, tmp_path, capsys):
    for name, faces in zip(("helen_afw", "lfpw"), photographs):
        save_npz(faces, tmp_path / f"{name}.npz")
    command = ["--helen-afw", str(tmp_path / "helen_afw.npz"), "--lfpw", str(tmp_path / "lfpw.npz"), "--models", "mean baseline", "--images", "32", "--seeds", "1",
               "--augment", "1", "--gaps", "table", "--results", str(tmp_path), "--cache", str(tmp_path / "cache")]
    grid.main(["grid", "report", *command])
    assert "15 runs, 0 trials of the grid missing" in capsys.readouterr().out
    assert (tmp_path / "grid_table" / "not_run.md").read_text() == "" and len(read_study(tmp_path / "grid_table")) == 15
    before = (tmp_path / "grid_table" / "runs.csv").read_text()
    grid.main(["grid", *command])
    assert capsys.readouterr().out == "" and (tmp_path / "grid_table" / "runs.csv").read_text() == before
