"The synthetic set has the competition's counts, and its true points are exact."
import csv
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekp.conventions import BOTTOM_LIP, NOSE, TOP_LIP, to_first_convention, to_second_convention
from facekp.data.kaggle import load_kaggle
from facekp.eda import eye_coordinates
from facekp.errors import UserError
from facekp.faces import Faces
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.synthetic.dataset import synthetic_test_set, synthetic_training_set
from facekp.synthetic.gaps import GAP_PATTERNS, TEST_PATTERNS, impose_gaps, synthetic_gaps
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.synthetic.labels import DUPLICATE_ROWS, WRONG_LABELS, known_flaws

FACTS_ROW_COUNTS = {30: 2140, 28: 87, 26: 28, 24: 9, 22: 8, 20: 3, 18: 5, 16: 2, 10: 2, 8: 4755, 6: 10}


@pytest.fixture(scope="module")
def faces() -> Faces:
    return synthetic_training_set(300, seed=1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    "Return a written folder, with the training and test set that it must contain."
    folder = write_kaggle_folder(tmp_path_factory.mktemp("kaggle") / "new" / "folder", count=60, seed=2)
    return folder, synthetic_training_set(60, seed=2), synthetic_test_set(15, seed=2)


def complete_faces(count: int) -> Faces:
    points = np.random.default_rng(count).uniform(5, 90, (count, 15, 2)).astype(np.float32)
    names = np.arange(count).astype(str)
    return Faces(images=np.zeros((count, 96, 96), np.uint8), points=points, group=names, source=np.full(count, "own"), image_id=names)


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_full_size_has_the_counts_of_the_competition(seed):
    labelled, cut = synthetic_gaps(seed=seed)
    assert labelled.shape == (7049, 15) and cut == 2284
    assert Counter((2 * labelled.sum(1)).tolist()) == FACTS_ROW_COUNTS
    assert labelled[:cut].all(1).sum() == 2140 and not labelled[cut:].all(1).any()
    assert labelled.sum(0)[[0, 1, NOSE, BOTTOM_LIP]].tolist() == [7039, 7036, 7049, 7016]
    flaws = known_flaws(seed=seed)
    assert len(set(flaws.copies)) == DUPLICATE_ROWS == 277 and len(set(flaws.wrong)) == WRONG_LABELS == 56


def test_test_set_asks_for_exactly_what_the_competition_asks_for():
    labelled, cut = synthetic_gaps(1783, test=True)
    assert 2 * labelled.sum() == 27_124 and cut == 591
    assert labelled[:591].all(1).sum() == 556
    assert set(map(tuple, np.argwhere(labelled[591:])[:, 1:])) == {(0,), (1,), (NOSE,), (BOTTOM_LIP,)}


def test_patterns_are_fifteen_letters_each():
    for patterns in (*GAP_PATTERNS.values(), *TEST_PATTERNS.values()):
        assert all(len(pattern) == 15 and set(pattern) <= {"x", "."} for pattern in patterns)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 20_000), seed=st.integers(0, 2**32 - 1), test=st.booleans())
def test_any_size_keeps_the_proportions(count, seed, test):
    labelled, cut = synthetic_gaps(count, seed, test)
    rows, real_cut, complete = (1783, 591, 556) if test else (7049, 2284, 2140)
    assert labelled.shape == (count, 15)
    assert abs(cut - count * real_cut / rows) <= 0.5
    assert abs(labelled.all(1).sum() - count * complete / rows) <= 2


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12_000), seed=st.integers(0, 1000))
def test_flaws_are_listed_once_and_inside_the_set(count, seed):
    flaws = known_flaws(count, seed)
    rows = np.concatenate([flaws.copies, flaws.originals, flaws.wrong]).astype(int)
    assert len(set(rows.tolist())) == len(rows)
    assert ((rows >= 0) & (rows < count)).all() and (flaws.originals < flaws.copies).all()
    assert len(flaws.kinds) == len(flaws.wrong)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_two_meanings_translate_into_each_other(seed):
    points = np.random.default_rng(seed).uniform(0, 96, (4, 15, 2))
    there = to_second_convention(points)
    assert np.allclose(to_first_convention(there), points)
    untouched = np.setdiff1d(np.arange(15), [NOSE, BOTTOM_LIP])
    assert (there[:, untouched] == points[:, untouched]).all()
    assert not np.allclose(there[:, [NOSE, BOTTOM_LIP]], points[:, [NOSE, BOTTOM_LIP]])
    moved, turn = points * 1.7 + [3, -8], np.array([[0.8, -0.6], [0.6, 0.8]])  # for any framing: first translate, then frame, or the other way round
    assert np.allclose(to_second_convention(moved @ turn), (there * 1.7 + [3, -8]) @ turn)


