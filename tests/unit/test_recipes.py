"The published networks match their descriptions, and they learn."

import numpy as np
import pytest

from facekp.models.published import build_naimishnet, build_nouri2014


def layers_of(model, kind: str) -> list:
    return [layer for layer in model.layers if type(layer).__name__ == kind]


@pytest.mark.parametrize("build, filters, kernels, dropouts, features, hidden, activations", [
    (build_nouri2014, [32, 64, 128], [3, 2, 2], [0.1, 0.2, 0.3, 0.5], 11 * 11 * 128, 500, ["relu"] * 3 + ["relu", "relu"]),
    (build_naimishnet, [32, 64, 128, 256], [4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 5 * 5 * 256, 1000, ["elu"] * 4 + ["elu", "linear"]),
], ids=["nouri2014", "naimishnet"])
def test_layers_are_those_of_the_description(build, filters, kernels, dropouts, features, hidden, activations):
    model = build()
    convolutions, dense = layers_of(model, "Conv2D"), layers_of(model, "Dense")
    assert [layer.filters for layer in convolutions] == filters
    assert [layer.kernel_size for layer in convolutions] == [(kernel, kernel) for kernel in kernels]
    assert {layer.padding for layer in convolutions} == {"valid"}
    assert {layer.pool_size for layer in layers_of(model, "MaxPooling2D")} == {(2, 2)}
    assert [layer.rate for layer in layers_of(model, "Dropout")] == pytest.approx(dropouts)
    assert [layer.units for layer in dense] == [hidden, hidden, 30]
    assert [layer.activation.__name__ for layer in [*convolutions, *dense[:2]]] == activations
    assert model.get_layer("features").output.shape[1] == features


def test_wide_version_of_nouris_network():
    assert build_nouri2014(hidden=1000).count_params() == 16_561_502


def test_scaling_is_inside():
    from facekp.keypoints import MEAN_FACE
    from facekp.training.batches import predict_points

    for build in (build_nouri2014, build_naimishnet):
        model = build()
        assert model.get_layer("rescale").scale == pytest.approx(1 / 255)
        assert np.allclose(predict_points(model, np.full((1, 96, 96), 200, np.uint8))[0], MEAN_FACE, atol=1e-3)


@pytest.mark.slow
def test_learns_a_few_faces():
    from facekp.synthetic.renderer import synthetic_faces
    from facekp.training.batches import predict_points
    from facekp.training.loop import fit
    from facekp.training.seeds import set_seeds

    set_seeds(0)
    faces = synthetic_faces(16, seed=5, workers=1)
    model = build_nouri2014(hidden=64)
    before = np.sqrt(np.mean((predict_points(model, faces.images) - faces.points) ** 2))
    training = fit(model, faces, faces, images_shown=16 * 50, batch_size=8, seed=0, show_progress=False)
    after = np.sqrt(np.mean((predict_points(training.model, faces.images) - faces.points) ** 2))
    assert after < 0.92 * before
