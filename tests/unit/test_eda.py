"The audit counts correctly, finds the known change point and flaws, and prints them within the width of a terminal."
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.annotation_sources import compare_annotation_sources, find_source_cut
from facekp.audit import audit, audit_points, count_labels
from facekp.audit_report import audit_text
from facekp.conventions import to_second_convention
from facekp.eda import ChangePoint, eye_coordinates, find_change_points, hotelling_t2, missing_together, principal_shapes
from facekp.eda_plots import (
    show_blocks,
    show_correlation,
    show_density,
    show_grey_values,
    show_missing,
    show_principal_shapes,
    show_suspects,
)
from facekp.errors import UserError
from facekp.faces import Faces
from facekp.keypoints import COLUMNS, FLIP_ORDER, KEYPOINTS, MEAN_FACE
from facekp.label_audit import REPORTED_ROWS, record_label_audit
from facekp.label_errors import (
    find_duplicates,
    find_invalid,
    find_order_errors,
    find_suspects,
    label_distance,
    measure_suspects,
    shape_distance,
)
from facekp.plots import save_figure
from facekp.synthetic.dataset import synthetic_training_set
from facekp.synthetic.gaps import impose_gaps, synthetic_gaps
from facekp.synthetic.labels import known_flaws
from facekp.synthetic.shape import sample_shapes

FACTS_ROW_COUNTS = {30: 2140, 28: 87, 26: 28, 24: 9, 22: 8, 20: 3, 18: 5, 16: 2, 10: 2, 8: 4755, 6: 10}
RECORD = Path(__file__).parents[2] / "results" / "audit" / "kaggle_labels.json"


@pytest.fixture(scope="module")
def faces() -> Faces:
    return synthetic_training_set(400, seed=7)


@pytest.fixture(scope="module")
def kaggle_like() -> np.ndarray:
    "Return 7,049 rows with the real gaps and the two conventions, without images or wrong labels."
    labelled, cut = synthetic_gaps(seed=3)
    points = sample_shapes(7049, np.random.default_rng(3))
    points[cut:] = to_second_convention(points[cut:])
    points = points.clip(1, 95)
    points[~labelled] = np.nan
    return points


def shapes(count: int, seed: int = 0) -> np.ndarray:
    "Return varied faces whose upper lip is above the lower one."
    points = MEAN_FACE + np.random.default_rng(seed).normal(0, 1, (count, 15, 2))
    return points + np.random.default_rng(seed + 1).normal(0, 2, (count, 1, 2))


def as_faces(points: np.ndarray, images: np.ndarray) -> Faces:
    names = np.arange(len(points)).astype(str)
    return Faces(images=images, points=points.astype(np.float32), group=names, source=np.full(len(points), "own"), image_id=names, name="own")


def test_counts_of_the_real_pattern(kaggle_like):
    found = audit_points(kaggle_like)
    assert (found.rows, found.complete, found.cut, found.halves, found.invalid) == (7049, 2140, 2284, [], [])
    assert found.row_counts == FACTS_ROW_COUNTS
    assert found.labelled["nose_tip"] == 7049 and found.labelled["mouth_center_bottom_lip"] == 7016
    assert found.values == sum(values * rows for values, rows in FACTS_ROW_COUNTS.items())
    moved = {row["keypoint"]: row for row in found.sources}
    assert set(moved) == {"left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip"}
    assert 6 < moved["nose_tip"]["by_convention"] < 8.5 and -7 < moved["mouth_center_bottom_lip"]["by_convention"] < -4.5


