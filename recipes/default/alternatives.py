"""Alternatives to parts of the recipe of the shipped model, for the ablation (train.py --instead).

wing: the wing loss, which gives small errors more weight (Feng et al. 2018, arXiv:1711.06753). coordinates: classification of x and y into bins instead of a heatmap (SimCC, Li et al. 2022,
arXiv:2107.03332); the prediction is the expected position of the bin. wider_network: the network of version 7, with 1.37 million parameters. cubic_copies: bicubic interpolation in the strong copies, which keeps them sharper.
more_photographs: photographs are two thirds of the copies of stage 1, not half. early_synthetic: an eighth of the copies of stage 1 are of synthetic faces. blended_stage_3: the labels of
stage 3 are blended with MediaPipe's predictions as in the stages before. mixed_stage_3: half of the copies of stage 3 are of photographs, as in the stages before, not four fifths.
"""
import albumentations as A
import cv2
import keras
import numpy as np
from keras import ops

from facekp.augment import Warp
from facekp.keypoints import IMAGE_SIZE, KEYPOINTS
from facekp.models.compact import build_compact

WING_WIDTH, WING_CURVATURE = 4.0, 1.0  # px, w and epsilon of the wing loss: the paper's 10 and 2 for images of 256 px, scaled to 96 px
BINS, TARGET_SD = 2 * IMAGE_SIZE, 1.5  # bins per axis, two per pixel; px, standard deviation of the soft target
BIN_CENTERS = ((np.arange(BINS) + 0.5) * IMAGE_SIZE / BINS - 0.5).astype(np.float32)


def masked_wing(points, predicted):
    "Return the mean wing loss per coordinate over labelled points."
    known = ops.logical_not(ops.isnan(points))
    difference = ops.abs(ops.where(known, predicted - ops.where(known, points, 0.0), 0.0))
    beyond = WING_WIDTH - WING_WIDTH * np.log(1 + WING_WIDTH / WING_CURVATURE)
    each = ops.where(difference < WING_WIDTH, WING_WIDTH * ops.log(1 + difference / WING_CURVATURE), difference - beyond)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)


class SoftmaxWithLogits(keras.layers.Softmax):
    "A softmax that keeps its logits for the loss."

    def call(self, inputs, mask=None):
        self.logits = inputs
        return super().call(inputs, mask)


def build_coordinates(window: tuple, **network) -> keras.Model:
    "Build the shipped network up to its 24x24 feature maps, followed by one classification over bins per coordinate; `network` is passed to `build_compact`."
    trunk = build_compact(window, **network)
    maps = keras.layers.Conv2D(len(KEYPOINTS), 1, name="feature_maps")(trunk.get_layer(f"up3_res{network.get('blocks', 2)}_add").output)
    x = keras.layers.Permute((2, 1), name="permute")(keras.layers.Reshape((-1, len(KEYPOINTS)), name="flatten_maps")(maps))
    logits = keras.layers.Reshape((len(KEYPOINTS), 2, BINS), name="split_axes")(keras.layers.Dense(2 * BINS, name="logits")(x))
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    expected_position = keras.layers.Dense(1, use_bias=False, trainable=False, name="expected_position")
    points = keras.layers.Reshape((len(KEYPOINTS), 2), name="window_points")(expected_position(probabilities))
    expected_position.set_weights([BIN_CENTERS[:, None]])
    left, top, side = window
    scale = side / IMAGE_SIZE
    points = keras.layers.Rescaling(scale, [scale / 2 - 0.5 + left, scale / 2 - 0.5 + top], name="points")(points)
    return keras.Model(trunk.input, points, name="coordinates")


def coordinate_loss(model: keras.Model):
    "Return the cross entropy between the logits of the last prediction and soft targets around the labels, over labelled points."
    softmax = model.get_layer("probabilities")

    def loss(points, predicted):
        known = ops.logical_not(ops.isnan(points))
        off = (ops.where(known, points, 0.0)[..., None] - BIN_CENTERS) / TARGET_SD
        target = ops.softmax(-ops.square(off) / 2, axis=-1)
        each = -ops.sum(target * ops.log_softmax(ops.cast(softmax.logits, "float32"), axis=-1), axis=-1)
        return ops.sum(ops.where(known, each, 0.0)) / ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)

    return loss


class CubicWarp(Warp):
    "A local warp with bicubic interpolation."

    def apply(self, img: np.ndarray, offsets: np.ndarray, **params) -> np.ndarray:
        rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)
        return cv2.remap(img, columns + offsets[..., 0], rows + offsets[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def make_cubic(recipe: A.Compose) -> A.Compose:
    "Return the recipe with bicubic interpolation when it moves pixels, except for the resizing that makes images coarse."
    steps = list(recipe.transforms)
    for place, step in enumerate(steps):
        if isinstance(step, A.Affine):
            step.interpolation = cv2.INTER_CUBIC
        elif isinstance(step, Warp):
            steps[place] = CubicWarp(limit=step.limit, p=step.p)
    return A.Compose(steps, keypoint_params=recipe.processors["keypoints"].params, seed=recipe.seed)
