"Folders of photos with .pts files, groups, resized photos, tables from spreadsheets or other systems, auxiliary files, arrays with other ranges."

import os
import shutil
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from kaggle_stand_in import table_cells, table_text, zip_bytes
from PIL import Image

from facekp.audit import audit
from facekp.cli import main
from facekp.conventions import EYE_POINTS_OF_68, POINTS_OF_68
from facekp.data.kaggle import load_kaggle, load_kaggle_test
from facekp.data.npz import load_npz, to_arrays
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.errors import UserError
from facekp.images import read_images
from facekp.inference.keypoint_model import OnnxModel
from facekp.inference.sources import find_sources
from facekp.jobs import evaluate, train
from facekp.keypoints import COLUMNS, KEYPOINTS
from facekp.synthetic.kaggle_files import write_kaggle_folder
from facekp.synthetic.renderer import synthetic_faces

DRAWN = synthetic_faces(10, seed=21, workers=1)


def write_photos(folder, names, suffix=".pts", place=(40, 60), scale=2.0):
    "Write photos of 320x320 pixels, each with a synthetic face of the given size, and their landmarks."
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        face = cv2.resize(DRAWN.images[number % 10], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        photo = np.full((320, 320), 128, np.uint8)
        photo[:] = cv2.copyMakeBorder(face, place[1], 320 - place[1] - len(face), place[0], 320 - place[0] - len(face), cv2.BORDER_REPLICATE)
        photo[0, :] = number  # all photos differ
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


def test_photos_in_folders_of_men_and_women_are_not_paired(tmp_path):
    "kind: 6 | what: men/face_N next to women/face_N | gets: eight groups; the split assigns each photo of both folders separately"
    faces = load_faces(write_photos(tmp_path / "own", [f"{who}/face_{n}" for who in ("men", "women") for n in range(1, 5)]))
    assert faces.group.tolist() == faces.image_id.tolist()


def test_two_faces_of_a_helen_or_afw_photo_are_one_group(tmp_path):
    "kind: 6 | what: two faces of one photo, with the file names that HELEN, AFW and iBUG use | gets: one group for both faces"
    folder = write_photos(tmp_path / "own", ["134212_1", "134212_2", "1051618982_1", "image_003_1", "image_003_2"])
    (folder / "image_003_2.png").write_bytes((folder / "image_003_1.png").read_bytes())
    (folder / "image_003_2.pts").write_bytes((folder / "image_003_1.pts").read_bytes())
    groups = dict(zip(load_faces(folder).image_id.tolist(), load_faces(folder).group.tolist()))
    assert groups["134212_1"] == groups["134212_2"] != groups["1051618982_1"] and groups["image_003_1"] == groups["image_003_2"]


def test_groups_can_be_stated_in_a_file_by_photo_and_by_folder(tmp_path):
    "kind: 6 | what: several photos of one person | gets: groups.csv, which lists photos, folders or rows and overrides all other rules"
    folder = write_photos(tmp_path / "own", ["anna/1", "anna/2", "ben_1", "ben_2", "eve"])
    load_faces(folder)
    (folder / "groups.csv").write_text("name,group\nanna,Anna\nben_1,Ben\nben_2,Ben\n")
    assert load_faces(folder).group.tolist() == ["Anna", "Anna", "Ben", "Ben", "eve"]
    (folder / "groups.csv").write_text("name,group\nann,Anna\n")
    with pytest.raises(UserError, match="groups.csv: 'ann' is not a photo, folder or row"):
        load_faces(folder)
    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    (kaggle / "training.csv").write_text(table_text(table_cells(4)))
    (kaggle / "groups.csv").write_text("name,group\n0,a\n3,a\n")
    assert load_faces(kaggle).group.tolist() == ["a", "kaggle-1", "kaggle-2", "a"]


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.6])
def test_photos_resized_without_their_points_are_refused(factor, tmp_path):
    "kind: 2 | what: the images of a folder were resized, but not their .pts files | gets: a one-line error with the factor, or with the share of points outside the images"
    folder = write_photos(tmp_path / "own", [f"photo_{n}" for n in range(6)])
    assert len(load_faces(folder)) == 6
    for path in folder.glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    with pytest.raises(UserError, match="new width / old width"):
        load_faces(folder)