def test_record_of_the_real_table_agrees_with_the_published_facts():
    record = json.loads(RECORD.read_text())
    assert record["data"]["rows"] == 7049 and record["complete"] == 2140 and record["cut"] == 2284
    assert record["row_counts"] == {str(values): rows for values, rows in FACTS_ROW_COUNTS.items()}
    assert record["halves"] == [] and record["broken"] == []
    before, after = record["means"]["before"], record["means"]["after"]
    assert round(before["nose_tip_y"], 2) == 57.43 and round(after["nose_tip_y"], 2) == 65.25
    assert round(before["mouth_center_bottom_lip_y"], 2) == 82.44 and round(after["mouth_center_bottom_lip_y"], 2) == 77.32
    assert round(sum(record["principal_shares"][:8]), 2) == 0.88
    places = {entry["row"]: entry["rank_among_suspects"] for entry in record["reported"]}
    assert set(places) == set(REPORTED_ROWS)
    assert [row for row, place in places.items() if place is None] == [2194]
    assert len(record["suspects"]) == 154


@settings(max_examples=40, deadline=None)
@given(first=st.integers(15, 300), second=st.integers(15, 300), seed=st.integers(0, 99))
def test_cut_is_found_exactly_wherever_it_is(first, second, seed):
    points = shapes(first + second, seed)
    points[first:, 2:10] = np.nan
    assert find_source_cut(points) == first


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 600), seed=st.integers(0, 10_000), share=st.floats(0, 1))
def test_no_cut_where_gaps_are_scattered(count, seed, share):
    points = shapes(count, seed)
    points[np.random.default_rng(seed).random((count, 15)) < share] = np.nan
    assert find_source_cut(points) is None


def test_no_cut_in_imposed_gaps():
    faces = as_faces(shapes(500), np.zeros((500, 96, 96), np.uint8))
    assert find_source_cut(faces.points) is None
    assert all(find_source_cut(impose_gaps(faces, 0.7, seed).points) is None for seed in range(5))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), angle=st.floats(-0.6, 0.6), scale=st.floats(0.5, 2), shift=st.floats(-20, 20))
def test_seen_from_the_eyes_framing_plays_no_part(seed, angle, scale, shift):
    points = shapes(5, seed)
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    relative = eye_coordinates(points)
    assert np.allclose(eye_coordinates(points @ turn.T + shift), relative)
    assert np.allclose(relative[:, 0], [0.5, 0]) and np.allclose(relative[:, 1], [-0.5, 0]) and (relative[:, 10, 1] > 0).all()


def test_framing_alone_is_not_taken_for_meaning():
    points = np.concatenate([shapes(200), shapes(200, 5) * 1.1 + 5])
    assert max(abs(row["by_convention"]) for row in compare_annotation_sources(points, 200)) < 0.5
    assert min(row["moved"] for row in compare_annotation_sources(points, 200)) > 5


def test_unusual_faces_stand_out_from_a_bell_curve():
    rng = np.random.default_rng(0)
    covariance = np.cov(rng.normal(size=(30, 60)))
    points = rng.multivariate_normal(MEAN_FACE.ravel(), covariance, 3000).reshape(-1, 15, 2)
    whole, single = shape_distance(points)
    assert abs(np.median(whole)) < 0.5 and np.max(whole) < 6
    assert 1.5 < np.median(single.max(1)) < 4
    points[7, 10] += 25
    whole, single = shape_distance(points)
    assert whole[7] == whole.max() and single[7].argmax() == 10


def test_few_rows_give_no_opinion_but_order_still_counts():
    points = shapes(10)
    points[3] = points[3, FLIP_ORDER]
    whole, _ = shape_distance(points)
    assert np.isnan(whole).all()
    suspects = find_suspects(points)
    assert [suspect["row"] for suspect in suspects] == [3] and math.isinf(suspects[0]["score"])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), row=st.integers(0, 19))
def test_exchanged_names_are_found_and_nothing_else(seed, row):
    points = shapes(20, seed)
    assert find_order_errors(points) == {}
    swapped = points.copy()
    swapped[row, [13, 14]] = swapped[row, [14, 13]]
    assert list(find_order_errors(swapped)) == [row] and "lip" in find_order_errors(swapped)[row]
    assert list(find_order_errors(np.where(np.arange(20)[:, None, None] == row, points[:, FLIP_ORDER], points))) == [row]


