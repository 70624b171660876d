"""Read images in processes of their own, so that a decoder that crashes or hangs costs one image, not the run.

Every thread that reads has one child process, started with the first image it is given: a new interpreter that
imports what opens images and no model. The child gets the open file itself (its descriptor, over a socket), says
that it has begun, and answers with what was read. One child, one image, one pipe: whatever ends a child can be
blamed on the image that it had in hand, and reaches no other.

Why no library: pebble 5.2 measures its time limit by the wall clock, so that a clock that is set forward fails every
image in work and one that is set back lets a hang go on; its workers share one pipe and its lock; and a worker that
ends with exit code 0 in the middle of its task leaves that task waiting for ever. concurrent.futures fails every
task when one worker dies.

This guards against accidents. It is no sandbox: the child may do whatever the user may.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Generic, TypeVar

from ..errors import ImageError, UsageError, ZeroshotError

T = TypeVar("T")

DEFAULT_SECONDS = 60.0

_START_SECONDS = 60.0
"""How long a child may take to import what it needs, on a slow disk."""

_START_TRIES = 3
_OVERTIME_SECONDS = 5
"""How long after its time a child ends by itself, should nobody be left to end it."""

_SLACK = 1 << 30
"""Memory that a child may take beside its image: a compressed file, a decoder's tables."""

# -P keeps the working folder, which may hold any file, off the import path; the child is sent the parent's path
# instead.
_BOOT = (
    "import io, pickle, socket, sys;"
    "stream = socket.socket(fileno=int(sys.argv[1]));"
    "orders = io.BytesIO(stream.recv(int(sys.argv[2]), socket.MSG_WAITALL));"
    "sys.path[:] = pickle.load(orders);"
    "from zeroshot.images.isolate import _serve;"
    "_serve(stream, *pickle.load(orders))"
)


@dataclass(frozen=True, slots=True)
class Isolation:
    """Images are decoded in processes of their own.

    Attributes:
        seconds: What one image may take, above 0.
        memory: Bytes that one image may take; a child that takes more finds no memory. None sets no limit.
    """

    seconds: float = DEFAULT_SECONDS
    memory: int | None = None


@contextmanager
def isolated(read: Callable[[IO[bytes]], T], how: Isolation | None) -> Iterator[Callable[[IO[bytes]], T]]:
    """Give a function that reads an open file as `read` does, in processes of their own; None gives `read` itself.

    What `read` raises is raised. `read`, what it returns and what it raises are pickled.

    Raises:
        UsageError: There are no such processes on this system.
    """
    if how is None:
        yield read
        return
    if not hasattr(socket, "send_fds"):
        raise UsageError("--isolate needs a system that passes open files between processes", "leave out --isolate")
    with closing(_Children(read, how)) as children:
        yield children.read


class _Children(Generic[T]):
    """The children, one for each thread that reads."""

    def __init__(self, read: Callable[[IO[bytes]], T], how: Isolation) -> None:
        self._how = how
        self._orders = pickle.dumps(sys.path) + pickle.dumps((read, how))
        self._own = threading.local()
        self._all: set[_Child] = set()
        self._lock = threading.Lock()
        self._closed = False

    def read(self, file: IO[bytes]) -> T:
        """Read a file in this thread's child process.

        Raises:
            ImageError: The child crashed, or took too long.
            ZeroshotError: There is no child to be had.
        """
        with _as_descriptor(file) as descriptor:
            child = self._begin(descriptor)
        try:
            succeeded, result = pickle.loads(child.receive(self._how.seconds))
        except TimeoutError:
            child.process.kill()
            self._end(child)
            raise ImageError(self._too_long()) from None
        except (EOFError, OSError):
            code = self._end(child)
            raise ImageError(self._too_long() if code == -signal.SIGALRM else _how_it_ended(code)) from None
        except BaseException:  # its late answer must not be taken for the next image's
            child.process.kill()
            self._end(child)
            raise
        if succeeded:
            answer: T = result
            return answer
        raise result

    def _too_long(self) -> str:
        return f"took longer than {self._how.seconds:g} s (--image-timeout raises the limit)"

    def _begin(self, descriptor: int) -> _Child:
        """Send a file to this thread's child process, which is restarted if it has ended."""
        for _ in range(_START_TRIES):
            child: _Child | None = getattr(self._own, "child", None)
            if child is None:
                with self._lock:
                    if self._closed:
                        raise ImageError("the run has ended")
                    try:
                        child = self._own.child = _Child(self._orders)
                    except OSError as error:
                        raise ZeroshotError(
                            f"cannot start a process that decodes images: {error.strerror}", "fewer --workers"
                        ) from error
                    self._all.add(child)
            # A failure before the child has started on the image is not the image's fault.
            with suppress(EOFError, OSError):
                child.begin(descriptor)
                return child
            self._end(child)
        raise ZeroshotError("the processes that decode images cannot be started", "leave out --isolate")

    def _end(self, child: _Child) -> int | None:
        self._own.child = None
        with self._lock:
            self._all.discard(child)
        return child.end()

    def close(self) -> None:
        """End all child processes at once."""
        with self._lock:
            self._closed = True
            children, self._all = self._all, set()
        for child in children:
            child.process.kill()
        for child in children:
            child.end()


