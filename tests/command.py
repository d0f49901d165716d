"Run the command in a separate process that starts with TensorFlow loaded, which saves seconds for each."

import functools
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.context import BaseContext
from pathlib import Path
from subprocess import CompletedProcess


@functools.cache
def server() -> BaseContext:
    "Return a context whose processes are copies of one that has loaded what the jobs need."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["facekp.jobs", "facekp.training.loop", "facekp.experiments.run", "facekp.models.cnn"])
    return context


def execute(arguments: list[str], cwd: str, folder: str) -> None:
    "Run the command with its output in files."
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(Path(folder) / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
    os.chdir(cwd)
    from facekp.cli import main

    sys.exit(main(arguments))


def run_command(
    *arguments: object,  # of the command, such as "train", "--model", "mean"
    cwd: Path,  # working folder
) -> CompletedProcess[str]:
    "Run the command; where the system cannot copy processes, TensorFlow is loaded again."
    with tempfile.TemporaryDirectory() as folder:
        process = server().Process(target=execute, args=([*map(str, arguments)], str(cwd), folder))
        process.start()
        process.join(300)
        assert process.exitcode is not None, "the command did not end"
        return CompletedProcess(arguments, process.exitcode, *((Path(folder) / name).read_text() for name in ("stdout", "stderr")))
