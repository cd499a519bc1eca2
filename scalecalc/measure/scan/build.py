"""Compiles the kernel with the system's compiler when it is first needed, and keeps what came out.

One library per kind of scan (precision, discretization, …: macros), compiled for the processor at hand, in two or three
seconds.  It is kept in the user's cache folder under a hash of the source, the macros, the compiler and the processor, so
that a new version, another compiler or a home folder shared by different machines never meet a library that is not theirs.
Several processes may compile the same at once: each writes a file of its own and renames it into place.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from scalecalc.errors import MeasureError

SOURCE = Path(__file__).parent / "kernel"
FLAGS = ("-O2", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-pthread", "-Wno-psabi")
NATIVE = "-march=native"


class NoCompiler(MeasureError):
    """The kernel cannot be compiled here."""


@cache
def compiler() -> tuple[str, ...]:
    """The command of the C compiler: what ``CC`` says, else cc, gcc or clang.

    Raises:
        NoCompiler: there is none.
    """
    asked = os.environ.get("CC")
    if asked:
        return tuple(shlex.split(asked))
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return (name,)
    raise NoCompiler("no C compiler (cc, gcc or clang) was found; install one, or set CC to it.")


@cache
def processor() -> str:
    """What instructions the processor has: enough to tell two machines apart that need different libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = {line for line in lines if line.split(":")[0].strip() in ("flags", "Features", "model name", "CPU part")}
        text = "\n".join(sorted(wanted))
    except OSError:
        text = platform.processor()
    return f"{platform.system()} {platform.machine()} {text}"


def cache_folder() -> Path:
    """Where libraries are kept: ``SCALECALC_CACHE``, else scalecalc/ in the user's cache folder."""
    if own := os.environ.get("SCALECALC_CACHE"):
        return Path(own)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "scalecalc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scalecalc"


@cache
def _identity() -> str:
    """A hash of everything but the macros that a library depends on."""
    command = compiler()
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoCompiler(f"the C compiler {' '.join(command)} does not run: {error}.") from error
    digest = hashlib.sha256()
    sources = (f.read_text(encoding="utf-8") for f in sorted(SOURCE.iterdir()) if f.suffix in (".c", ".h"))
    for part in (version, processor(), *command, *FLAGS, *sources):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def library(macros: Mapping[str, int]) -> ctypes.CDLL:
    """The library of one kind, compiled if it is not there yet.

    Raises:
        NoCompiler: no compiler, or one that fails, with what it said.
    """
    defined = [f"-D{name}={value}" for name, value in sorted(macros.items())]
    return _library(tuple(defined))


@cache
def _library(defined: tuple[str, ...]) -> ctypes.CDLL:
    name = hashlib.sha256(" ".join((_identity(), *defined)).encode()).hexdigest()[:32] + ".so"
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / name
        if not file.exists():
            _compile(file, defined)
        return ctypes.CDLL(str(file))
    except OSError as error:  # a cache that cannot be written, or files that may not be loaded from it
        kept = Path(tempfile.mkdtemp(prefix="scalecalc-")) / name
        try:
            _compile(kept, defined)
            return ctypes.CDLL(str(kept))
        except OSError:
            raise NoCompiler(f"no library can be kept in {folder} ({error}); set SCALECALC_CACHE to a folder.") from error
        finally:
            shutil.rmtree(kept.parent, ignore_errors=True)  # a loaded library needs its file no more


def _compile(file: Path, defined: tuple[str, ...]) -> None:
    handle, made = tempfile.mkstemp(suffix=".so", dir=file.parent)
    os.close(handle)
    try:
        for native in ((NATIVE,), ()):  # a compiler that does not know -march=native still makes a correct library
            command = [*compiler(), *FLAGS, *native, *defined, "-o", made, str(SOURCE / "scan.c"), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                os.replace(made, file)
                return
        raise NoCompiler(f"{' '.join(compiler())} cannot compile the scan:\n{done.stderr.strip()[-2000:]}")
    finally:
        Path(made).unlink(missing_ok=True)