def test_known_wrong_labels_are_found(faces):
    flaws = known_flaws(400, seed=7)
    measured = measure_suspects(find_suspects(faces.points, [find_source_cut(faces.points)]), flaws.wrong, flaws.kinds)
    assert measured["precision"] >= 0.6 and measured["recall"] >= 0.6
    assert measured["flagged"] < 10


def test_measure_counts_by_hand():
    measured = measure_suspects([{"row": 1}, {"row": 5}], np.array([5, 6, 7]), np.array(["a", "a", "b"]))
    assert (measured["flagged"], measured["hits"], measured["precision"]) == (2, 1, 0.5)
    assert measured["recall"] == pytest.approx(1 / 3) and measured["found"] == {"a": (1, 2), "b": (0, 1)}


def test_audit_of_pictures(faces):
    flaws, found = known_flaws(400, seed=7), audit(faces)
    assert [row for row, _ in found.duplicates] == sorted(flaws.copies.tolist()) and found.near_duplicates == 0
    assert found.groups == 400 - len(flaws.copies) and found.across_groups == 0
    assert found.declared_sources == {"synthetic-1": 130, "synthetic-2": 270}
    assert found.cut == 130 and found.invalid == []
    assert 0.3 < found.label_disagreement < 2.5
    assert 0 < found.contrast[0] < 128 and 0 < found.brightness[0] < 255


def test_copies_that_contradict_each_other_are_suspect():
    images = np.random.default_rng(0).integers(0, 255, (60, 96, 96)).astype(np.uint8)
    images[9] = images[4]
    points = shapes(60)
    points[9] = points[4] - [0, 20]
    found = audit(as_faces(points, images))
    assert [(suspect["row"], suspect["reason"]) for suspect in found.suspects] == [(9, "same image as row 4, a point 20 px away")]
    points[9] = points[4] - [0, 5]
    assert audit(as_faces(points, images)).suspects == []
    assert found.duplicates == [(9, 4)] and found.across_groups == 1
    assert "1 sets of (near) duplicates span several groups" in audit_text(found)


def test_copies_point_to_the_first_row_that_shows_the_picture():
    images = np.zeros((5, 96, 96), np.uint8)
    images[1], images[3] = 1, 1
    assert find_duplicates(images).tolist() == [[2, 0], [3, 1], [4, 0]]
    assert find_duplicates(images[:1]).shape == (0, 2)


def test_labels_of_a_copy_are_compared_within_a_source_only():
    points = shapes(4)
    points[2] = points[0] + [3, 4]
    pairs = np.array([[2, 0], [3, 1]])
    assert np.allclose(label_distance(points, pairs)[0], 5)
    assert np.isnan(label_distance(points, pairs, [2])).all()


def test_broken_rows_are_named_with_what_is_wrong():
    points, images = shapes(6), np.random.default_rng(0).integers(0, 255, (6, 96, 96)).astype(np.uint8)
    points[0, 3, 1], points[1, 10], points[2], images[3], points[4, 0, 0] = np.nan, 400, np.nan, 7, -np.inf
    found = audit(as_faces(points, images))
    assert {(entry["row"], entry["reason"]) for entry in found.invalid} == {
        (0, "only x or only y of a point"), (1, "a point outside the image"), (2, "no point is labelled"), (3, "an image of one grey value"),
        (4, "a point outside the image")}
    assert found.halves == [0] and "row      2  no point is labelled" in audit_text(found)
    assert find_invalid(shapes(3)) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(10, 60), st.integers(1, 4), st.integers(0, 1000))
def test_hotelling_t2_equals_the_definition(count, columns, seed):
    values = np.random.default_rng(seed).normal(size=(count + columns, columns))
    scores = hotelling_t2(values)
    for cut in range(2, len(values) - 2, 3):
        first, second = values[:cut], values[cut:]
        pooled = ((len(first) - 1) * np.atleast_2d(np.cov(first.T)) + (len(second) - 1) * np.atleast_2d(np.cov(second.T))) / (len(values) - 2)
        difference = first.mean(0) - second.mean(0)
        expected = len(first) * len(second) / len(values) * difference @ np.linalg.solve(pooled, difference)
        assert scores[cut - 1] == pytest.approx(expected, rel=1e-6)


