"""Degrade faces: sunglasses, a mask over mouth and nose, blur, a hidden half, darkness and noise.

train.py trains on degraded copies, conditions.py measures error and sigma on them, and confidence.py and studies/robustness.py look for degraded faces in images.
"""

import cv2
import numpy as np

from facekp.keypoints import IMAGE_SIZE, KEYPOINTS

KINDS = ("sunglasses", "mask", "blur", "hidden", "dark", "noise")
NOSE, LIP = KEYPOINTS.index("nose_tip"), KEYPOINTS.index("mouth_center_bottom_lip")


def degrade(kind: str, image: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    "Degrade a face, uint8 [96,96] with points [15,2] in pixels, in one of the ways of KINDS; another kind leaves it unchanged."
    image = image.copy()
    if kind == "sunglasses":
        for eye in points[:2]:
            cv2.ellipse(image, [int(eye[0]), int(eye[1] + 2)], (14, 11), 0, 0, 360, int(rng.integers(5, 45)), -1)
        cv2.line(image, points[0].astype(int).tolist(), points[1].astype(int).tolist(), 20, 2)
    elif kind == "mask":
        cv2.fillConvexPoly(image, mask_outline(points), int(rng.integers(20, 235)), cv2.LINE_AA)
    elif kind == "blur":
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(2, 5))
    elif kind == "hidden":
        side = int(rng.integers(4))
        rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
        image[(columns > 48, columns < 48, rows > 58, rows < 44)[side]] = rng.integers(20, 230)
    elif kind == "dark":
        image = (image * rng.uniform(0.06, 0.25)).astype(np.uint8)
    elif kind == "noise":
        image = np.clip(image + rng.normal(0, rng.uniform(15, 45), image.shape), 0, 255).astype(np.uint8)
    return image


def mask_outline(points: np.ndarray) -> np.ndarray:
    "Return the outline of a mask, int32 [6,2] in pixels: from the bridge of the nose over both cheeks to the chin."
    middle = points[:2].mean(axis=0)
    down, across = points[LIP] - middle, points[0] - points[1]
    bridge, chin = middle + 0.35 * (points[NOSE] - middle), middle + 1.35 * down
    upper, lower = middle + 0.55 * down, middle + 1.1 * down
    return np.rint([bridge, upper + 0.85 * across, lower + 0.6 * across, chin, lower - 0.6 * across, upper - 0.85 * across]).astype(np.int32)


def degrade_some(images: np.ndarray, points: np.ndarray, share: float, seed: int) -> np.ndarray:
    "Degrade a share of faces [N,96,96], each in a random way; faces that lack a label stay as they are."
    rng = np.random.default_rng([seed, 10])
    chosen = (rng.random(len(images)) < share) & np.isfinite(points).all(axis=(1, 2))
    degraded = images.copy()
    for row in np.flatnonzero(chosen):
        degraded[row] = degrade(str(rng.choice(KINDS)), images[row], points[row], rng)
    return degraded
