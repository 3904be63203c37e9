"""Running an action in a child process, and killing or interrupting it at any system call."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_AT_CALL = signal.SIGTRAP | 0x80

# How often mmap, mprotect, munmap, brk, mremap, madvise and futex are called differs from run
# to run; they change no disk, and without them a stop has the same number in every run.
_UNCOUNTED = {
    "x86_64": {9, 10, 11, 12, 25, 28, 202},
    "aarch64": {222, 226, 215, 214, 216, 233, 98},
}.get(platform.machine(), set())


class _SyscallInfo(ctypes.Structure):
    """The head of the kernel's ``struct ptrace_syscall_info``."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("padding", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
    )


_LIBRARY = ctypes.CDLL(None, use_errno=True)
_LIBRARY.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBRARY.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, value: int = 0) -> int:
    result: int = _LIBRARY.ptrace(request, pid, None, value)
    return result


def _entered(pid: int) -> int | None:
    """Return the number of the system call that begins, or None where one ends."""
    info = _SyscallInfo()
    size = ctypes.sizeof(info)
    if _LIBRARY.ptrace(_GET_SYSCALL_INFO, pid, size, ctypes.byref(info)) < 0:
        raise OSError(ctypes.get_errno(), "the kernel does not tell of system calls")
    return info.number if info.op == 1 else None


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process without threads, which can fork."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def traceable() -> bool:
    """Return whether this process may trace its children."""
    try:
        return run_traced(lambda: None)[0] == 0
    except (OSError, AttributeError):
        return False


def run_traced(
    action: Callable[[], None],
    kill_at: int | None = None,
    interrupt_at: tuple[int, ...] = (),
    look: Callable[[int], None] = lambda stop: None,
) -> tuple[int, int]:
    """Run an action in a child process.

    Parameters
    ----------
    action
        What to run.
    kill_at
        Number of the stop at which to end the child by SIGKILL. There are two stops per
        system call, before it begins and after it has ended, but none for calls of memory.
    interrupt_at
        Numbers of the stops at which to send SIGINT.
    look
        Called with the number of every stop.

    Returns
    -------
    tuple
        Exit code (0 done, 1 an exception, 2 a KeyboardInterrupt, -9 killed) and number of stops.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if _ptrace(_TRACEME, 0) != 0:
                os._exit(3)
            os.kill(os.getpid(), signal.SIGSTOP)
            action()
            code = 0
        except KeyboardInterrupt:
            code = 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise OSError("tracing is not permitted here")
    _ptrace(_SETOPTIONS, pid, _TRACESYSGOOD | _EXITKILL)
    stops, passed_on, counted = 0, 0, True
    while True:
        _ptrace(_SYSCALL, pid, passed_on)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status), stops
        passed_on = os.WSTOPSIG(status)
        if passed_on == _AT_CALL:
            passed_on = 0
            number = _entered(pid)
            counted = counted if number is None else number not in _UNCOUNTED
            if not counted:
                continue
            look(stops)
            if stops == kill_at:
                os.kill(pid, signal.SIGKILL)
            if stops in interrupt_at:
                os.kill(pid, signal.SIGINT)
            stops += 1