def test_change_points_are_found_where_a_convention_changes_and_nowhere_else():
    points = sample_shapes(1200, np.random.default_rng(0)).astype(float)
    assert find_change_points(points) == []
    points[500:, 13, 1] += 6
    points[900:, 5, 0] += 4
    found = find_change_points(points)
    assert [abs(change.row - row) <= 2 for change, row in zip(found, (500, 900), strict=True)] == [True, True]
    assert all(isinstance(change, ChangePoint) and change.t2 > 10 * change.shuffled for change in found)
    assert find_change_points(np.random.default_rng(1).permutation(points)) == []


def test_change_points_need_no_complete_rows_and_ignore_framing(kaggle_like):
    assert [change.row for change in find_change_points(kaggle_like)] == [2284]
    framed = sample_shapes(600, np.random.default_rng(0)).astype(float)
    framed[300:] = framed[300:] * 1.1 + 4
    assert find_change_points(framed) == []
    assert find_change_points(framed[:150]) == [] and find_change_points(np.full((400, 15, 2), np.nan)) == []


def test_recorded_change_points_agree_with_the_facts():
    folder = RECORD.parents[1] / "annotation_blocks"
    cuts = pd.read_csv(folder / "change_points.csv")
    assert cuts[cuts.kept].row.tolist() == [1171, 1582, 2284, 3522, 4122, 5404]
    assert (cuts[cuts.kept].t2 > 10 * cuts[cuts.kept].shuffled).all()
    blocks = pd.read_csv(folder / "blocks.csv")
    assert [round(gap, 1) for gap in blocks.lip_gap[:3]] == [12.5, 9.0, 1.8]
    lesson = "".join("".join(cell["source"]) + "\n" for cell in json.loads((RECORD.parents[2] / "nbs/course/03_eda.ipynb").read_text())["cells"])
    for row in cuts[cuts.kept].itertuples():
        assert f"{row.row:,} |" in lesson and f"{row.t2:,.0f} |" in lesson
    for name in ("nose_tip", "bottom_lip"):
        assert "[" + ", ".join(f"{value:.1f}" for value in blocks[name]) + "]" in lesson, name
    same = pd.read_csv(folder / "same_photographs.csv").set_index("labels")
    for labels, gap in (("kaggle on LFPW", "1.85"), ("300-W on LFPW", "10.40"), ("300-W on HELEN and AFW", "10.65")):
        assert f"{same.lip_gap[labels]:.2f}" == gap and gap in lesson
    assert f"the function flags {json.loads((folder / 'meta.json').read_text())['suspects']['7 blocks']} of" in lesson


def test_the_data_lesson_quotes_the_recorded_spread():
    recorded = json.loads((RECORD.parents[1] / "annotation_blocks" / "meta.json").read_text())["complete_sd_y"]
    lesson = "".join("".join(cell["source"]) + "\n" for cell in json.loads((RECORD.parents[2] / "nbs/course/02_data.ipynb").read_text())["cells"])
    assert "kaggle_sd = [" + ", ".join(f"{value:.1f}" for value in recorded) + "]" in lesson


def test_missing_together_by_hand():
    points = shapes(4)
    points[0, [2, 3]] = np.nan
    points[1, 2] = np.nan
    together = missing_together(points)
    assert together[2, 3] == 0.5 and together[3, 2] == 1 and together[2, 2] == 1 and np.isnan(together[0]).all()
    assert count_labels(points)["labelled"]["left_eye_inner_corner"] == 2


