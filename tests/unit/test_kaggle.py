"Kaggle's protocol: two annotation sources, and a submission that is complete or refused."

import json
import shutil
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest

import facekp.training.backend  # noqa: F401  before keras, since it starts TensorFlow without its page of notes
from facekp.cli import main
from facekp.config import load_settings
from facekp.conventions import has_two_sources, is_second_source
from facekp.data.sources import load_faces
from facekp.errors import UserError
from facekp.experiments.by_source import load_models_by_source
from facekp.experiments.kaggle import read_requests, write_submission
from facekp.experiments.plan import Trial
from facekp.experiments.two_sources import _apply_to_first_source, run_by_source
from facekp.keypoints import COLUMNS, KEYPOINTS, MEAN_FACE
from facekp.models.annotator_heads import add_heads, add_offsets, choose_by_annotator, fit_by_annotator, select_head, stack_by_annotator
from facekp.models.cnn import build_cnn, build_heatmap
from facekp.models.published import build_naimishnet, build_nouri2014
from facekp.models.regression import build_baseline, build_mean
from facekp.models.transfer import build_transfer
from facekp.synthetic.gaps import synthetic_gaps
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.training.batches import predict_points
from facekp.training.seeds import set_seeds

COUNT = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Return a folder of synthetic faces in Kaggle's files."
    return write_kaggle_folder(tmp_path_factory.mktemp("drawn") / "kaggle", COUNT, seed=3)


@pytest.fixture(scope="module")
def faces(folder):
    "Return the training faces of the folder."
    return load_faces(folder)


@pytest.fixture(scope="module")
def run(folder):
    "Return a run of the mean face for each source."
    assert main(["train", "--model", "mean", "--data", str(folder), "--out", str(folder.parent / "run")]) == 0
    return folder.parent / "run"


@pytest.fixture
def own(folder, tmp_path):
    "Return a copy of the folder's small tables, without training.csv, that a test may damage."
    for name in ("test.csv", "IdLookupTable.csv", "truth.csv"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path


def whole_lookup():
    "Return a table with the size and pattern of Kaggle's: 27,124 requested values for 1,783 images."
    requested = np.repeat(synthetic_gaps(1783, test=True)[0], 2, axis=1)
    face, column = np.nonzero(requested)
    return pd.DataFrame({"RowId": np.arange(1, len(face) + 1), "ImageId": face + 1, "FeatureName": np.array(COLUMNS)[column], "Location": np.nan})


IDS = np.arange(1, 1784).astype(str)


@pytest.mark.parametrize("build", [build_baseline, build_cnn, build_heatmap, build_nouri2014, build_naimishnet, lambda: build_mean(MEAN_FACE[None]),
                                   lambda: build_transfer("mobilenetv2")])
def test_both_heads_begin_alike_and_are_models_of_their_own(build):
    set_seeds(0)
    one = build()
    grey = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 1)).astype("float32")
    answers = one(grey).numpy()
    both = add_heads(one)
    assert both.output_shape == (None, 30, 2) and both.name == one.name == select_head(both, 0).name
    stacked = both(grey).numpy()
    for source in (1, 2):
        assert np.allclose(select_head(both, source - 1)(grey).numpy(), stacked[:, 15 * (source - 1):15 * source], atol=1e-3)
        assert np.allclose(stacked[:, 15 * (source - 1):15 * source], answers, atol=1e-3)
    assert both.count_params() > one.count_params() or one.name == "mean"


def test_a_model_without_a_tail_of_its_own_gets_no_second_head():
    inputs = keras.Input((96, 96, 1))
    x = keras.layers.Dense(30)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Reshape((15, 2))(keras.layers.Add()([x, x * 2])), name="branched")
    with pytest.raises(UserError, match="'branched' does not end in a chain of layers"):
        add_heads(model)


@pytest.mark.parametrize("taught", (1, 2))
def test_a_row_teaches_the_trunk_and_the_head_of_its_source(faces, taught):
    rows = faces[is_second_source(faces) == (taught == 2)][:64]
    set_seeds(0)
    model = add_heads(build_cnn((4, 8)))
    before = {layer.name: [weights.copy() for weights in layer.get_weights()] for layer in model.layers}
    fit_by_annotator(model, rows, rows, images_shown=64, batch_size=32, learning_rate=1e-3)
    changed = {layer.name for layer in model.layers if not all(map(np.array_equal, before[layer.name], layer.get_weights()))}
    assert changed == {"block1_conv", "block2_conv", "hidden", ("coordinates", "coordinates_2")[taught - 1]}


