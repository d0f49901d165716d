"""Randomly damaged files: a reader either accepts them or raises its own one-line error, and no other exception."""

import io
import json
import os
import time
import warnings

import cv2
import numpy as np
import pytest
from kaggle_stand_in import table_cells, table_text, zip_bytes
from PIL import Image
from test_bad_input import npz_with

from facekp.config import load_settings
from facekp.data.kaggle import parse_training
from facekp.data.npz import load_npz
from facekp.data.w300 import read_pts
from facekp.errors import UserError
from facekp.images import read_image

SEED = 20261122
SCRAPS = (b"", b"\x00", b"\xff" * 4, b",", b'"', b"\n", b"\r", b" ", b"-", b"1e999", b"nan", b"PK\x01\x02", b"PK\x03\x04", b"\x93NUMPY", b"{", b"}", b"(", b"'",
          b"999999999999", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xe2\x82", b"Image", b"../")


def spoil(content: bytes, rng: np.random.Generator) -> bytes:
    "Change a file in one to four places: flip, cut, repeat, move or insert bytes; half of the time near its ends, where headers are."
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        size = len(content)
        place = int(rng.integers(0, size + 1))
        if rng.random() < 0.5:
            place = min(place, int(rng.integers(0, 400))) if rng.random() < 0.5 else max(0, size - int(rng.integers(0, 400)))
        length = int(rng.integers(1, 1 + min(2 ** rng.integers(0, 12), 4096)))
        way = rng.integers(0, 6)
        if way == 0 and place < size:
            content[place] ^= 1 << int(rng.integers(0, 8))
        elif way == 1:
            del content[place:place + length]
        elif way == 2:
            content[place:place] = content[place:place + length]
        elif way == 3:
            content[place:place + length] = rng.bytes(length)
        elif way == 4:
            scrap = SCRAPS[rng.integers(0, len(SCRAPS))]
            content[place:place + (len(scrap) if rng.random() < 0.5 else 0)] = scrap
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def written(save, *arguments, **options) -> bytes:
    "Return what a function writes into a file, as bytes."
    buffer = io.BytesIO()
    save(buffer, *arguments, **options)
    return buffer.getvalue()


def small_table() -> bytes:
    "Return a table of two rows, the second in quotes."
    first, second = table_text(table_cells(2)).splitlines()[1:]
    quoted = ",".join(f'"{cell}"' for cell in second.split(","))
    return "\n".join([table_text(table_cells(1)).splitlines()[0], first, quoted, ""]).encode()


def seeds(folder) -> dict[str, list[bytes]]:
    "Return valid files of each kind."
    grey = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8), (0, 0), 2)
    pictures = [cv2.imencode(ending, grey)[1].tobytes() for ending in (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm")]
    picture = Image.fromarray(grey)
    pictures += [written(picture.save, format="GIF"), written(picture.convert("P").save, format="PNG", transparency=0),
                 written(Image.fromarray(grey[..., 0].astype(np.uint16) * 99).save, format="PNG"), written(picture.save, format="ICO")]
    npz, text = npz_with(), table_text(table_cells(2))
    content = npz(folder).read_bytes()
    return {"csv": [small_table(), text.encode()], "npz": [content, written(np.savez_compressed, **np.load(io.BytesIO(content)))],
            "zip": [_small_zip(text)], "picture": pictures, "pts": [("version: 1\nn_points: 68\n{\n" + "10.5 20.5\n" * 68 + "}\n").encode()],
            "settings": [b"[course]\nseed = 1\nprofile = full\n[quick]\nbatch_size = 3 # faces\n[paths]\ndata_folder = x\n"], "record": [_record()],
            "keras": [_keras_file()]}


def _small_zip(text: str) -> bytes:
    "Return a table in a zip within a zip."
    return zip_bytes({"training.zip": zip_bytes({"training.csv": text}), "note": "hello"})


def _record() -> bytes:
    "Return the record of a run."
    from test_bad_files import a_record

    return json.dumps(a_record(), indent=1).encode()


def _keras_file() -> bytes:
    "Return the container of a model file with a configuration of one layer."
    from test_bad_files import layer

    return zip_bytes({"metadata.json": '{"keras_version": "3.15.0"}', "config.json": json.dumps(layer("Dense", units=3)), "model.weights.h5": "none"})


def read_labels(path) -> None:
    "Read a record."
    from facekp.experiments.record import read_record

    read_record(path)


def check_model(path) -> None:
    "Check the configuration of a model, which is read before Keras opens the file."
    from facekp.models.files import _check_classes

    _check_classes(path)


READERS = {
    # kind: (extension, reader, files in the normal suite, files in the long one)
    "csv": ("training.csv", parse_training, 150, 20_000), "npz": ("faces.npz", load_npz, 300, 20_000),
    "zip": ("faces.zip", parse_training, 150, 20_000), "picture": ("p.png", read_image, 400, 60_000),
    "photo": ("p.png", lambda path: read_image(path, grey=True), 200, 20_000), "pts": ("one.pts", read_pts, 300, 10_000),
    "settings": ("settings.ini", lambda path: load_settings(start=path.parent), 300, 10_000), "record": ("r.json", read_labels, 200, 10_000),
    "keras": ("m.keras", check_model, 200, 10_000),
}


def fuzz(kind: str, count: int, folder, seconds: float = 1e9) -> dict:
    "Damage files and read them; return how many were tested, refused and read. Any error other than UserError is raised."
    name, read, _, _ = READERS[kind]
    good, path = seeds(folder)["picture" if kind == "photo" else kind], folder / name
    found, started = {"kind": kind, "tried": 0, "refused": 0, "read": 0, "seed": SEED}, time.perf_counter()
    for number in range(count):
        rng = np.random.default_rng([SEED, number])
        content = spoil(good[number % len(good)], rng)
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
            found["read"] += 1
        except UserError as error:
            assert "\n" not in str(error).strip() or kind == "settings", error
            found["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{kind} number {number}, seed {SEED}: {type(error).__name__}: {error}") from error
        found["tried"] += 1
        if time.perf_counter() - started > seconds:
            break
    return found


@pytest.mark.parametrize("kind", READERS)
def test_spoilt_files(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    found = fuzz(kind, READERS[kind][2], tmp_path)
    assert found["tried"] == READERS[kind][2] and found["refused"] > 0.2 * found["tried"], found


@pytest.mark.long
@pytest.mark.parametrize("kind", READERS)
def test_spoilt_files_for_long(kind, tmp_path, monkeypatch):
    monkeypatch.delenv("FACEKP_PROFILE", raising=False)
    found = fuzz(kind, READERS[kind][3], tmp_path, seconds=float(os.environ.get("FACEKP_FUZZ_SECONDS", 60)))
    assert found["tried"] >= READERS[kind][2], found
