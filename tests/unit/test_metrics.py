"facekp.metrics: every metric against its definition, missing labels, intervals, and Keras's own 'accuracy'."
import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.error_curves import auc, ced_curve, failure_rate
from facekp.errors import UserError
from facekp.evaluation import METRICS, compare_paired, evaluate_points, rmse_by_keypoint
from facekp.files import to_plain
from facekp.keypoints import KEYPOINTS, MEAN_FACE
from facekp.metrics import (
    face_errors,
    keras_accuracy,
    mae,
    mse,
    nme,
    normalized_errors,
    pck,
    rmse,
)
from facekp.normalization import interocular_distance

DEFINITIONS = {"rmse": rmse, "mse": mse, "mae": mae, "accuracy": keras_accuracy, "nme_eye_centers": partial(nme, normalizer="eye_centers"),
               "nme_outer_eye_corners": partial(nme, normalizer="outer_eye_corners"), "pck": pck, "auc": auc,
               "failure_rate": failure_rate}


def crowd(count, seed=0, spread=2.0, missing=0.1):
    "Return points with gaps and predictions of them."
    rng = np.random.default_rng(seed)
    points = MEAN_FACE + rng.normal(0, 2, (count, 15, 2))
    predicted = points + rng.normal(0, spread, points.shape)
    points[rng.random((count, 15)) < missing] = np.nan
    return predicted.astype(np.float32), points.astype(np.float32)


def by_hand(predicted, points):
    "Return every metric computed from its definition, value by value."
    squared, absolute, same, faces, outer, near = [], [], [], [], [], []
    for p, t in zip(predicted.astype(float), points.astype(float)):
        known = [i for i in range(15) if not math.isnan(t[i][0])]
        for i in known:
            for axis in (0, 1):
                squared.append((p[i][axis] - t[i][axis]) ** 2)
                absolute.append(abs(p[i][axis] - t[i][axis]))
        if len(known) == 15:
            same.append(list(p.ravel()).index(max(p.ravel())) == list(t.ravel()).index(max(t.ravel())))
        if 0 in known and 1 in known and math.dist(t[0], t[1]) > 0:
            relative = [math.dist(p[i], t[i]) / math.dist(t[0], t[1]) for i in known]
            faces.append(sum(relative) / len(relative))
            near += [value <= 0.1 for value in relative]
        if 3 in known and 5 in known:  # the outer eye corners
            outer.append(sum(math.dist(p[i], t[i]) / math.dist(t[3], t[5]) for i in known) / len(known))
    def mean(values):
        return sum(values) / len(values) if values else math.nan
    return {"rmse": math.sqrt(mean(squared)), "mse": mean(squared), "mae": mean(absolute), "accuracy": mean(same), "nme_eye_centers": mean(faces), "nme_outer_eye_corners": mean(outer),
            "pck": mean(near), "auc": mean([max(0, 1 - face / 0.08) for face in faces]),
            "failure_rate": mean([face > 0.08 for face in faces])}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.sampled_from([0.0, 0.1, 0.5, 0.8]))
def test_metrics_agree_with_their_definitions(count, seed, spread, missing):
    predicted, points = crowd(count, seed, spread, missing)
    if np.isnan(points).all():
        return
    expected = by_hand(predicted, points)
    found = evaluate_points(predicted, points, np.arange(count).astype(str))
    for name, definition in DEFINITIONS.items():
        assert np.isclose(definition(predicted, points), expected[name], equal_nan=True), name
        assert np.isclose(found[name], expected[name], equal_nan=True), name
    assert found["n_points"] == np.isfinite(points).all(axis=2).sum()
    assert found["n_faces"] == np.isfinite(points).any(axis=(1, 2)).sum()
    assert np.allclose(list(found["per_point"].values()), rmse_by_keypoint(predicted, points), equal_nan=True)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 5), st.floats(-50, 50), st.floats(-math.pi, math.pi))
def test_relative_errors_do_not_depend_on_size_place_or_roll(scale, shift, angle):
    predicted, points = (array.astype(np.float64) for array in crowd(10))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = normalized_errors(predicted @ turn.T + shift, points @ turn.T + shift)
    assert np.allclose(moved, normalized_errors(predicted, points), equal_nan=True, atol=1e-9)


def test_a_perfect_prediction():
    _, points = crowd(20, missing=0)
    scores = evaluate_points(points, points, np.arange(20))
    best = {"rmse": 0, "mse": 0, "mae": 0, "accuracy": 1, "nme_eye_centers": 0, "nme_outer_eye_corners": 0, "pck": 1, "auc": 1, "failure_rate": 0}
    assert {name: scores[name] for name in best} == best and set(METRICS) <= set(scores)
    assert scores["intervals"]["rmse"] == [0, 0] and scores["intervals"]["auc"] == [1, 1]