def test_a_row_trains_the_offset_of_its_annotator_only(faces):
    set_seeds(0)
    model = add_offsets(build_cnn((4, 8)), 3)
    labels = faces[:64]
    fit_by_annotator(model, labels, labels, lambda rows: np.full(len(rows), 2), images_shown=64, batch_size=32, learning_rate=1e-3)
    first, second, third = np.split(predict_points(model, labels.images), 3, axis=1)
    assert np.array_equal(first, second) and not np.allclose(first, third, atol=1e-3)
    assert np.allclose(third - first, (third - first)[:1], atol=1e-3)  # the same for every face


def test_a_model_with_offsets_is_saved_and_loaded(tmp_path):
    model = add_offsets(build_cnn((4, 8)), 2)
    model.get_layer("annotator_offsets").offsets.assign(np.random.default_rng(0).normal(size=(1, 15, 2)))
    model.save(tmp_path / "model.keras")
    grey = np.random.default_rng(1).integers(0, 256, (3, 96, 96, 1)).astype("float32")
    assert np.allclose(keras.models.load_model(tmp_path / "model.keras")(grey), model(grey), atol=1e-4)


def test_stacking_and_choosing_undo_each_other(faces):
    second = is_second_source(faces)
    assert 0 < second.sum() < COUNT and has_two_sources(faces) and not has_two_sources(faces[second])
    stacked = stack_by_annotator(faces.points, second)
    assert np.array_equal(choose_by_annotator(stacked, second), faces.points, equal_nan=True)
    assert np.isnan(stacked[second, :15]).all() and np.isnan(stacked[~second, 15:]).all()
    assert np.isnan(choose_by_annotator(stacked, ~second)).all()


def test_other_sets_mean_what_the_first_source_means(faces):
    for name in ("helen", "drawn", "kaggle-1", "synthetic-1", "my kaggle-2"):
        assert not is_second_source(replace(faces, source=np.full(COUNT, name))).any()
    assert is_second_source(replace(faces, source=np.full(COUNT, "kaggle-2"))).all()


def test_a_table_of_kaggles_size_is_answered_in_order_and_clipped(tmp_path):
    lookup = whole_lookup()
    lookup = lookup.sample(frac=1, random_state=0)  # Kaggle's order is kept, whatever it is
    questions = read_requests(lookup, IDS)
    assert questions.mask.sum() == 27_124 and questions.second.sum() == 1192 and questions.second[591:].all()
    predicted = np.random.default_rng(0).normal(48, 40, (1783, 15, 2))
    written = pd.read_csv(write_submission(predicted, questions, tmp_path / "submission.csv"))
    assert list(written.columns) == ["RowId", "Location"] and written["RowId"].tolist() == lookup["RowId"].tolist()
    assert written["Location"].min() == 0 and written["Location"].max() == 96
    for row in (0, 5000, 27_123):
        requested = lookup.iloc[row]
        answer = predicted[requested.ImageId - 1].ravel()[COLUMNS.index(requested.FeatureName)]
        assert written["Location"][row] == pytest.approx(np.clip(answer, 0, 96), abs=1e-4)


def without(column, value):
    return lambda lookup: lookup[lookup[column] != value]


def having(row, column, value):
    return lambda lookup: lookup.astype(object).assign(**{column: [*lookup[column][:row], value, *lookup[column][row + 1:]]})


