"Settings: which file is used, what its paths are relative to, and the same ranges everywhere."

from dataclasses import fields

import pytest

import facekp
from facekp.cli import main
from facekp.config import PROFILES, Settings, check_setting, find_settings_file, is_word, load_settings
from facekp.errors import UserError
from facekp.jobs import settings_with


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("FACEKP_PROFILE", "FACEKP_DATA"):
        monkeypatch.delenv(name, raising=False)


FOREIGN = ["[DEFAULT]\nlib_name = x\n", "[paths]\nmedia = m\nstatic = s\n", "[django]\nseed = 1\n", "no section at all", "", "\0\1\2", "[[[", "[a]\n[a]\n", "key = value\n[x]\nkey\n",
           "[settings]\ndebug = true\n[paths]\nroot = /srv\n", "[course]\nlecturer = Ada\nroom = 7\n", b"\xff\xfe[\0x\0]\0"]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_settings_file_of_another_program_is_ignored(content, tmp_path, monkeypatch, capsys):
    "kind: 24 | what: a settings.ini of another program in a folder above | gets: the file is ignored"
    work = tmp_path / "a" / "b"
    work.mkdir(parents=True)
    (tmp_path / "settings.ini").write_text("[course]\nseed = 5\n")
    (tmp_path / "a" / "settings.ini").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert find_settings_file(work) == tmp_path / "settings.ini"
    assert load_settings(start=work).seed == 5
    monkeypatch.chdir(work)
    assert main(["data", "info", "synthetic:30"]) == 0


def test_a_folder_or_an_unreadable_file_of_that_name_is_ignored(tmp_path):
    "kind: 24 | what: a folder named settings.ini | gets: the default settings"
    (tmp_path / "settings.ini").mkdir()
    assert load_settings(start=tmp_path) == load_settings(start=tmp_path) and load_settings(start=tmp_path).seed == Settings.seed


def test_a_settings_file_with_mistakes_is_not_ignored(tmp_path):
    "kind: 24 | what: facekp's settings.ini with a misspelt section or key | gets: a one-line error that suggests the right name"
    for content, words in (("[quick]\nsedds = 3\n", "did you mean 'seeds'"), ("[corse]\nseed = 1\n", "did you mean 'course'"), ("seed = 0\n", "below a .section."),
                           ("[paths]\nruns_foldr = r\n", "did you mean 'runs_folder'")):
        (tmp_path / "settings.ini").write_text(content)
        with pytest.raises(UserError, match=words):
            load_settings(start=tmp_path)


def test_a_byte_order_mark_is_accepted(tmp_path):
    "kind: 24 | what: a settings.ini saved by a Windows editor | gets: its values"
    (tmp_path / "settings.ini").write_bytes(b"\xef\xbb\xbf[course]\r\nseed = 4\r\n")
    assert load_settings(start=tmp_path).seed == 4


@pytest.mark.parametrize("given, expected", [
    ("faces.npz", "{base}/faces.npz"), ("sub/faces.npz", "{base}/sub/faces.npz"), ("a.npz + b.npz", "{base}/a.npz+{base}/b.npz"), ("/data/faces.npz", "/data/faces.npz"),
    ("synthetic:30 + a.npz", "synthetic:30+{base}/a.npz"), ("synthetic", "synthetic"), ("synthetic:12", "synthetic:12"), ("kaggle", "kaggle"), ("./kaggle", "{base}/kaggle"),
    ("a + b.npz", "{base}/a + b.npz")])
def test_a_data_path_is_relative_to_the_settings_file(given, expected, tmp_path, monkeypatch):
    "kind: 25 | what: data = faces.npz in a settings.ini of a folder above | gets: the file next to settings.ini"
    base, work = tmp_path / "base", tmp_path / "base" / "deep" / "er"
    work.mkdir(parents=True)
    (base / "settings.ini").write_text(f"[course]\ndata = {given}\n")
    if given == "a + b.npz":  # a file with exactly this name
        (base / given).write_bytes(b"")
    monkeypatch.chdir(work)
    settings = load_settings()
    assert settings.data == expected.format(base=base) and settings.runs_folder == str(base / "runs")
    monkeypatch.setenv("FACEKP_DATA", "here.npz")
    assert load_settings().data == "here.npz"  # relative to the working folder, as on the command line


