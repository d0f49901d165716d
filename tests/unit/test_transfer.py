"Every backbone at a small size: built, given the right input scaling, trained for a step, saved, and refused if it does not fit."

import json

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from facekp.errors import UserError
from facekp.experiments.plan import describe_weights
from facekp.experiments.record import Record, read_record, write_record
from facekp.models.backbones import automatic_precision, split_backbone
from facekp.models.files import load_model, save_model
from facekp.models.pretrained import backbone_layers
from facekp.models.transfer import build_transfer, freeze, unfreeze
from facekp.synthetic.renderer import synthetic_faces
from facekp.training.batches import predict_points
from facekp.training.losses import masked_mse
from facekp.training.seeds import set_seeds
from facekp.training.transfer import compute_features, fit_transfer, layerwise_rates

SMALL = {"feature_level": "conv_pw_3_relu", "alpha": 0.25}  # options for MobileNet, which builds three times as fast as MobileNetV2
FEATURE_LEVELS = {"resnet50": "conv4_block6_out", "efficientnetb7": "block6a_expand_activation", "mobilenetv2": "block_13_expand_relu"}


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(48, seed=31, workers=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "Return a small network with its own batch statistics, and its file."
    set_seeds(3)
    model, rng = build_transfer("mobilenet", **SMALL), np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model, save_model(model, tmp_path_factory.mktemp("model") / "model.keras")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "efficientnetb7")) for name in FEATURE_LEVELS])
def test_every_backbone_ends_at_its_feature_level_and_trains(name, faces):
    set_seeds(0)
    model = build_transfer(name)
    backbone, head = split_backbone(model)
    assert backbone.layers[-1].name == FEATURE_LEVELS[name] and backbone.output_shape[1:3] == (6, 6)
    assert not [layer for layer in model.layers if layer.name in ("conv5_block1_out", "top_conv", "Conv_1", "block7a_expand_conv")]
    images, points = faces.images[:1, ..., None], faces.points[:1]
    before = [array.numpy() for array in (model.trainable_variables[0], model.trainable_variables[-1])]
    model.compile(keras.optimizers.SGD(1e-3), masked_mse, jit_compile=False, run_eagerly=True)
    loss = model.train_on_batch(images, points)
    assert np.isfinite(loss)
    for old, array in zip(before, (model.trainable_variables[0], model.trainable_variables[-1])):
        assert not np.array_equal(old, array.numpy()), array.path
    freeze(model)
    assert not backbone.trainable_variables and head.trainable_variables


def test_every_application_of_keras_has_its_own_scaling():
    from facekp.models.backbones import _applications, _own_scaling

    image = np.full((1, 1, 1, 3), 200, np.float32)
    for name, module in (("resnet50", keras.applications.resnet50), ("resnet50v2", keras.applications.resnet_v2),
                         ("mobilenetv2", keras.applications.mobilenet_v2), ("densenet121", keras.applications.densenet),
                         ("efficientnetb7", keras.applications.efficientnet)):
        slope, offset = _own_scaling(_applications()[name])
        assert np.allclose(np.array(slope) * 200 + offset, module.preprocess_input(image.copy()).ravel(), atol=1e-3), name


def test_the_scaling_is_inside(small, faces):
    model, _ = small
    scaled = keras.Model(model.input, model.get_layer("rescale").output)(faces.images[:1, ..., None].astype("float32"))
    assert np.allclose(scaled[..., 1], faces.images[:1] / 127.5 - 1, atol=1e-4)


def test_a_saved_model_predicts_the_same_and_splits_into_backbone_and_head(small, faces):
    model, path = small
    again = load_model(path)
    assert np.array_equal(predict_points(model, faces.images), predict_points(again, faces.images))
    backbone, head = split_backbone(again)
    assert backbone.layers[-1].name == SMALL["feature_level"] and head.output_shape == (None, 15, 2)


def test_weights_are_loaded_from_a_file_of_the_same_network_only(small, faces, tmp_path):
    model, path = small
    taken = build_transfer("mobilenet", path, **SMALL)
    assert np.array_equal(predict_points(model, faces.images), predict_points(taken, faces.images))
    assert not any(layer.trainable_variables for layer in backbone_layers(taken))
    with pytest.raises(UserError, match="not a model with the backbone mobilenet .*another network"):
        build_transfer("mobilenet", path, feature_level="conv_pw_3_relu")
    whole = keras.applications.MobileNet(alpha=0.25, include_top=False, weights=None, input_shape=(96, 96, 3))
    whole.save_weights(tmp_path / "small.weights.h5")
    same = build_transfer("mobilenet", tmp_path / "small.weights.h5", **SMALL)
    assert np.array_equal(same.get_layer("conv_pw_2").get_weights()[0], whole.get_layer("conv_pw_2").get_weights()[0])
    with pytest.raises(UserError, match=r"small.weights.h5: not the weights of mobilenet .*another network.*\(3, 3, 3, 8\)"):
        build_transfer("mobilenet", tmp_path / "small.weights.h5")
    (tmp_path / "broken.weights.h5").write_bytes(b"no weights")
    for file, words in (("broken.weights.h5", "holds no weights"), ("none.weights.h5", "no such file")):
        with pytest.raises(UserError, match=words):
            build_transfer("mobilenet", tmp_path / file, alpha=0.25)
    assert describe_weights(tmp_path / "small.weights.h5").startswith("file small.weights.h5 sha256 ")
    assert describe_weights(None) == "random" and describe_weights("imagenet") == "imagenet"


