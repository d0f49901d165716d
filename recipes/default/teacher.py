"""A large network whose predictions train the shipped one (train.py --network teacher, then --teacher).

MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) with ImageNet weights as the encoder, and a decoder with additive skip connections and 48x48 heatmaps, as in the shipped network. It has four times its parameters and five
times its multiplications.
"""
from pathlib import Path

import keras
import numpy as np

from facekp.faces import Faces
from facekp.keypoints import IMAGE_SIZE, KEYPOINTS
from facekp.models.backbones import build_backbone
from facekp.models.layers import FULL_WINDOW, SoftArgmax, SpatialPrior, crop_and_resize, residual_block, upsample_and_add
from facekp.training.batches import predict_points

LEVELS = ("block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu", "out_relu")  # of 48x48, 24x24, 12x12, 6x6 and 3x3 cells
FILTERS = (64, 128, 192, 256)  # channels of the decoder at 48x48, 24x24, 12x12 and 6x6
TEACHER_SHARE = 0.5  # weight of the teacher's predictions in the labels of the copies


def build_teacher(window: tuple = FULL_WINDOW, weights: Path | None = None) -> keras.Model:
    "Build the teacher: uncompiled, from grey [N,96,96,1] to pixels [N,15,2]; `weights` are those of MobileNetV2 without its top, None for random ones."
    grey, maps = build_backbone("mobilenetv2", weights, LEVELS)
    x = maps[-1]
    for size, skip, filters in zip((6, 12, 24, 48), maps[-2::-1], FILTERS[::-1]):
        skip = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"skip{size}_conv")(skip)
        skip = keras.layers.BatchNormalization(momentum=0.9, name=f"skip{size}_bn")(skip)
        x = residual_block(upsample_and_add(x, skip, f"up{size}"), f"up{size}_res")
    encoder_decoder = keras.Model(grey, keras.layers.Conv2D(len(KEYPOINTS), 1, name="heatmaps")(x), name="encoder_decoder")
    inputs = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="face")
    heatmaps = encoder_decoder(inputs if tuple(window) == FULL_WINDOW else crop_and_resize(inputs, window))
    return keras.Model(inputs, SoftArgmax(window=window, name="points")(SpatialPrior(window=window, name="prior")(heatmaps)), name="teacher")


def blend_teacher(copies: Faces, teacher: keras.Model, share: float = TEACHER_SHARE) -> np.ndarray:
    "Return the labels of copies, blended with the teacher's predictions for them; unlabelled keypoints become predictions."
    predicted = predict_points(teacher, copies.images)
    return np.where(np.isnan(copies.points), predicted, (1 - share) * copies.points + share * predicted).astype(np.float32)
