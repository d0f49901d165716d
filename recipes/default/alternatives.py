"""What the shipped model could learn with in place of its heatmaps and of its loss: train.py --instead, for the ablation.

wing: an error that weighs small differences more (Feng et al. 2018, arXiv:1711.06753). coordinates: two rows of bins a keypoint, one for x and one for y, learned as classes that lie next
to each other (SimCC, Li et al. 2022, arXiv:2107.03332), in place of a heatmap; the answer is the mean place of a bin
"""
import keras
import numpy as np
from keras import ops

from facekp.keypoints import IMAGE_SIZE, KEYPOINTS
from facekp.models.compact import build_compact

STEEP, CURVE = 4.0, 1.0  # px, of the wing: the paper's 10 and 2 of pictures of 256 px, for 96 px
BINS, SOFT = 2 * IMAGE_SIZE, 1.5  # a row's bins, two a pixel; px, the standard deviation of what a bin and its neighbours shall hold
PLACES = ((np.arange(BINS) + 0.5) * IMAGE_SIZE / BINS - 0.5).astype(np.float32)


def masked_wing(points, predicted):
    "The wing's mean a coordinate over the labelled points only."
    known = ops.logical_not(ops.isnan(points))
    difference = ops.abs(ops.where(known, predicted - ops.where(known, points, 0.0), 0.0))
    beyond = STEEP - STEEP * np.log(1 + STEEP / CURVE)
    each = ops.where(difference < STEEP, STEEP * ops.log(1 + difference / CURVE), difference - beyond)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)


class Remember(keras.layers.Softmax):
    "A softmax that keeps what it was last shown, for a loss that asks for more than the answer."

    def call(self, inputs, mask=None):
        self.seen = inputs
        return super().call(inputs, mask)


def build_coordinates(window: tuple) -> keras.Model:
    "The shipped net up to its maps of 24x24 cells, of which a row of bins a coordinate is told."
    trunk = build_compact(window)
    maps = keras.layers.Conv2D(len(KEYPOINTS), 1, name="maps")(trunk.get_layer("up3_res2_add").output)
    rows = keras.layers.Permute((2, 1), name="keypoints_first")(keras.layers.Reshape((-1, len(KEYPOINTS)), name="cells")(maps))
    rows = keras.layers.Reshape((len(KEYPOINTS), 2, BINS), name="rows")(keras.layers.Dense(2 * BINS, name="bins")(rows))
    chances = keras.layers.Softmax(name="chances")(rows)
    place = keras.layers.Dense(1, use_bias=False, trainable=False, name="place")
    points = keras.layers.Reshape((len(KEYPOINTS), 2), name="of_the_window")(place(chances))
    place.set_weights([PLACES[:, None]])
    left, top, side = window
    scale = side / IMAGE_SIZE
    points = keras.layers.Rescaling(scale, [scale / 2 - 0.5 + left, scale / 2 - 0.5 + top], name="points")(points)
    return keras.Model(trunk.input, points, name="coordinates")


def coordinate_loss(model: keras.Model):
    "Cross entropy between the bins of a net, as it last answered, and soft ones around the marks, over the labelled points only."
    chances = model.get_layer("chances")

    def loss(points, predicted):
        known = ops.logical_not(ops.isnan(points))
        off = (ops.where(known, points, 0.0)[..., None] - PLACES) / SOFT
        wanted = ops.softmax(-ops.square(off) / 2, axis=-1)
        each = -ops.sum(wanted * ops.log_softmax(ops.cast(chances.seen, "float32"), axis=-1), axis=-1)
        return ops.sum(ops.where(known, each, 0.0)) / ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)

    return loss