def test_principal_shapes_rebuild_the_faces():
    points = shapes(100)
    mean, moves, shares = principal_shapes(points)
    assert moves.shape == (30, 15, 2) and shares.sum() == pytest.approx(1) and (np.diff(shares) <= 1e-12).all()
    spread = np.sqrt((moves**2).sum((1, 2)))
    directions = (moves / spread[:, None, None]).reshape(30, 30)
    weights = (points - mean).reshape(-1, 30) @ directions.T
    assert np.allclose(weights @ directions, (points - mean).reshape(-1, 30))
    assert np.allclose(weights.std(0, ddof=1), spread)


@pytest.mark.parametrize("count", [1, 2, 30, 400])
def test_text_fits_a_terminal_for_any_set(faces, count):
    for found in (audit(faces[:count]), audit_points(faces.points[:count], "a name that is far too long for a line " * 4)):
        lines = audit_text(found).splitlines()
        assert max(map(len, lines)) <= 100 and len(lines) <= 60
        assert f"{count:,} rows" in lines[2] and all(keypoint in audit_text(found) for keypoint in KEYPOINTS)


def test_text_says_what_was_found(faces):
    text = audit_text(audit(faces))
    for part in ("400 rows, 122 complete", "from row 130 on", "<- another convention", "16 rows repeat the image", "Advice:", "by group"):
        assert part in text, part
    clean = audit_text(audit_points(shapes(40)))
    assert "no second source" in clean and "Suspect labels: none" in clean and "nothing found that would affect" in clean


@pytest.mark.parametrize("points, message", [
    (np.zeros((0, 15, 2)), "expected \\[N, 15, 2\\] with at least one row"), (np.zeros((4, 30)), "points have shape \\[4, 30\\]")])
def test_points_of_another_shape_are_refused(points, message):
    with pytest.raises(UserError, match=message):
        audit_points(points)


def test_record_is_written_from_a_table(tmp_path, faces):
    table = pd.DataFrame(faces.points.reshape(-1, 30), columns=list(COLUMNS)).iloc[:, ::-1]
    table.to_csv(tmp_path / "labels.csv", index=False)
    record = json.loads(record_label_audit(tmp_path / "labels.csv", tmp_path / "deep" / "record.json").read_text())
    assert record["cut"] == 130 and record["complete"] == 122 and len(record["data"]["sha256"]) == 64
    assert record["means"]["before"]["nose_tip_y"] == pytest.approx(np.nanmean(faces.points[:130, 10, 1]), abs=0.01)


def test_tables_that_are_none_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "words.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(["word"] * 30) + "\n")
    for name in ("nothing.csv", "other.csv", "words.csv"):
        with pytest.raises(UserError, match="cannot be read as a label table"):
            record_label_audit(tmp_path / name, tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


def test_every_picture_draws(faces):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = faces.points.astype(float)
    figures = [show_missing(points, [130]), show_missing(points[:3]), show_blocks(points, [130]), show_density(points), show_correlation(points),
               show_principal_shapes(points, 3), show_grey_values(faces.images), show_suspects(faces, find_suspects(points, [130]))]
    assert [len(figure.axes) >= 1 for figure in figures] == [True] * 8
    plt.close("all")
    with pytest.raises(UserError, match="no suspect rows"):
        show_suspects(faces, [])
    with pytest.raises(UserError, match="expected at least 3"):
        show_correlation(points[200:])
    with pytest.raises(UserError, match="expected at least 31"):
        principal_shapes(points[:20])


def test_saved_pictures_are_the_same_bytes_each_time(tmp_path, monkeypatch, faces):
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    first = save_figure(show_density(faces.points), "density.png").read_bytes()
    assert save_figure(show_density(faces.points), "density.png").read_bytes() == first
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["density.png"] and first.startswith(b"\x89PNG")


def test_faces_are_not_changed(faces):
    before = replace(faces, points=faces.points.copy(), images=faces.images.copy())
    audit(faces)
    assert np.array_equal(before.points, faces.points, equal_nan=True) and (before.images == faces.images).all()
