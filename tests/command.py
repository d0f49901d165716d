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
    "Return a context whose processes are copies of one that has loaded what the jobs need; where the system cannot copy processes, each loads it again."
    context = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
    context.set_forkserver_preload(["facekp.jobs", "facekp.training.loop", "facekp.experiments.run", "facekp.experiments.two_sources", "facekp.models.cnn"])
    first = context.Process(target=os.getpid)  # wait until everything is loaded, so that the times of tests are those of their processes
    first.start()
    first.join(300)
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
    "Run the command in a process of its own."
    with tempfile.TemporaryDirectory() as folder:
        process = server().Process(target=execute, args=([*map(str, arguments)], str(cwd), folder))
        process.start()
        process.join(300)
        assert process.exitcode is not None, "the command did not end"
        return CompletedProcess(arguments, process.exitcode, *((Path(folder) / name).read_text() for name in ("stdout", "stderr")))