def test_same_seed_same_faces_and_another_seed_others():
    faces, again, other = synthetic_training_set(70, seed=1), synthetic_training_set(70, seed=1), synthetic_training_set(70, seed=3)
    for part in ("images", "points", "truth", "group", "source", "image_id"):
        same, different = getattr(again, part), getattr(other, part)
        assert np.array_equal(getattr(faces, part), same, equal_nan=part in ("points", "truth"))
        assert part in ("source", "image_id") or not np.array_equal(getattr(faces, part), different, equal_nan=part in ("points", "truth"))


def test_observed_labels_are_near_the_truth_except_the_listed_ones(faces):
    flaws = known_flaws(300, seed=1)
    error = np.sqrt(((faces.points - faces.truth) ** 2).sum(2))
    fine = ~np.isin(np.arange(300), flaws.wrong)
    assert np.isfinite(faces.truth).all()
    assert 0.4 < np.nanmedian(error[fine]) < 1.2
    assert np.nanmax(error[fine][:, :NOSE]) < 6
    assert len(flaws.wrong) == 2 and all(np.nanmax(error[row]) > 5 for row in flaws.wrong)
    assert np.nanmin(faces.points) >= 0 and np.nanmax(faces.points) <= 96


def test_copies_show_one_picture_and_share_a_group(faces):
    flaws = known_flaws(300, seed=1)
    assert len(flaws.copies) == 12
    assert (faces.images[flaws.copies] == faces.images[flaws.originals]).all()
    assert (faces.group[flaws.copies] == faces.group[flaws.originals]).all()
    assert len({image.tobytes() for image in faces.images}) == 300 - 12 == len(set(faces.group))
    both = flaws.copies[faces.source[flaws.copies] != faces.source[flaws.originals]]
    if len(both):
        first = flaws.originals[np.isin(flaws.copies, both)]
        assert np.allclose(faces.truth[both], to_second_convention(faces.truth[first]), atol=1e-3)


def test_sources_differ_in_the_meaning_of_nose_and_lip(faces):
    first, second = (faces.truth[faces.source == source] for source in ("synthetic-1", "synthetic-2"))
    def below_eyes(points, keypoint):
        eyes = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
        return ((points[:, keypoint, 1] - points[:, :2, 1].mean(1)) / eyes).mean()
    assert 0.1 < below_eyes(second, NOSE) - below_eyes(first, NOSE) < 0.3
    assert -0.25 < below_eyes(second, BOTTOM_LIP) - below_eyes(first, BOTTOM_LIP) < -0.05
    assert abs(below_eyes(second, TOP_LIP) - below_eyes(first, TOP_LIP)) < 0.08
    assert (first[:, BOTTOM_LIP, 1] > first[:, TOP_LIP, 1]).all()


def test_blocks_change_labels_only_and_the_files_have_them(tmp_path):
    plain, blocks = synthetic_training_set(120, seed=1), synthetic_training_set(120, seed=1, blocks=True)
    assert np.array_equal(plain.images, blocks.images) and np.array_equal(plain.source, blocks.source) and np.array_equal(np.isnan(plain.points), np.isnan(blocks.points))
    eyes = [0, 1]
    np.testing.assert_allclose(blocks.truth[:, eyes], plain.truth[:, eyes], atol=1e-3)
    gap = 35 * (eye_coordinates(blocks.truth.astype(float))[:, BOTTOM_LIP, 1] - eye_coordinates(blocks.truth.astype(float))[:, TOP_LIP, 1])
    third = slice(round(120 * 1582 / 7049) + 1, 38)  # the rows with inner lips
    assert np.median(gap[third]) < 5 < 9 < np.median(gap[:19])
    folder = write_kaggle_folder(tmp_path / "kaggle", count=120, seed=1, blocks=True)
    written = load_kaggle(folder)
    np.testing.assert_allclose(written.points, blocks.points, atol=1e-4)
    test, wanted = synthetic_test_set(40, seed=1), synthetic_test_set(40, seed=1, blocks=True)
    assert np.array_equal(test.images, wanted.images) and not np.allclose(test.truth, wanted.truth, atol=0.5)


def test_truth_stays_on_the_face_when_the_second_source_is_transformed():
    from facekp.synthetic.dataset import _transform_second_source
    from facekp.synthetic.renderer import synthetic_faces

    drawn = synthetic_faces(3, seed=8)
    marked = np.zeros_like(drawn.images)
    for picture, points in zip(marked, drawn.points):
        x, y = points[0].round().astype(int)
        picture[y - 1:y + 2, x - 1:x + 2] = 255
    drawn.images[:] = marked
    _transform_second_source(drawn, np.arange(3), np.random.default_rng(1))
    for picture, points in zip(drawn.images.astype(float), drawn.truth):
        center = [(picture * axis).sum() / picture.sum() for axis in np.meshgrid(np.arange(96), np.arange(96))]
        assert np.abs(center - points[0]).max() < 1