@contextmanager
def _as_descriptor(file: IO[bytes]) -> Iterator[int]:
    """Give an open file's descriptor; what lies in memory is written to a file without a name first."""
    if not isinstance(file, io.BytesIO):
        yield file.fileno()
        return
    with tempfile.TemporaryFile(prefix="zeroshot-") as spooled:
        spooled.write(file.getbuffer())
        spooled.seek(0)
        yield spooled.fileno()


class _Child:
    """A child process, as its parent uses it."""

    def __init__(self, orders: bytes) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), str(len(orders))],
                stdin=subprocess.PIPE,  # never written to: it breaks when this process ends, see `_end_with_parent`
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent, which decides
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # it multiplies no matrices
            )
        self._socket.settimeout(_START_SECONDS)
        with suppress(OSError):  # it has ended already, as `begin` will find
            self._socket.sendall(orders)

    def begin(self, descriptor: int) -> None:
        """Send an open file, and wait until the child has started on it."""
        self._socket.settimeout(_START_SECONDS)
        socket.send_fds(self._socket, [b"."], [descriptor])
        self._exactly(1)

    def receive(self, seconds: float) -> bytearray:
        """Wait for the answer."""
        self._socket.settimeout(seconds)
        return self._exactly(int.from_bytes(self._exactly(8), "big"))

    def _exactly(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            got = self._socket.recv_into(rest)
            if not got:
                raise EOFError
            rest = rest[got:]
        return data

    def end(self) -> int | None:
        """End the process and return its exit code, minus the signal that ended it; None if it did not end by itself.

        One that has just closed its end of the socket is given a moment to do so, to learn how.
        """
        self._socket.close()
        assert self.process.stdin
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(1)
        self.process.kill()
        self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # a process that waits for a dead disk cannot be killed
            self.process.wait(5)
        return code


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its decoder was killed (SIGKILL), as happens when memory runs out"
    if code is None:
        return "its decoder stopped answering"
    if code >= 0:
        return f"its decoder ended its process (exit code {code})"
    known = code in [-number for number in signal.Signals]
    return f"its decoder crashed ({signal.Signals(-code).name if known else f'signal {-code}'})"


def _serve(stream: socket.socket, read: Callable[[IO[bytes]], Any], how: Isolation) -> None:
    """Run as a child process: read files until the parent closes the connection."""
    from PIL import Image

    Image.init()  # imports every plugin, which would count as time that the first image takes
    _end_with_parent()
    _apply_resource_limits(how.memory)
    while True:
        try:
            ping, descriptors, _, _ = socket.recv_fds(stream, 1, 1)
            if not ping:
                return
            stream.sendall(ping)
            # The parent enforces the timeout; this one is for a child whose parent was killed.
            signal.setitimer(signal.ITIMER_REAL, how.seconds + _OVERTIME_SECONDS)
            with os.fdopen(descriptors[0], "rb") as file:
                answer = _answer(read, file)
            signal.setitimer(signal.ITIMER_REAL, 0)
            stream.sendall(len(answer).to_bytes(8, "big") + answer)
        except ConnectionError:
            return


def _answer(read: Callable[[IO[bytes]], Any], file: IO[bytes]) -> bytes:
    try:
        return pickle.dumps((True, read(file)), protocol=5)
    except Exception as error:
        if not isinstance(error, ZeroshotError):  # a bug keeps its traceback
            error.add_note("in the process that decodes:\n" + traceback.format_exc())
        return pickle.dumps((False, error))


def _end_with_parent() -> None:
    """Have the kernel end this process when the parent's end of stdin closes, even if a decoder hangs then.

    Linux does; elsewhere a child that hangs ends when its time is up. One that does not hang ends with the socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _apply_resource_limits(memory: int | None) -> None:
    """Limit memory, write no core dump, and make this the first process to be killed when memory runs out."""
    import resource

    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if memory is not None:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = min(memory + _SLACK, sys.maxsize)
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
            )
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
        file.write("1000")
