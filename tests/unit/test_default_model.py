"Training of the shipped model: copies by the strong recipe, labels, stages and records."

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import load_script

from facekp.errors import UserError
from facekp.experiments.measurement import read_measurement
from facekp.experiments.results import read_study
from facekp.faces import concatenate
from facekp.files import hash_file
from facekp.inference.confidence import USUAL_SIGMA
from facekp.inference.session import DEFAULT_MODEL
from facekp.keypoints import MEAN_FACE
from facekp.synthetic.renderer import synthetic_faces

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    return load_script("recipes/default/train.py")


@pytest.fixture(scope="module")
def synthetic():
    return synthetic_faces(4, seed=0)


def dot(at):
    "Return a blurred bright dot on black."
    y, x = np.mgrid[:96, :96]
    return (255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 8)).astype(np.uint8)


def center(image, near):
    "Return the centre of mass of the part of an image within 9 px of a position, clipped at the border."
    y, x = np.mgrid[:96, :96]
    mass = image * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < 81.0)
    return np.array([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


def test_enlarging_moves_image_and_point_alike_and_the_windowed_network_undoes_it(script, synthetic):
    at = np.array([[40.0, 58.0], [54.0, 44.0]])
    faces = replace(synthetic[np.arange(2)], images=np.stack([dot(place) for place in at]), points=np.repeat(at[:, None], 15, axis=1).astype(np.float32), truth=None)
    enlarged_faces = script.enlarge(faces)
    for image, point in zip(enlarged_faces.images, enlarged_faces.points[:, 0]):
        assert np.hypot(*(center(image.astype(float), point) - point)) < 0.1
    copies = script.strong_copies(faces, 600, seed=0, window=script.CLOSE_WINDOW, warp=0.0, mirrored=0.0)
    for number in range(2):
        mean = copies.points[copies.image_id == faces.image_id[number]].mean(axis=(0, 1))
        assert np.abs(mean - enlarged_faces.points[number, 0]).max() < 1, "copies are not centred on the window"
    within = script.build_compact()
    around = script.with_window(within, script.build_compact(script.CLOSE_WINDOW))
    corner, enlarged = script.enlargement(script.CLOSE_WINDOW)
    back = (script.predict_points(within, enlarged_faces.images) + 0.5) / enlarged - 0.5 + corner
    assert np.abs(script.predict_points(around, faces.images) - back).max() < 0.1


def test_missing_points_stay_missing(script, synthetic):
    faces = replace(synthetic, points=np.where(np.isnan(synthetic.points), np.float32(48), synthetic.points), truth=None)
    faces.points[:, 3] = np.nan
    copies = script.strong_copies(faces, 8, seed=1, window=script.CLOSE_WINDOW)
    missing = {tuple(np.flatnonzero(np.isnan(points[:, 0]))) for points in copies.points}
    assert missing == {(3,), (script.FLIP_ORDER[3],)}, "the point is wrong, perhaps in mirrored copies, where it belongs to the other side"


def test_same_seed_same_copies(script, synthetic):
    one, two = (script.strong_copies(synthetic, 10, seed=3) for _ in range(2))
    assert len(one) == 10 and (one.images == two.images).all() and np.array_equal(one.points, two.points, equal_nan=True)
    assert set(one.image_id) == set(synthetic.image_id), "a face is copied twice before every face is copied once"


def test_copies_made_on_all_cores_are_those_made_on_one(script, synthetic, monkeypatch):
    monkeypatch.setattr(script, "CHUNK", 4)
    made = script.strong_copies(synthetic, 8, seed=3)
    for number in range(2):
        alone = script.copy_chunk(synthetic[np.random.default_rng([3, number]).permutation(4)], 3_000 + number, script.FULL_WINDOW, {}, False)
        rows = slice(4 * number, 4 * number + 4)
        assert np.array_equal(made.images[rows], alone.images) and np.array_equal(made.points[rows], alone.points, equal_nan=True)
        assert (made.image_id[rows] == alone.image_id).all()


def test_a_constant_offset_of_the_labels_is_removed_and_single_errors_are_not(script, synthetic):
    "A constant offset of 2 px is removed from the labels; one wrong label of one face is not corrected."
    shifted = replace(synthetic, points=synthetic.points + np.float32([2, 0]))
    shifted.points[0, 5] += 20
    aligned = script.align(shifted, shifted.points, synthetic.points)
    assert np.allclose(aligned.points[1:], synthetic.points[1:], atol=1e-3)
    assert np.allclose(aligned.points[0, 5] - synthetic.points[0, 5], 20, atol=1e-3)
    assert script.rmse_per_face(aligned, synthetic.points).argmax() == 0


def test_predictions_for_a_photograph_come_from_a_fit_on_others(script, synthetic):
    "A wrong label of a photograph does not influence the prediction for this photograph."
    faces = concatenate([replace(synthetic, group=np.array([f"{turn}-{name}" for name in synthetic.group])) for turn in range(10)])
    features = faces.points.reshape(len(faces), -1) + np.random.default_rng(0).normal(0, 0.01, (len(faces), 30))
    wrong = replace(faces, points=faces.points.copy(), truth=None)
    wrong.points[7] += 30
    _, predictions = script.fit_ridge(wrong, features)
    left = [row for row in range(len(faces)) if faces.group[row] != faces.group[7]]
    assert predictions.shape == faces.points.shape and np.abs(predictions[7] - wrong.points[7]).mean() > 10
    assert np.abs(predictions[left] - faces.points[left]).mean() < 10


def test_blended_labels_have_the_share_of_the_predictions(script, synthetic):
    mixed = script.blend_labels(synthetic, synthetic.points + 4, 0.25)
    assert np.allclose(mixed.points, synthetic.points + 1, atol=1e-4)


def test_the_horizontal_bias_of_the_labels_is_found_and_a_vertical_one_is_not(script, synthetic):
    "Predictions that treat images and mirror images alike reveal the horizontal bias of the labels."
    faces = synthetic_faces(300, seed=1)
    mirrored = faces.points[:, script.FLIP_ORDER].copy()
    mirrored[..., 0] = 95 - mirrored[..., 0]
    back = mirrored[:, script.FLIP_ORDER].copy()
    back[..., 0] = 95 - back[..., 0]
    predictions = np.stack([faces.points, back], axis=1) + np.random.default_rng(0).normal(0, 0.3, (300, 2, 15, 2))
    predictions[:, 1] = predictions[:, 1][:, script.FLIP_ORDER]  # as predicted in the mirror image, whose left is the image's right
    offset = script.horizontal_bias(replace(faces, points=faces.points + np.float32([0.5, 0.8]), truth=None), predictions.reshape(300, -1))
    assert np.allclose(offset[:, 0], 0.5, atol=0.15) and (offset[:, 1] == 0).all()


def test_mediapipe_predictions_for_other_faces_are_refused(script, synthetic, tmp_path):
    "Predictions for an earlier file of the same name are not used for its replacement."
    file, kept = tmp_path / "faces.npz", tmp_path / "mediapipe" / "faces.npz"
    kept.parent.mkdir()
    np.savez(file, images=synthetic.images)
    np.savez(kept, points=np.full((4, 2, 478, 2), 200, np.float32), sha256=hashlib.sha256(synthetic.images.tobytes()).hexdigest())
    options = argparse.Namespace(out=tmp_path)
    assert (script.mediapipe_predictions(options, file) == 116).all() and script.mediapipe_predictions(options, file).shape == (4, 1912)
    np.savez(file, images=synthetic.images[::-1])
    with pytest.raises(script.UserError, match="other faces"):
        script.mediapipe_predictions(options, file)


def test_the_faster_layers_predict_and_train_like_those_of_keras(script, synthetic):
    "In float32, one training step gives the same weights and the same moving averages of batch normalisation."
    keras = script.keras
    keras.utils.set_random_seed(0)
    plain = script.build_compact()
    fast = script.make_fast(plain, "float32")
    kinds = [type(layer).__name__ for layer in fast.layers]
    assert "FusedBatchNormalization" in kinds and "BilinearUpsampling" in kinds and "BatchNormalization" not in kinds
    assert np.allclose(script.predict_points(plain, synthetic.images), script.predict_points(fast, synthetic.images), atol=1e-3)
    for model in (plain, fast):
        model.compile(optimizer=keras.optimizers.SGD(0.01), loss=script.masked_mae)
        model.fit(synthetic.images, synthetic.points, batch_size=4, epochs=1, verbose=0)
    for one, other in zip(plain.get_weights(), fast.get_weights()):
        assert np.allclose(one, other, atol=2e-3), np.abs(one - other).max()


def test_mixed_precision_does_not_round_positions(script, synthetic):
    fast = script.make_fast(script.build_compact(), "mixed_bfloat16")
    points = script.predict_points(fast, synthetic.images)
    assert points.dtype == np.float32 and len(np.unique(points)) == points.size
    assert fast.get_layer("points").compute_dtype == "float32" and fast.get_layer("up2_res_conv").compute_dtype == "bfloat16"


def test_a_finished_stage_is_read_and_not_trained_again(script, tmp_path, monkeypatch):
    options = argparse.Namespace(out=tmp_path, without=["final_stage"], instead=[], seed=0, images=1, again_images=0, unblended_images=0, final_images=2, learning_rate=0.5)
    model = script.build_compact(script.CLOSE_WINDOW)
    started, trained = [weight.copy() for weight in model.get_weights()], []

    def add(options, model, parts, validation, name, seed, budget):
        trained.append((name, budget["images"]))
        model.set_weights([weight + 1 for weight in started])
        script.save_model(model, tmp_path / f"{name}.keras")
        script.write_json(tmp_path / f"{name}.json", {"stage": name, "seconds": 3})

    monkeypatch.setattr(script, "train_branch", add)
    for _ in range(2):
        model.set_weights(started)
        assert script.train_stage(options, model, {}, None, "first", 1) == {"stage": "first", "seconds": 3} and trained == [("first-seed0", 1)]
        assert all(np.allclose(weight, before + 1, atol=1e-5) for weight, before in zip(model.get_weights(), started))


def test_training_copies_come_from_the_recipe_of_the_lesson_with_the_strengths_of_the_ablation(script, synthetic, monkeypatch):
    "Every training image is one that strong_recipe made from the face, cropped to the window."
    from facekp.augment import apply_recipe, strong_recipe

    monkeypatch.setattr(script.joblib, "Parallel", lambda **_: lambda jobs: [job() for job in jobs])  # in this process, so that calls of the recipe can be recorded
    monkeypatch.setattr(script.joblib, "delayed", lambda function: lambda *arguments: lambda: function(*arguments))
    asked = []
    monkeypatch.setattr(script, "strong_recipe", lambda seed, **how: asked.append({"seed": seed, **how}) or strong_recipe(seed, **how))
    budget = {"copies": {"photographs": 4}, "mirrored": 0.0, "strength": 1.0, "degraded": 0.0}
    for without, expected in (([], {"warp": 2.0, "covered": 0.3}), (["warp"], {"warp": 0.0, "covered": 0.3}), (["occlusion"], {"warp": 2.0, "covered": 0.0})):
        asked.clear()
        copies = script.augmented_copies(argparse.Namespace(without=without, instead=[], copies=1.0), {"photographs": synthetic}, 0, budget)
        assert asked == [{"seed": 0, "mirrored": 0.0, **expected}]
        recipe, faces = strong_recipe(**asked[0]), synthetic[np.random.default_rng([0, 0]).permutation(4)]
        images, points = zip(*(apply_recipe(recipe, *face) for face in zip(faces.images, faces.points)))
        again = script.enlarge(replace(faces, images=np.stack(images), points=np.stack(points), truth=None))
        assert np.array_equal(copies.images, again.images) and np.array_equal(copies.points, again.points)


@pytest.mark.slow
def test_a_short_run_of_the_recipe_writes_its_best_model_and_its_error_in_pixels_of_the_face(script, synthetic, tmp_path):
    options = argparse.Namespace(without=[], instead=[], copies=1.0, dtype="float32", out=tmp_path, network="compact", teacher=None)
    model = script.build_for(options, script.CLOSE_WINDOW)
    before = [weight.copy() for weight in model.get_weights()]
    script.train_branch(options, model, {"photographs": synthetic}, synthetic, "first0", 0, {"copies": {"photographs": 16}, "images": 96, "learning_rate": 4e-3, "mirrored": 0.5, "strength": 1.0, "degraded": 0.2})
    record = json.loads((tmp_path / "first0.json").read_text())
    assert record["copies"] == 16 and record["images_shown"] == 96 and record["faces"] == {"photographs": 4}
    error = script.evaluate_points(script.predict_points(model, synthetic.images), synthetic.points, synthetic.group)["rmse"]
    assert np.isclose(record["history"][-1]["validation_rmse"], error, rtol=1e-3), "expected pixels of the face, not of the window"
    assert any(not np.array_equal(one, other) for one, other in zip(model.get_weights(), before))
    kept = script.load_model(tmp_path / "first0.keras")
    assert np.allclose(script.predict_points(kept, synthetic.images), script.predict_points(model, synthetic.images), atol=1e-3)


def test_copies_by_the_plain_recipe_are_cropped_to_the_window_too(script, synthetic):
    options = argparse.Namespace(without=["strong"], instead=[], copies=1.0)
    copies = script.augmented_copies(options, {"photographs": synthetic}, 0, {"copies": {"photographs": 40, "web": 9}, "mirrored": 0.0, "strength": 1.0, "degraded": 0.0})
    eyes = np.linalg.norm(copies.points[:, 0] - copies.points[:, 1], axis=1).mean()
    assert len(copies) == 40 and 1.05 < eyes / np.linalg.norm(synthetic.points[:, 0] - synthetic.points[:, 1], axis=1).mean() < 1.25, "expected 8/7 of the value"


def test_without_the_window_copies_are_as_large_as_the_faces(script, synthetic):
    "With the full window, copies are neither cropped nor enlarged."
    options = argparse.Namespace(without=["window", "warp"], instead=[], copies=1.0)
    copies = script.augmented_copies(options, {"photographs": synthetic}, 0, {"copies": {"photographs": 200}, "mirrored": 0.0, "strength": 1.0, "degraded": 0.0})
    eyes = np.linalg.norm(copies.points[:, 0] - copies.points[:, 1], axis=1).mean()
    assert 0.95 < eyes / np.linalg.norm(synthetic.points[:, 0] - synthetic.points[:, 1], axis=1).mean() < 1.05
    same = script.enlarge(synthetic, script.FULL_WINDOW)
    assert np.array_equal(same.images, synthetic.images) and np.allclose(same.points, synthetic.points, equal_nan=True)


def test_the_first_stage_is_shared_by_runs_with_and_without_the_final_stage(script):
    def names(without, instead=()):
        return [script.name_of(argparse.Namespace(without=without, instead=instead, seed=3), stage) for stage in ("first", "again", "final")]

    assert names([]) == ["first-seed3", "again-seed3", "final-seed3"] and names(["degraded"])[:2] == ["first-seed3", "again-degraded-seed3"] and names(["final_stage"])[0] == "first-seed3"
    assert script.name_of(argparse.Namespace(without=[], instead=["blended_stage_3"], seed=3), "again") == "again-seed3"
    assert script.name_of(argparse.Namespace(without=["final_stage"], instead=["blended_stage_3"], seed=3), "unblended") == "unblended-blended_stage_3-seed3"
    assert names(["synthetic"])[::2] == ["first-seed3", "final-synthetic-seed3"]
    assert names(["warp", "web"], ["wing"])[::2] == ["first-warp-web-wing-seed3", "final-warp-web-wing-seed3"]


def test_a_share_of_the_copies_of_the_first_stage_is_plain_and_none_of_the_final_one(script, synthetic, monkeypatch):
    made = []
    for kind in ("plain_copies", "strong_copies"):
        function = getattr(script, kind)
        monkeypatch.setattr(script, kind, lambda faces, count, *others, kind=kind, function=function, **how: made.append((kind, count, how)) or function(faces, count, *others, **how))
    options = argparse.Namespace(without=[], instead=[], copies=1.0)
    copies = script.augmented_copies(options, {"photographs": synthetic, "web": synthetic}, 0, {"copies": {"photographs": 20, "web": 10, "frames": 50}, "mirrored": 0.5, "strength": 1.0, "degraded": 0.0})
    assert len(copies) == 30 and [(kind, count) for kind, count, _ in made] == [("plain_copies", 8), ("strong_copies", 12), ("plain_copies", 4), ("strong_copies", 6)]
    made.clear()
    script.augmented_copies(options, {"photographs": synthetic}, 0, {"copies": {"photographs": 20}, "mirrored": 0.0, "strength": 0.5, "degraded": 0.2})
    assert made == [("strong_copies", 20, {"warp": 1.0, "covered": 0.15, "mirrored": 0.0, "degraded": 0.2, "cubic": False})]


@pytest.mark.parametrize("kind", ["sunglasses", "mask", "blur", "hidden", "dark", "noise"])
def test_each_degradation_changes_what_its_name_says(kind, script):
    from degrade import KINDS, degrade

    assert kind in KINDS
    faces = synthetic_faces(12, seed=3)
    eyes, mouth = slice(0, 2), slice(11, 15)
    for row, (image, points) in enumerate(zip(faces.images, np.asarray(faces.truth))):
        before, degraded = image.copy(), degrade(kind, image, points, np.random.default_rng(row))
        assert np.array_equal(image, before) and degraded.dtype == np.uint8 and not np.array_equal(degraded, image)
        covered = {name: [degraded[int(y), int(x)] != image[int(y), int(x)] for x, y in np.clip(points[part], 0, 95)] for name, part in (("eyes", eyes), ("mouth", mouth))}
        if kind == "sunglasses":
            assert np.count_nonzero(covered["eyes"]) >= 1 and (degraded[80:] == image[80:]).all()
        if kind == "mask":
            assert np.count_nonzero(covered["mouth"]) >= 3 and not any(covered["eyes"])
        if kind == "hidden":
            assert 0.25 < (degraded != image).mean() < 0.75
        if kind == "dark":
            assert degraded.max() <= 64


def test_copies_that_turned_black_are_left_out(script):
    faces = replace(synthetic_faces(8, seed=6, workers=1), truth=None)
    faces.images[:4] //= 60
    copies = script.strong_copies(faces, 64, seed=0, window=script.CLOSE_WINDOW, warp=0.0, mirrored=0.0)
    bright = np.isin(copies.image_id, faces.image_id[4:])
    assert bright.sum() == 32 and 0 < (~bright).sum() < 32 and copies.images.max(axis=(1, 2)).min() >= script.DARKEST


def test_a_share_of_the_faces_is_degraded_and_none_without_labels(script):
    faces = synthetic_faces(200, seed=4, workers=1)
    points = np.array(faces.truth)
    points[:100, 3] = np.nan
    degraded = (script.degrade_some(faces.images, points, 0.4, seed=1) != faces.images).any(axis=(1, 2))
    assert not degraded[:100].any() and 25 < degraded[100:].sum() < 55
    assert np.array_equal(script.degrade_some(faces.images, points, 0.0, seed=1), faces.images)


def test_unlabelled_keypoints_become_predictions_except_without_them(script, synthetic):
    faces = replace(synthetic, points=np.where(np.isnan(synthetic.points), np.float32(48), synthetic.points), truth=None)
    predictions = faces.points + 2
    faces.points[:, 10] = np.nan
    faces.points[0, 3] = np.nan
    aligned = script.align(faces, faces.points, predictions)
    assert np.isnan(aligned.points[:, 10]).all() and np.allclose(np.nan_to_num(aligned.points - predictions), 0, atol=1e-4)
    blended = script.blend_labels(faces, predictions, 0.5).points
    assert np.allclose(blended[:, 10], predictions[:, 10]) and np.allclose(blended[0, 3], predictions[0, 3]) and np.allclose(blended[1, 3], predictions[1, 3] - 1)
    assert np.isnan(script.blend_labels(faces, predictions, 0.0).points[:, 10]).all()


def test_photographs_are_split_by_file_and_duplicates_of_held_out_faces_are_removed(script, tmp_path):
    from facekp.data.npz import save_npz

    first, second = synthetic_faces(40, seed=1), synthetic_faces(24, seed=2)
    second.images[:] = np.where(np.arange(24)[:, None, None] < 12, first.images[:24], second.images)  # half of the second file repeats faces of the first
    files = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for faces, file in zip((first, second), files):
        save_npz(faces, file)
    parts = script.split_photographs(files)
    train, validation, test = ({tuple(image_id.rsplit(":", 1)) for image_id in part.image_id} for part in parts)
    assert len(train | validation | test) == sum(map(len, (train, validation, test))) and {name for name, _ in test} == {"first.npz", "second.npz"}
    assert {row for name, row in test if name == "first.npz"} == {row.rsplit(":", 1)[1] for row in script.split_by_group(script.load_numbered(files[0]), 0.2, 0)[1].image_id}
    for one, other in ((parts[0], parts[1]), (parts[0], parts[2]), (parts[1], parts[2])):
        assert not {image.tobytes() for image in one.images} & {image.tobytes() for image in other.images}


def test_predictions_follow_their_faces_through_splits(script, synthetic, tmp_path, monkeypatch):
    from facekp.data.npz import save_npz

    file = tmp_path / "faces.npz"
    save_npz(synthetic, file)
    monkeypatch.setattr(script, "mediapipe_predictions", lambda options, file: np.arange(4)[:, None] * np.ones(3))
    options = argparse.Namespace(photographs=[file], portraits=None, web=None, frames=None, out=tmp_path)
    faces = script.load_numbered(file)
    assert script.mediapipe_for(options, concatenate([faces[np.array([3, 1])], faces[np.array([2])]]))[:, 0].tolist() == [3, 1, 2]


def test_the_teacher_sees_the_window_and_is_trained_with_faster_layers_in_the_same_order(script, synthetic):
    "The windowed teacher predicts in pixels of the face what the plain one predicts in the enlarged window."
    script.keras.utils.set_random_seed(0)
    plain = script.build_teacher()
    windowed = script.with_window(plain, script.build_teacher(script.CLOSE_WINDOW))
    corner, enlarged = script.enlargement(script.CLOSE_WINDOW)
    enlarged_faces = script.enlarge(synthetic)
    back = (script.predict_points(plain, enlarged_faces.images) + 0.5) / enlarged - 0.5 + corner
    assert np.abs(script.predict_points(windowed, synthetic.images) - back).max() < 0.1
    fast = script.make_fast(plain, "float32")
    inside = next(layer for layer in fast.layers if layer.name == "encoder_decoder")
    assert {"FusedBatchNormalization", "BilinearUpsampling"} <= {type(layer).__name__ for layer in inside.layers}
    assert np.allclose(script.predict_points(fast, synthetic.images), script.predict_points(plain, synthetic.images), atol=1e-3)


def test_predictions_of_the_teacher_are_blended_into_labels_and_fill_gaps(script, synthetic, monkeypatch):
    import teacher

    monkeypatch.setattr(teacher, "predict_points", lambda model, images: synthetic.points + 4)
    faces = replace(synthetic, points=synthetic.points.copy())
    faces.points[0, 3] = np.nan
    blended = script.blend_teacher(faces, None, 0.25)
    assert np.allclose(blended[0, 3], synthetic.points[0, 3] + 4) and np.allclose(blended[1:], synthetic.points[1:] + 1, atol=1e-4)


def test_the_wing_loss_is_logarithmic_near_the_label_and_linear_far_from_it(script):
    "Feng et al. 2018, equation 5; missing labels have no weight."
    def wing(difference):
        points = np.full((1, 15, 2), np.nan, np.float32)
        points[0, 2] = 30, 40
        return float(script.masked_wing(points, np.nan_to_num(points) + np.float32(difference)))

    assert wing(0) == 0 and np.isclose(wing(1), 4 * np.log(2), atol=1e-5) and np.isclose(wing(-1), wing(1))
    assert np.isclose(wing(3.9999), wing(4.0001), atol=1e-3) and np.isclose(wing(9) - wing(8), 1, atol=1e-4)
    assert wing(0.2) / 0.2 > 3 * wing(20) / 20


@pytest.mark.parametrize("window", ["FULL_WINDOW", "CLOSE_WINDOW"])
def test_coordinate_bins_predict_the_expected_position_in_the_image_and_their_loss_is_least_at_the_label(script, synthetic, window):
    keras, window = script.keras, getattr(script, window)
    plain = script.build_coordinates(window)
    probabilities, start = plain.get_layer("probabilities"), plain.layers.index(plain.get_layer("probabilities"))
    corner, enlarged = script.enlargement(window)
    places = (np.arange(192) + 0.5) / 2 - 0.5
    labels = np.random.default_rng(0).uniform(20, 76, (4, 15, 2))
    logits = -((labels[..., None] - places) ** 2) / (2 * 1.5**2)
    head = keras.Model(probabilities.input, plain.output)
    assert start > 0 and np.allclose(head.predict(logits, verbose=0), (labels + 0.5) / enlarged - 0.5 + corner, atol=1e-2)
    fast = script.make_fast(script.build_coordinates(script.FULL_WINDOW), "float32")
    loss, softmax = script.coordinate_loss(fast), fast.get_layer("probabilities")

    def at(shift):
        softmax(script.tf.constant(np.roll(logits, shift, axis=-1), "float32"))
        missing = labels.copy()
        missing[0, 0] = np.nan
        return float(loss(script.tf.constant(missing, "float32"), None))

    assert at(0) < at(1) < at(6) and at(0) < at(-1) and np.isfinite(at(0))
    before = script.predict_points(fast, synthetic.images)
    fast.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    told = fast.fit(synthetic.images, np.nan_to_num(synthetic.points, nan=48), batch_size=4, epochs=3, verbose=0).history["loss"]
    assert told[-1] < told[0] and not np.allclose(script.predict_points(fast, synthetic.images), before, atol=1e-3)


def measured_run(part: str, seed: int, error: float) -> dict:
    "Return what train.py writes for a run of the ablation."
    squared = [error, 4 * error]
    return {"data": {"name": "a.npz", "sha256": {"test": "0"}, "n_train": 4, "n_validation": 2, "n_test": 2, "n_with_copies": 8}, "augment": 2.0, "seed": seed, "images_shown": 100, "weights": 9,
            "epochs": 1, "seconds": 1.5, "metrics": {"rmse": float(np.sqrt(np.mean(squared)))}, "by": {"source": {"afw": {"rmse": error}}},
            "history": [{"epoch": 1, "loss": 1.0, "validation_rmse": 1.0, "stage": 1}], "machine": {"cores": 2}, "versions": {"numpy": "2"}, "squared_errors": squared, "groups": [5, 7], "rmse_degraded": 2 * error}


def test_the_ablation_writes_one_row_per_run_with_the_errors_of_each_face(script, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "train", script)
    ablation, asked = load_script("recipes/default/ablation.py"), []

    def train(options, part, stages, seed):
        asked.append((part, stages, seed))
        return measured_run(part, seed, 1.0 + 0.5 * bool(part) + seed)

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "copy_stages", lambda options: asked.append("copied"))
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--photographs", "a.npz", "--frames", "b.npz", "--out", str(tmp_path / "run"), "--parts", "frames", "wing", "final_stage", "blended_stage_3", "--results", str(tmp_path / "results")])
    with pytest.raises(SystemExit):
        ablation.main()
    assert not asked, "expected an error: the parts of stage 3 need a finished stage 2"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--stage-2", "again-seed0.keras"])
    ablation.main()
    study = read_study(tmp_path / "results")
    assert asked.pop(0) == "copied" and set(asked) == {(part, stages, seed) for part, stages in (("", "stage 1"), ("frames", "stage 1"), ("wing", "stage 1"), ("", "all stages"), ("final_stage", "all stages"), ("", "stage 3"), ("blended_stage_3", "stage 3")) for seed in (0, 1)}
    assert len(study) == 14 and set(study.runs.part) == {"nothing left out", "frames", "wing", "final_stage", "blended_stage_3"} and study.runs.rmse_degraded["stage_1-instead-wing-seed1"] == 5 and study.runs.rmse_afw["stage_1-instead-wing-seed1"] == 2.5
    assert study.errors_of("all_stages-without-final_stage-seed0").tolist() == [1.5, 6.0] and study.groups.tolist() == [0, 1]


def test_runs_of_the_third_stage_continue_from_the_same_second_stage(script, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "train", script)
    ablation, run = load_script("recipes/default/ablation.py"), tmp_path / "run"
    (run / "mediapipe").mkdir(parents=True)
    (run / "mediapipe" / "a.npz").write_text("predictions")
    for stage in ("first", "again"):
        (run / f"{stage}-seed0.keras").write_text(f"weights of {stage}")
        (run / f"{stage}-seed0.json").write_text("{}")
    commands = []
    monkeypatch.setattr(ablation.subprocess, "run", lambda command, check: commands.append(list(map(str, command))))
    monkeypatch.setattr(ablation, "read_measurement", lambda path: path.name)
    options = argparse.Namespace(out=tmp_path / "out", stage_2=run / "again-seed0.keras", third_copies=0.2, third_images=40, again_images=0, unblended_images=0, seeds=[0, 1], photographs=["a.npz"], portraits=None, web=None, frames=None, mediapipe="python", images=1, final_images=2)
    ablation.copy_stages(options)
    assert ablation.train(options, "blended_stage_3", "stage 3", 1) == "default-final_stage-blended_stage_3-seed1.json"
    assert (tmp_path / "out" / "stage_3" / "again-seed1.keras").read_text() == "weights of again" and (tmp_path / "out" / "stage_3" / "mediapipe" / "a.npz").exists()
    command, = commands
    assert command[command.index("--unblended-images") + 1] == "40" and command[command.index("--instead") + 1] == "blended_stage_3" and command[command.index("--out") + 1] == str(tmp_path / "out" / "stage_3")


def test_cubic_copies_keep_the_points_and_more_detail(script):
    import albumentations as A
    from alternatives import make_cubic

    from facekp.augment import apply_recipe, strong_recipe

    faces, detail = synthetic_faces(12, seed=3, workers=1), []
    for change in (lambda recipe: recipe, make_cubic):
        recipe = change(strong_recipe(0, covered=0.0, mirrored=0.0))
        recipe = A.Compose(list(recipe.transforms[:3]), keypoint_params=recipe.processors["keypoints"].params, seed=0)
        images, points = zip(*(apply_recipe(recipe, *face) for face in zip(faces.images, faces.truth)))
        detail.append((np.mean([cv2.Laplacian(np.float32(image), cv2.CV_32F).std() for image in images]), np.array(points)))
    assert np.allclose(detail[0][1], detail[1][1], atol=1e-3) and detail[1][0] > 1.05 * detail[0][0]


def test_the_published_ablation_names_parts_that_the_model_card_explains(script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "nbs" / "_site"))
    from record_words import PARTS

    runs = read_study(ROOT / "results" / "default_ablation").runs
    assert set(runs.part) - {"nothing left out"} <= set(PARTS) and set(runs.stages) <= {"stage 1", "stage 3", "all stages"}
    assert {*script.PARTS, *script.INSTEAD} <= set(PARTS)