def test_points_as_fractions_of_the_photo_are_refused(tmp_path):
    "kind: 2 | what: .pts files with fractions of width and height | gets: a one-line error with the factors to multiply by"
    folder = write_photos(tmp_path / "own", ["one"])
    lines = (folder / "one.pts").read_text().splitlines()
    lines[3:-1] = [" ".join(str(float(value) / 320) for value in line.split()) for line in lines[3:-1]]
    (folder / "one.pts").write_text("\n".join(lines))
    with pytest.raises(UserError, match="multiply fractions of width and height by 320 and 320"):
        load_faces(folder)


def test_endings_in_capitals_and_links_to_folders_are_read(tmp_path):
    "kind: 14 | what: .PTS and .PNG in capitals, a link to a folder, a circular link, macOS metadata files | gets: all faces, each once"
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
    "kind: 14 | what: image or LEFT_EYE_CENTER_X in the header | gets: the same faces"
    header, _, rest = table_text(table_cells(3)).partition("\n")
    (tmp_path / "training.csv").write_text(header + "\n" + rest)
    expected = load_kaggle(tmp_path / "training.csv")
    (tmp_path / "other.csv").write_text(case(header) + "\n" + rest)
    assert load_kaggle(tmp_path / "other.csv") == expected


@pytest.mark.parametrize(("change", "words"), [
    (lambda text: text.encode("utf-16"), "is UTF-16 text; save it as CSV UTF-8"), (lambda text: text.encode("utf-16-le"), "is UTF-16 text"),
    (lambda text: text.replace(".", ";").replace(",", ";").encode(), "semicolons separate the columns"), (lambda text: text.replace(",", "\t").encode(), "tabs separate the columns"),
    (lambda text: "\n".join(line[:line.rindex(",") + 1] + line[line.rindex(",") + 1:][:32_767] for line in text.splitlines()).encode(), "row 0: Image was cut at 32,767 characters")])
def test_tables_from_other_programs_are_refused_with_the_cause(change, words, tmp_path):
    "kind: 14 | what: UTF-16, semicolons, tabs, cells truncated by a spreadsheet | gets: a one-line error with the cause and the remedy"
    (tmp_path / "training.csv").write_bytes(change(table_text(table_cells(2))))
    with pytest.raises(UserError, match=words) as caught:
        load_faces(tmp_path / "training.csv")
    assert "\n" not in str(caught.value)


ODD = [b"", b"\n", b"\n\n\n", b"\0", b'"', b"Set\n", b",,,\n", b"Set,Set,Source\ntraining,a,b\n", b"\xff\xfea\0", b"RowId,ImageId,FeatureName,Location\n", b"a\n1,2,3\n4,5,6,7\n",
       b"RowId,ImageId,FeatureName\n,,\n", b"RowId,ImageId,FeatureName\n1,x,nose_tip_x\n", b"\x89PNG\r\n\x1a\n", b"RowId;ImageId;FeatureName\n1;1;nose_tip_x\n"]


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    return write_kaggle_folder(tmp_path_factory.mktemp("side") / "own", 6, seed=3)


def put_system_files(folder):
    "Put files that systems and programs create among images into a folder and its subfolders."
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "._a.png", "._a.pts", "notes.txt", "a.xmp", "a.json", "README", "a.png.aae", ".hidden.jpg", "a.pts~", "checksums.md5"):
            (place / name).write_bytes(b"\0\5\x16\7 no picture")
    for name in ("__MACOSX", "@eaDir", ".thumbnails", "$RECYCLE.BIN", "empty"):
        (folder / name).mkdir()
        if name != "empty":
            (folder / name / "SYNOFILE_THUMB.jpg").write_bytes(b"no picture")
            (folder / name / "old.pts").write_bytes(b"no points")


