"""Failing disks, clocks, folders and downloads: each fault is injected, and nothing is lost or half written."""

import builtins
import contextlib
import errno
import functools
import http.server
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from kaggle_stand_in import table_cells, table_text
from test_bad_input import everything_in, small_set

from facekp.data.cache import CACHE_FOLDER
from facekp.data.kaggle import parse_training
from facekp.data.kaggle_download import fetch_kaggle
from facekp.data.npz import save_npz
from facekp.data.sources import load_faces
from facekp.errors import RunError, UserError
from facekp.faces import hash_faces
from facekp.files import atomic_path, hash_file, write_json
from facekp.models.backbones import _build_application


@pytest.fixture
def table(tmp_path) -> Path:
    "Return a table of six rows in its own folder."
    path = tmp_path / "in" / "training.csv"
    path.parent.mkdir()
    path.write_text(table_text(table_cells(6)))
    return path


# the disk

class FullDisk:
    "A file that accepts some bytes and then has no space left."

    def __init__(self, file, left: int):
        self.file, self.left = file, left

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.left -= len(content)
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)


@pytest.mark.parametrize("left", [0, 1, 100, 5_000, 27_000])
def test_disk_full_after_so_many_bytes(left, tmp_path, monkeypatch):
    save_npz(small_set(), tmp_path / "faces.npz")
    before, opened = everything_in(tmp_path), builtins.open

    def open_full(path, mode="r", *rest, **options):
        file = opened(path, mode, *rest, **options)
        return FullDisk(file, left) if "w" in mode and str(path).startswith(str(tmp_path)) else file

    monkeypatch.setattr(builtins, "open", open_full)
    with pytest.raises(RunError, match="faces.npz: writing failed .No space left on device.; nothing was left half-written"):
        save_npz(small_set()[[0, 1, 2, 0]], tmp_path / "faces.npz")
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("step", ["mkstemp", "fsync", "replace", "chmod"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_any_step_of_writing_may_fail(step, number, tmp_path, monkeypatch):
    write_json(tmp_path / "record.json", {"rmse": 1})
    before = everything_in(tmp_path)

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr({"mkstemp": tempfile, "fsync": os, "replace": os, "chmod": Path}[step], step, fail)
        with pytest.raises((RunError, UserError), match="record.json"):
            write_json(tmp_path / "record.json", {"rmse": 2})
    assert everything_in(tmp_path) == before


@contextlib.contextmanager
def not_root():
    "Run as a user without root permissions."
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="folder permissions need POSIX")
def test_a_folder_that_is_read_only():
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "training.csv").write_text(table_text(table_cells(6)))
        parse_training(folder / "training.csv")  # Python loads the modules that it needs as root
        folder.chmod(0o555)
        with not_root():
            with pytest.raises(UserError, match="record.json: can't write there .Permission denied.; choose another place"):
                write_json(folder / "record.json", {})
            with pytest.raises(UserError, match="below.*can't write there"):
                save_npz(small_set(), folder / "below" / "faces.npz")
            with pytest.raises(UserError, match="can't write there .*choose another data folder"):
                fetch_kaggle(folder)
            with pytest.warns(UserWarning, match="could not be written to the cache"):
                assert len(load_faces(folder / "training.csv")) == 6
        assert [path.name for path in folder.iterdir()] == ["training.csv"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="file permissions need POSIX")
def test_a_file_that_may_not_be_read():
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        for name in ("training.csv", "faces.npz", "faces.zip"):
            (folder / name).write_bytes(b"secret")
            (folder / name).chmod(0)
            with not_root(), pytest.raises(UserError, match=f"{name}: can't be read .Permission denied"):
                load_faces(folder / name)
    finally:
        shutil.rmtree(folder)


def test_what_a_killed_process_left_is_removed_after_an_hour_and_not_before(tmp_path):
    path = tmp_path / "state.npz"
    old, young, other = (tmp_path / f".{stem}-abcd_123-unfinished.npz" for stem in ("state", "state", "other"))
    young = tmp_path / ".state-abcd_124-unfinished.npz"
    for left in (old, young, other):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    os.utime(other, (time.time() - 4000,) * 2)
    save_npz(small_set(), path)
    assert not old.exists() and young.exists() and other.exists()


def test_an_error_or_a_stop_in_the_middle_of_writing_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "record.json", {"rmse": 1})
    before = everything_in(tmp_path)
    for trouble in (KeyboardInterrupt, MemoryError, SystemExit, ValueError):
        with pytest.raises(trouble), atomic_path(tmp_path / "record.json") as waiting:
            waiting.write_text("half")
            raise trouble
        assert everything_in(tmp_path) == before


# the clock