def test_each_stage_has_the_budget_that_the_command_gives(script):
    budgets = script.budgets_of(argparse.Namespace(images=1, again_images=2, unblended_images=3, final_images=4, learning_rate=0.5, instead=[]))
    assert {name: budget["images"] for name, budget in budgets.items()} == {"first": 1, "again": 2, "unblended": 3, "final": 4}
    assert budgets["first"]["learning_rate"] == 0.5 and script.FIRST["learning_rate"] == 4e-3 and set(budgets["first"]) == set(budgets["again"]) == set(budgets["final"])


def test_conditions_compare_errors_with_the_sigma_of_each_point(script, monkeypatch):
    conditions = load_script("recipes/default/conditions.py")
    faces = synthetic_faces(6, seed=5, workers=1)
    faces = replace(faces, points=np.array(faces.truth), truth=None)
    sigma = np.full(faces.points.shape[:2], 2.0)
    near, far = (conditions.describe(faces.points + np.float32(shift), sigma, faces) for shift in (1, 3))
    assert (near["within_1_sigma"], near["within_2_sigma"], far["within_1_sigma"], far["within_2_sigma"]) == (1, 1, 0, 1)
    assert np.isclose(near["rmse"], 1) and np.isclose(far["rmse"], 3)
    assert conditions.describe_sigma(np.concatenate([sigma, 2 * sigma]), 3.0, np.full(15, 1.5)) == {"images": 12, "sigma": float(np.sqrt(10)), "flagged": 0.5, "hidden_part": 0.5}
    assert np.array_equal(conditions.degrade_all(faces, "none"), faces.images) and np.array_equal(conditions.degrade_all(faces, "noise"), conditions.degrade_all(faces, "noise"))