def test_other_files_among_photos_are_skipped(tmp_path):
    "kind: 13 | what: Thumbs.db, .DS_Store, desktop.ini, ._ files, .xmp, .txt, __MACOSX or @eaDir among photos with .pts files | gets: the photos, as without these files"
    folder = write_photos(tmp_path / "own", ["a", "b", "sub/c"])
    expected = load_faces(folder)
    shutil.rmtree(folder / ".facekp_cache")
    put_system_files(folder)
    assert load_faces(folder) == expected and len(expected) == 3


def test_other_files_among_photos_do_not_stop_a_prediction(tmp_path, monkeypatch, capsys):
    "kind: 13 | what: the same files among photos for prediction | gets: a row per photo and exit status 0; a broken photo is named, the others are predicted"
    folder = write_photos(tmp_path / "own", ["a", "sub/b"])
    put_system_files(folder)
    assert sorted(source.name for source in find_sources([folder])) == ["a", str(Path("sub") / "b")]
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(folder), "--format", "json", "--out", "found"]) == 0
    assert sorted(path.name for path in (tmp_path / "found").rglob("*.json")) == ["a.json", "b.json"]
    (folder / "broken.jpg").write_bytes(b"no picture")
    capsys.readouterr()
    assert main(["predict", str(folder), "--format", "json", "--out", "again"]) == 2
    assert "broken.jpg" in capsys.readouterr().err and len(list((tmp_path / "again").rglob("*.json"))) == 2


def test_a_folder_of_system_files_contains_no_photo(tmp_path):
    "kind: 13 | what: a folder that contains only system files | gets: a one-line error: no image and no training.csv"
    put_system_files(tmp_path)
    with pytest.raises(UserError, match="no image or video in this folder"):
        find_sources([tmp_path])
    with pytest.raises(UserError, match="holds neither training.csv nor .pts files"):
        load_faces(tmp_path)


@pytest.mark.parametrize("ending", [".webp", ".JPG", ".jp2", ".gif", ".bmp"])
def test_points_are_matched_with_photos_of_every_readable_format(ending, tmp_path):
    "kind: 13 | what: .pts files next to WebP, GIF, JPEG 2000 or BMP photos | gets: the faces, as with PNG photos"
    folder = write_photos(tmp_path / "own", ["a"])
    Image.open(folder / "a.png").save(folder / f"a{ending}")
    (folder / "a.png").unlink()
    assert len(load_faces(folder)) == 1


def test_members_of_a_zip_that_are_not_tables_are_skipped(kaggle, tmp_path):
    "kind: 13 | what: a zip with __MACOSX, .DS_Store, a folder level and an older copy of the table | gets: the table at the highest folder level"
    older = "\n".join((kaggle / "training.csv").read_text().split("\n")[:3]) + "\n"
    members = {"own/old/training.csv": older, "__MACOSX/training.csv": "no table", "__MACOSX/own/._training.csv": "no table", "own/.DS_Store": "x", "own/Thumbs.db": "x", "own/notes.txt": "x",
               "own/training.csv": (kaggle / "training.csv").read_text(), "z/y/x/training.csv": older}
    for order in (list(members), list(members)[::-1]):
        (tmp_path / "own.zip").write_bytes(zip_bytes({name: members[name] for name in order}))
        assert np.array_equal(load_faces(tmp_path / "own.zip").images, load_kaggle(kaggle).images)
        shutil.rmtree(tmp_path / ".facekp_cache", ignore_errors=True)


def test_a_data_folder_with_system_files_counts_as_empty(tmp_path, monkeypatch):
    "kind: 13 | what: data/kaggle contains only .DS_Store before the download | gets: the download; the system file is kept"
    from facekp.data import kaggle_download

    (tmp_path / "fetched").mkdir()
    for name in KAGGLE_NAMES[:3]:
        (tmp_path / "fetched" / name).write_text(name)
    monkeypatch.setattr(kaggle_download, "_download_competition", lambda: tmp_path / "fetched")
    (tmp_path / "data" / "kaggle").mkdir(parents=True)
    (tmp_path / "data" / "kaggle" / ".DS_Store").write_text("x")
    folder = kaggle_download.fetch_kaggle(tmp_path / "data")
    assert sorted(path.name for path in folder.iterdir()) == [".DS_Store", "IdLookupTable.csv", "test.csv", "training.csv"]
    (folder / "training.csv").unlink()
    (folder / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="exists but holds no training.csv"):
        kaggle_download.fetch_kaggle(tmp_path / "data")


