"Folders of photos with .pts files, groups, resized photos, tables that a spreadsheet or another system wrote, side files, arrays of other ranges."

import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from kaggle_stand_in import table_cells, table_text

from facekp.audit import audit
from facekp.conventions import EYE_POINTS_OF_68, POINTS_OF_68
from facekp.data.kaggle import load_kaggle, load_kaggle_test
from facekp.data.npz import load_npz, to_arrays
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.errors import UserError
from facekp.images import read_images
from facekp.inference.keypoint_model import OnnxModel
from facekp.jobs import evaluate, train
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.synthetic.renderer import synthetic_faces

DRAWN = synthetic_faces(10, seed=21, workers=1)


def write_photos(folder, names, suffix=".pts", place=(40, 60), scale=2.0):
    "Write photos of 320x320 pixels with a synthetic face of the given size each, and their landmarks."
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        face = cv2.resize(DRAWN.images[number % 10], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        photo = np.full((320, 320), 128, np.uint8)
        photo[:] = cv2.copyMakeBorder(face, place[1], 320 - place[1] - len(face), place[0], 320 - place[0] - len(face), cv2.BORDER_REPLICATE)
        photo[0, :] = number  # no two photos are equal
        cv2.imwrite(f"{path}.png", photo)
        points = (DRAWN.truth[number % 10] + 0.5) * scale - 0.5 + place
        landmarks = np.zeros((68, 2))
        for keypoint, index in POINTS_OF_68.items():
            landmarks[index] = points[KEYPOINTS.index(keypoint)]
        for keypoint, indices in EYE_POINTS_OF_68.items():
            corners = landmarks[[indices[0], indices[3]]].sum(axis=0)
            landmarks[[indices[1], indices[2], indices[4], indices[5]]] = (6 * points[KEYPOINTS.index(keypoint)] - corners) / 4
        text = "\n".join(f"{x + 1} {y + 1}" for x, y in landmarks)
        (folder / f"{name}{suffix}").write_text(f"version: 1\nn_points: 68\n{{\n{text}\n}}\n")
    return folder


@pytest.mark.parametrize("pattern", ["face_{}", "img_{:02d}", "{}", "IMG_2024_{}", "20240131_{}"])
def test_each_photo_is_a_group_unless_names_prove_otherwise(pattern, tmp_path):
    "kind: 6 | what: numbered photos such as face_1 to face_8 | gets: one group per photo, so that the set can be split"
    faces = load_faces(write_photos(tmp_path / "own", [pattern.format(n) for n in range(1, 9)]))
    assert len(set(faces.group)) == 8
    train, test = split_by_group(faces, 0.25)
    assert (len(train), len(test)) == (6, 2)


def test_folders_of_men_and_women_do_not_pair(tmp_path):
    "kind: 6 | what: men/face_N beside women/face_N | gets: eight groups, and the split takes from both folders' photos one by one"
    faces = load_faces(write_photos(tmp_path / "own", [f"{who}/face_{n}" for who in ("men", "women") for n in range(1, 5)]))
    assert faces.group.tolist() == faces.image_id.tolist()


def test_names_of_helen_and_afw_are_one_photo(tmp_path):
    "kind: 6 | what: two faces of one photo, as HELEN, AFW and iBUG store them | gets: one group for both"
    folder = write_photos(tmp_path / "own", ["134212_1", "134212_2", "1051618982_1", "image_003_1", "image_003_2"])
    (folder / "image_003_2.png").write_bytes((folder / "image_003_1.png").read_bytes())
    (folder / "image_003_2.pts").write_bytes((folder / "image_003_1.pts").read_bytes())
    groups = dict(zip(load_faces(folder).image_id.tolist(), load_faces(folder).group.tolist()))
    assert groups["134212_1"] == groups["134212_2"] != groups["1051618982_1"] and groups["image_003_1"] == groups["image_003_2"]


def test_groups_can_be_stated_in_a_file_by_photo_and_by_folder(tmp_path):
    "kind: 6 | what: several photos of one person | gets: groups.csv with names of photos, folders or rows goes before all rules"
    folder = write_photos(tmp_path / "own", ["anna/1", "anna/2", "ben_1", "ben_2", "eve"])
    load_faces(folder)
    (folder / "groups.csv").write_text("name,group\nanna,Anna\nben_1,Ben\nben_2,Ben\n")
    assert load_faces(folder).group.tolist() == ["Anna", "Anna", "Ben", "Ben", "eve"]
    (folder / "groups.csv").write_text("name,group\nann,Anna\n")
    with pytest.raises(UserError, match="groups.csv: 'ann' is no photo, folder or row"):
        load_faces(folder)
    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    (kaggle / "training.csv").write_text(table_text(table_cells(4)))
    (kaggle / "groups.csv").write_text("name,group\n0,a\n3,a\n")
    assert load_faces(kaggle).group.tolist() == ["a", "kaggle-1", "kaggle-2", "a"]


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.6])
def test_photos_resized_without_their_points_are_refused(factor, tmp_path):
    "kind: 2 | what: pictures of a folder resized, their .pts not | gets: one line with the factor, or the share of points outside"
    folder = write_photos(tmp_path / "own", [f"photo_{n}" for n in range(6)])
    assert len(load_faces(folder)) == 6
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    with pytest.raises(UserError, match="new width / old width"):
        load_faces(folder)