def test_imagenet_weights_without_internet_and_from_a_file(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise Exception("URL fetch failure on https://example.org: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(file_utils, "get_file", unreachable)
    with pytest.raises(UserError, match="ImageNet weights of mobilenet are not on this machine.*a file.*weights=None") as caught:
        build_transfer("mobilenet", "imagenet", alpha=0.25)
    assert "\n" not in str(caught.value)
    file = tmp_path / "efficientnetb0_notop.weights.h5"
    net = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(96, 96, 3))
    normalization = next(layer for layer in net.layers if isinstance(layer, keras.layers.Normalization))
    normalization.adapt_mean.assign([0.485, 0.456, 0.406])
    normalization.adapt_variance.assign([0.229, 0.224, 0.225])
    net.save_weights(file)
    monkeypatch.setattr(file_utils, "get_file", lambda *arguments, **options: str(file))
    image = np.full((1, 96, 96, 1), 90, np.uint8)
    fetched, given = (split_backbone(build_transfer("efficientnetb0", weights, feature_level="stem_activation"))[0](image) for weights in ("imagenet", file))
    assert np.allclose(fetched[0], given[0], rtol=1e-4, atol=1e-4)


def test_fine_tuning_keeps_batch_statistics_lowers_rates_towards_the_input_and_resumes(small, faces):
    _, path = small
    model = load_model(path)
    unfreeze(model, first_layer="conv_dw_2")
    assert not model.get_layer("conv1").trainable and model.get_layer("conv_dw_2").trainable
    unfreeze(model)
    statistics = [array.numpy() for layer in backbone_layers(model) if isinstance(layer, keras.layers.BatchNormalization) for array in layer.weights]
    rates = layerwise_rates(model, 0.1)
    assert rates == sorted(rates) and rates[-1] == 1 and np.isclose(rates[0], 0.1)
    options = {"images_shown": 64, "batch_size": 16, "features_folder": path.parent / "features", "run_folder": path.parent / "run", "show_progress": False}
    fine_tuned = fit_transfer(freeze(model), faces[:32], faces[32:], **options)
    after = [array.numpy() for layer in backbone_layers(model) if isinstance(layer, keras.layers.BatchNormalization) for array in layer.weights]
    assert all(np.array_equal(old, new) for old, new in zip(statistics, after))
    assert {entry["stage"] for entry in fine_tuned.history} == {"head", "fine_tuning"} and fine_tuned.images_shown == 64
    error = np.sqrt(masked_mse(faces.points[32:], predict_points(model, faces.images[32:])))
    assert abs(error - min(entry["validation_rmse"] for entry in fine_tuned.history)) < 1e-2
    resumed = load_model(path)
    assert fit_transfer(freeze(resumed), faces[:32], faces[32:], resume=True, **options).history == fine_tuned.history
    assert np.array_equal(predict_points(resumed, faces.images), predict_points(model, faces.images))
    with pytest.raises(UserError, match="at most 0.0002"):
        fit_transfer(model, faces[:32], faces[32:], fine_tune_learning_rate=1e-3)
    with pytest.raises(UserError, match="no layer 'conv_dv_2'"):
        unfreeze(model, "conv_dv_2")


def test_features_are_computed_once(small, faces, tmp_path, monkeypatch):
    model, _ = small
    (first,) = compute_features(model, faces.images, tmp_path)
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda *_: pytest.fail("computed again"))
    (second,) = compute_features(model, faces.images, tmp_path)
    assert np.array_equal(first, second) and first.shape[:3] == (48, 24, 24)


def test_the_pooled_head_starts_at_the_mean_face(faces):
    from facekp.keypoints import MEAN_FACE

    model = build_transfer("mobilenet", head="pooled", **SMALL)
    assert np.allclose(predict_points(model, faces.images[:2]), MEAN_FACE, atol=1e-3)


def test_mixed_precision_only_with_a_gpu():
    for gpus, expected in ((0, "float32"), (1, "mixed_float16")):
        with automatic_precision(gpus):
            assert keras.config.dtype_policy().name == expected
    assert keras.config.dtype_policy().name == "float32"


def test_errors_suggest_the_nearest_name():
    for arguments, words in ((("resnet",), "did you mean 'resnet50'"), (("vgg16", None, "block5_pol"), "did you mean 'block5_pool'"),
                             (("mobilenet", None, None, "dense"), "head 'dense' is unknown")):
        with pytest.raises(UserError, match=words):
            build_transfer(*arguments)


def test_old_records_without_the_origin_of_weights_are_read(tmp_path):
    data = {"sha256": {}, "n_train": 1, "n_validation": 1, "n_test": 1}
    metrics = dict.fromkeys(("rmse", "accuracy", "nme_eye_centers", "pck"), 1.0) | {"intervals": {}}
    record = Record("cnn", "masked", 0, "quick", 0, data, {}, 1, 1, 1, 1.0, metrics)
    path = write_record(record, tmp_path / "record.json")
    saved = json.loads(path.read_text())
    assert saved.pop("weights_from") == ""
    path.write_text(json.dumps(saved))
    assert read_record(path) == record