@pytest.mark.parametrize("spoil, ids, words", [
    (lambda lookup: None, IDS, ["somewhere: holds no IdLookupTable.csv"]),
    (lambda lookup: lookup, IDS[:-3], ["test.csv has no ImageId 1781", "ids missing in all: 3"]),
    (lambda lookup: lookup, np.array([*IDS[:-1], "7"]), ["test.csv, row 1782: ImageId 7 is there twice"]),
    (lambda lookup: lookup[:20_000], IDS, ["asks for nothing of ImageId", "cut short"]),
    (lambda lookup: lookup[:-1], IDS, ["27,123 rows", "27,124"]),
    (without("FeatureName", "nose_tip_x"), IDS, ["25,341 rows", "27,124"]),
    (having(3, "FeatureName", "left_eye_centre_x"), IDS, ["row 3: unknown FeatureName 'left_eye_centre_x'", "did you mean 'left_eye_center_x'"]),
    (having(3, "FeatureName", np.nan), IDS, ["row 3: unknown FeatureName 'nan'"]),
    (having(3, "RowId", 3), IDS, ["row 3: RowId 3 is there twice"]),
    (having(3, "RowId", None), IDS, ["row 3: RowId is empty, expected a whole number"]),
    (having(9, "ImageId", "one"), IDS, ["row 9: ImageId is one, expected a whole number"]),
    (having(9, "ImageId", 1.5), IDS, ["row 9: ImageId is 1.5, expected a whole number"]),
    (having(9, "ImageId", 5000), IDS, ["test.csv has no ImageId 5000"]),
])
def test_a_table_that_can_not_be_answered_in_full_is_refused(spoil, ids, words):
    with pytest.raises(UserError) as caught:
        read_requests(spoil(whole_lookup()), ids, "somewhere")
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_an_answer_that_is_no_number_is_refused_and_an_older_file_stays(tmp_path, value):
    questions = read_requests(whole_lookup(), IDS)
    predicted = np.full((1783, 15, 2), 40.0)
    predicted[1782, 2:10] = value
    predicted[1782, 11:14] = value
    write_submission(predicted, questions, tmp_path / "submission.csv")  # these are not requested
    before = (tmp_path / "submission.csv").read_bytes()
    predicted[700, KEYPOINTS.index("nose_tip"), 1] = value
    with pytest.raises(UserError, match=r"ImageId 701, nose_tip_y is (nan|-?inf) \(such values in all: 1\)"):
        write_submission(predicted, questions, tmp_path / "submission.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"] and (tmp_path / "submission.csv").read_bytes() == before