def test_points_as_fractions_of_the_photo_are_refused(tmp_path):
    "kind: 2 | what: .pts with fractions of width and height | gets: the numbers to multiply with"
    folder = write_photos(tmp_path / "own", ["one"])
    lines = (folder / "one.pts").read_text().splitlines()
    lines[3:-1] = [" ".join(str(float(value) / 320) for value in line.split()) for line in lines[3:-1]]
    (folder / "one.pts").write_text("\n".join(lines))
    with pytest.raises(UserError, match="multiply fractions of width and height by 320 and 320"):
        load_faces(folder)


def test_endings_in_capitals_and_links_to_folders_are_read(tmp_path):
    "kind: 14 | what: .PTS and .PNG in capitals, a link to a folder, a link in a circle, macOS's side files | gets: all faces, once"
    folder = write_photos(tmp_path / "own", ["a"], ".PTS")
    (folder / "a.png").rename(folder / "a.PNG")
    write_photos(tmp_path / "elsewhere", ["b"], ".Pts")
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(folder, folder / "circle")
    (folder / "._a.pts").write_bytes(b"\0\5\x16\7")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.pts").write_bytes(b"\0\5")
    (folder / "notes.txt").write_text("hello")
    assert load_faces(folder).image_id.tolist() == ["a", "linked/b"]


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_column_names_are_read_in_any_case(case, tmp_path):
    "kind: 14 | what: image or LEFT_EYE_CENTER_X in the first line | gets: the same faces"
    header, _, rest = table_text(table_cells(3)).partition("\n")
    (tmp_path / "training.csv").write_text(header + "\n" + rest)
    expected = load_kaggle(tmp_path / "training.csv")
    (tmp_path / "other.csv").write_text(case(header) + "\n" + rest)
    assert load_kaggle(tmp_path / "other.csv") == expected


@pytest.mark.parametrize(("change", "words"), [
    (lambda text: text.encode("utf-16"), "is UTF-16 text; save it as CSV UTF-8"), (lambda text: text.encode("utf-16-le"), "is UTF-16 text"),
    (lambda text: text.replace(".", ";").replace(",", ";").encode(), "semicolons separate the columns"), (lambda text: text.replace(",", "\t").encode(), "tabs separate the columns"),
    (lambda text: "\n".join(line[:line.rindex(",") + 1] + line[line.rindex(",") + 1:][:32_767] for line in text.splitlines()).encode(), "row 0: Image was cut at 32,767 characters")])
