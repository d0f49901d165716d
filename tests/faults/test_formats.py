"Formats of cameras, phones and scanners: RAW, TIFF, HEIC, AVIF and video with reordered frames; damaged files raise a one-line error."

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from facekp.cli import main
from facekp.errors import UserError
from facekp.faces import Faces
from facekp.files import check_folder
from facekp.images import read_image
from facekp.keypoints import MEAN_FACE
from facekp.video import read_frames

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
RAW = {  # first bytes of camera files
    "cr2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(400), "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(200), "raf": b"FUJIFILMCCD-RAW 0201" + bytes(300),
    "orf": b"IIRO\x08\0\0\0" + bytes(200), "rw2": b"IIU\0\x08\0\0\0" + bytes(200), "x3f": b"FOVb" + bytes(200)}


@pytest.mark.parametrize("ending", RAW)
def test_raw_photos_from_cameras_are_named(ending, tmp_path):
    "kind: 14 | what: a RAW photo of Canon, Fujifilm, Olympus, Panasonic or Sigma | gets: an error: 'a RAW photo of a camera; convert it'"
    (tmp_path / f"p.{ending}").write_bytes(RAW[ending])
    with pytest.raises(UserError, match=rf"p.{ending}: .*RAW photo of a camera.*convert it to JPEG"):
        read_image(tmp_path / f"p.{ending}")


@pytest.mark.parametrize("tags", [{254: 1}, {50706: b"\1\4\0\0"}, {254: 1, 50706: b"\1\4\0\0"}])
def test_the_preview_of_a_raw_photo_is_not_mistaken_for_the_photo(tags, tmp_path):
    "kind: 4, 14 | what: a NEF, ARW or DNG file whose first image is a preview of 160 pixels | gets: an error, since points on the preview would refer to another size"
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    Image.fromarray(NOISE).save(tmp_path / "p.tif", tiffinfo=directory)
    with pytest.raises(UserError, match="p.tif: .*RAW photo of a camera, or a TIFF that begins with a small preview"):
        read_image(tmp_path / "p.tif")
    Image.fromarray(NOISE).save(tmp_path / "q.tif", tiffinfo={254: 0})
    assert np.array_equal(read_image(tmp_path / "q.tif"), NOISE)


@pytest.mark.parametrize(("head", "answer"), [(b"v/1\1", "OpenEXR"), (b"II\xbc\1", "JPEG XR"), (b"#?RADIANCE\n", "Radiance HDR"), (bytes(128) + b"DICM", "DICOM"), (b"\0\0\0\x18ftypmp42", "a video; use facekp.track")])
def test_images_from_other_programs_are_named(head, answer, tmp_path):
    "kind: 14 | what: OpenEXR, JPEG XR, Radiance, DICOM or a video instead of a photo | gets: an error that states the format, and the format to convert to"
    (tmp_path / "p.png").write_bytes(head + bytes(200))
    with pytest.raises(UserError, match=answer):
        read_image(tmp_path / "p.png")


@pytest.mark.parametrize("length", range(1, 16))
@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"\xff", b"II*\0", b"BM", b"RIFF", b"GIF89a", b"\0\0\1\0"])
def test_the_first_bytes_of_an_image_are_not_an_image(start, length):
    "kind: 14 | what: a file truncated after 1 to 15 bytes | gets: a one-line error without text from the decoder's source code"
    with pytest.raises(UserError, match="not an image") as caught:
        read_image((start + bytes(20))[:length])
    assert not any(word in str(caught.value) for word in ("unpack", "struct", "buffer", "index", "NoneType")), caught.value


def test_a_broken_avif_and_a_pillow_without_avif_are_distinguished(monkeypatch):
    "kind: 12 | what: an AVIF file that is damaged, or that this version of Pillow cannot read | gets: an error that states which of the two it is, and what to install"
    content = b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(200)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "AVIF"])
    with pytest.raises(UserError, match="AVIF, which this version of Pillow cannot read: pip install -U pillow"):
        read_image(content)
    monkeypatch.setattr(Image, "ID", [*Image.ID, "AVIF"])
    monkeypatch.setitem(Image.OPEN, "AVIF", (lambda *_: exec("raise SyntaxError"), lambda head: True))
    with pytest.raises(UserError, match="a damaged AVIF"):
        read_image(content)


