"The image of the start page: synthetic faces with their keypoints; the lower row has only the four keypoints that most of Kaggle's rows have."

from pathlib import Path

CELL, GAP = 232, 8  # pixels of a face's side, and between two faces
SERIES, ABOVE, BELOW = 29, (0, 8, 11, 30), (4, 2, 27, 12)  # which faces are shown
FOUR = ("left_eye_center", "right_eye_center", "nose_tip", "mouth_center_bottom_lip")
WORDS = "Eight synthetic faces with coloured points on eyes, brows, nose and mouth: fifteen on each face above, only four on each face below"


def _color(hexadecimal: str) -> tuple[int, int, int]:
    "Return a colour as OpenCV expects it: blue, green, red."
    return tuple(int(hexadecimal[at:at + 2], 16) for at in (5, 3, 1))


def face_with_points(number: int, shown: tuple[str, ...]):
    "Return a synthetic face at full resolution with the named points drawn, [CELL,CELL,3]."
    import cv2
    import numpy as np

    from facekp.keypoints import IMAGE_SIZE, KEYPOINT_COLORS, KEYPOINTS
    from facekp.synthetic.renderer import synthetic_face

    steps = {}
    points = synthetic_face(SERIES, number, steps)[1]
    face = np.clip(list(steps.values())[-1] * 255, 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(cv2.resize(face, (CELL, CELL), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    for name, color, point in zip(KEYPOINTS, KEYPOINT_COLORS, points):
        if name in shown:
            place = [round(((value + .5) * CELL / IMAGE_SIZE - .5) * 16) for value in point]  # in sixteenths of a pixel
            cv2.circle(picture, place, 5 * 16 + 12, (0, 0, 0), -1, cv2.LINE_AA, 4)
            cv2.circle(picture, place, 4 * 16 + 8, _color(color), -1, cv2.LINE_AA, 4)
    return picture


def write_hero(path: Path) -> tuple[int, int]:
    "Draw the image; return its width and height."
    import cv2
    import numpy as np

    from facekp.keypoints import KEYPOINTS

    width, height = (count * CELL + (count - 1) * GAP for count in (len(ABOVE), 2))
    wall = np.full((height, width, 4), (255, 255, 255, 0), np.uint8)  # the space between the faces is transparent
    for row, (numbers, shown) in enumerate(((ABOVE, KEYPOINTS), (BELOW, FOUR))):
        for column, number in enumerate(numbers):
            top, left = row * (CELL + GAP), column * (CELL + GAP)
            wall[top:top + CELL, left:left + CELL, :3] = face_with_points(number, shown)
            wall[top:top + CELL, left:left + CELL, 3] = 255
    cv2.imwrite(str(path), wall, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return width, height
