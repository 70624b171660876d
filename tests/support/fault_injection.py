"""Run the command line in processes that are stopped at chosen moments.

A server imports everything once and forks a child for each try, so that a try costs some hundredths of a second. In a
child every call that changes the file system is counted, and at a chosen one the process is stopped: before the call,
after it, or in the middle of a write. That makes a kill repeatable, and lets every moment of a run be tried.

    with Server() as server:
        whole = server.run(["sort", ...])
        server.run(["sort", ...], Fault(at=whole.calls // 2, kind="before", signal=signal.SIGKILL))
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from support import ROOT

CALLS = (
    *("open", "write", "fsync", "ftruncate", "rename", "replace", "link", "symlink"),
    *("unlink", "remove", "mkdir", "rmdir", "utime", "chmod", "chown"),
)
"""Functions of `os` at which a process can be stopped; with O_RDONLY, `open` does not count."""


_REAL_TIME = time.time
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Fault:
    """What happens to a process.

    Attributes:
        at: The number of the call at which it is stopped; 0 for never.
        kind: ``before`` the call, ``after`` it, ``half``-way through a write; or ``sleep`` some milliseconds
            (in `after_ms`) and then be stopped from outside, wherever it is.
        signal: What stops it.
        after_ms: See ``sleep``.
        file_size: Largest file that may be written, in bytes: a disk that is full. 0 for any.
        user: Run as this user, where root would be let through everywhere. 0 for the present one.
        clock: Seconds by which the clock on the wall is ahead.
    """

    at: int = 0
    kind: str = "before"
    signal: int = signal.SIGKILL
    after_ms: float = 0.0
    file_size: int = 0
    user: int = 0
    clock: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; minus the signal if one killed it.
        calls: Calls counted, when it ended by itself.
        stdout: What it printed.
        stderr: Likewise.
    """

    code: int
    calls: int
    stdout: str = field(repr=False)
    stderr: str

    @property
    def crashed(self) -> bool:
        """Whether a bug showed itself."""
        return "Traceback" in self.stderr or self.code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)


