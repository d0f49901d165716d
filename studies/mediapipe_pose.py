"""Estimate head poses with MediaPipe's Face Mesh, for studies/uses.py.

    python3.11 -m venv runs/mediapipe && runs/mediapipe/bin/pip install mediapipe==0.10.14 "numpy<2"
    runs/mediapipe/bin/python studies/mediapipe_pose.py --out POSES.npz FACES.npz

The script runs in a separate environment, because mediapipe 0.10.14 needs NumPy 1, and reads only `images` (grey faces [N,96,96]) from FACES.npz. Each face is padded with
its edge, enlarged three times and passed to Face Mesh as a single image. The pose is the rotation of a weighted Procrustes fit of MediaPipe's canonical face model onto
the mesh (x, y and z), at the landmarks and with the weights of MediaPipe's own geometry pipeline, under parallel projection. POSES.npz: `rotation` [N,3,3], NaN where no
face was found, from the axes of the canonical head (x to the right of the image, y down, z towards the viewer) to those of the image.
"""
import argparse
from pathlib import Path

import cv2
import mediapipe
import numpy as np

BORDER, ENLARGE = 48, 3  # padding in pixels of the face; enlargement factor
# landmark, its mirror image, weight, and position in the canonical model (x to the right of the image, y up, z towards the viewer, centimetres); from
# geometry_pipeline_metadata_landmarks.pbtxt of MediaPipe (Apache-2.0). A landmark on the midline has no mirror image.
BASIS = [
    (4, None, 0.070909939706326, (0.000000, -0.463170, 7.586580)), (6, None, 0.032100144773722, (0.000000, 2.473255, 5.788627)),
    (10, None, 0.008446550928056, (0.000000, 8.261778, 4.481535)), (33, 263, 0.058724168688059, (-4.445859, 2.663991, 3.173422)),
    (54, 284, 0.007667080033571, (-6.279331, 6.615427, 1.425850)), (67, 297, 0.009078059345484, (-3.523964, 8.005976, 3.729163)),
    (117, 346, 0.009791937656701, (-5.258659, 0.945811, 2.974312)), (119, 348, 0.014565368182957, (-3.300681, 0.861641, 3.872784)),
    (121, 350, 0.018591361120343, (-1.820731, 1.467954, 4.224124)), (127, 356, 0.005197994410992, (-7.743095, 2.364999, -2.005167)),
    (129, 358, 0.120625205338001, (-1.785794, -0.978284, 4.850470)), (132, 361, 0.005560018587857, (-7.270895, -2.890917, -2.252455)),
    (133, 362, 0.053286183625460, (-1.856432, 2.585245, 3.757904)), (136, 365, 0.066890455782413, (-5.085276, -7.178590, 0.714711)),
    (143, 372, 0.014816547743976, (-6.407571, 2.236021, 1.560843)), (147, 376, 0.014262833632529, (-6.234883, -1.944430, 1.663542)),
    (198, 420, 0.025462191551924, (-1.246815, 0.230297, 5.681036)), (205, 425, 0.047252278774977, (-3.832928, -1.537326, 4.137731)),
]


def canonical_basis() -> tuple[list[int], np.ndarray, np.ndarray]:
    "Return landmarks, weights [N] and canonical positions [N,3] of the fit, y down."
    both = [(number, weight, np.multiply(place, (1, -1, 1))) for number, _, weight, place in BASIS]
    both += [(mirrored, weight, np.multiply(place, (-1, -1, 1))) for _, mirrored, weight, place in BASIS if mirrored is not None]
    numbers, weights, places = zip(*both)
    return list(numbers), np.array(weights) / np.sum(weights), np.array(places)


def fit_rotation(head: np.ndarray, seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    "Return the rotation [3,3] of the weighted Procrustes fit of head points [N,3] onto observed points [N,3]."
    head, seen = head - weights @ head, seen - weights @ seen
    left, _, right = np.linalg.svd(seen.T @ (head * weights[:, None]))
    return left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    numbers, weights, head = canonical_basis()
    with np.load(options.faces) as file:
        images = file["images"]
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3)
    rotations = np.full((len(images), 3, 3), np.nan)
    for row, image in enumerate(images):
        side = (image.shape[0] + 2 * BORDER) * ENLARGE
        padded = cv2.resize(cv2.copyMakeBorder(image, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE), (side, side), interpolation=cv2.INTER_CUBIC)
        found = mesh.process(np.repeat(padded[..., None], 3, axis=2)).multi_face_landmarks
        if found:
            seen = np.array([(landmark.x, landmark.y, -landmark.z) for landmark in (found[0].landmark[number] for number in numbers)])
            rotations[row] = fit_rotation(head, seen, weights)
    np.savez_compressed(options.out, rotation=rotations, mediapipe=mediapipe.__version__)
    print(f"{np.isfinite(rotations[:, 0, 0]).sum()} of {len(images)} faces found")


if __name__ == "__main__":
    main()