def test_the_usual_sigma_of_the_package_is_that_of_the_shipped_model():
    record = read_measurement(ROOT / "results" / "deploy" / "conditions.json")
    shipped, = (name for name, digest in record["models"].items() if digest == hash_file(DEFAULT_MODEL))
    assert record["usual_sigma"][shipped] == USUAL_SIGMA.tolist()


def test_images_that_are_no_face_are_counted_as_flagged_and_have_no_error(script, tmp_path):
    conditions = load_script("recipes/default/conditions.py")
    faces = synthetic_faces(6, seed=5, workers=1)
    faces = replace(faces, points=np.array(faces.truth), truth=None)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 255, (120, 90), np.uint8))
    crops = conditions.faceless_crops(tmp_path)
    assert crops.shape == (2 * conditions.CROPS, 96, 96)

    class Sure:
        "A model whose sigma is small on the faces alone."

        def predict(self, images):
            known = np.array([any(np.array_equal(image, face) for face in faces.images) for image in images])
            return np.zeros((len(images), 15, 2), np.float32), np.where(known, 1.0, 9.0)[:, None] * np.ones(15)

    results, usual = conditions.measure(Sure(), faces, crops)
    assert results["none"]["flagged"] == 0 and {results[kind]["flagged"] for kind in ("negative", "upside_down", "no_face", "noise")} == {1.0}
    assert "rmse" not in results["negative"] and results["no_face"]["images"] == len(crops) and "no_face" not in conditions.measure(Sure(), faces)[0]
    assert np.array_equal(usual, np.ones(15)) and results["none"]["hidden_part"] == 0 and results["no_face"]["hidden_part"] == 1
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="notes.txt"):
        conditions.faceless_crops(tmp_path)