class Server:
    """Starts the forking process; a context manager.

    Args:
        cache: The folder of the feature cache, for commands that are not told ``--no-cache``.
        more: What else stands in the commands' environment.
    """

    def __init__(self, cache: Path | None = None, more: dict[str, str] | None = None) -> None:
        # Threads of a numerical library do not outlive a fork, and cannot be waited for after it.
        self._environment = (
            os.environ
            | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))}
            | ({"ZEROSHOT_CACHE": str(cache)} if cache else {})
            | (more or {})
        )

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "support.fault_injection"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self._environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def run(self, arguments: list[object], fault: Fault = Fault(), *, cwd: Path | None = None) -> Ended:
        """Run one command to its end, natural or not."""
        return self.run_together([(arguments, fault)], cwd=cwd)[0]

    def run_together(self, runs: list[tuple[list[object], Fault]], *, cwd: Path | None = None) -> list[Ended]:
        """Run several commands at once."""
        assert self._process.stdin
        assert self._process.stdout
        request = {
            "cwd": str(cwd or Path.cwd()),
            "runs": [{"arguments": [str(part) for part in parts], "fault": asdict(fault)} for parts, fault in runs],
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return [Ended(**answer) for answer in json.loads(self._process.stdout.readline())]


class _Trap:
    """Counts the calls of a process and springs at one of them."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.calls = 0

    def arm(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, call: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return call(*args, **kwargs)
            self.calls += 1
            if self.calls != self.fault.at:
                return call(*args, **kwargs)
            if self.fault.kind == "half" and name == "write" and self.fault.signal == signal.SIGKILL:
                call(args[0], bytes(args[1])[: len(args[1]) // 2])
            if self.fault.kind in ("before", "half"):
                os.kill(os.getpid(), self.fault.signal)
            result = call(*args, **kwargs)
            if self.fault.kind == "after":
                os.kill(os.getpid(), self.fault.signal)
            return result

        return counted


def set_clock(ahead: int, patch: Any) -> None:
    """Put the clock on the wall ahead by some seconds, or back, wherever this package looks at it.

    Args:
        ahead: Seconds.
        patch: `setattr`, or monkeypatch's.
    """
    from zeroshot.sort import journal

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=ahead)

    real = _REAL_TIME
    patch(time, "time", lambda: real() + ahead)
    patch(journal, "datetime", Moved)


def _child(arguments: list[str], fault: Fault, cwd: str, folder: Path) -> None:
    """Run one command in a forked process; does not return."""
    code = 1
    trap = _Trap(fault)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        os.chdir(cwd)
        for number, name in ((1, "stdout"), (2, "stderr")):
            descriptor = os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o666)
            os.dup2(descriptor, number)
            os.close(descriptor)
        if fault.file_size:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, fault.file_size))
        if fault.user:
            os.setgroups([])
            os.setgid(fault.user)
            os.setuid(fault.user)
        if fault.clock:
            set_clock(fault.clock, setattr)
        trap.arm()
        _app()(arguments, prog_name="zeroshot", standalone_mode=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:  # as zeroshot.__main__ does, before a command could take care of it
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # a file may not be as large as what is said
                stream.flush()
        if not fault.file_size and not fault.user:
            (folder / "calls").write_text(str(trap.calls))
        os._exit(code)


def _app() -> Any:
    import typer

    from zeroshot.cli import classify, run, sort, undo

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("classify")(classify.classify)
    app.command("sort")(sort.sort)
    app.command("undo")(undo.undo)
    app.add_typer(run.app, name="run")
    return app


def _start(run: dict[str, Any], cwd: str, folder: Path) -> tuple[int, Fault]:
    folder.mkdir()
    folder.chmod(0o777)
    for name in ("stdout", "stderr"):  # the child may be killed before it would have made them
        (folder / name).touch()
        (folder / name).chmod(0o666)
    fault = Fault(**run["fault"])
    # A signal that came before the child could handle it would unwind it through this process's own clean-up.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    process = os.fork()
    if process == 0:
        try:
            _child(run["arguments"], fault, cwd, folder)
        finally:
            os._exit(130)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    return process, fault


def _sensitive_encoder() -> Any:
    """Return a colour encoder whose rows depend a little on the rest of their batch, as real kernels' last digits may.

    A resumed run that put images into other batches than an unbroken one would give other bytes.
    """
    import numpy as np

    from support.fakes import FakeEncoder

    class SensitiveEncoder(FakeEncoder):
        def encode_images(self, pixels: Any) -> Any:
            rows = super().encode_images(pixels)
            rows[:, 7] += 1e-3 * (len(pixels) + float(pixels.mean()) / 255)
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return SensitiveEncoder()


def _import_all(folder: Path) -> None:
    """Have everything imported that a run imports on its way, by running once."""
    from PIL import Image
    from typer.testing import CliRunner

    Image.new("RGB", (8, 8)).save(folder / "1.png")
    labels = ["--labels", "red,blue", "--no-cache"]
    CliRunner().invoke(_app(), ["sort", str(folder), "--into", str(folder / "into"), "-n", *labels])
    CliRunner().invoke(_app(), ["classify", str(folder), "--output", str(folder / "out"), *labels])
    CliRunner().invoke(_app(), ["run", "plan", str(folder), *labels[:-1], "--into", str(folder / "run")])
    CliRunner().invoke(_app(), ["run", "work", str(folder / "run")])
    CliRunner().invoke(_app(), ["run", "merge", str(folder / "run"), "--output", str(folder / "merged.jsonl")])


def _serve() -> None:
    """Read requests, fork, answer."""
    from zeroshot.cli import undo  # noqa: F401
    from zeroshot.engines import choose
    from zeroshot.output import resume  # noqa: F401
    from zeroshot.sort import journal, run_plan  # noqa: F401

    "".encode("unicode_escape")  # another user may not be let near the codec later
    choose.load_encoder = lambda *_, **__: _sensitive_encoder()  # type: ignore[assignment]
    # Whoever runs the tests may have had signals ignored (nohup, a background job), which children inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    numbers = iter(range(1, sys.maxsize))
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o777)
        _import_all(Path(base))
        for line in sys.stdin:
            request = json.loads(line)
            started = []
            for run in request["runs"]:
                folder = Path(base) / str(next(numbers))
                started.append((*_start(run, request["cwd"], folder), folder))
            answers = []
            for process, fault, folder in started:
                if fault.kind == "sleep":
                    time.sleep(fault.after_ms / 1000)
                    os.kill(process, fault.signal)
                _, status = os.waitpid(process, 0)
                texts = [(folder / name).read_text("utf-8", "backslashreplace") for name in ("stdout", "stderr")]
                counted = folder / "calls"
                calls = int(counted.read_text() or 0) if counted.exists() else 0
                answers.append(asdict(Ended(os.waitstatus_to_exitcode(status), calls, *texts)))
            print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    _serve()