def test_test_set_shares_a_few_pictures_with_training(faces):
    training, test = faces, synthetic_test_set(100, seed=1)
    shared = np.isin(test.group, training.group)
    assert shared.sum() == 1
    row = np.flatnonzero(training.group == test.group[shared][0])[0]
    assert (training.images[row] == test.images[shared][0]).all()
    assert np.allclose(training.truth[row], test.truth[shared][0], atol=1e-3)
    assert test.image_id[0] == "1" and np.isfinite(test.truth).all()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 400), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_imposed_gaps_take_away_and_change_nothing_else(count, share, seed):
    faces = complete_faces(count)
    before = faces.points.copy()
    with_gaps = impose_gaps(faces, share, seed)
    missing = np.isnan(with_gaps.points)
    assert (missing[:, :, 0] == missing[:, :, 1]).all()
    assert missing.any((1, 2)).sum() == round(share * count)
    assert (with_gaps.points[~missing] == before[~missing]).all()
    assert (with_gaps.truth == before).all() and (faces.points == before).all()
    assert np.array_equal(with_gaps.points, impose_gaps(faces, share, seed).points, equal_nan=True)


def test_imposed_gaps_follow_the_real_pattern():
    values = 30 - np.isnan(impose_gaps(complete_faces(4909), share=1).points).sum((1, 2))
    assert Counter(values.tolist()) == {count: rows for count, rows in FACTS_ROW_COUNTS.items() if count < 30}


def test_gaps_keep_what_is_known_to_be_true(faces):
    with_gaps = impose_gaps(faces, 0.5)
    assert (with_gaps.truth == faces.truth).all()
    assert np.isnan(with_gaps.points[np.isnan(faces.points)]).all()
    assert "with gaps in 50%" in with_gaps.name


@pytest.mark.parametrize("call, message", [
    (lambda: synthetic_training_set(0), "count 0: expected 1 or more faces"),
    (lambda: synthetic_test_set(-1), "count -1: expected 1 or more faces"),
    (lambda: impose_gaps(complete_faces(3), 1.5), "share 1.5: expected a share between 0 and 1"),
    (lambda: impose_gaps(complete_faces(3), float("nan")), "share nan: expected a share between 0 and 1"),
])
def test_wrong_requests_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_written_folder_reads_back_exactly(written):
    folder, training, test = written
    rows = list(csv.reader((folder / "training.csv").read_text().splitlines()))
    assert rows[0] == [*COLUMNS, "Image"] and len(rows) == 61
    points = np.array([[value or "nan" for value in row[:30]] for row in rows[1:]], np.float32).reshape(-1, 15, 2)
    assert np.array_equal(points, training.points, equal_nan=True)
    assert (np.array([row[30].split() for row in rows[1:]], np.uint8).reshape(-1, 96, 96) == training.images).all()
    rows = list(csv.reader((folder / "test.csv").read_text().splitlines()))
    assert rows[0] == ["ImageId", "Image"] and [row[0] for row in rows[1:]] == test.image_id.tolist()
    assert (np.array([row[1].split() for row in rows[1:]], np.uint8).reshape(-1, 96, 96) == test.images).all()


def test_lookup_table_lists_what_is_asked_for_in_order(written):
    folder, _, test = written
    rows = list(csv.DictReader((folder / "IdLookupTable.csv").read_text().splitlines()))
    assert list(rows[0]) == ["RowId", "ImageId", "FeatureName", "Location"] and rows[0]["Location"] == ""
    assert [int(row["RowId"]) for row in rows] == list(range(1, len(rows) + 1))
    asked = {(int(row["ImageId"]) - 1, COLUMNS.index(row["FeatureName"])) for row in rows}
    assert asked == set(map(tuple, np.argwhere(np.isfinite(test.points.reshape(15, 30))).tolist())) and len(asked) == len(rows)


def test_truth_file_knows_points_and_flaws(written):
    folder, training, _ = written
    flaws = known_flaws(60, seed=2)
    rows = [row for row in csv.DictReader((folder / "truth.csv").read_text().splitlines()) if row["Set"] == "training"]
    truth = np.array([[row[column] for column in COLUMNS] for row in rows], np.float32).reshape(-1, 15, 2)
    assert np.array_equal(truth, training.truth)
    assert [int(row["Row"]) for row in rows if row["CopyOf"]] == sorted(flaws.copies.tolist())
    assert {int(row["Row"]): row["Flaw"] for row in rows if row["Flaw"]} == dict(zip(flaws.wrong.tolist(), flaws.kinds.tolist()))


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="can't write there"):
        write_kaggle_folder(tmp_path / "taken", count=1)


def test_keypoints_of_the_second_source():
    common = max(GAP_PATTERNS[2], key=GAP_PATTERNS[2].get)
    named = [keypoint for keypoint, letter in zip(KEYPOINTS, common) if letter == "x"]
    assert named == ["left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip"]
