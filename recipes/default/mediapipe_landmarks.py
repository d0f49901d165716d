"""Predict the 478 points of MediaPipe's Attention Mesh for faces; recipes/default/train.py blends them into the labels.

python3.11 -m venv runs/mediapipe && runs/mediapipe/bin/pip install mediapipe==0.10.14 "numpy<2"
runs/mediapipe/bin/python recipes/default/mediapipe_landmarks.py --out runs/default/mediapipe FACES.npz ...

The script runs in a separate environment, because mediapipe 0.10.14 needs NumPy 1, and it reads only `images` (grey faces [N,96,96]) from a file. Each face and its mirror image are
first predicted with a padding of 16 px, and then five times more with MediaPipe's crops for tracking: eyes level, and the bounding box of the previous points enlarged by 1.35, 1.5 and
1.65, or by 1.5 and rotated by 6 degrees either way. The mean of the five predictions is written: points [N,2,478,2] in pixels of the face, for the image and for its mirror image
(mirrored back), and MediaPipe's face scores [N,2]. The mesh needs operations that LiteRT does not have, so it runs in MediaPipe's own graph, without the face detector.
"""
import argparse
import hashlib
import os
from pathlib import Path

import cv2
import mediapipe
import numpy as np
from google.protobuf import text_format
from mediapipe.calculators.core import constant_side_packet_calculator_pb2, split_vector_calculator_pb2  # noqa: F401  registers the options of the graph below
from mediapipe.calculators.tensor import image_to_tensor_calculator_pb2, inference_calculator_pb2, tensors_to_floats_calculator_pb2  # noqa: F401
from mediapipe.calculators.tflite import tflite_custom_op_resolver_calculator_pb2  # noqa: F401
from mediapipe.framework import calculator_pb2
from mediapipe.python._framework_bindings import calculator_graph, resource_util

FACE, SIDE, BORDER = 96, 192, 16  # px: side of a face, input side of the mesh, padding of the first prediction
EYES = 33, 263  # mesh points of the outer eye corners
CROPS = ((1.5, 0), (1.35, 0), (1.65, 0), (1.5, 6), (1.5, -6))  # size relative to the bounding box of the points; rotation in degrees
CHUNK = 200  # images per batch
GRAPH = """
input_stream: "image"  output_stream: "landmarks"  output_stream: "score"  num_threads: 1
node { calculator: "ImageToTensorCalculator" input_stream: "IMAGE:image" output_stream: "TENSORS:grey" options: { [mediapipe.ImageToTensorCalculatorOptions.ext] {
  output_tensor_width: 192 output_tensor_height: 192 output_tensor_float_range { min: 0 max: 1 } } } }
node { calculator: "ConstantSidePacketCalculator" output_side_packet: "PACKET:attention" options: { [mediapipe.ConstantSidePacketCalculatorOptions.ext] { packet { bool_value: true } } } }
node { calculator: "FaceLandmarksModelLoader" input_side_packet: "WITH_ATTENTION:attention" output_side_packet: "MODEL:model" }
node { calculator: "TfLiteCustomOpResolverCalculator" output_side_packet: "OP_RESOLVER:operations" options: { [mediapipe.TfLiteCustomOpResolverCalculatorOptions.ext] { use_gpu: false } } }
node { calculator: "InferenceCalculator" input_stream: "TENSORS:grey" input_side_packet: "MODEL:model" input_side_packet: "OP_RESOLVER:operations" output_stream: "TENSORS:outputs"
  options: { [mediapipe.InferenceCalculatorOptions.ext] { delegate { xnnpack { num_threads: 1 } } } } }
node { calculator: "SplitTensorVectorCalculator" input_stream: "outputs" output_stream: "points" output_stream: "flag" options: { [mediapipe.SplitVectorCalculatorOptions.ext] {
  ranges: { begin: 0 end: 6 } ranges: { begin: 6 end: 7 } } } }
node { calculator: "TensorsToFaceLandmarksWithAttention" input_stream: "TENSORS:points" output_stream: "LANDMARKS:landmarks" }
node { calculator: "TensorsToFloatsCalculator" input_stream: "TENSORS:flag" output_stream: "FLOAT:score" options: { [mediapipe.TensorsToFloatsCalculatorOptions.ext] { activation: SIGMOID } } }
"""