def test_a_run_keeps_a_model_for_each_source_and_each_answers_for_its_own(folder, run, capsys):
    assert {"model.keras", "source-2.keras", "record.json"} <= {path.name for path in run.iterdir()}
    record = json.loads((run / "record.json").read_text())
    assert record["model"] == "mean x2" and record["budget"]["heads"] == 2 and min(record["data"]["n_test_of_source"]) > 0
    first, second = (model(np.zeros((1, 96, 96, 1)))[0].numpy() for model in load_models_by_source(run))
    nose, lip, corner = (KEYPOINTS.index(name) for name in ("nose_tip", "mouth_center_bottom_lip", "mouth_left_corner"))
    assert second[nose, 1] > first[nose, 1] + 5 and second[lip, 1] < first[lip, 1] - 3
    assert np.array_equal(first[corner], second[corner]), "points that the second source never labels must come from the first"
    assert main(["train", "--model", "mean", "--data", str(folder), "--sources", "1", "--out", str(run.parent / "one")]) == 0
    assert not (run.parent / "one" / "source-2.keras").exists()
    capsys.readouterr()
    scores = []
    for name in ("run", "one"):
        assert main(["evaluate", "--model", str(run.parent / name), "--data", str(folder), "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0]["rmse"] < scores[1]["rmse"] and set(scores[0]["by_source"]) == {"source 1", "source 2"}
    assert main(["compare", str(run), str(run.parent / "one")]) == 0 and "mean x2" in capsys.readouterr().out


def test_a_run_of_one_model_leaves_no_second_one_of_an_earlier_run(folder, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    assert main(["train", "--model", "mean", "--data", str(folder), "--sources", "1", "--out", str(tmp_path / "run"), "--overwrite"]) == 0  # without the option, it would be refused
    assert not (tmp_path / "run" / "source-2.keras").exists() and len(load_models_by_source(tmp_path / "run")) == 1


@pytest.mark.parametrize("form", ("folder", "zip", "test.csv"))
def test_submit_writes_every_row(folder, run, form, tmp_path, capsys):
    source = {"folder": folder, "test.csv": folder / "test.csv", "zip": tmp_path / "kaggle.zip"}[form]
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            for name in ("test.csv", "IdLookupTable.csv"):
                archive.write(folder / name, name)
    out = tmp_path / "new" / "submission.csv"
    capsys.readouterr()
    assert main(["submit", "--model", str(run), "--data", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    written, lookup = pd.read_csv(out), pd.read_csv(folder / "IdLookupTable.csv")
    assert written["RowId"].equals(lookup["RowId"]) and written["Location"].between(0, 96).all() and f"{len(lookup):,} values" in said
    assert ("true keypoints of these synthetic faces are known" in said) == (form == "folder")
    if form == "folder":
        truth = pd.read_csv(folder / "truth.csv").query("Set == 'test'").set_index("Row")
        true = [truth.loc[row.ImageId, row.FeatureName] for row in lookup.itertuples()]
        assert f"RMSE {np.sqrt(np.mean((written['Location'] - true) ** 2)):.3f} px" in said


def no_lookup(own):
    (own / "IdLookupTable.csv").unlink()


def shorter_test(own):
    lines = (own / "test.csv").read_text().splitlines()
    (own / "test.csv").write_text("\n".join(lines[:-2]) + "\n")


def other_name(own):
    (own / "IdLookupTable.csv").write_text((own / "IdLookupTable.csv").read_text().replace("nose_tip_x", "nose_x", 1))


def no_test(own):
    (own / "test.csv").unlink()


@pytest.mark.parametrize("spoil, words", [
    (no_lookup, ["holds no IdLookupTable.csv"]),
    (shorter_test, ["test.csv has no ImageId", "ids missing in all: 2"]),
    (other_name, ["unknown FeatureName 'nose_x'", "did you mean 'nose_tip_x'"]),
    (no_test, ["holds no test.csv"]),
])
def test_submit_refuses_incomplete_data(run, own, spoil, words, tmp_path, capsys):
    spoil(own)
    capsys.readouterr()
    assert main(["submit", "--model", str(run), "--data", str(own), "--out", str(tmp_path / "submission.csv")]) == 2
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == [] and said.startswith("facekp: ") and said.strip().count("\n") == 0, said
    assert not (tmp_path / "submission.csv").exists()


def test_submit_refuses_a_run_without_a_part(own, run, tmp_path, capsys):
    def complaint(model):
        capsys.readouterr()
        assert main(["submit", "--model", str(model), "--data", str(own), "--out", str(tmp_path / "submission.csv")]) == 2
        assert not (tmp_path / "submission.csv").exists()
        return capsys.readouterr().err

    for lost in ("source-2.keras", "model.keras"):
        shutil.copytree(run, tmp_path / lost)
        (tmp_path / lost / lost).unlink()
        assert lost in (said := complaint(tmp_path / lost)) and said.count("\n") == 1
    shutil.copytree(run, tmp_path / "damaged")
    (tmp_path / "damaged" / "source-2.keras").write_bytes(b"no model")
    assert "source-2.keras: not a Keras model" in complaint(tmp_path / "damaged")
    assert "no such model" in complaint(tmp_path / "nowhere")
    assert "source-2.keras: was trained on the second annotation source's four keypoints only" in complaint(run / "source-2.keras")
    model = build_mean(np.where(np.arange(15)[None, :, None] == 3, np.inf, MEAN_FACE[None]))
    model.save(tmp_path / "inf.keras")
    assert "left_eye_outer_corner_x is inf" in complaint(tmp_path / "inf.keras")


def test_a_heatmap_net_with_two_heads_is_trained_kept_and_used(folder, tmp_path, capsys):
    assert main(["train", "--model", "heatmap", "--data", str(folder), "--images", "64", "--out", str(tmp_path / "run")]) == 0
    assert "by annotation source: source 1" in capsys.readouterr().out
    weights = [model.get_weights() for model in load_models_by_source(tmp_path / "run")]
    assert all(map(np.array_equal, weights[0][:-3], weights[1][:-3])), "expected one backbone"
    assert not any(map(np.array_equal, weights[0][-3:], weights[1][-3:])), "expected two heads"


def test_submit_wants_files(capsys):
    assert main(["submit", "--model", "nowhere", "--data", "synthetic:40"]) == 2
    assert "'synthetic:40' has no test set in files" in capsys.readouterr().err


def test_too_few_rows_of_a_source_are_refused(faces):
    rows = np.concatenate([np.flatnonzero(~is_second_source(faces))[:60], np.flatnonzero(is_second_source(faces))[:1]])
    with pytest.raises(UserError, match="has no row of annotation source 2"):
        run_by_source(Trial("mean", "masked", 0, 0), faces[rows], load_settings("quick"))


def test_repairs_stay_within_the_first_source(faces):
    second = is_second_source(faces)
    repaired = _apply_to_first_source(faces, "knn", seed=0)
    assert np.isfinite(repaired.points[~is_second_source(repaired)]).all()
    assert np.array_equal(repaired.points[is_second_source(repaired)], faces.points[second], equal_nan=True)
