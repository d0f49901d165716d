"""Invalid input raises a one-line error that states what is wrong and where, and leaves no file behind."""

import errno
import io
import os
import pickle
import struct
import sys
import warnings

import cv2
import numpy as np
import pytest
from kaggle_stand_in import random_images, table_cells, table_text, zip_bytes

from facekp.conventions import POINTS_OF_68
from facekp.data.cache import CACHE_FOLDER
from facekp.data.kaggle import broken_rows, load_kaggle_test, parse_training
from facekp.data.npz import save_npz
from facekp.data.sources import load_faces
from facekp.errors import RunError, UserError
from facekp.faces import Faces
from facekp.keypoints import COLUMNS, KEYPOINTS, MEAN_FACE


def csv_with(row: int, column: str, value: str):
    "Write a table of four rows with one cell changed."
    def write(folder):
        rows = table_cells()
        rows[row][column] = value
        (folder / "training.csv").write_text(table_text(rows))
        return folder / "training.csv"
    return write


def csv_text(text: str | bytes, name: str = "training.csv"):
    "Write a file with this content."
    def write(folder):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return folder / name
    return write


def csv_without(*columns: str):
    "Write a table that lacks some columns."
    def write(folder):
        rows = table_cells()
        (folder / "training.csv").write_text(table_text(rows, [column for column in rows[0] if column not in columns]))
        return folder / "training.csv"
    return write


def image_with(position: int, value: str):
    "Write a table in which one grey value of row 2 is replaced."
    values = table_cells()[2]["Image"].split()
    values[position] = value
    return csv_with(2, "Image", " ".join(values))


def zip_with(members: dict[str, bytes | str]):
    "Write a zip."
    return csv_text(zip_bytes(members), "faces.zip")


def npz_with(**changes):
    "Write an .npz of three faces in which some arrays are replaced, or omitted if None."
    def write(folder):
        arrays = {"images": random_images(3), "points": np.repeat(MEAN_FACE[None], 3, 0), "group": np.array(["a", "b", "c"]),
                  "source": np.array(["s"] * 3), "image_id": np.arange(3)} | changes
        np.savez(folder / "faces.npz", **{name: array for name, array in arrays.items() if array is not None})
        return folder / "faces.npz"
    return write


def points_with(face: int, point: int, axis: int, value: float) -> np.ndarray:
    "Return the points of three mean faces with one coordinate changed."
    points = np.repeat(MEAN_FACE[None], 3, 0)
    points[face, point, axis] = value
    return points


def damaged(write, at: int):
    "Write a file and then flip bytes in it."
    def spoil(folder):
        path = write(folder)
        content = bytearray(path.read_bytes())
        content[at:at + 8] = bytes(255 - byte for byte in content[at:at + 8])
        path.write_bytes(content)
        return path
    return spoil


def truncated(write, share: float):
    "Write a file and then cut its end off, as an interrupted copy does."
    def cut(folder):
        path = write(folder)
        content = path.read_bytes()
        path.write_bytes(content[:int(share * len(content))])
        return path
    return cut


def bomb(folder):
    "Write a small zip that claims to unpack to 8 GiB."
    content = bytearray(zip_bytes({"training.csv": b"x" * 1000, "more.csv": b"y" * 1000}))
    place = -1
    while (place := content.find(b"PK\x01\x02", place + 1)) >= 0:
        content[place + 24:place + 28] = struct.pack("<I", 0xFFFFFFF0)
    (folder / "faces.zip").write_bytes(content)
    return folder / "faces.zip"


def with_password(folder):
    "Write a zip whose member is marked as encrypted."
    content = bytearray(zip_bytes({"training.csv": table_text(table_cells())}))
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + offset] |= 1
    (folder / "faces.zip").write_bytes(content)
    return folder / "faces.zip"


def pickled(folder):
    "Write an .npz with an object that creates a file when it is unpickled."
    class Trap:
        def __reduce__(self):
            return (open, (str(folder / "the trap went off"), "w"))

    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (3,)})
    members = {"points.npy": array.getvalue() + pickle.dumps([Trap()] * 3)}
    for name, plain in {"images": random_images(3), "group": np.arange(3), "source": np.arange(3), "image_id": np.arange(3)}.items():
        buffer = io.BytesIO()
        np.save(buffer, plain)
        members[f"{name}.npy"] = buffer.getvalue()
    (folder / "faces.npz").write_bytes(zip_bytes(members))
    return folder / "faces.npz"