def test_tables_of_other_programs_are_refused_with_the_cause(change, words, tmp_path):
    "kind: 14 | what: UTF-16, semicolons, tabs, cells cut by a spreadsheet | gets: the cause and the way to mend it in one line"
    (tmp_path / "training.csv").write_bytes(change(table_text(table_cells(2))))
    with pytest.raises(UserError, match=words) as caught:
        load_faces(tmp_path / "training.csv")
    assert "\n" not in str(caught.value)


ODD = [b"", b"\n", b"\n\n\n", b"\0", b'"', b"Set\n", b",,,\n", b"Set,Set,Source\ntraining,a,b\n", b"\xff\xfea\0", b"RowId,ImageId,FeatureName,Location\n", b"a\n1,2,3\n4,5,6,7\n",
       b"RowId,ImageId,FeatureName\n,,\n", b"RowId,ImageId,FeatureName\n1,x,nose_tip_x\n", b"\x89PNG\r\n\x1a\n", b"RowId;ImageId;FeatureName\n1;1;nose_tip_x\n"]


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    return write_kaggle_folder(tmp_path_factory.mktemp("side") / "own", 6, seed=3)


@pytest.mark.parametrize("number", range(len(ODD)))
@pytest.mark.parametrize("name", ["truth.csv", "IdLookupTable.csv"])
def test_side_files_that_are_empty_or_odd_are_named_in_one_line(name, number, kaggle):
    "kind: 16 | what: truth.csv or IdLookupTable.csv empty, binary or of other columns | gets: one line that names the file"
    from facekp.experiments.kaggle import read_requests

    kept = (kaggle / name).read_bytes()
    try:
        (kaggle / name).write_bytes(ODD[number])
        with pytest.raises(UserError) as caught:
            if name == "truth.csv":
                load_kaggle(kaggle)
            else:
                faces, lookup = load_kaggle_test(kaggle)
                read_requests(lookup, faces.image_id, str(kaggle))
        assert "\n" not in str(caught.value) and (name in str(caught.value) or "own" in str(caught.value))
    finally:
        (kaggle / name).write_bytes(kept)


def as_bits(images: np.ndarray, bits: int) -> np.ndarray:
    "Return images of another number of bits, in 16."
    return np.round(images * ((2**bits - 1) / 255)).astype(np.uint16)


SAME = {  # how a set of images may come -> largest difference of a grey value
    "floats to 1": (lambda images: images / np.float32(255), 0), "half floats": (lambda images: (images / 255).astype(np.float16), 1), "doubles to 255": (lambda images: images.astype(float), 0),
    "slightly above 1": (lambda images: (images / 255 * 1.0002).astype(np.float32), 1), "slightly below 0": (lambda images: images / 255 - 1e-7, 0), "10 bits": (lambda images: as_bits(images, 10), 1),
    "12 bits": (lambda images: as_bits(images, 12), 1), "14 bits": (lambda images: as_bits(images, 14), 1), "16 bits": (lambda images: as_bits(images, 16), 0), "int64": (lambda images: images.astype(np.int64), 0),
    "one channel": (lambda images: images[..., None], 0), "RGB": (lambda images: np.repeat(images[..., None], 3, 3), 0), "RGB floats": (lambda images: np.repeat(images[..., None], 3, 3) / 255, 0),
    "RGBA": (lambda images: np.concatenate([np.repeat(images[..., None], 3, 3), np.full((*images.shape, 1), 255, np.uint8)], 3), 0), "big-endian": (lambda images: as_bits(images, 16).astype(">u2"), 0)}


@pytest.mark.parametrize("kind", SAME)
def test_training_images_of_any_range_become_the_same_grey_values(kind, tmp_path):
    "kind: 4 | what: floats to 1, 10 to 16 bits, half floats or colours in an .npz file | gets: the same grey values 0-255 for the whole set"
    change, largest = SAME[kind]
    bright = replace(DRAWN, images=np.clip(DRAWN.images * (255 / DRAWN.images.max()) + 0.5, 0, 255).astype(np.uint8))
    np.savez(tmp_path / "own.npz", **(to_arrays(bright) | {"images": change(bright.images)}))
    assert np.abs(load_npz(tmp_path / "own.npz").images.astype(int) - bright.images).max() <= largest


