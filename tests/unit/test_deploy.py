"Every format, loaded by its own runtime, gives Keras's predictions; what cannot be written is refused in one line."

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import onnx
import pytest

import facekp.export.tools
from facekp.cli import main
from facekp.errors import UserError
from facekp.export.comparison import open_exported
from facekp.export.default import find_default_file, load_default
from facekp.export.formats import EXPORT_FORMATS, check_target, export_network
from facekp.export.layers import PointsAndSigma, with_sigma
from facekp.inference.keypoint_model import load_keypoint_model
from facekp.inference.session import DEFAULT_MODEL
from facekp.models.cnn import build_cnn
from facekp.models.compact import build_compact
from facekp.models.files import load_model, save_model
from facekp.models.layers import CLOSE_WINDOW, SoftArgmax
from facekp.models.regression import build_baseline
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points

FACES = synthetic_faces(24, seed=8, workers=1)
CALIBRATION = (np.linspace(0.1, 1.5, 15), np.linspace(0.2, 0.9, 15))
NOTES = {"data": "synthetic faces", "calibration": json.dumps({"a": CALIBRATION[0].tolist(), "b": CALIBRATION[1].tolist()})}


def with_varied_weights(model: keras.Model) -> keras.Model:
    "Return a network with weights as varied as after training, so that no operation cancels out by chance."
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([rng.uniform(0.5, 1.5, gamma.shape), rng.normal(0, 0.3, beta.shape), rng.normal(0, 0.3, mean.shape),
                               rng.uniform(0.3, 2, variance.shape)])
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return with_varied_weights(build_compact(CLOSE_WINDOW))