def test_averaging_over_crops_transforms_the_points_back(script):
    limits = load_script("recipes/default/limits.py")
    images = synthetic_faces(3, seed=5, workers=1).images

    def brightest(images):
        "Return the brightest pixel as every keypoint."
        places = np.array([np.unravel_index(image.argmax(), image.shape)[::-1] for image in images])
        return np.repeat(places[:, None], 15, axis=1)

    images = np.zeros_like(images)
    images[:, 40, 60] = images[:, 39:42, 59:62] = 200
    images[:, 40, 60] = 255
    assert np.abs(limits.mean_over_crops(brightest, images) - [60, 40]).max() < 1


def test_errors_are_divided_into_brow_ends_and_other_keypoints(script, synthetic):
    limits = load_script("recipes/default/limits.py")
    faces = replace(synthetic, points=np.nan_to_num(synthetic.points), truth=None)
    points = faces.points.copy()
    points[:, limits.BROWS] += 3
    row, = limits.describe({"shifted": points}, faces)
    assert len(limits.BROWS) == 4 and np.isclose(row["brow_ends"], 3) and row["other_keypoints"] == 0 and np.isclose(row["rmse"], 3 * np.sqrt(4 / 15))


def test_the_errors_of_two_models_and_labels_follow_from_their_differences(script):
    limits, rng = load_script("recipes/default/limits.py"), np.random.default_rng(0)
    truth = rng.uniform(0, 96, (2_000, 15, 2))
    network, mediapipe, labels = (truth + rng.normal(0, size, truth.shape) for size in (0.4, 0.7, 1.1))
    labels[:10, 3] = np.nan
    errors = limits.split_error(network, mediapipe, labels)
    assert np.allclose([errors["error_of_network"], errors["error_of_mediapipe"], errors["error_of_labels"]], [0.4, 0.7, 1.1], atol=0.02)
    assert np.isclose(errors["network_against_labels"], np.hypot(0.4, 1.1), atol=0.02) and limits.split_error(labels, mediapipe, labels)["error_of_labels"] == 0