def damaged_tiff(folder: Path, compression: str) -> Path:
    "Write a compressed TIFF whose first data bytes are replaced."
    path = folder / f"{compression}.tif"
    Image.fromarray(np.kron(NOISE, np.ones((4, 4, 1), np.uint8))).save(path, compression=compression)
    content = bytearray(path.read_bytes())
    with Image.open(path) as image:
        place = image.tag_v2[273][0]
    start = image.tag_v2[347] and content.index(image.tag_v2[347][:16]) if compression == "jpeg" else place
    for at in range(start + 8, start + 200, 5):
        content[at] ^= 0x5A
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg"])
def test_the_output_of_libtiff_becomes_the_error(compression, tmp_path):
    "kind: 14, 17 | what: a damaged TIFF with LZW, deflate or JPEG compression, which Pillow returns half decoded or refuses without a cause | gets: a one-line error with libtiff's cause, and no output from libtiff itself"
    path = damaged_tiff(tmp_path, compression)
    code = "import sys; from facekp.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "predict", path.name, "--format", "csv"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith(f"facekp: {path.name}: not an image that can be read ("), done.stderr
    assert "decoder error" not in done.stderr


def test_intact_tiffs_are_read_and_standard_error_is_restored(tmp_path, capfd):
    "kind: 15, 17 | what: an intact compressed TIFF, read alone and while another thread writes to standard error | gets: the image, and every line of the other thread"
    stop = threading.Event()
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        Image.fromarray(NOISE).save(tmp_path / f"{compression}.tif", compression=compression)
    for busy in (False, True):
        thread = threading.Thread(target=lambda: [os.write(2, b"mine\n") for _ in iter(stop.is_set, True)])
        if busy:
            thread.start()
        for path in sorted(tmp_path.glob("*.tif")):
            assert np.array_equal(read_image(path), NOISE)
        stop.set()
        if busy:
            thread.join()
    os.write(2, b"after\n")
    said = capfd.readouterr().err.splitlines()
    assert said[-1] == "after" and set(said[:-1]) <= {"mine"}


def test_a_folder_without_images_is_refused_with_its_contents(tmp_path, monkeypatch, capsys):
    "kind: 13 | what: a folder of RAW photos and text files | gets: a one-line error with the file extensions found and those that are read"
    monkeypatch.chdir(tmp_path)
    os.makedirs("in/deep")
    for name in ("a.NEF", "deep/b.nef", "n.txt", ".DS_Store"):
        Path("in", name).write_bytes(b"x")
    assert main(["predict", "in"]) == 2
    assert capsys.readouterr().err == "facekp: in: no image or video in this folder; it holds 2 .nef, 1 .txt, expected files such as .jpg or .mp4\n"


def test_a_negative_with_more_than_eight_bits_is_refused(tmp_path):
    "kind: 3, 4 | what: a TIFF with 16 bits in which 0 is white, as film scanners write it | gets: a one-line error; with 8 bits it is read correctly"
    grey = NOISE[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.tif", tiffinfo={262: 0})
    with pytest.raises(UserError, match="deep.tif: .*in which 0 is white; save it with 0 as black"):
        read_image(tmp_path / "deep.tif")
    Image.fromarray(grey).save(tmp_path / "plain.tif", tiffinfo={262: 0})
    assert np.array_equal(read_image(tmp_path / "plain.tif")[..., 0], grey)


def test_masked_arrays_are_refused_as_faces_and_images():
    "kind: 2, 4 | what: missing points given as a masked array or as None; an image with masked pixels | gets: an error that shows how to convert them to NaN, since masked values would count as labels"
    images, points = NOISE[None, :48, :48, 0].repeat(2, 1).repeat(2, 2), MEAN_FACE[None].copy()
    rest = {"group": np.array(["a"]), "source": np.array(["s"]), "image_id": np.array(["0"])}
    assert len(Faces(images=images, points=points, **rest)) == 1
    with pytest.raises(UserError, match=r"points is a masked array.*filled\(numpy.nan\)"):
        Faces(images=images, points=np.ma.masked_array(points, mask=points > 50), **rest)
    with pytest.raises(UserError, match="points are object, expected numbers"):
        Faces(images=images, points=np.where(points > 50, None, points), **rest)
    with pytest.raises(UserError, match="images is a masked array"):
        Faces(images=np.ma.masked_array(images), points=points, **rest)
    with pytest.raises(UserError, match=r"array.filled\(0\)"):
        read_image(np.ma.masked_array(NOISE, mask=NOISE > 99))
    assert np.array_equal(read_image(np.ma.masked_array(NOISE, mask=False)), NOISE)


def test_a_home_folder_that_the_shell_did_not_expand_is_named(tmp_path, monkeypatch):
    "kind: 9 | what: --out=~/results or --out '~/results', which shells do not expand | gets: a one-line error, and no folder named ~"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="~/results: the shell expands ~"):
        check_folder("~/results")
    assert os.listdir() == []
    (tmp_path / "~").mkdir()
    check_folder("~/results")


def write_matroska(path: Path, offset: int) -> None:
    "Write 20 frames at 10 per second whose times begin at an offset of up to 255 ms."
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (80, 60))
    for _ in range(20):
        video.write(NOISE)
    video.release()
    content = bytearray(path.read_bytes())
    place = content.index(b"\xe7\x81", content.index(b"\x1f\x43\xb6\x75")) + 2
    assert content[place] == 0
    content[place] = offset
    length = content.index(b"\x44\x89\x88") + 3  # the duration
    content[length:length + 8] = struct.pack(">d", struct.unpack(">d", content[length:length + 8])[0] + offset)
    path.write_bytes(content)


@pytest.mark.parametrize("offset", [0, 250])
def test_a_video_whose_times_begin_late_is_not_reported_as_truncated(offset, tmp_path):
    "kind: 5 | what: a Matroska file cut from a longer one, whose times do not begin at 0 | gets: times from 0, and the right number of frames"
    write_matroska(tmp_path / "v.mkv", offset)
    frames = list(read_frames(tmp_path / "v.mkv"))
    assert len(frames) == 20 and abs(frames[0].total - 20) <= 1 and frames[0].seconds == 0
    assert frames[-1].seconds == pytest.approx(1.9, abs=0.01)


def test_a_video_without_a_decoder_is_refused_with_its_codec(tmp_path, monkeypatch):
    "kind: 17 | what: AV1, which OpenCV may be unable to decode | gets: a one-line error with the codec and one that works"
    write_matroska(tmp_path / "v.mkv", 0)
    capture = cv2.VideoCapture(str(tmp_path / "v.mkv"))

    class WithoutDecoder:
        read = staticmethod(lambda: (False, None))
        get, isOpened, release = capture.get, capture.isOpened, capture.release

    monkeypatch.setattr(cv2, "VideoCapture", lambda source: WithoutDecoder)
    with pytest.raises(UserError, match="such as H.264, found MJPG"):
        list(read_frames(tmp_path / "v.mkv"))