def test_missing_labels_do_not_count():
    predicted, points = crowd(50)
    elsewhere = np.where(np.isnan(points), predicted + 1000, predicted)
    for name in ("rmse", "mse", "mae", "nme_eye_centers", "nme_outer_eye_corners", "pck", "auc", "failure_rate"):
        assert DEFINITIONS[name](elsewhere, points) == DEFINITIONS[name](predicted, points), name


def test_a_face_without_an_eye_centre_counts_in_pixels_only():
    predicted, points = crowd(3, missing=0)
    points[0, KEYPOINTS.index("left_eye_center")] = np.nan
    points[1, 0] = points[1, 1]  # both eye centres at the same position: no normaliser either
    assert np.isnan(interocular_distance(points)).tolist() == [True, True, False]
    assert np.isclose(nme(predicted, points, "eye_centers"), face_errors(predicted[2:], points[2:])[0])
    assert rmse(predicted, points) != rmse(predicted[2:], points[2:])
    points[2, 1] = np.nan
    assert math.isnan(nme(predicted, points, "eye_centers")) and math.isnan(auc(predicted, points)) and math.isnan(pck(predicted, points))
    scores = evaluate_points(predicted, points, np.arange(3))
    assert math.isnan(scores["failure_rate"]) and to_plain(scores)["intervals"]["nme_eye_centers"] == [None, None]
    assert np.isfinite(scores["intervals"]["rmse"]).all()


def test_ced_curve_and_pck_curve_are_cumulative():
    predicted, points = crowd(200)
    errors, share = ced_curve(predicted, points)
    assert (np.diff(errors) >= 0).all() and np.isclose(share[-1], 1) and len(errors) == np.isfinite(face_errors(predicted, points)).sum()
    limit = float(np.median(errors))
    assert np.isclose(failure_rate(predicted, points, limit), 1 - share[np.searchsorted(errors, limit, side="right") - 1])
    grid = np.linspace(0, 0.1, 100_001)
    area = (np.searchsorted(errors, grid, side="right") / len(errors)).mean()
    assert np.isclose(auc(predicted, points, 0.1), area, atol=1e-4)
    shares = [pck(predicted, points, threshold) for threshold in (0, 0.05, 0.1, 1, 100)]
    assert shares == sorted(shares) and shares[-1] == 1


def test_accuracy_is_what_keras_calls_accuracy():
    keras = pytest.importorskip("keras")
    predicted, points = crowd(500, spread=3, missing=0)
    predicted[:5], points[:5] = points[:5], predicted[:5]
    points[5, :] = 50  # all thirty equal: the first column wins
    model = keras.Sequential([keras.Input((30,)), keras.layers.Identity()])
    model.compile(loss="mse", metrics=["accuracy"])
    reported = model.evaluate(predicted.reshape(-1, 30), points.reshape(-1, 30), verbose=0, return_dict=True)
    assert 0.5 < reported["accuracy"] < 0.99
    assert np.isclose(keras_accuracy(predicted, points), reported["accuracy"], atol=1e-6)
    assert np.isclose(mse(predicted, points), reported["loss"], rtol=1e-4)


def test_accuracy_of_faces_that_are_20_px_off():
    _, points = crowd(300, missing=0)
    assert keras_accuracy(points + 20, points) == 1
    assert np.isclose(rmse(points + 20, points), 20)
    points[:, 3] = np.nan
    assert math.isnan(keras_accuracy(np.nan_to_num(points) + 20, points))  # no complete face


def test_intervals_depend_on_seed_and_groups_only():
    predicted, points = crowd(300)
    group = np.array([f"g{index % 100}" for index in range(300)])
    scores = evaluate_points(predicted, points, group, seed=3)
    assert scores == evaluate_points(predicted, points, group, seed=3)
    assert scores["intervals"] != evaluate_points(predicted, points, group, seed=4)["intervals"]
    order = np.random.default_rng(0).permutation(300)
    shuffled = evaluate_points(predicted[order], points[order], group[order], seed=3)
    assert np.allclose(list(scores["intervals"].values()), list(shuffled["intervals"].values()))
    assert set(scores["intervals"]) == {*METRICS, *KEYPOINTS}
    for name in METRICS:
        low, high = scores["intervals"][name]
        assert low <= scores[name] <= high
    twice = evaluate_points(np.tile(predicted, (2, 1, 1)), np.tile(points, (2, 1, 1)), np.tile(group, 2), seed=3)
    assert np.allclose(twice["intervals"]["rmse"], scores["intervals"]["rmse"]), "copies in the same group must not narrow the interval"


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        points = np.repeat(MEAN_FACE[None], 60, axis=0)
        predicted = points + rng.normal(0, 1, points.shape) * rng.uniform(0.5, 1.5, 60)[:, None, None]
        low, high = evaluate_points(predicted, points, np.arange(60), resamples=300)["intervals"]["mse"]
        hits += low <= 1 + 1 / 12 <= high  # E[scale^2] = 1 + 1/12
    assert 0.87 <= hits / 200 <= 0.99