class Mesh:
    "The Attention Mesh on crops of 192x192 px; it predicts points for every crop, with or without a face."

    def __init__(self):
        resource_util.set_resource_dir(str(Path(mediapipe.__file__).resolve().parent.parent))
        self.graph = calculator_graph.CalculatorGraph(graph_config=text_format.Parse(GRAPH, calculator_pb2.CalculatorGraphConfig()))
        self.points, self.scores, self.count = {}, {}, 0
        self.graph.observe_output_stream("landmarks", self.take_points)
        self.graph.observe_output_stream("score", self.take_score)
        self.graph.start_run()

    def take_points(self, _, packet) -> None:
        self.points[packet.timestamp.value] = np.array([(landmark.x, landmark.y) for landmark in mediapipe.packet_getter.get_proto(packet).landmark]) * SIDE

    def take_score(self, _, packet) -> None:
        self.scores[packet.timestamp.value] = mediapipe.packet_getter.get_float(packet)

    def predict(self, crops: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        "Predict points [N,478,2] of grey crops, from 0 at the left edge of the first pixel to 192, and scores [N]."
        first = self.count
        for crop in crops:
            frame = mediapipe.ImageFrame(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(np.repeat(crop[..., None], 3, axis=2)))
            self.graph.add_packet_to_input_stream("image", mediapipe.packet_creator.create_image_frame(frame).at(self.count))
            self.count += 1
        self.graph.wait_until_idle()
        seen = range(first, self.count)
        return np.stack([self.points.pop(at) for at in seen]), np.array([self.scores.pop(at) for at in seen])


def first_crop() -> np.ndarray:
    "Return the affine matrix [2,3] from pixels of the crop to pixels of the face, for the whole face with its padding."
    scale = (FACE + 2 * BORDER) / SIDE
    return crop_matrix(np.full(2, (FACE - 1) / 2), scale * SIDE, 0.0)


def crop_matrix(centre: np.ndarray, side: float, angle: float) -> np.ndarray:
    "Return the affine matrix [2,3] from pixels of the crop to pixels of the face, for a box of `side` px, rotated by radians."
    turn = side / SIDE * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, centre - turn @ np.full(2, (SIDE - 1) / 2)])


def next_crop(points: np.ndarray, score: float, larger: float, degrees: float) -> np.ndarray:
    "Return the next crop of MediaPipe's tracking: eyes level, bounding box of the points enlarged; the first crop if score or size are implausible."
    left, right = points[EYES[0]], points[EYES[1]]
    angle = np.arctan2(right[1] - left[1], right[0] - left[0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    level = points @ turn
    side = np.ptp(level, axis=0).max()
    if score < 0.3 or not 40 < side < 140:
        return first_crop()
    return crop_matrix(turn @ ((level.min(axis=0) + level.max(axis=0)) / 2), side * larger, angle + np.deg2rad(degrees))


def predict_crops(mesh: Mesh, images: np.ndarray, matrices: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    "Predict points [N,478,2] in pixels of the faces from one crop per face, and scores [N]."
    crops = [cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE) for image, matrix in zip(images, matrices)]
    points, scores = mesh.predict(crops)
    stacked = np.stack(matrices)
    return np.einsum("nij,npj->npi", stacked[:, :, :2], points - 0.5) + stacked[:, None, :, 2], scores


def predict_faces(mesh: Mesh, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Return the mean of five predictions [N,478,2] in pixels of the faces, and of their scores [N]."
    points, scores = predict_crops(mesh, images, [first_crop()] * len(images))
    predictions = [predict_crops(mesh, images, [next_crop(face, score, *crop) for face, score in zip(points, scores)]) for crop in CROPS]
    return np.mean([one[0] for one in predictions], axis=0), np.mean([one[1] for one in predictions], axis=0)


def predict_both(mesh: Mesh, images: np.ndarray) -> dict[str, np.ndarray]:
    "Predict faces and their mirror images; points of mirror images are mirrored back."
    parts = []
    for start in range(0, len(images), CHUNK):
        straight, mirrored = (predict_faces(mesh, part) for part in (images[start:start + CHUNK], np.ascontiguousarray(images[start:start + CHUNK, :, ::-1])))
        mirrored[0][..., 0] = FACE - 1 - mirrored[0][..., 0]
        parts.append((np.stack([straight[0], mirrored[0]], axis=1), np.stack([straight[1], mirrored[1]], axis=1)))
    return {"points": np.concatenate([points for points, _ in parts]).astype(np.float32), "scores": np.concatenate([scores for _, scores in parts]).astype(np.float32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", nargs="+", type=Path, help="npz files with `images`")
    parser.add_argument("--out", type=Path, required=True, help="folder for one .npz file per input file; existing files are not replaced")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    mesh = Mesh()
    for file in options.faces:
        written = options.out / file.name
        if written.exists():
            continue
        with np.load(file, allow_pickle=False) as saved:
            images = saved["images"]
        found = predict_both(mesh, images)
        waiting = written.with_suffix(".waiting.npz")
        np.savez(waiting, **found, sha256=hashlib.sha256(images.tobytes()).hexdigest(), mediapipe=mediapipe.__version__)
        os.replace(waiting, written)
        print(f"{file.name}: {len(images)} faces, {int((found['scores'].min(axis=1) < 0.5).sum())} of them doubtful", flush=True)


if __name__ == "__main__":
    main()
