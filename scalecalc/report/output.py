"""Where a report goes: returned as text, and written whole or not at all.

A file is written beside its final place and renamed onto it, so that a full disk or a kill leaves the old file as it
was.  What is no regular file (``/dev/stdout``, a pipe) cannot be renamed onto and is written to directly.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from scalecalc.errors import InputError


def write(text: str, path: str | Path | None = None) -> str:
    """Return ``text``; with a path, write it there first, as UTF-8.

    Raises:
        InputError: the file cannot be written.
    """
    if path is not None:
        # A file name that is no UTF-8 may stand in the text; as an escape it is still valid JSON.
        write_bytes(text.encode("utf-8", errors="backslashreplace"), path)
    return text


def write_bytes(data: bytes, path: str | Path) -> None:
    """The same for what is no text.

    Raises:
        InputError: the file cannot be written.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target.resolve(), data)
    except OSError as error:
        raise _refused(target, error) from error


def put(text: str, path: str | Path | None) -> None:
    """To the file, else (or for ``-``) to standard output; what cannot be written to its file is printed, not lost.

    Raises:
        InputError: the file cannot be written; the text has been printed.
    """
    try:
        if path not in (None, "-"):
            write(text, path)
            return
    except InputError:
        show(text)
        raise
    show(text)


def show(text: str) -> None:
    """Print, whatever standard output can show, and quietly if its reader (head, less) has seen enough."""
    with contextlib.suppress(AttributeError, ValueError):  # replaced by something that is no text stream
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_writable(path: str | Path) -> None:
    """Refuse a path that :func:`write` could not write to, before anything is computed for it.

    Raises:
        InputError: the folder is missing, the path is a folder, or writing there is not allowed.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"cannot write to {str(path)!r}: it is a folder; name a file in it.")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise InputError(f"cannot write to {str(path)!r}: there is no folder {str(folder)!r}; make it first.")
    try:
        if target.exists():
            with target.open("ab"):  # opens and closes: permissions are asked of the system, not guessed
                pass
        if not target.exists() or target.is_file():
            handle, name = tempfile.mkstemp(dir=folder, prefix=".scalecalc-")
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        raise _refused(target, error) from error


def _replace(target: Path, data: bytes) -> None:
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".scalecalc-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write to {str(path)!r}: {error.strerror or error}.")