def test_dark_images_of_a_set_stay_dark(tmp_path):
    "kind: 4 | what: a set of 12 bits with an image of at most 900 | gets: one range for all, the dark image stays dark"
    images = as_bits(DRAWN.images, 12)
    images[3] = images[3] * (900 / images[3].max())
    images[0, 0, 0] = 4095
    np.savez(tmp_path / "own.npz", **(to_arrays(DRAWN) | {"images": images}))
    assert 50 < load_npz(tmp_path / "own.npz").images[3].max() <= 56


@pytest.mark.parametrize(("change", "words"), [
    (lambda images: images / 255 - 0.5, "around zero"), (lambda images: images / 127.5 - 1, "around zero"), (lambda images: (images - images.mean()) / images.std(), "around zero"),
    (lambda images: images / 100, "neither 0 to 1 nor"), (lambda images: images.astype(np.int32) - 40, "values from -40"), (lambda images: images * 1000.0, "values from 0"),
    (lambda images: np.where(images > 200, np.nan, images / 255), "NaN or infinite"), (lambda images: (images * np.float32(1000)).astype(np.float16), "NaN or infinite"),
    (lambda images: images > 99, "bool values"), (lambda images: images * 1j, "complex128 values"), (lambda images: (images > 99).astype(np.uint8), "hold only 0 and 1"),
    (lambda images: (images > 99).astype(int), "holds only 0 and 1"), (lambda images: (images / 256).astype(np.uint8), "single grey value"), (lambda images: images * 0 + 7, "single grey value (7 in row 0)"),
    (lambda images: np.concatenate([images[:4] / 255, images[4:].astype(float)]), "4 of 10 images have a much smaller range than the others, the first is image 0"),
    (lambda images: np.concatenate([images[:4] * np.uint16(257), images[4:]]), "6 of 10 images have a much smaller range than the others, the first is image 4"),
    (lambda images: np.concatenate([images[:4], images[4:] // 128]), "6 of 10 images, the first is that of row 4, hold only 0 and 1"),
    (lambda images: images[:, None], "transpose(0, 2, 3, 1)"), (lambda images: np.repeat(images[:, None], 3, 1), "transpose(0, 2, 3, 1)"), (lambda images: np.repeat(images[..., None], 2, 3), "[N,H,W,4] RGBA"),
    (lambda images: images.transpose(1, 2, 0), "transpose(2, 0, 1)"), (lambda images: images.reshape(10, -1), "reshape(-1, 96, 96)"), (lambda images: images.ravel(), "has shape [92160]"),
    (lambda images: np.concatenate([np.repeat(images[..., None], 3, 3) / 255, np.full((*images.shape, 1), 255.0)], 3), "opacity up to 255"),
    (lambda images: images[:, ::2, ::2], "resize the images, and multiply the points by 96 / width")])
def test_training_images_of_an_ambiguous_range_or_layout_are_refused_in_one_line(change, words, tmp_path):
    "kind: 4 | what: normalised, mixed, NaN, binary, blank, channel-first or flattened images in an .npz file | gets: one line with the values and what to do"
    np.savez(tmp_path / "own.npz", **(to_arrays(DRAWN) | {"images": change(DRAWN.images)}))
    with pytest.raises(UserError) as caught:
        load_npz(tmp_path / "own.npz")
    assert words in str(caught.value) and "own.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_faces_made_in_python_name_the_function_that_converts(tmp_path):
    "kind: 4 | what: Faces with float, colour or blank images | gets: the function that converts; training, evaluation and audit refuse blank images"
    for wrong in (DRAWN.images / 255, DRAWN.images[..., None]):
        with pytest.raises(UserError, match="facekp.images.read_images"):
            replace(DRAWN, images=wrong)
    assert replace(DRAWN, images=read_images(DRAWN.images[..., None] / 255)) == DRAWN
    lost = replace(DRAWN, images=(DRAWN.images / 256).astype(np.uint8))
    for use in (audit, lambda faces: evaluate("default", faces), lambda faces: train("mean", tmp_path / "run", faces, profile="quick")):
        with pytest.raises(UserError, match="single grey value"):
            use(lost)


def test_keypoint_models_scale_crops_as_files_are(tmp_path):
    "kind: 4 | what: crops as floats to 1 or of 12 bits given to a keypoint model | gets: the same points as with grey values 0-255"
    model = OnnxModel(threads=1)
    expected = model.predict(DRAWN.images).points
    for same in (DRAWN.images / 255, as_bits(DRAWN.images, 12), DRAWN.images.astype(float)):
        assert np.abs(model.predict(same).points - expected).max() < 0.05
    for wrong in (DRAWN.images / 127.5 - 1, DRAWN.images > 99):
        with pytest.raises(UserError):
            model.predict(wrong)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_photos_with_more_than_eight_bits_become_the_same_crops(channels, bits, ending, tmp_path):
    "kind: 4 | what: grey, colour or transparent PNG and TIFF photos with 10, 12 or 16 bits beside .pts files | gets: the crops of the 8-bit photo"
    expected = load_faces(write_photos(tmp_path / "plain", ["a"]))
    (tmp_path / "deep").mkdir()
    shutil.copy(tmp_path / "plain" / "a.pts", tmp_path / "deep")
    photo = cv2.imread(str(tmp_path / "plain" / "a.png"), cv2.IMREAD_GRAYSCALE)
    photo[0, :2] = 0, 255  # the whole range, so that the number of bits shows
    cv2.imwrite(str(tmp_path / "plain" / "a.png"), photo)
    expected = load_faces(tmp_path / "plain")
    deep = as_bits(np.repeat(photo[..., None], channels, 2), bits)
    deep[..., 3:] = 2**bits - 1
    cv2.imwrite(str(tmp_path / "deep" / f"a{ending}"), deep)
    assert np.abs(load_faces(tmp_path / "deep").images.astype(int) - expected.images).max() <= 1


def test_the_test_set_of_kaggle_is_checked_as_the_training_set_is(tmp_path):
    "kind: 4 | what: a test.csv whose images hold only 0 and 1 | gets: refused, since every answer would be wrong"
    cell = " ".join(["0", "1"] * 4608)
    (tmp_path / "test.csv").write_text(f"ImageId,Image\n1,{cell}\n")
    with pytest.raises(UserError, match="test.csv: the images hold only 0 and 1"):
        load_kaggle_test(tmp_path / "test.csv")


def test_a_table_of_smaller_or_float_images_names_what_is_wrong(tmp_path):
    "kind: 4 | what: Image cells of 48x48 values, or of decimals | gets: row, number of values, expected values"
    rows = table_cells(1)
    for cell, words in ((" ".join(["7"] * 48 * 48), "row 0: Image has 2,304 values, expected 9,216"), (" ".join(["0.5"] * 9216), "row 0: Image value 0 is '0.5', expected a whole number"),
                        (" ".join(["0", "1"] * 4608), "the images hold only 0 and 1")):
        (tmp_path / "training.csv").write_text(table_text([rows[0] | {"Image": cell}]))
        with pytest.raises(UserError, match=words):
            load_faces(tmp_path / "training.csv")


def test_truth_in_other_units_is_refused(kaggle):
    "kind: 2 | what: truth.csv in fractions | gets: the conversion, with the file's name"
    kept = (kaggle / "truth.csv").read_text()
    table = pd.read_csv(kaggle / "truth.csv")
    table[list(COLUMNS)] /= 96
    try:
        table.to_csv(kaggle / "truth.csv", index=False)
        with pytest.raises(UserError, match="truth.csv: the labels are not in pixels"):
            load_kaggle(kaggle)
    finally:
        (kaggle / "truth.csv").write_text(kept)
