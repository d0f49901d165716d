"studies/annotators.py: the annotator of each face, and the convention that a prediction follows."

from dataclasses import replace

import numpy as np
import pytest
from scripts import load_script

pytest.importorskip("keras")
from facekp.faces import concatenate
from facekp.keypoints import MEAN_FACE
from facekp.synthetic.renderer import synthetic_faces

annotators = load_script("studies/annotators.py")


@pytest.fixture(scope="module")
def table():
    return annotators.synthetic_table(210, seed=0)


def test_rows_of_the_second_source_have_four_points_at_most(table):
    for part in (table.train, table.validation, table.test):
        labelled = np.isfinite(part.faces.points).all(axis=2)
        second = table.source[part.annotator] == 1
        assert second.any() and (labelled[second].sum(axis=1) == 4).mean() > 0.9 and (labelled[~second].sum(axis=1) > 4).mean() > 0.9
    assert not set(table.train.faces.group) & set(table.validation.faces.group) and not set(table.train.faces.group) & set(table.test.faces.group)


def test_blocks_differ_in_the_gap_between_the_lips(table):
    faces = concatenate([table.train.faces, table.validation.faces])
    block = np.concatenate([table.train.annotator, table.validation.annotator])
    gap = faces.truth[:, 14, 1] - faces.truth[:, 13, 1]
    assert np.median(gap[block == 0]) > np.median(gap[block == 2]) + 5  # 12.5 px and 1.8 px in Kaggle's table


def test_a_photograph_with_two_annotators_is_in_one_part():
    faces = replace(synthetic_faces(90, seed=3, workers=1), truth=None)
    helen, lfpw = faces[:40], replace(faces[40:], group=np.array([f"lfpw/{number}" for number in range(50)]))
    data = annotators.photographs_of_two(helen, lfpw, replace(lfpw[::2], points=lfpw.points[::2] + 1), seed=0)
    groups = [set(part.faces.group) for part in (data.train, data.validation, data.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert groups[2] <= set(lfpw.group) and all((part.annotator == 1).sum() for part in (data.train, data.validation, data.test))
    own = data.test.faces.points[data.test.annotator == 1]
    assert all(any(np.array_equal(points, other + 1) for other in lfpw.points) for points in own)


@pytest.mark.parametrize("variant, known", [("heads", [0, 1, 2, 3, 4, 5, 6]), ("sources", [0, 0, 0, 1, 1, 1, 1])])
def test_predictions_follow_the_convention_of_the_predicted_annotator(table, monkeypatch, variant, known):
    head_of = annotators.head_numbers(variant, table)
    assert head_of.tolist() == known
    by_head = np.concatenate([MEAN_FACE + number for number in range(max(known) + 1)]).astype(np.float32)
    monkeypatch.setattr(annotators, "predict_points", lambda model, images: np.repeat(by_head[None], len(images), axis=0))
    probabilities = np.zeros((len(table.test.faces), 7))
    probabilities[:, 1] = probabilities[:, 4] = 0.5
    predictions = annotators.predict_test_faces(variant, None, table, probabilities)
    assert np.allclose(predictions["predicted"], MEAN_FACE + known[1])  # the first of two equal probabilities
    assert np.allclose(predictions["averaged"], MEAN_FACE + (known[1] + known[4]) / 2, atol=1e-4)
    assert np.allclose(predictions["known"] - MEAN_FACE, np.array(known)[table.test.annotator][:, None, None], atol=1e-4)


def test_annotators_of_the_other_source_are_ruled_out(table):
    class Undecided:
        def predict(self, images, verbose):
            return np.full((len(images), 7), 1 / 7)

    probabilities = annotators.probabilities_of(Undecided(), table)
    second = table.source[table.test.annotator] == 1
    assert np.allclose(probabilities[second], [0, 0, 0, 0.25, 0.25, 0.25, 0.25]) and np.allclose(probabilities[~second][:, :3], 1 / 3)
