"""A program that is not taken apart at its end still ends as it would: status, output, threads, exit handlers."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading, time
from lefleet_server import ending

def command():
    atexit.register(lambda: print("handler", end=" "))
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread", end=" "))).start()
    print("command", end=" ")
    {ends}

ending.run(command)
"""


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('what went wrong')", 1, "what went wrong\n"),
        ("raise KeyError('x')", 1, "KeyError: 'x'\n"),
    ],
)
def test_a_program_ends_with_its_status_and_with_all_that_it_had_to_say(ends, status, said):
    done = run(PROGRAM.format(ends=ends))
    assert (done.returncode, done.stdout) == (status, "command thread handler ")
    assert done.stderr.endswith(said)


def test_python_is_not_taken_apart():
    ends = "globals()['held'] = type('Held', (), {'__del__': lambda _: print('taken apart')})()"
    assert "taken apart" in run(PROGRAM.replace("ending.run(command)", "command()").format(ends=ends)).stdout
    done = run(PROGRAM.format(ends=ends))
    assert done.returncode == 0 and "taken apart" not in done.stdout


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