def test_bootstrap_equals_scoring_the_drawn_crowd():
    "The weighted sums are what a resample scored face by face would give."
    predicted, points = crowd(40)
    weights = np.random.default_rng(5).multinomial(40, np.full(40, 1 / 40), size=200)
    drawn = [np.repeat(np.arange(40), weight) for weight in weights]
    expected = [rmse(predicted[rows], points[rows]) for rows in drawn]
    low, high = evaluate_points(predicted, points, np.array([f"{i:02d}" for i in range(40)]), seed=5, resamples=200)["intervals"]["rmse"]
    assert np.allclose([low, high], np.quantile(expected, [0.025, 0.975]))


def test_one_group_has_no_interval():
    predicted, points = crowd(10)
    assert np.isnan(evaluate_points(predicted, points, np.repeat("a", 10))["intervals"]["rmse"]).all()


def test_paired_difference():
    predicted, points = crowd(200)
    points_known = np.where(np.isnan(points), predicted, points)
    better = points_known + 0.9 * (predicted - points_known)
    paired = compare_paired(better, predicted, points, np.arange(200), seed=1)
    assert np.isclose(paired["rmse"], -0.1 * rmse(predicted, points), rtol=1e-4)
    assert paired["intervals"]["rmse"][0] <= paired["rmse"] <= paired["intervals"]["rmse"][1] < 0
    swapped = compare_paired(predicted, better, points, np.arange(200), seed=1)
    assert np.allclose(swapped["intervals"]["rmse"], [-value for value in paired["intervals"]["rmse"][::-1]])
    same = compare_paired(predicted, predicted, points, np.arange(200))
    assert all(same[name] == 0 and same["intervals"][name] == [0, 0] for name in METRICS)
    assert set(paired) == {*METRICS, "intervals"} and set(paired["intervals"]) == set(METRICS)


def test_a_thousand_resamples_of_a_thousand_groups_are_quick():
    predicted, points = crowd(1000)
    begin = time.process_time()
    evaluate_points(predicted, points, np.arange(1000))
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("change, message", [
    ({"predicted": "nan"}, r"NaN or infinity in 2 of 9 rows \(1, 7\)"),
    ({"predicted": "inf"}, r"NaN or infinity in 2 of 9 rows \(1, 7\)"),
    ({"predicted": "short"}, r"predicted has shape \[8, 15, 2\], expected \[9, 15, 2\]"),
    ({"points": "flat"}, r"points has shape \[9, 30\], expected \[9, 15, 2\]"),
    ({"points": "empty"}, "no labelled value"),
    ({"group": "short"}, r"group has shape \[8\], expected \[9\]"),
])
def test_bad_input_is_named(change, message):
    predicted, points = crowd(9)
    given = {"predicted": predicted, "points": points, "group": np.arange(9)}
    for name, how in change.items():
        if how in ("nan", "inf"):
            given[name][[1, 7], 3] = float(how)
        given[name] = {"short": given[name][:8], "flat": given[name].reshape(9, -1), "empty": given[name] * np.nan}.get(how, given[name])
    with pytest.raises(UserError, match=message):
        evaluate_points(**given)


def test_the_lesson_quotes_its_record():
    root = Path(__file__).parents[2]
    record = json.loads((root / "results/kaggle_labels/accuracy.json").read_text())
    lesson = " ".join("".join("".join(cell["source"]) + "\n" for cell in json.loads((root / "nbs/course/04_metrics.ipynb").read_text())["cells"]).split())
    constant = record["constant_face"]
    assert f'{constant["accuracy"]:.0%} "accurate", with an RMSE of {constant["rmse"]:.2f} px' in lesson
    assert record["every_point_20_px_off"]["accuracy"] == 1 and record["data"]["complete_rows"] == 2140