def test_names_of_data_sets_take_precedence_over_folders(tmp_path, monkeypatch):
    "kind: 26 | what: a folder named synthetic or kaggle | gets: the word means the data set; ./kaggle means the folder"
    from facekp.data.npz import save_npz
    from facekp.data.sources import load_faces
    from facekp.synthetic.renderer import synthetic_faces

    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic:30").mkdir()
    assert len(load_faces("synthetic:30", tmp_path / "data")) == 30
    save_npz(synthetic_faces(4, seed=1, workers=1), tmp_path / "kaggle.npz")
    (tmp_path / "kaggle.npz").rename(tmp_path / "kaggle")
    assert is_word("kaggle") and not is_word("./kaggle") and not is_word("kaggle.npz") and not is_word("synthetics")
    with pytest.raises(UserError, match="kaggle: a zip archive or a file of an Office program"):
        load_faces("./kaggle", tmp_path / "data")
    with pytest.raises(UserError, match="synthetic"):
        load_faces("./synthetic", tmp_path / "data")


RANGES = {"seed": (0, 2**32 - 1), "augment": (0, None), **{field.name: (1, None) for field in fields(Settings) if field.type == "int" and field.name not in ("seed", "augment")}}


@pytest.mark.parametrize("name", [field.name for field in fields(Settings) if isinstance(getattr(Settings, field.name), int)])
def test_whole_numbers_have_the_same_range_in_the_file_and_as_an_argument(name, tmp_path, monkeypatch):
    "kind: 27 | what: a number out of range in settings.ini or as an argument | gets: a one-line error with the range, which is the same in both places"
    lowest, highest = (0, 2**32 - 1) if name == "seed" else (0 if name == "augment" else 1, None)
    section = "course" if name == "seed" else "quick"
    monkeypatch.chdir(tmp_path)
    for value in (lowest - 1, *([highest + 1] if highest else [])):
        with pytest.raises(UserError, match=f"{name} = {value}, expected {lowest} or more"):
            settings_with("quick", **{name: value})
        (tmp_path / "settings.ini").write_text(f"[{section}]\n{name} = {value}\n")
        with pytest.raises(UserError, match=f"settings.ini: {name} = {value}, expected {lowest} or more"):
            load_settings("quick")
        (tmp_path / "settings.ini").unlink()
    assert getattr(settings_with("quick", **{name: lowest}), name) == lowest
    check_setting(name, lowest, "here")


@pytest.mark.parametrize("words", [
    ["train", "--model", "mean", "--out", "r", "--seed", "-1"], ["train", "--model", "mean", "--out", "r", "--seed", "4294967296"], ["train", "--model", "mean", "--out", "r", "--images", "0"],
    ["train", "--model", "mean", "--out", "r", "--augment", "-1"], ["course", "--seeds", "0"], ["course", "--seeds", "two"], ["course", "--workers", "0"], ["course", "--workers", "-2"],
    ["predict", "a.jpg", "--frames", "0"], ["predict", "a.jpg", "--max-pixels", "0"], ["data", "info", "synthetic:9", "--seed", "-3"], ["data", "info", "synthetic:9", "--seed", "1.5"]])
def test_numbers_out_of_range_are_one_line_on_the_command_line(words, tmp_path, monkeypatch, capsys):
    "kind: 27 | what: --seed -1, --seeds 0, --workers 0, --frames 0 and similar values | gets: a one-line error with the range, and exit status 2"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.startswith("facekp: ") and said.count("\n") == 1 and ", a whole number" in said
    assert words[-2] in said and words[-1] in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, meant", [(["trian"], "train"), (["predcit", "a.jpg"], "predict"), (["train", "--modle", "cnn", "--out", "r"], "--model"), (["course", "--seed=3"], None),
                                          (["predict", "a.jpg", "--format", "jgp"], "jpg"), (["data", "inof"], "info"), (["evaluate", "--josn"], "--json")])
def test_mistyped_words_are_answered_with_the_one_that_was_meant(words, meant, capsys):
    if meant is None:  # an abbreviation of --seeds, as argparse allows
        words, meant = ["course", "--sedes", "3"], "--seeds"
    with pytest.raises(SystemExit) as caught:
        main(words)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and f"did you mean '{meant}'?" in said and said.count("\n") == 1, said


def test_the_version_is_printed(capsys):
    for words in (["-V"], ["--version"], ["-V", "predict"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0 and capsys.readouterr().out == f"facekp {facekp.__version__}\n"


def test_the_profiles_are_those_of_the_shipped_file():
    assert PROFILES == ("quick", "full")