def test_a_repacked_npz_is_read(tmp_path):
    "kind: 13 | what: an .npz file with .DS_Store and a text file among its arrays | gets: the same faces"
    np.savez(tmp_path / "own.npz", **to_arrays(DRAWN))
    with zipfile.ZipFile(tmp_path / "own.npz", "a") as archive:
        for name in (".DS_Store", "__MACOSX/._images.npy", "notes.txt"):
            archive.writestr(name, b"no array")
    assert load_npz(tmp_path / "own.npz") == DRAWN


def per_row(change):
    "Apply a change to every non-empty line."
    return lambda text: b"\n".join(change(line) if line else line for line in text.split(b"\n"))


SAME_TABLES = {  # ways in which other programs write a table without changing its values
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text, "CRLF": lambda text: text.replace(b"\n", b"\r\n"), "no last line feed": lambda text: text.rstrip(b"\n"),
    "quoted": per_row(lambda line: b'"' + line.replace(b",", b'","') + b'"'), "trailing commas": per_row(lambda line: line + b",,"), "spaces": lambda text: text.replace(b",", b", "),
    "trailing commas in the rows": lambda text: text.split(b"\n")[0] + b"\n" + per_row(lambda line: line + b",")(text.split(b"\n", 1)[1]),
    "trailing comma in the header": lambda text: text.replace(b"\n", b",\n", 1), "rows of commas": lambda text: text + b",,,,,,\n,,,\n", "blank lines": lambda text: b"\n\n" + text.replace(b"\n", b"\n\n"),
    "sep=,": lambda text: b"sep=,\r\n" + text, "lower case": lambda text: text.split(b"\n")[0].lower() + b"\n" + text.split(b"\n", 1)[1], "end of file mark": lambda text: text + b"\x1a",
    "reversed": per_row(lambda line: b",".join(line.split(b",")[::-1])), "index": per_row(lambda line: b"7," + line)}