@pytest.fixture(scope="module")
def files(network, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("exported")
    return {format: export_network(network, folder / f"net-{format}{ending}", format, FACES.images, calibration=CALIBRATION,
                                   notes=NOTES if format.startswith("onnx") else None)
            for format, ending in EXPORT_FORMATS.items()}


def test_the_window_is_in_the_metadata_of_the_file(network, tmp_path):
    assert load_keypoint_model(export_network(network, tmp_path / "windowed.onnx", notes=NOTES)).metadata["window"] == "6 9 84"
    assert "window" not in load_keypoint_model(export_network(build_compact(), tmp_path / "whole.onnx")).metadata


def test_the_keras_file_of_the_shipped_network_is_that_of_the_onnx_file(tmp_path, monkeypatch):
    model, calibration = load_default()
    exported = load_keypoint_model("default")
    assert model.get_layer("points").window == tuple(map(int, exported.metadata["window"].split()))
    assert json.loads(exported.metadata["calibration"])["a"] == calibration[0]
    monkeypatch.setattr("facekp.export.default.find_default_file", lambda: save_model(with_varied_weights(build_compact(CLOSE_WINDOW)), tmp_path / "default.keras"))
    with pytest.raises(UserError, match="predictions differ from those of the shipped network"):
        load_default()


def test_without_the_keras_file_the_message_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("facekp.export.default.files", lambda package: tmp_path / "facekp")
    with pytest.raises(UserError, match=r"default\.keras.*not part of the installed package: download https://\S+/default\.keras"):
        find_default_file()
    (tmp_path / "default.keras").write_bytes(b"")
    assert find_default_file().name == "default.keras"


def test_a_compressed_file_is_the_same_model_in_the_same_bytes(network, tmp_path):
    first, second = (save_model(network, tmp_path / name, compress=True) for name in ("first.keras", "second.keras"))
    plain = save_model(network, tmp_path / "plain.keras")
    assert np.array_equal(predict_points(load_model(first), FACES.images), predict_points(network, FACES.images))
    assert first.stat().st_size < 0.95 * plain.stat().st_size
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as other:
        assert one.read("model.weights.h5") == other.read("model.weights.h5")


def test_heatmap_values_far_below_the_peak_have_no_weight():
    maps = np.full((1, 24, 24, 15), -100.0, np.float32)
    maps[:, 10, 12] = 5.0
    points, sigma = PointsAndSigma()(maps)
    assert np.abs(np.array(points) - [49.5, 41.5]).max() < 1e-3 and np.abs(np.array(sigma) - 0.1).max() < 1e-3


@pytest.mark.parametrize("format, largest", [("onnx", 0.1), ("litert", 2e-3), ("saved_model", 2e-3)])
def test_each_format_predicts_what_keras_predicts_for_one_face_and_for_many(network, files, format, largest):
    predict, expected = open_exported(files[format]).predict, predict_points(network, FACES.images)
    points, sigma = predict(FACES.images)
    assert points.shape == (24, 15, 2) and sigma.shape == (24, 15) and points.dtype == np.float32
    assert np.abs(points - expected).max() < largest
    alone = np.concatenate([predict(image[None])[0] for image in FACES.images[:2]])
    assert np.abs(alone - points[:2]).max() < 1e-2
    exact = with_sigma(network, CALIBRATION).predict_on_batch(FACES.images[..., None])["sigma"]
    assert np.abs(sigma - exact).max() < max(largest, 0.01) and np.std(exact) > 0.1


@pytest.mark.parametrize("format", ["onnx-int8", pytest.param("litert-int8", marks=pytest.mark.slow)])
def test_int8_predictions_of_the_shipped_network_are_near_those_of_keras(tmp_path, format):
    "Uses a trained network, since the loss from 8 bits depends on its weights, and synthetic faces."
    network, calibration = load_default()
    predict = open_exported(export_network(network, tmp_path / f"net{EXPORT_FORMATS[format]}", format, FACES.images, calibration=calibration)).predict
    (points, sigma), expected = predict(FACES.images), predict_points(network, FACES.images)
    exact = with_sigma(network, calibration).predict_on_batch(FACES.images[..., None])["sigma"]
    assert np.abs(points - expected).max() < 1 and np.sqrt(np.mean((points - expected) ** 2)) < 0.15
    assert np.abs(sigma - exact).max() < 1 and np.std(exact) > 0.1
    alone = np.concatenate([predict(image[None])[0] for image in FACES.images[:2]])
    assert np.abs(alone - points[:2]).max() < 1e-2


def test_sizes(network, files):
    size = {format: file.stat().st_size for format, file in files.items() if file.is_file()}
    bare = network.count_params() * 4
    assert size["onnx"] < 0.75 * bare and size["litert"] < 1.3 * bare and max(size["onnx-int8"], size["litert-int8"]) < 0.6 * bare


def test_a_network_of_one_convolution_is_not_quantised(tmp_path):
    grey = keras.Input((96, 96, 1), name="grey")
    tiny = keras.Model(grey, SoftArgmax(name="points")(keras.layers.Conv2D(15, 8, strides=8, name="heatmaps")(grey)), name="tiny")
    path = export_network(tiny, tmp_path / "tiny.onnx", "onnx-int8", FACES.images, weights="float32")
    assert np.abs(open_exported(path).predict(FACES.images)[0] - predict_points(tiny, FACES.images)).max() < 0.01


def test_quantisation_ends_before_the_heatmaps(files):
    graph = onnx.load(files["onnx-int8"]).graph
    made = {output: node.op_type for node in graph.node for output in node.output}
    soft = next(node for node in graph.node if node.op_type == "Softmax")
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert made[soft.input[0]] != "DequantizeLinear"
    assert [made.get(node.input[1]) == "DequantizeLinear" for node in convolutions] == [False] + [True] * (len(convolutions) - 2) + [False]


def test_sigma_is_the_width_of_the_peak():
    heatmap = np.zeros((1, 24, 24, 15), np.float32)
    heatmap[:] = -1e9
    heatmap[0, 10, 4], heatmap[0, 10, 8] = 0, 0  # two cells, 16 px apart: 8 px either way, in x only
    points, sigma = PointsAndSigma()(heatmap)
    assert np.allclose(points[0], [(6.5 * 4) - 0.5, 10.5 * 4 - 0.5], atol=1e-3) and np.allclose(sigma[0], np.sqrt(8**2 / 2), atol=1e-3)
    points, sigma = PointsAndSigma(offset=2.0, slope=0.5)(heatmap)
    assert np.allclose(sigma[0], np.sqrt(2 + 0.5 * 32), atol=1e-3)


@pytest.mark.parametrize("build, format, weights, largest", [(build_cnn, "onnx", "int8", 0.5), (build_cnn, "litert-int8", None, 2),
                                                             (build_baseline, "onnx-int8", "float16", 2)])
def test_networks_without_heatmaps(build, format, weights, largest, tmp_path):
    keras.utils.set_random_seed(0)
    model = build()
    model.get_layer("coordinates").set_weights([np.random.default_rng(0).normal(0, 0.02, array.shape) for array in model.get_layer("coordinates").get_weights()])
    path = export_network(model, tmp_path / f"net{EXPORT_FORMATS[format]}", format, FACES.images, weights)
    points, sigma = open_exported(path).predict(FACES.images[:7])
    expected = predict_points(model, FACES.images[:7])
    assert np.abs(points - expected).max() < largest and expected.std(axis=0).mean() > 0.1
    assert (sigma == 0).all() and path.stat().st_size < 0.7 * 4 * model.count_params()


def test_the_command(tmp_path, capsys):
    assert main(["export", "--model", "default", "--out", str(tmp_path / "new" / "copy.onnx")]) == 0
    assert (tmp_path / "new" / "copy.onnx").read_bytes() == DEFAULT_MODEL.read_bytes()
    assert main(["export", "--format", "litert", "--out", str(tmp_path / "net.tflite")]) == 0
    points, sigma = open_exported(tmp_path / "net.tflite").predict(FACES.images[:3])
    expected = with_sigma(*load_default()).predict_on_batch(FACES.images[:3, ..., None])
    assert np.abs(points - expected["points"]).max() < 0.01 and np.abs(sigma - expected["sigma"]).max() < 0.01
    save_model(build_baseline(), tmp_path / "run" / "model.keras")
    assert main(["export", "--model", str(tmp_path / "run"), "--format", "saved_model", "--out", str(tmp_path / "saved")]) == 0
    assert main(["export", "--model", str(tmp_path / "run"), "--format", "saved_model", "--out", str(tmp_path / "saved")]) == 2  # the existing file is kept
    assert main(["export", "--model", str(tmp_path / "run"), "--format", "saved_model", "--out", str(tmp_path / "saved"), "--overwrite"]) == 0
    assert "wrote" in capsys.readouterr().out and sorted(path.name for path in tmp_path.iterdir()) == ["net.tflite", "new", "run", "saved"]


def test_wrong_requests_are_one_line_and_leave_nothing(tmp_path, capsys):
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    for arguments, expected in [
        (["--format", "onx", "--out", "a.onnx"], "--format: 'onx' is unknown; did you mean 'onnx'"),
        (["--format", "litert", "--out", "a.onnx"], "ends with .tflite"),
        (["--out", "a.bin"], "ends with .onnx"),
        (["--out", "full"], "ends with .onnx"),
        (["--format", "saved_model", "--out", "full"], "holds other files"),
        (["--format", "saved_model", "--out", "file"], "a file, but the format saved_model is a folder"),
        (["--model", "none.keras", "--out", "a.onnx"], "no such model"),
        (["--model", "text.keras", "--out", "a.onnx"], "not a Keras model"),
        (["--model", "net.onnx", "--out", "a.onnx"], "exported already"),
        (["--weights", "int4", "--out", "a.onnx"], "'int4' is unknown"),
        (["--out", "file/a.onnx"], "can't write there"),
    ]:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        placed = [str(tmp_path / word) if last in ("--out",) or (last == "--model" and word != "default") else word
                  for last, word in zip(["", *arguments], arguments)]
        try:
            status = main(["export", *placed])
        except SystemExit as stop:  # from the parser
            status = stop.code
        assert status == 2, arguments
        told = capsys.readouterr().err
        assert expected in told and told.count("\n") == 1, told
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}, arguments


@pytest.mark.parametrize("format, package", [("onnx", "onnx"), ("onnx-int8", "tf2onnx"), ("litert-int8", "ai_edge_litert")])
def test_a_missing_package_is_named_with_its_pip_line(format, package, monkeypatch, tmp_path):
    def refuse(name, *arguments, original=facekp.export.tools.import_module):
        if name == package:
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(facekp.export.tools, "import_module", refuse)
    with pytest.raises(UserError, match=rf"{package.replace('_', '-')}: pip install 'facekp\[deploy\]"):
        check_target(tmp_path / f"net{EXPORT_FORMATS[format]}", format)


def test_broken_files(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"no model")
    (tmp_path / "folder").mkdir()
    for name, expected in [("net.tflite", "not a model that LiteRT can load"), ("none.tflite", "no such file"), ("folder", "no SavedModel")]:
        with pytest.raises(UserError, match=expected):
            open_exported(tmp_path / name)


def test_a_copy_of_default_needs_no_tensorflow(tmp_path):
    code = ("import sys; from facekp.cli import main; "
            f"assert main(['export', '--out', {str(tmp_path / 'copy.onnx')!r}]) == 0; sys.exit('tensorflow' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
