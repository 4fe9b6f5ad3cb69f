"""Parts of the GPU check that do without torch: sound ones, and one for each way to fail."""

import os
import signal
import sys
import time


def machine(setting, report):
    report.row("machine", gpu="a pretended one")


def machine_without_gpu(setting, report):
    report.row("machine", gpu="none")


def sound(setting, report):
    report.row("a figure", value=0.5, missing=float("nan"))
    report.check("a law", True)


def skips(setting, report):
    report.skip("a case", "no Ray")


def raises(setting, report):
    with report.case("first"):
        raise RuntimeError("of\ntwo lines")
    report.row("second", value=1)


def raises_outside_of_a_case(setting, report):
    report.row("first", value=1)
    raise KeyError("lost")


def checks(setting, report):
    report.check("a law", False, differing=["loss"])


def crashes(setting, report):
    report.row("before", value=1)
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(setting, report):
    report.row("before", value=1)
    time.sleep(600)


def lacks_memory(setting, report):
    with report.case("large"):
        raise MemoryError
    report.row("small", value=1)


def silent(setting, report):
    pass


def interrupts(setting, report):
    report.row("before", value=1)
    os.kill(os.getppid(), signal.SIGUSR1)
    time.sleep(600)


def silent_crash(setting, report):
    print("the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