OTHER_TABLES = {  # what is refused, with words of the error message
    "0 bytes": (lambda text: b"", "the file is empty"), "header only": (lambda text: text.split(b"\n")[0], "no row below|0 training rows"),
    "carriage returns": (lambda text: text.replace(b"\n", b"\r"), "carriage returns alone"), "UTF-16": (lambda text: text.decode().encode("utf-16"), "UTF-16"),
    "semicolons": (lambda text: text.replace(b",", b";"), "semicolons separate"), "tabs": (lambda text: text.replace(b",", b"\t"), "tabs separate"),
    "a column twice": (lambda text: per_row(lambda line: line + b"," + line.split(b",")[0])(text), "occurs 2 times"),
    "another name": (lambda text: text.replace(b"ImageId", b"Image Id", 1).replace(b"nose_tip_x", b"nose_x", 1).replace(b"FeatureName", b"Feature", 1), "is missing"),
    "no header": (lambda text: text.split(b"\n", 1)[1], "is missing"), "header twice": (lambda text: text.split(b"\n")[0] + b"\n" + text, "row 0"),
    "cut": (lambda text: text[:len(text) * 2 // 5], "row |rows"), "a web page": (lambda text: b"<html>sign in</html>", "a web page in the place of the file"), "a picture": (lambda text: b"\x89PNG\r\n\x1a\n" + bytes(99), "is missing")}
KAGGLE_NAMES = ("training.csv", "test.csv", "IdLookupTable.csv", "truth.csv")
OTHER_IDS = ("-1", "1.5", "nan", "inf", "abc", "9" * 30, "9223372036854775808", "")


def read_competition(folder):
    "Read all Kaggle files of a folder: training set, test set and requests."
    from facekp.experiments.kaggle import read_requests

    faces, (test, lookup) = load_kaggle(folder), load_kaggle_test(folder)
    requests = read_requests(lookup, test.image_id, str(folder))
    return faces, test, requests.row_id.tolist(), requests.face.tolist(), requests.column.tolist()


@pytest.fixture
def competition(kaggle, tmp_path):
    "Return a copy of the folder in Kaggle's format."
    for name in KAGGLE_NAMES:
        shutil.copy(kaggle / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize("way", SAME_TABLES)
def test_tables_from_other_programs_have_the_same_values(way, competition):
    "kind: 16 | what: Kaggle's tables with a byte order mark, CRLF, quotes, trailing commas, blank or comma rows, or columns in another case or order | gets: the same values"
    expected = read_competition(competition)
    for name in KAGGLE_NAMES:
        text = (competition / name).read_bytes()
        (competition / name).write_bytes(SAME_TABLES[way](text))
        assert read_competition(competition) == expected, name
        (competition / name).write_bytes(text)


@pytest.mark.parametrize("way", OTHER_TABLES)
def test_unreadable_tables_are_named_with_the_cause(way, competition, capsys):
    "kind: 16 | what: Kaggle's tables are empty, truncated, in another encoding, with another separator or without a header | gets: a one-line error with file and cause, from loaders and commands"
    change, words = OTHER_TABLES[way]
    for name in KAGGLE_NAMES:
        text = (competition / name).read_bytes()
        (competition / name).write_bytes(change(text))
        with pytest.raises(UserError, match=words) as caught, warnings.catch_warnings():
            warnings.simplefilter("error")
            read_competition(competition)
        assert name in str(caught.value) and "\n" not in str(caught.value)
        command = ["data", "info"] if name in ("training.csv", "truth.csv") else ["submit", "--out", str(competition / "answers.csv"), "--data"]
        assert main([*command, str(competition)]) == 2 and capsys.readouterr().err.count("\n") == 1
        (competition / name).write_bytes(text)


@pytest.mark.parametrize("value", OTHER_IDS)
@pytest.mark.parametrize(("name", "place"), [("test.csv", 0), ("IdLookupTable.csv", 0), ("IdLookupTable.csv", 1)])
def test_ids_that_are_not_whole_numbers_are_named_with_their_row(name, place, value, competition):
    "kind: 16 | what: RowId or ImageId is negative, huge, infinite, a fraction, empty or text | gets: a one-line error with column, row and value; never another number"
    header, first, *others = (competition / name).read_text().split("\n")
    cells = first.split(",")
    cells[place] = value
    (competition / name).write_text("\n".join([header, ",".join(cells), *others]))
    with pytest.raises(UserError, match=f"{name}, row 0: {header.split(',')[place]} is "), warnings.catch_warnings():
        warnings.simplefilter("error")
        read_competition(competition)


def test_repeated_rows_and_ids_are_named(competition):
    "kind: 16 | what: a RowId or ImageId occurs twice | gets: a one-line error with the row and the id"
    for name, words in (("IdLookupTable.csv", "row 1: RowId 1 is there twice"), ("test.csv", "row 1: ImageId 1 is there twice")):
        text = (competition / name).read_text()
        header, first, rest = text.split("\n", 2)
        (competition / name).write_text("\n".join([header, first, first, rest]))
        with pytest.raises(UserError, match=words):
            read_competition(competition)
        (competition / name).write_text(text)


def test_lists_of_values_are_not_mistaken_for_faces(competition):
    "kind: 16 | what: SampleSubmission.csv or IdLookupTable.csv given as data | gets: a one-line error that states what the file is, and which files contain faces"
    (competition / "SampleSubmission.csv").write_text("RowId,Location\n1,0\n")
    for name in ("SampleSubmission.csv", "IdLookupTable.csv"):
        for read in (load_faces, load_kaggle_test):
            with pytest.raises(UserError, match="list of requested values or a submission; expected training.csv or test.csv"):
                read(competition / name)


@pytest.mark.parametrize("text", ["", "RowId,Location\n", "RowId,Location\n1,2\n1,2\n", "RowId;Location\n1;2\n", "RowId,Location\n1,x\n", "RowId,Location\n-5,3\n", "Row,Location\n1,2\n"])
def test_invalid_submissions_are_not_scored(text, competition):
    "kind: 16 | what: a submission that is empty, truncated, repeated or has other columns | gets: a one-line error that names the file"
    from facekp.experiments.kaggle import read_requests
    from facekp.experiments.kaggle_score import score_submission

    test, lookup = load_kaggle_test(competition)
    (competition / "answers.csv").write_text(text)
    with pytest.raises(UserError, match="answers.csv"):
        score_submission(competition / "answers.csv", read_requests(lookup, test.image_id), competition / "truth.csv")


@pytest.mark.parametrize("number", range(len(ODD)))
@pytest.mark.parametrize("name", ["truth.csv", "IdLookupTable.csv"])
def test_invalid_auxiliary_files_are_named_in_one_line(name, number, kaggle):
    "kind: 16 | what: truth.csv or IdLookupTable.csv is empty, binary or has other columns | gets: a one-line error that names the file"
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
    "Return images with another number of bits, stored in 16."
    return np.round(images * ((2**bits - 1) / 255)).astype(np.uint16)


SAME = {  # representation of a set of images -> largest difference of a grey value
    "floats to 1": (lambda images: images / np.float32(255), 0), "half floats": (lambda images: (images / 255).astype(np.float16), 1), "doubles to 255": (lambda images: images.astype(float), 0),
    "slightly above 1": (lambda images: (images / 255 * 1.0002).astype(np.float32), 1), "slightly below 0": (lambda images: images / 255 - 1e-7, 0), "10 bits": (lambda images: as_bits(images, 10), 1),
    "12 bits": (lambda images: as_bits(images, 12), 1), "14 bits": (lambda images: as_bits(images, 14), 1), "16 bits": (lambda images: as_bits(images, 16), 0), "int64": (lambda images: images.astype(np.int64), 0),
    "one channel": (lambda images: images[..., None], 0), "RGB": (lambda images: np.repeat(images[..., None], 3, 3), 0), "RGB floats": (lambda images: np.repeat(images[..., None], 3, 3) / 255, 0),
    "RGBA": (lambda images: np.concatenate([np.repeat(images[..., None], 3, 3), np.full((*images.shape, 1), 255, np.uint8)], 3), 0), "big-endian": (lambda images: as_bits(images, 16).astype(">u2"), 0)}


@pytest.mark.parametrize("kind", SAME)
def test_training_images_of_any_range_become_the_same_grey_values(kind, tmp_path):
    "kind: 4 | what: floats up to 1, 10 to 16 bits, half-precision floats or colours in an .npz file | gets: the same grey values from 0 to 255 for the whole set"
    change, largest = SAME[kind]
    bright = replace(DRAWN, images=np.clip(DRAWN.images * (255 / DRAWN.images.max()) + 0.5, 0, 255).astype(np.uint8))
    np.savez(tmp_path / "own.npz", **(to_arrays(bright) | {"images": change(bright.images)}))
    assert np.abs(load_npz(tmp_path / "own.npz").images.astype(int) - bright.images).max() <= largest


def test_dark_images_of_a_set_stay_dark(tmp_path):
    "kind: 4 | what: a set with 12 bits in which one image has values of at most 900 | gets: one range for the whole set; the dark image stays dark"
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
    "kind: 4 | what: normalised, mixed, NaN, binary, blank, channel-first or flattened images in an .npz file | gets: a one-line error with the values and the remedy"
    np.savez(tmp_path / "own.npz", **(to_arrays(DRAWN) | {"images": change(DRAWN.images)}))
    with pytest.raises(UserError) as caught:
        load_npz(tmp_path / "own.npz")
    assert words in str(caught.value) and "own.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_faces_made_in_python_are_refused_with_the_function_that_converts_them(tmp_path):
    "kind: 4 | what: Faces with float, colour or blank images | gets: an error that names the function that converts them; training, evaluation and audit refuse blank images"
    for wrong in (DRAWN.images / 255, DRAWN.images[..., None]):
        with pytest.raises(UserError, match="facekp.images.read_images"):
            replace(DRAWN, images=wrong)
    assert replace(DRAWN, images=read_images(DRAWN.images[..., None] / 255)) == DRAWN
    lost = replace(DRAWN, images=(DRAWN.images / 256).astype(np.uint8))
    for use in (audit, lambda faces: evaluate("default", faces), lambda faces: train("mean", tmp_path / "run", faces, profile="quick")):
        with pytest.raises(UserError, match="single grey value"):
            use(lost)


def test_keypoint_models_scale_crops_like_files(tmp_path):
    "kind: 4 | what: crops given to a keypoint model as floats up to 1 or with 12 bits | gets: the same points as with grey values from 0 to 255"
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
    "kind: 4 | what: grey, colour or transparent PNG and TIFF photos with 10, 12 or 16 bits, with .pts files | gets: the same crops as from the 8-bit photo"
    expected = load_faces(write_photos(tmp_path / "plain", ["a"]))
    (tmp_path / "deep").mkdir()
    shutil.copy(tmp_path / "plain" / "a.pts", tmp_path / "deep")
    photo = cv2.imread(str(tmp_path / "plain" / "a.png"), cv2.IMREAD_GRAYSCALE)
    photo[0, :2] = 0, 255  # the whole range, so that the number of bits can be recognised
    cv2.imwrite(str(tmp_path / "plain" / "a.png"), photo)
    expected = load_faces(tmp_path / "plain")
    deep = as_bits(np.repeat(photo[..., None], channels, 2), bits)
    deep[..., 3:] = 2**bits - 1
    cv2.imwrite(str(tmp_path / "deep" / f"a{ending}"), deep)
    assert np.abs(load_faces(tmp_path / "deep").images.astype(int) - expected.images).max() <= 1


def test_kaggles_test_set_is_checked_like_the_training_set(tmp_path):
    "kind: 4 | what: a test.csv whose images contain only 0 and 1 | gets: an error, since every prediction would be wrong"
    cell = " ".join(["0", "1"] * 4608)
    (tmp_path / "test.csv").write_text(f"ImageId,Image\n1,{cell}\n")
    with pytest.raises(UserError, match="test.csv: the images hold only 0 and 1"):
        load_kaggle_test(tmp_path / "test.csv")


def test_a_table_of_smaller_or_float_images_is_refused_with_the_cause(tmp_path):
    "kind: 4 | what: Image cells with 48x48 values, or with decimals | gets: an error with the row, the number of values and the expected number"
    rows = table_cells(1)
    for cell, words in ((" ".join(["7"] * 48 * 48), "row 0: Image has 2,304 values, expected 9,216"), (" ".join(["0.5"] * 9216), "row 0: Image value 0 is '0.5', expected a whole number"),
                        (" ".join(["0", "1"] * 4608), "the images hold only 0 and 1")):
        (tmp_path / "training.csv").write_text(table_text([rows[0] | {"Image": cell}]))
        with pytest.raises(UserError, match=words):
            load_faces(tmp_path / "training.csv")


def test_truth_in_other_units_is_refused(kaggle):
    "kind: 2 | what: truth.csv contains fractions | gets: an error with the conversion and the name of the file"
    kept = (kaggle / "truth.csv").read_text()
    table = pd.read_csv(kaggle / "truth.csv")
    table[list(COLUMNS)] /= 96
    try:
        table.to_csv(kaggle / "truth.csv", index=False)
        with pytest.raises(UserError, match="truth.csv: the labels are not in pixels"):
            load_kaggle(kaggle)
    finally:
        (kaggle / "truth.csv").write_text(kept)