@pytest.mark.parametrize("years", [-30, -1, 1, 30])
def test_a_clock_that_is_set_back_or_on_changes_nothing(years, table, monkeypatch):
    "The file changes after the clock was moved: the cache must neither return the old content nor be lost."
    first = load_faces(table)
    now, moved = time.time_ns, int(years * 365.25 * 86400 * 1e9)
    monkeypatch.setattr(time, "time_ns", lambda: now() + moved)
    monkeypatch.setattr(time, "time", lambda: (now() + moved) / 1e9)
    assert np.array_equal(load_faces(table).images, first.images)
    table.write_text(table_text(table_cells(6, seed=5)))
    os.utime(table, ns=(now() + moved,) * 2)
    for _ in range(2):
        assert not np.array_equal(load_faces(table).images, first.images)
    write_json(table.parent / "record.json", {"rmse": 1})
    assert not list(table.parent.glob(".record*"))


# two at once

def _load_together(barrier, table: Path, answers, rounds: int) -> None:
    "Load the same table repeatedly at the same time as other processes, with the cache deleted before each round."
    warnings.simplefilter("error")
    for _ in range(rounds):
        barrier.wait(60)
        faces = load_faces(table)
        answers.put(hash_faces(faces))
        barrier.wait(60)


def test_two_processes_build_the_same_cache_at_once(table):
    rounds, want = 6, hash_faces(load_faces(table))
    cache = table.parent / CACHE_FOLDER
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    answers, barrier = context.Queue(), context.Barrier(3)
    workers = [context.Process(target=_load_together, args=(barrier, table, answers, rounds)) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's warning about threads and fork
        for worker in workers:
            worker.start()
    for _ in range(rounds):
        shutil.rmtree(cache)
        barrier.wait(60)
        barrier.wait(60)
        assert len(list(cache.glob("*.npz"))) == 1
        assert not list(cache.glob(".*-unfinished*"))
    assert {answers.get(timeout=60) for _ in range(2 * rounds)} == {want}
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0


def test_two_writers_of_one_file_leave_one_of_their_contents(tmp_path):
    path, seen = tmp_path / "record.json", set()
    contents = [{"from": name, "filling": [name] * 5000} for name in ("a", "b")]
    stop = threading.Event()

    def look():
        while not stop.is_set():
            with contextlib.suppress(FileNotFoundError):
                seen.add(hash(path.read_bytes()))

    reader = threading.Thread(target=look)
    reader.start()
    writers = [threading.Thread(target=lambda content=content: [write_json(path, content) for _ in range(15)]) for content in contents]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    write_json(tmp_path / "a.json", contents[0]), write_json(tmp_path / "b.json", contents[1])
    assert seen <= {hash((tmp_path / name).read_bytes()) for name in ("a.json", "b.json")} and seen


# the network

class Cut(http.server.SimpleHTTPRequestHandler):
    "A server that announces the size of a file and sends less."

    share = 0.5

    def do_GET(self):
        content = (Path(self.directory) / self.path.strip("/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:int(self.share * len(content))])

    def log_message(self, *_):
        pass


def test_weights_that_come_in_part_or_are_others_are_not_taken(tmp_path, monkeypatch):
    """Keras downloads the weights of pretrained networks and compares hashes; build_transfer turns its message into one line."""

    def cut(**_):
        raise Exception("URL fetch failure on https://host/weights.h5: None -- retrieval incomplete: got only 1000 out of 2000 bytes")

    def other(**_):
        raise ValueError("Incomplete or corrupted file detected. The auto file hash does not match the provided value of abc.")

    for trouble, words in ((cut, "could not be fetched"), (other, "corrupted file")):
        monkeypatch.setattr("facekp.models.backbones._applications", lambda trouble=trouble: {"mobilenetv2": trouble})
        with pytest.raises(UserError, match=words):
            _build_application("mobilenetv2", None, "imagenet", {})


def test_keras_refuses_a_file_that_was_cut_or_has_another_hash(tmp_path):
    "A truncated download or a wrong hash leaves no file that a second run would accept."
    import keras

    (tmp_path / "w.h5").write_bytes(bytes(200_000))
    (tmp_path / "cache").mkdir()  # otherwise Keras uses its own folder
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Cut, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/w.h5"
        for share, digest in ((0.5, None), (1.0, "0" * 64)):
            Cut.share = share
            with pytest.raises(Exception, match="(?i)incomplete|corrupted|hash|failure"):
                keras.utils.get_file("w.h5", address, cache_dir=tmp_path / "cache", file_hash=digest)
        Cut.share = 1.0
        path = keras.utils.get_file("w.h5", address, cache_dir=tmp_path / "cache", file_hash=hash_file(tmp_path / "w.h5"))
        assert Path(path).stat().st_size == 200_000
        server.shutdown()