def folder_of_300w(pts: str | None = None, picture: bytes | None = b"png", shift: float = 0.0):
    "Write a 300-W folder of one photo with given or well-formed points."
    def write(folder):
        target = folder / "300w"
        target.mkdir()
        landmarks = np.random.default_rng(0).uniform(20, 180, (68, 2)) + shift
        for keypoint, index in POINTS_OF_68.items():
            landmarks[index] = 2 * MEAN_FACE[KEYPOINTS.index(keypoint)] + shift
        lines = "\n".join(f"{x:.2f} {y:.2f}" for x, y in landmarks)
        (target / "one.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}" if pts is None else pts)
        if picture is not None:
            content = cv2.imencode(".png", np.tile(np.arange(200, dtype=np.uint8), (200, 1)))[1].tobytes() if picture == b"png" else picture
            (target / "one.png").write_bytes(content)
        return target
    return write


def empty_folder(folder):
    "Make an empty folder."
    (folder / "nothing").mkdir()
    return folder / "nothing"


GOOD = table_text(table_cells())
FINE = csv_text(GOOD)
SHORT = " ".join(table_cells()[2]["Image"].split()[:-1])
LONG = table_cells()[2]["Image"] + " 7"

BAD = {
    # defect: (how it is written, words of the message)
    "no such file": (lambda folder: folder / "nowhere.csv", ["nowhere.csv", "no such file or folder"]),
    "no such zip": (lambda folder: folder / "nowhere.zip", ["nowhere.zip", "no such file or folder"]),
    "misspelt source": (lambda _: "syntetic", ["syntetic", "did you mean 'synthetic'"]),
    "no number of faces": (lambda _: "synthetic:many", ["synthetic:many", "whole number of faces", "synthetic:1500"]),
    "no faces": (lambda _: "synthetic:0", ["synthetic:0", "from 1"]),
    "minus faces": (lambda _: "synthetic:-5", ["synthetic:-5", "whole number"]),
    "no source": (lambda _: "", ["a source without a name", "expected synthetic"]),
    "a name that no file can have": (lambda _: "x" * 5000, ["no such file or folder"]),
    "a second source that is not there": (lambda folder: f"{FINE(folder)} + nowhere.npz", ["nowhere.npz", "no such file or folder"]),
    "unknown ending": (csv_text("hello", "faces.txt"), ["faces.txt", "can't tell what this is"]),
    "empty folder": (empty_folder, ["nothing", "neither training.csv nor .pts"]),
    "empty csv": (csv_text(""), ["training.csv", "the file is empty"]),
    "blank csv": (csv_text("\n\n\n"), ["training.csv", "the file is empty"]),
    "header alone": (csv_text(GOOD.splitlines()[0] + "\n"), ["training.csv", "no row below the column names"]),
    "binary csv": (csv_text(bytes(range(256)) * 40),  # before 3.11, Python's csv module refuses a null byte before the columns are checked
                   ["training.csv", *(["column left_eye_center_x", "missing"] if sys.version_info >= (3, 11) else ["can't be read as a table", "expected Kaggle's columns"])]),
    "semicolons": (csv_text(GOOD.replace(",", ";")), ["column left_eye_center_x", "separated by commas"]),
    "missing column": (csv_without("nose_tip_y"), ["training.csv", "column nose_tip_y is missing"]),
    "two missing columns": (csv_without("nose_tip_x", "nose_tip_y"), ["column nose_tip_x (and 1 more) is missing"]),
    "no Image": (csv_without("Image"), ["column Image is missing"]),
    "no labels": (csv_without(*COLUMNS), ["column left_eye_center_x (and 29 more) is missing"]),
    "the test set": (csv_text("ImageId,Image\n1,0 0\n"), ["test set", "load_kaggle_test"]),
    "a column twice": (csv_text(table_text(table_cells(), [*table_cells(1)[0], "nose_tip_x"])), ["training.csv", "column nose_tip_x occurs 2 times"]),
    "a row cut short": (csv_text(GOOD[:len(GOOD) * 5 // 8]), ["training.csv, row 2", "Image has", "expected 9,216"]),
    "a row without its picture": (csv_text("\n".join(GOOD.splitlines()[:2] + ["1,2,3"])), ["row 1", "has 3 cells, expected 31"]),
    "a grey value too few": (csv_with(2, "Image", SHORT), ["row 2", "Image has 9,215 values, expected 9,216"]),
    "a grey value too many": (csv_with(2, "Image", LONG), ["row 2", "Image has 9,217 values"]),
    "no picture": (csv_with(2, "Image", ""), ["row 2", "Image has 0 values"]),
    "grey 256": (image_with(0, "256"), ["row 2", "value 0", "'256'", "0 to 255"]),
    "grey 1000": (image_with(9215, "1000"), ["row 2", "value 9215", "'1000'", "0 to 255"]),
    "negative grey": (image_with(7, "-1"), ["row 2", "value 7", "'-1'"]),
    "grey with a point": (image_with(7, "12.5"), ["row 2", "value 7", "'12.5'"]),
    "grey in words": (image_with(7, "black"), ["row 2", "value 7", "'black'"]),
    "grey NaN": (image_with(7, "nan"), ["row 2", "value 7", "'nan'"]),
    "grey in other digits": (image_with(7, "\u0661"), ["row 2", "value 7"]),
    "a label in words": (csv_with(2, "nose_tip_x", "left"), ["row 2", "nose_tip_x is 'left'", "expected a number"]),
    "a label with a comma": (csv_with(2, "nose_tip_x", '"48,5"'), ["row 2", "nose_tip_x is '48,5'", "expected a number"]),
    "an infinite label": (csv_with(2, "nose_tip_x", "inf"), ["row 2", "nose_tip_x is inf", "-96 to 192"]),
    "a huge label": (csv_with(2, "nose_tip_x", "1e300"), ["row 2", "nose_tip_x is 1e+300", "-96 to 192"]),
    "a point far to the right": (csv_with(2, "nose_tip_x", "193"), ["row 2", "nose_tip_x is 193", "-96 to 192"]),
    "a point far above": (csv_with(2, "nose_tip_y", "-97"), ["row 2", "nose_tip_y is -97", "-96 to 192"]),
    "x without y": (csv_with(2, "nose_tip_y", ""), ["row 2", "nose_tip has x and no y"]),
    "y without x": (csv_with(2, "nose_tip_x", ""), ["row 2", "nose_tip has y and no x"]),
    "no zip": (csv_text("<html>sign in</html>", "faces.zip"), ["faces.zip", "a web page in the place of the file"]),
    "empty zip file": (csv_text("", "faces.zip"), ["faces.zip", "the file is empty"]),
    "zip without a table": (zip_with({"readme.txt": "hello"}), ["faces.zip", "holds no training.csv"]),
    "zip that climbs out": (zip_with({"../../training.csv": GOOD}), ["faces.zip", "'../../training.csv'", "leaves the folder"]),
    "zip with an absolute path": (zip_with({"/etc/training.csv": GOOD}), ["faces.zip", "'/etc/training.csv'", "leaves the folder"]),
    "zip with a drive": (zip_with({"C:\\training.csv": GOOD}), ["faces.zip", "leaves the folder"]),
    "zip in a zip that climbs out": (zip_with({"training.zip": zip_bytes({"a/../../training.csv": GOOD})}), ["training.zip", "leaves the folder"]),
    "zip bomb": (bomb, ["faces.zip", "unpacks to 8.0 GiB", "at most 4 GiB"]),
    "zip with a password": (with_password, ["faces.zip", "password", "unpack it first"]),
    "damaged zip": (damaged(zip_with({"training.csv": GOOD}), 9000), ["faces.zip", "damaged"]),
    "half a zip": (truncated(zip_with({"training.csv": GOOD}), 0.5), ["faces.zip", "is not a zip file, or a damaged one"]),
    "broken row in a zip": (zip_with({"training.csv": "\n".join([GOOD.splitlines()[0], "wide" + GOOD.splitlines()[1]])}), ["faces.zip, row 0", "left_eye_center_x is 'wide66."]),
    "npz that is none": (csv_text("hello", "faces.npz"), ["faces.npz", "is not a zip file"]),
    "empty npz": (csv_text("", "faces.npz"), ["faces.npz", "the file is empty"]),
    "half an npz": (truncated(npz_with(), 0.5), ["faces.npz", "damaged"]),
    "damaged npz": (damaged(npz_with(), 9000), ["faces.npz", "damaged"]),
    "npz without groups": (npz_with(group=None), ["faces.npz", "array 'group' is missing"]),
    "npz with other names": (npz_with(images=None, X=random_images(3)), ["array 'images' is missing", "found", "X"]),
    "npz of other sizes": (npz_with(images=np.zeros((3, 48, 48), np.uint8)), ["images has shape [3, 48, 48]", "[3, 96, 96]"]),
    "npz with colours first": (npz_with(images=np.zeros((3, 3, 96, 96), np.uint8)), ["array 'images' has shape [3, 3, 96, 96]", "transpose(0, 2, 3, 1)"]),
    "npz of words": (npz_with(images=np.full((3, 96, 96), "x")), ["array 'images' holds <U1 values", "not brightness"]),
    "npz of black images": (npz_with(images=np.zeros((3, 96, 96), np.float32)), ["every image is a single grey value (0 in row 0)"]),
    "npz with too few points": (npz_with(points=np.zeros((3, 14, 2))), ["points has shape [3, 14, 2]", "[3, 15, 2]"]),
    "npz with points in a row": (npz_with(points=np.zeros((3, 30))), ["points has shape [3, 30]", "[3, 15, 2]"]),
    "npz with fewer faces": (npz_with(points=np.zeros((2, 15, 2))), ["points has shape [2, 15, 2]", "[3, 15, 2]"]),
    "npz with words for points": (npz_with(points=np.full((3, 15, 2), "x")), ["array 'points' is <U1", "numbers"]),
    "npz with one group": (npz_with(group=np.array("a")), ["array 'group' is <U1 of shape []", "one for each face"]),
    "npz with wrong groups": (npz_with(group=np.array(["a", "b"])), ["group has shape [2]", "[3]"]),
    "npz with float groups": (npz_with(group=np.array([1.5, 2, 3])), ["array 'group' is float64", "text or whole numbers"]),
    "npz with a point far away": (npz_with(points=points_with(1, 10, 0, 4000)), ["row 1", "nose_tip_x is 4000", "-96 to 192"]),
    "npz with x alone": (npz_with(points=points_with(2, 10, 1, np.nan)), ["row 2", "nose_tip has x and no y"]),
    "npz with infinity": (npz_with(points=points_with(2, 10, 1, -np.inf)), ["row 2", "nose_tip_y is -inf"]),
    "pickled npz": (pickled, ["faces.npz", "array 'points' holds pickled objects", "never opened"]),
    "pts without points": (folder_of_300w(pts="version: 1\n"), ["one.pts", "holds no points"]),
    "pts with 67 points": (folder_of_300w(pts="{\n" + "1 2\n" * 67 + "}"), ["one.pts", "holds 67 points, expected 68"]),
    "pts in words": (folder_of_300w(pts="{\n" + "1 two\n" * 68 + "}"), ["one.pts", "'two' is not a number"]),
    "pts with NaN": (folder_of_300w(pts="{\n" + "1 nan\n" * 68 + "}"), ["one.pts", "not a place in a picture"]),
    "pts all in one place": (folder_of_300w(pts="{\n" + "50 50\n" * 68 + "}"), ["one.pts", "not those of an upright face"]),
    "pts of another picture": (folder_of_300w(shift=3000), ["one.pts", "not those of an upright face in one.png"]),
    "pts without a picture": (folder_of_300w(picture=None), ["one.pts", "no picture with the same name", "one.jpg"]),
    "empty picture": (folder_of_300w(picture=b""), ["one.png", "not an image that can be read"]),
    "picture that is none": (folder_of_300w(picture=b"hello"), ["one.png", "not an image that can be read"]),
}


def everything_in(folder) -> dict[str, bytes]:
    "Read all files below a folder."
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, tmp_path):
    write, words = BAD[case]
    source = write(tmp_path)
    before = everything_in(tmp_path)
    with pytest.raises(UserError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        load_faces(source, data_folder=tmp_path / "data")
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message and len(message) < 700
    assert everything_in(tmp_path) == before, "nothing is written, and nothing is changed"


def test_the_table_is_long_enough_and_a_good_table_loads(tmp_path):
    assert len(BAD) >= 30
    assert len(load_faces(FINE(tmp_path))) == 4
    assert len(load_faces(npz_with()(tmp_path))) == 3
    assert len(load_faces(folder_of_300w()(tmp_path))) == 1
    assert len(load_faces(zip_with({"training.csv": GOOD})(tmp_path))) == 4


@pytest.mark.parametrize(("text", "words"), [
    ("ImageId,Image\n1.5,0 0\n", ["row 0", "Image has 2 values"]),
    (f"ImageId,Image\n1.5,{table_cells()[0]['Image']}\n", ["row 0", "ImageId is 1.5", "whole number"]),
    (f"ImageId,Image\n,{table_cells()[0]['Image']}\n", ["row 0", "ImageId is empty"]),
    (f"Image\n{table_cells()[0]['Image']}\n", ["column ImageId is missing"]),
])
def test_bad_test_table(text, words, tmp_path):
    with pytest.raises(UserError) as caught:
        load_kaggle_test(csv_text(text, "test.csv")(tmp_path))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(("text", "words"), [
    ("", ["IdLookupTable.csv", "the file is empty"]),
    ("RowId,ImageId,Location\n1,1,\n", ["IdLookupTable.csv", "column FeatureName is missing"]),
    ("RowId,ImageId,FeatureName,Location\n1,1,nose_tip_z,\n", ["IdLookupTable.csv", "unknown FeatureName 'nose_tip_z'", "did you mean 'nose_tip_"]),
])
def test_bad_lookup_table(text, words, tmp_path):
    csv_text(f"ImageId,Image\n1,{table_cells()[0]['Image']}\n", "test.csv")(tmp_path)
    csv_text(text, "IdLookupTable.csv")(tmp_path)
    with pytest.raises(UserError) as caught:
        load_kaggle_test(tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []


def small_set() -> Faces:
    "Make three faces of noise."
    return Faces(images=random_images(3), points=np.repeat(MEAN_FACE[None], 3, 0), group=np.array(["a", "b", "c"]),
                 source=np.array(["s"] * 3), image_id=np.array(["0", "1", "2"]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="file size limits need POSIX")
def test_full_disk(tmp_path):
    "A limit on file size simulates a full disk: the write really fails half-way."
    import resource

    FINE(tmp_path)
    save_npz(small_set(), tmp_path / "faces.npz")
    before = everything_in(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(RunError, match="faces.npz: writing failed .*nothing was left half-written"):
            save_npz(small_set()[[0, 1, 2, 0, 1]], tmp_path / "faces.npz")
        with pytest.warns(UserWarning, match="could not be written to the cache"):
            loaded = load_faces(tmp_path / "training.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(loaded) == 4, "a cache that cannot be written is not an error"
    assert everything_in(tmp_path) == before, "the old file is complete, and there is no other file"


def test_no_space_left(tmp_path, monkeypatch):
    def no_space(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunError, match="No space left on device"):
        save_npz(small_set(), tmp_path / "faces.npz")
    assert everything_in(tmp_path) == {}


def test_a_cache_folder_that_can_not_be_made_is_only_a_warning(tmp_path):
    path = FINE(tmp_path)
    (tmp_path / CACHE_FOLDER).write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="loading goes on without it"):
        assert len(load_faces(path)) == 4


def test_zip_members_that_lie_about_their_size(tmp_path):
    "A member that unpacks to more than its declared size is cut there, and its checksum does not match."
    content = bytearray(zip_bytes({"training.csv": GOOD}))
    place = content.index(b"PK\x01\x02") + 24
    content[place:place + 4] = struct.pack("<I", 5000)
    (tmp_path / "faces.zip").write_bytes(content)
    with pytest.raises(UserError, match="faces.zip"):
        load_faces(tmp_path / "faces.zip")


def test_a_table_that_changes_while_it_is_read(tmp_path, monkeypatch):
    path, parse = FINE(tmp_path), parse_training

    def slow_parse(table):
        result = parse(table)
        path.write_text(GOOD + "\n")
        return result

    monkeypatch.setattr("facekp.data.kaggle.parse_training", slow_parse)
    with pytest.raises(UserError, match="was changed while it was read"):
        load_faces(path)
    assert not (tmp_path / CACHE_FOLDER).exists()


def test_all_broken_rows_are_listed(tmp_path):
    rows = table_cells(12)
    rows[1]["nose_tip_x"], rows[5]["Image"], rows[9]["nose_tip_y"] = "x", "1 2 3", "500"
    (tmp_path / "training.csv").write_text(table_text(rows))
    assert [problem.split(":")[0] for problem in broken_rows(tmp_path) if "no" not in problem.split()] == ["row 1", "row 5", "row 9"]
    with pytest.raises(UserError, match=r"row 1: .*\(broken rows in all: 3, the next is 5\)"):
        load_faces(tmp_path)
