"""Loading, caching, duplicates and splits."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_stand_in import competition_zip, random_images, table_cells, table_text, zip_bytes

from facekp.cli import main
from facekp.conventions import EYE_POINTS_OF_68, FOUR_KEYPOINTS, POINTS_OF_68, annotation_source, from_68_points
from facekp.data.archives import COMPETITION
from facekp.data.cache import CACHE_FOLDER, read_cache
from facekp.data.duplicates import near_duplicates
from facekp.data.kaggle import load_kaggle_test
from facekp.data.kaggle_table import IMAGE_VALUES, _parse_block, _parse_one_image
from facekp.data.npz import load_npz, save_npz
from facekp.data.sources import load_faces
from facekp.data.split import split_by_group
from facekp.errors import UserError
from facekp.faces import Faces
from facekp.geometry import Crop, crop_image, fit_crop, to_crop
from facekp.keypoints import COLUMNS, FLIP_ORDER, KEYPOINTS, MEAN_FACE


def faces_of(images, group=None, **more) -> Faces:
    "Return faces with images but without labels."
    count = len(images)
    names = np.arange(count).astype(str)
    return Faces(images=images, points=np.repeat(MEAN_FACE[None], count, 0), group=names if group is None else np.asarray(group, str),
                 source=np.full(count, "test"), image_id=names, **more)


def same(first: Faces, second: Faces) -> bool:
    "Return whether two sets are equal."
    parts = all(np.array_equal(getattr(first, part), getattr(second, part)) for part in ("images", "group", "source", "image_id"))
    return parts and np.array_equal(first.points, second.points, equal_nan=True)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "training.csv").write_text(table_text(table_cells(10)))
    return tmp_path / "training.csv"


# --- the Image column


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from([256, 10, 100, 1]))
@settings(max_examples=25, deadline=None)
def test_quick_parsing_is_careful_parsing(seed, count, below):
    images = np.random.default_rng(seed).integers(0, below, (count, IMAGE_VALUES))
    texts = [" ".join(map(str, image)).encode() for image in images.tolist()]
    assert (_parse_block(texts) == images).all()
    assert (_parse_one_image(texts[-1]) == images[-1]).all()


@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_whatever_is_put_into_the_text_both_ways_agree(place, scrap):
    text = bytearray(" ".join(map(str, random_images(1)[0].ravel().tolist())).encode())
    text[place:place + len(scrap)] = scrap
    quick = _parse_block([bytes(text)])
    try:
        careful = _parse_one_image(bytes(text))
    except ValueError:
        careful = None
    if quick is not None:
        assert careful is not None and (quick[0] == careful).all()


@pytest.mark.parametrize("number", [255, 256, 259, 260, 299, 300, 355, 511, 512, 999])
def test_no_number_wraps_around(number):
    values = random_images(1)[0].ravel().tolist()
    values[4000] = number
    parsed = _parse_block([" ".join(map(str, values)).encode()])
    assert (parsed is None) == (number > 255)


# --- tables


def test_a_table_is_read_as_pandas_reads_it(table):
    faces, frame = load_faces(table), pd.read_csv(table)
    assert np.array_equal(faces.points.reshape(-1, 30), frame[list(COLUMNS)].to_numpy(np.float32), equal_nan=True)
    assert all((image.ravel() == np.array(text.split(), int)).all() for image, text in zip(faces.images, frame["Image"]))
    assert faces.name == "training.csv" and faces.truth is None
    assert faces.source.tolist() == ["kaggle-1", "kaggle-2"] * 5
    assert faces.points.dtype == np.float32 and faces.images.dtype == np.uint8


def rewritten(text: str, way: str) -> bytes:
    "Write the same table in another format."
    lines = text.splitlines()
    if way == "other order":
        columns = ["Image", *COLUMNS[::-1]]
        return table_text(table_cells(10), columns).encode()
    if way == "Image in the middle":
        return table_text(table_cells(10), [*COLUMNS[:7], "Image", *COLUMNS[7:]]).encode()
    if way == "more columns":
        return "\n".join([lines[0] + ",Remark", *(line + ",fine" for line in lines[1:])]).encode()
    return {"as it is": text, "no last line end": text.rstrip("\n"), "Windows": text.replace("\n", "\r\n"), "blank lines": text.replace("\n", "\n\n"),
            "byte order mark": "\ufeff" + text, "spaces around names": text.replace(",", " , ", 30),
            "quoted": "\n".join([lines[0], *(",".join(f'"{cell}"' for cell in line.split(",")) for line in lines[1:])])}[way].encode()


@pytest.mark.parametrize("way", ["as it is", "other order", "Image in the middle", "more columns", "no last line end", "Windows", "blank lines",
                                 "byte order mark", "spaces around names", "quoted"])
def test_the_same_table_in_many_ways(table, tmp_path, way):
    other = tmp_path / "other.csv"
    other.write_bytes(rewritten(table.read_text(), way))
    assert same(load_faces(other), load_faces(table))


def test_folder_and_zips_hold_the_same(table, tmp_path):
    text = table.read_text()
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "training.zip").write_bytes(zip_bytes({"training.csv": text}))
    (tmp_path / "downloaded").mkdir()
    (tmp_path / "downloaded" / f"{COMPETITION}.zip").write_bytes(zip_bytes({"training.zip": zip_bytes({"training.csv": text})}))
    (tmp_path / "mine.zip").write_bytes(zip_bytes({"some folder/training.csv": text}))
    plain = load_faces(table)
    for source in (tmp_path, tmp_path / "zipped", tmp_path / "downloaded", tmp_path / "mine.zip", tmp_path / "zipped" / "training.zip"):
        assert same(load_faces(source), plain), source
        assert load_faces(source).name == source.name


def test_the_test_set_with_and_without_its_lookup_table(tmp_path):
    path = tmp_path / "competition.zip"
    path.write_bytes(competition_zip())
    faces, lookup = load_kaggle_test(path)
    assert faces.image_id.tolist() == ["1", "2"] and np.isnan(faces.points).all()
    assert lookup["FeatureName"].tolist() == ["nose_tip_x", "nose_tip_y", "nose_tip_x"]
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "test.zip").write_bytes(archive.read("test.zip"))
    alone, nothing = load_kaggle_test(tmp_path / "test.zip")
    assert same(alone, faces) and nothing is None
    path.unlink()
    assert load_kaggle_test(tmp_path)[1] is None


def test_kaggle_is_the_folder_of_that_name(table, tmp_path):
    (tmp_path / "data" / "kaggle").mkdir(parents=True)
    shutil.copy(table, tmp_path / "data" / "kaggle")
    faces = load_faces("kaggle", data_folder=tmp_path / "data")
    assert faces.name == "kaggle" and len(faces) == 10


def test_second_source_is_told_by_its_pattern():
    points = np.repeat(MEAN_FACE[None], 4, 0)
    four = [KEYPOINTS.index(name) for name in FOUR_KEYPOINTS]
    points[1:, [index for index in range(15) if index not in four]] = np.nan
    points[2, KEYPOINTS.index("mouth_center_bottom_lip")] = np.nan
    points[3, 13] = 48
    assert annotation_source(points).tolist() == ["kaggle-1", "kaggle-2", "kaggle-2", "kaggle-1"]


def test_copies_in_a_table_share_a_group(tmp_path):
    rows = table_cells(6)
    rows[4]["Image"] = rows[1]["Image"]
    (tmp_path / "training.csv").write_text(table_text(rows))
    group = load_faces(tmp_path).group
    assert group[4] == group[1] and len(set(group)) == 5


# --- the cache


@pytest.fixture
def no_parsing(monkeypatch):
    "Return a function that disables parsing when it is called."
    def forbid():
        def parse(*_):
            raise AssertionError("was parsed again")
        monkeypatch.setattr("facekp.data.kaggle.parse_training", parse)
    return forbid


def test_second_time_from_the_cache(table, no_parsing):
    first = load_faces(table)
    no_parsing()
    assert same(load_faces(table), first) and load_faces(table).name == "training.csv"
    shutil.copystat(__file__, table)  # other modification times, same content
    assert same(load_faces(table), first)


def test_truth_is_kept_in_the_cache(table, no_parsing):
    frame = pd.read_csv(table)
    truth = frame[list(COLUMNS)].fillna(dict(zip(COLUMNS, MEAN_FACE.ravel()))).assign(Set="training", Row=range(len(frame)), Source="synthetic-1")
    pd.concat([truth, truth.head(1).assign(Set="test")]).to_csv(table.parent / "truth.csv", index=False)
    first = load_faces(table.parent)
    no_parsing()
    again = load_faces(table.parent)
    assert (first.truth == again.truth).all() and np.isfinite(first.truth).all() and set(again.source) == {"synthetic-1"}


def entry_of(table):
    "Return the only cache entry of a table."
    [entry] = (table.parent / CACHE_FOLDER).glob("*.npz")
    return entry


def stored(entry):
    return read_cache(entry.parent, entry.stem)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "flipped in the middle", "flipped at the start", "another kind of file"])
def test_a_damaged_cache_is_never_read(table, damage):
    first = load_faces(table)
    path = entry_of(table)
    content = bytearray(path.read_bytes())
    place = {"flipped in the middle": len(content) // 2, "flipped at the start": 9}.get(damage)
    if damage == "gone":
        path.unlink()
    elif place:
        content[place] ^= 0xFF
        path.write_bytes(content)
    else:
        path.write_bytes({"cut": content[:-40], "empty": b"", "another kind of file": b"hello" * 1000}[damage])
    assert same(load_faces(table), first)
    assert same(stored(path), first), "a complete entry was not written again"


def test_pictures_that_changed_places_are_noticed(table):
    first = load_faces(table)
    path, (one, other) = entry_of(table), (image.tobytes() for image in first.images[:2])
    content = path.read_bytes()
    assert content.count(one + other) == 1
    path.write_bytes(content.replace(one + other, other + one))
    assert stored(path) is None


def test_a_changed_file_of_the_same_size_and_time_is_read_anew(table):
    load_faces(table)
    stat = table.stat()
    text = table.read_text()
    place = text.index("\n") + 1
    table.write_text(text[:place] + ("7" if text[place] != "7" else "6") + text[place + 1:])
    os.utime(table, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert table.stat().st_size == stat.st_size and table.stat().st_mtime_ns == stat.st_mtime_ns
    changed = load_faces(table).points[0, 0, 0]
    assert changed == np.float32(pd.read_csv(table).iloc[0, 0])


def test_a_table_that_changes_while_it_is_parsed_is_refused(table, monkeypatch):
    import facekp.data.kaggle as kaggle

    parse = kaggle.parse_training

    def parse_slowly(path):
        parsed = parse(path)
        stat = table.stat()
        text = table.read_text()
        table.write_text(text.replace(" 1", " 2", 1))
        os.utime(table, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        return parsed

    monkeypatch.setattr(kaggle, "parse_training", parse_slowly)
    with pytest.raises(UserError, match="was changed while it was read"):
        load_faces(table)
    assert not list((table.parent / CACHE_FOLDER).glob("*.npz"))


def test_an_entry_of_a_former_format_or_content_is_replaced_and_a_neighbours_is_kept(table):
    first = load_faces(table)
    entry = entry_of(table)
    content, format = entry.stem.rsplit("-", 2)[1:]
    former = [entry.with_name(f"{table.name}-{content}-2.npz"), entry.with_name(f"{table.name}-{'0' * 16}-{format}.npz")]
    neighbour = entry.with_name(f"{table.name}-old-{content}-{format}.npz")
    for path in (*former, neighbour):
        path.write_bytes(entry.read_bytes())
    entry.unlink()
    assert same(load_faces(table), first) and same(stored(entry), first)
    assert neighbour.exists() and not any(path.exists() for path in former)


def test_drawn_faces_are_drawn_once(tmp_path, monkeypatch):

    first = load_faces("synthetic:12", data_folder=tmp_path, seed=3)
    monkeypatch.setattr("facekp.synthetic.dataset.synthetic_training_set", lambda *_, **__: pytest.fail("was drawn again"))
    again = load_faces("synthetic:12", data_folder=tmp_path, seed=3)
    assert same(first, again) and (first.truth == again.truth).all() and first.name == again.name == "synthetic:12"


# --- arrays


def test_npz_and_back(tmp_path):
    faces = faces_of(random_images(5), truth=np.repeat(MEAN_FACE[None], 5, 0))
    faces.points[2, 3] = np.nan
    again = load_faces(save_npz(faces, tmp_path / "some.npz"))
    assert same(again, faces) and (again.truth == faces.truth).all() and again.name == "some.npz"
    assert load_npz(save_npz(replace(faces, truth=None), tmp_path / "other.npz")).truth is None
    with pytest.raises(UserError, match="ends with .npz"):
        save_npz(faces, tmp_path / "faces.csv")


def test_foreign_arrays_become_ours(tmp_path):
    np.savez_compressed(tmp_path / "f.npz", images=random_images(2), points=np.repeat(MEAN_FACE[None].astype(float), 2, 0),
                        group=np.array([7, 8], np.int32), source=np.array(["a", "b"]), image_id=np.array([1, 2]), crop_px=np.zeros(2))
    faces = load_faces(tmp_path / "f.npz")
    assert faces.group.tolist() == ["7", "8"] and faces.points.dtype == np.float32 and faces.image_id.tolist() == ["1", "2"]


# --- several sources


def test_sources_are_joined_and_their_groups_told_apart(tmp_path):
    first = save_npz(faces_of(random_images(3, 1), ["1", "2", "3"]), tmp_path / "a.npz")
    second = save_npz(faces_of(random_images(2, 2), ["1", "2"]), tmp_path / "b.npz")
    third = save_npz(faces_of(random_images(2, 3), ["x", "y"]), tmp_path / "c + d.npz")
    joined = load_faces(f"{first} + {second}")
    assert len(joined) == 5 and len(set(joined.group)) == 5 and joined.name == "a.npz + b.npz"
    assert load_faces([first, third]).group.tolist() == ["1", "2", "3", "x", "y"]
    assert len(load_faces(str(third))) == 2, "a plus sign may be part of a name"
    with pytest.raises(UserError, match="no source of faces"):
        load_faces([])


# --- duplicates


def textured(count: int, seed: int = 0) -> np.ndarray:
    "Return images with structure: blurred noise, uint8 [N,96,96]."
    rng = np.random.default_rng(seed)
    blurred = [cv2.GaussianBlur(rng.normal(size=(96, 96)).astype(np.float32), (0, 0), 3) for _ in range(count)]
    return np.stack([np.clip(128 + 45 * image / image.std(), 0, 255).astype(np.uint8) for image in blurred])


@pytest.mark.parametrize("change", [
    lambda image: image, lambda image: (image * 0.8 + 10).astype(np.uint8), lambda image: np.roll(image, (2, -2), (0, 1)),
    lambda image: np.roll(image, (-1, 2), (0, 1)), lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], 0),
    lambda image: np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)])
def test_changed_copies_are_found_and_nothing_else(change):
    images = textured(40)
    labels = near_duplicates(np.concatenate([images, np.stack([change(image) for image in images])]))
    assert (labels[:40] == labels[40:]).all() and len(set(labels)) == 40


@given(st.permutations(range(24)))
@settings(max_examples=10, deadline=None)
def test_copies_do_not_depend_on_the_order(order):
    images = textured(12)
    both = np.concatenate([images, np.roll(images, 1, axis=1)])
    labels, moved = near_duplicates(both), near_duplicates(both[list(order)])
    assert all((labels[order[i]] == labels[order[j]]) == (moved[i] == moved[j]) for i in range(24) for j in range(24))


def test_pictures_without_detail_are_copies_only_when_equal():
    flat = np.repeat(np.array([0, 0, 128, 255], np.uint8), 9216).reshape(4, 96, 96)
    labels = near_duplicates(flat)
    assert labels[0] == labels[1] and len(set(labels)) == 3
    assert near_duplicates(flat[:0]).shape == (0,) and near_duplicates(flat[:1]).tolist() == [0]


# --- splits

PLAIN = textured(60, seed=4)


@given(st.lists(st.integers(0, 14), min_size=2, max_size=60), st.floats(0.05, 0.95), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_split_never_separates_a_group(groups, share, seed):
    faces = faces_of(PLAIN[:len(groups)], groups)
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="1 group"):
            split_by_group(faces, share, seed)
        return
    train, test = split_by_group(faces, share, seed)
    assert not set(train.group) & set(test.group) and len(train) and len(test)
    assert sorted([*train.image_id, *test.image_id]) == sorted(faces.image_id)
    assert same(split_by_group(faces, share, seed)[1], test)
    largest = max(groups.count(group) for group in groups)
    assert abs(len(test) - share * len(faces)) <= largest, "the share is not as close as whole groups allow"


def test_a_split_keeps_copies_together_whatever_their_groups():
    images = np.concatenate([PLAIN, np.roll(PLAIN, 1, axis=2)])
    train, test = split_by_group(faces_of(images), 0.3)
    assert not {int(name) % 60 for name in train.image_id} & {int(name) % 60 for name in test.image_id}
    assert len(test) == 36
    assert not same(split_by_group(faces_of(images), 0.3, seed=1)[1], test)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan"), 20])
def test_a_share_is_between_zero_and_one(share):
    with pytest.raises(UserError, match="share between 0 and 1"):
        split_by_group(faces_of(PLAIN), share)


# --- 300-W


def test_68_points_of_a_mirrored_face_are_the_mirrored_points():
    "300-W's mirror order, written down independently, must exchange left and right."
    order = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
             *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]
    landmarks = np.random.default_rng(0).uniform(0, 95, (4, 68, 2))
    mirrored = (landmarks * [-1, 1] + [95, 0])[:, order]
    expected = (from_68_points(landmarks) * [-1, 1] + [95, 0])[:, FLIP_ORDER]
    assert np.allclose(from_68_points(mirrored), expected)


@given(st.floats(0.1, 10), st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=50, deadline=None)
def test_framing_undoes_any_scale_and_shift(scale, x, y):
    points = MEAN_FACE * scale + [x, y]
    assert np.allclose(to_crop(points, fit_crop(MEAN_FACE, points, rotation=False, error_in_crop=True)), MEAN_FACE, atol=1e-2)


def test_framing_does_not_rotate():
    angle = np.radians(20)
    tilted = (MEAN_FACE - 48) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 48
    eyes = to_crop(tilted, fit_crop(MEAN_FACE, tilted, rotation=False, error_in_crop=True))[[0, 1]]
    assert np.isclose(np.degrees(np.arctan2(*(eyes[0] - eyes[1])[::-1])), np.degrees(np.arctan2(*(tilted[0] - tilted[1])[::-1])))


@pytest.mark.parametrize(("scale", "x", "y"), [(1.0, 0.0, 0.0), (0.5, 3.0, -7.0), (0.3, 30.0, 40.0), (1.7, -20.0, 5.5), (0.25, -10.0, 60.0)])
def test_points_stay_on_their_pixels(scale, x, y):
    "A photo of two ramps shows for each pixel of the crop where it came from."
    rows, columns = np.mgrid[0:240, 0:250]
    shift = np.array([x, y])
    inside = slice(8, 88)
    for ramp, axis in ((columns, 1), (rows, 0)):
        cut = crop_image(ramp.astype(np.float32), Crop(tuple((47.5 - shift) / scale), 96 / scale)).astype(float)
        places = (np.arange(96) - shift[1 - axis]) / scale
        expected = np.clip(places, 0, 239)
        line = cut[48] if axis else cut[:, 48]
        near = (places > 2 / scale) & (places < 235 - 2 / scale)
        assert near[inside].sum() > 10 and np.abs(line - expected)[near].max() <= 0.05


def write_300w(folder, names, size=200):
    "Write photos of noise with points at twice the mean face."
    folder.mkdir(parents=True, exist_ok=True)
    landmarks = np.zeros((68, 2))
    for keypoint, index in POINTS_OF_68.items():
        landmarks[index] = 2 * MEAN_FACE[KEYPOINTS.index(keypoint)]
    for keypoint, indices in EYE_POINTS_OF_68.items():
        corners = landmarks[[indices[0], indices[3]]].sum(axis=0)
        landmarks[[indices[1], indices[2], indices[4], indices[5]]] = (12 * MEAN_FACE[KEYPOINTS.index(keypoint)] - corners) / 4
    for seed, name in enumerate(names):
        text = "\n".join(f"{x + 1} {y + 1}" for x, y in landmarks)
        (folder / f"{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{text}\n}}\n")
        image = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{name}.{'png' if seed % 2 else 'JPG'}"), image)


def test_300w_folder(tmp_path):
    folder = tmp_path / "300w"
    write_300w(folder, ["134212_1", "134212_2", "indoor_001", "indoor_002"])
    write_300w(folder / "more", ["13"], size=201)  # other noise: equal photos would share a group
    faces = load_faces(folder)
    assert faces.image_id.tolist() == ["134212_1", "134212_2", "indoor_001", "indoor_002", "more/13"]
    assert faces.group.tolist() == ["134212", "134212", "indoor_001", "indoor_002", "more/13"]
    assert np.allclose(faces.points.mean(axis=0), MEAN_FACE, atol=0.01) and faces.name == "300w"
    left = faces.points[:, KEYPOINTS.index("left_eye_center"), 0]
    assert (left > faces.points[:, KEYPOINTS.index("right_eye_center"), 0]).all()
    assert same(load_faces(folder), faces)
    (folder / "134212_2.pts").unlink()
    assert len(load_faces(folder)) == 4


# --- the sample in the repository


def test_the_sample_loads(tmp_path):
    sample = tmp_path / "sample"
    shutil.copytree(Path(__file__).parents[2] / "data" / "sample", sample, ignore=shutil.ignore_patterns(".*"))
    faces = load_faces(sample)
    assert len(faces) == 8 and set(faces.source) == {"synthetic-1", "synthetic-2"} and faces.truth is not None
    test_faces, lookup = load_kaggle_test(sample)
    assert set(lookup["ImageId"].astype(str)) == set(test_faces.image_id)


# ---------------------------------------------------------------- exports for annotation programs

@pytest.fixture
def labelled(tmp_path) -> Faces:
    "Write three faces to labelled.npz; the second lacks its nose tip."
    points = np.repeat(MEAN_FACE[None].astype(np.float32), 3, 0) + np.array([0, 1.25, 2.5], np.float32)[:, None, None]
    points[1, KEYPOINTS.index("nose_tip")] = np.nan
    faces = replace(faces_of(random_images(3, 7)), points=points)
    save_npz(faces, tmp_path / "labelled.npz")
    return faces


def test_the_command_exports_labels_as_coco(labelled, tmp_path, capsys):
    out = tmp_path / "coco"
    assert main(["data", "export", str(tmp_path / "labelled.npz"), "--out", str(out)]) == 0  # COCO is the default
    assert capsys.readouterr().out.strip() == f"wrote {out}"
    coco = json.loads((out / "annotations.json").read_text())
    assert coco["categories"][0]["keypoints"] == list(KEYPOINTS) and len(coco["annotations"]) == len(coco["images"]) == 3
    for image, annotation, pixels, points in zip(coco["images"], coco["annotations"], labelled.images, labelled.points):
        assert annotation["image_id"] == image["id"]
        assert np.array_equal(cv2.imread(str(out / image["file_name"]), cv2.IMREAD_GRAYSCALE), pixels)
        x, y, visible = np.array(annotation["keypoints"]).reshape(15, 3).T
        assert np.array_equal(visible > 0, np.isfinite(points[:, 0]))
        assert np.allclose(np.stack([x, y], 1)[visible > 0], points[visible > 0], atol=0.006)


def test_the_command_exports_labels_for_labelme(labelled, tmp_path):
    out = tmp_path / "labelme"
    assert main(["data", "export", str(tmp_path / "labelled.npz"), "--out", str(out), "--format", "labelme"]) == 0
    for row, points in enumerate(labelled.points):
        document = json.loads((out / f"face_{row:05d}.json").read_text())
        assert (out / document["imagePath"]).is_file()
        found = {shape["label"]: np.array(shape["points"][0]) - 0.5 for shape in document["shapes"] if shape["shape_type"] == "point"}
        assert set(found) == {name for name, point in zip(KEYPOINTS, points) if np.isfinite(point).all()}
        assert all(np.allclose(found[name], point, atol=0.006) for name, point in zip(KEYPOINTS, points) if name in found)


@pytest.mark.parametrize("name", ["face_00000.json", "face_00000.png", "mine.json"])
def test_an_export_never_replaces_labels(labelled, tmp_path, capsys, name):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("corrected by hand")
    assert main(["data", "export", str(tmp_path / "labelled.npz"), "--out", str(out), "--format", "labelme"]) == 2
    said = capsys.readouterr().err
    assert "holds annotations or faces already" in said and said.count("\n") == 1
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "corrected by hand"


def test_an_export_without_a_place_is_refused(labelled, tmp_path, capsys):
    assert main(["data", "export", str(tmp_path / "labelled.npz")]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