def test_a_second_annotator_shows_the_error_of_the_labels_whatever_the_crop(script):
    limits, rng = load_script("recipes/default/limits.py"), np.random.default_rng(0)
    truth = MEAN_FACE + rng.normal(0, 2, (1_500, 15, 2))
    predicted, labels, second = (truth + rng.normal(0, size, truth.shape) for size in (0.5, 0.7, 0.9))
    scale, shift = 1 + rng.normal(0, 0.01, (1_500, 1, 1)), rng.normal(0, 1, (1_500, 1, 2))
    moved = MEAN_FACE.mean(axis=0) + (second - MEAN_FACE.mean(axis=0)) * scale + shift + rng.normal(0, 1, (15, 2))  # another crop, and another convention
    errors = limits.split_by_annotator(predicted, labels, moved)
    assert np.allclose([errors["error_of_model"], errors["error_of_labels"], errors["error_of_second_labels"]], [0.5, 0.7, 0.9], atol=0.03)
    assert all(errors[f"interval_of_{who}"][0] < errors[f"error_of_{who}"] < errors[f"interval_of_{who}"][1] for who in ("model", "labels", "second_labels"))


def test_labels_of_another_crop_are_moved_to_the_pixels_of_the_face(script):
    limits = load_script("recipes/default/limits.py")
    faces = synthetic_faces(3, seed=5, workers=1)
    transform = cv2.getRotationMatrix2D((48, 48), 3, 1.02) + [[0, 0, 1.5], [0, 0, -1]]
    images = np.stack([cv2.warpAffine(image, transform, (96, 96), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE) for image in faces.images])
    moved = replace(faces, images=images[[2, 0, 1]], points=np.float32(faces.truth @ transform[:, :2].T + transform[:, 2])[[2, 0, 1]], truth=None)
    registered = limits.register_labels(faces, moved, np.array([1, 2, 0]))
    assert np.abs(registered - faces.truth).max() < 0.25
    assert np.isnan(limits.register_labels(faces, replace(moved, images=np.zeros_like(images)), np.array([1, 2, 0]))).all()
