"Shell completion, tested in the shells that are installed."

import shutil
import subprocess
import sys

import pytest

from facekp.cli import JOBS, build_parser, main
from facekp.completion import SHELLS, completion_script
from facekp.config import ANNOTATION_FORMATS, PROFILES
from facekp.export.targets import EXPORT_FORMATS, WEIGHTS
from facekp.inference.formats import FORMATS
from facekp.labels import LABEL_STRATEGIES
from facekp.models.registry import list_models
from facekp.options import jobs_of


@pytest.fixture
def folder(tmp_path):
    "Return a folder with two files and a folder to complete."
    for name in ("photo.jpg", "phone.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "phases").mkdir()
    return tmp_path


def in_bash(line: str, folder) -> set[str]:
    "Return what bash offers for the last word of a line."
    words = line.split(" ")
    script = f"{completion_script(build_parser(), 'bash')}\nCOMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; _shtab_facekp; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return set(done.stdout.split())


def in_fish(line: str, folder) -> set[str]:
    "Return what fish offers for the last word of a line."
    (folder / "s.fish").write_text(completion_script(build_parser(), "fish"))
    done = subprocess.run(["fish", "--no-config", "-c", f"source s.fish; rm s.fish; complete -C '{line}'"], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {text.split("\t")[0].rstrip("/") for text in done.stdout.splitlines()}


OFFERED = [  # line, expected completions, unwanted completions
    ("facekp ", set(JOBS), {"photo.jpg"}), ("facekp pre", {"predict"}, {"train"}), ("facekp predict ph", {"photo.jpg", "phone.png", "phases"}, set()), ("facekp predict --fo", {"--format"}, {"--frames"}),
    ("facekp predict --format ", set(FORMATS), {"photo.jpg"}), ("facekp predict --model ", {"default", "photo.jpg"}, {"mean"}), ("facekp train --model ", set(list_models()), {"photo.jpg", "default"}),
    ("facekp train --labels ", set(LABEL_STRATEGIES), {"mean"}), ("facekp train --profile ", set(PROFILES), set()), ("facekp train --data ", {"synthetic", "kaggle", "photo.jpg"}, {"default"}),
    ("facekp course --models c", {"cnn", "compact"}, {"mean"}), ("facekp export --format ", set(EXPORT_FORMATS), set()), ("facekp export --weights ", set(WEIGHTS), set()),
    ("facekp data ", {"info", "check", "make", "export", "fetch"}, set()), ("facekp data export --format ", set(ANNOTATION_FORMATS), {"photo.jpg"}), ("facekp data info syn", {"synthetic"}, {"kaggle"}), ("facekp completion ", set(SHELLS), set()), ("facekp train --mo", {"--model"}, set())]


@pytest.mark.parametrize("shell, offers", [("bash", in_bash), ("fish", in_fish)])
def test_commands_options_names_and_files_are_offered(shell, offers, folder):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    for line, wanted, others in OFFERED:
        found = offers(line, folder)
        assert wanted <= found and not others & found, (line, found)
    if shell == "bash":  # fish and zsh complete the first name only
        assert {"cnn", "compact"} <= in_bash("facekp course --models mean c", folder)


def test_the_script_of_zsh_is_read_and_has_every_name(tmp_path):
    script = completion_script(build_parser(), "zsh")
    for names in (JOBS, list_models(), LABEL_STRATEGIES, FORMATS, EXPORT_FORMATS):
        assert all(name in script for name in names)
    for job in jobs_of(build_parser()).values():
        assert all(option in script for action in job._actions for option in action.option_strings)
    if shutil.which("zsh"):
        (tmp_path / "_facekp").write_text(script)
        done = subprocess.run(["zsh", "-f", "-n", str(tmp_path / "_facekp")], capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out.rstrip("\n") == completion_script(build_parser(), shell).rstrip("\n")


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["completion", "bahs"])
    assert caught.value.code == 2 and "did you mean 'bash'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], *([job, "--help"] for job in JOBS), ["completion", "bash"]], ids=" ".join)
def test_help_and_completion_import_no_numerical_package(words):
    code = f"import sys\nfrom facekp.cli import main\ntry: main({words!r})\nexcept SystemExit: pass\nprint(sorted({{'numpy', 'cv2', 'pandas', 'sklearn', 'tensorflow', 'keras', 'onnxruntime'}} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


def test_the_help_lists_the_names_of_the_registries(capsys):
    for job, names in (("train", [*list_models(), *LABEL_STRATEGIES, *PROFILES]), ("predict", FORMATS), ("export", [*EXPORT_FORMATS, *WEIGHTS]), ("course", list_models())):
        with pytest.raises(SystemExit):
            main([job, "--help"])
        said = capsys.readouterr().out
        assert all(name in said for name in names), job
