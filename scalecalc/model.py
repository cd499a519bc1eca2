"""From what a user names to what the interpreters run: architecture, parameterization, optimizer and loss, put together.

An architecture is a registered one or a function in a user's file; a parameterization is a registered one or a TOML or
JSON file of exponents.  Text from such a file is only ever compared and parsed, never evaluated.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import json
import math
import tomllib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from scalecalc import globs
from scalecalc.alignment import Alignment, parse_alignment
from scalecalc.backward import record_backward
from scalecalc.duration import STEPS
from scalecalc.errors import InputError, ScalecalcError, UnknownName
from scalecalc.optimizer import Optimizer
from scalecalc.parameterization import Parameterization, ScalingRule, assign
from scalecalc.program import Program, Weight, growing
from scalecalc.request import ModelRequest, is_file, parse_model, parse_optimizer
from scalecalc.rule import find, registered, registry, withdraw
from scalecalc.scale import FREE, Regime, Scale
from scalecalc.table import WeightScaling
from scalecalc.term import dim_of

if TYPE_CHECKING:
    from scalecalc.trace import Found

YES_NO = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}
# What derive and verify take themselves, for a hint where it is misspelt or given as an option of the model.
ARGUMENTS = ("parameterization", "optimizer", "steps", "regime", "loss", "alignment")
MEASURING = ("dims", "seeds", "budget", "tolerance", "device", "dtype", "seed", "resume", "progress")
USUAL, AXIS = [64, 128, 256], [16, 64, 256]  # widths that are measured at where a model names none: of a dim, of an axis
AS_BUILT = "as built"  # the parameterization of a torch module that no other is given for
DEFAULTS = {"parameterization": "mup", "optimizer": "adam"}
_MADE: dict[Path, set[tuple[str, str]]] = {}  # what a user's file registered: kind and name


@dataclass(frozen=True)
class Model:
    """A resolved request: the program with its backward pass, and how it is scaled and trained.

    ``alignment``: what is known of sums from elsewhere; None: their laws are derived.
    """

    name: str
    program: Program
    parameterization: str
    scalings: Mapping[str, WeightScaling]
    optimizer: str
    update: Optimizer
    loss: str
    widths: Mapping[str, Sequence[int]]
    fix: Mapping[str, int] = field(default_factory=dict[str, int])
    alignment: Alignment | None = None


@dataclass(frozen=True, eq=False)
class TorchModule:
    """A torch module in place of a model's name: ``factory(**dims)`` and ``example_inputs(**dims)``."""

    factory: Callable[..., Any]
    example_inputs: Callable[..., Any]

    def __str__(self) -> str:
        return getattr(self.factory, "__name__", "module")


def resolve(
    model: str | TorchModule,
    *,
    parameterization: str | Parameterization | ScalingRule | None = None,
    optimizer: str | None = None,
    loss: str = "linear",
    options: Mapping[str, Any] | None = None,
    fix: Mapping[str, int] | None = None,
    alignment: str = "derived",
    regime: str = "free",
) -> Model:
    """Find the architecture and record it, forward and backward.

    Args:
        model: a :class:`TorchModule`, a registered name or ``path/to/file.py:name``, with options after a colon
            (``s6:discretization=mamba,step=fixed``).  Every registered model and every function that records a program takes
            ``grow=time``, or ``grow=batch+time``: of the axes that it declares with a fixed size these grow; ``grow=steps``:
            the number of optimizer steps (:mod:`scalecalc.duration`).
        parameterization: a registered name, a TOML or JSON file, the exponents themselves, or a rule for them.
        options: more of the model's options; they go before those in its name.
        fix: widths of dims that are held fixed; nothing has an exponent in them then.
        alignment: see :func:`scalecalc.alignment.parse_alignment`.
        regime: for a parameterization that compares two dims.

    Raises:
        UnknownName: no such model, option, parameterization, optimizer or loss.
        InputError: an option with a value that it cannot take; a file that cannot be read or fails.
    """
    if isinstance(model, TorchModule):
        request, make, defaults = ModelRequest(str(model)), model.factory, dict[str, Any](DEFAULTS)
        find("parameterization", DEFAULTS["parameterization"])  # loads the rules
    else:
        request = parse_model(model)
        make, defaults = _architecture(request.name, request.file)
    # A rule file, importable once the rules are loaded; by its name, because in a checkout pyright does not find it.
    losses = importlib.import_module("scalecalc.rules.loss")
    given = {**request.options, **(options or {})}
    grown = _grown(given.pop("grow", ""))
    asked = _options(request.name, make, given)
    inputs = model.example_inputs if isinstance(model, TorchModule) else _example_inputs(request, make)
    stated = _stated(parameterization) if inputs is not None else ()
    built = _traced(model, request, make, inputs, asked, fix or {}, stated) if inputs is not None else None
    with growing(grown):
        program = built.program.copy() if built is not None else make(**asked)
    if not isinstance(program, Program) or program.loss is None:
        raise InputError(
            f"{model} returns no program with an output; build a Program, call its end(output), return it. (If it returns a "
            "torch module: that takes a function example_inputs beside it.)"
        )
    if STEPS in grown and STEPS not in program.dims:  # no axis of the program: a dim that updates are summed over
        program.dims = (*program.dims, STEPS)
    _check_grown(program, str(model), grown)
    if built is None:
        _hold(program, str(model), fix or {})
    else:
        defaults = {**defaults, "optimizer": built.optimizer or defaults["optimizer"], "widths": built.widths}
    losses.prepare(program, loss)
    how = Regime.parse(regime, program.dims)
    if defaults.get("along_paths") and how == FREE and len(program.dims) > 1:
        raise InputError(
            f"{request.name} is not derived with {', '.join(program.dims)} growing as they like; say how they grow against "
            "each other, --regime proportional or a path such as those of `scalecalc derive --help`."
        )
    given = parameterization if isinstance(parameterization, Parameterization) else None
    method = optimizer or (given.optimizer if given else defaults["optimizer"])
    update = optimizer_of(method)
    rule = parameterization if callable(parameterization) else None
    named = parameterization if isinstance(parameterization, str) else None
    usual = AS_BUILT if built is not None else defaults["parameterization"]
    scheme = given.name if given else rule.__name__ if rule else named or usual
    if given:
        missing = [w for w in program.weights if w not in given]
        if missing:
            raise InputError(f"the parameterization {scheme} says nothing of {', '.join(missing)} of {model}.")
        scalings = {w: given[w] for w in program.weights}
    elif rule:
        scalings = assign(rule, program.weights, update.family, how)
    elif is_file(scheme):
        scalings = read_parameterization(scheme, program, built.scalings if built is not None else None)
    elif built is not None and named is None:
        scalings = dict(built.scalings)
    else:
        scalings = assign(find("parameterization", scheme).make, program.weights, update, how)
    # an optimizer that was built with a module has its own decay, none included
    decay = None if built is not None and method == built.optimizer else update.usual_decay
    scalings = {
        w: replace(s, role=program.weights[w].role, weight_decay=s.weight_decay or decay)
        for w, s in scalings.items()
    }
    record_backward(program, losses.start(program.tensor(program.loss), loss))
    return Model(
        name=_title(model, options or {}),
        program=program,
        parameterization=scheme,
        scalings=scalings,
        optimizer=method,
        update=update,
        loss=loss,
        widths={dim: defaults.get("widths", {}).get(dim, AXIS if dim in grown else USUAL) for dim in program.dims},
        fix=dict(fix or {}),
        alignment=parse_alignment(alignment, program),
    )


def optimizer_of(text: str) -> Optimizer:
    """A registered optimizer by its name, with its options behind it: ``sgd:decay=coupled``, and of any ``:clip=yes`` if
    gradients are clipped by their global norm.

    Raises:
        UnknownName: there is none of that name, or it has no such option.
        InputError: an option without a value, or with one that it cannot take.
    """
    name, options = parse_optimizer(text)
    make, clip = find("optimizer", name).make, options.pop("clip", "no")
    if clip.lower() not in YES_NO:
        raise InputError(f"{name}:clip={clip} is neither yes nor no.")
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise UnknownName(f"option of {name}", option, [*known, "clip"])
    made = make(**_options(name, make, options))
    if not YES_NO[clip.lower()]:
        return made
    return importlib.import_module("scalecalc.rules.optimizers._clip").Clipped(made)
def default_parameterization(model: str) -> str:
    """The parameterization that a model is used with unless told otherwise."""
    request = parse_model(model)
    return _architecture(request.name, request.file)[1]["parameterization"]
def parameterize(
    model: str,
    parameterization: str,
    *,
    optimizer: str | None = None,
    fix: Mapping[str, int] | None = None,
    **options: Any,
) -> Parameterization:
    """A published parameterization, or one from a file, as it is for one model: what a torch model can be set up by.

    >>> parameterize("mlp", "mup", optimizer="adam")["W_2"].lr
    Θ(N^(-1))

    Raises:
        UnknownName, InputError: see :func:`resolve`.
    """
    found = resolve(model, parameterization=parameterization, optimizer=optimizer, fix=fix, options=options)
    program, own = found.program, dict[str, Any]()
    if any(s.multiplier.dims for s in found.scalings.values()):
        from scalecalc.gauge import known_gradients, own_shifts

        own = own_shifts(found, known_gradients(found, Regime()), Regime())
    return Parameterization(
        found.parameterization, found.optimizer, program.dims, found.scalings, axes_of(program), exact_in(program), own
    )


def axes_of(program: Program) -> dict[str, tuple[str, ...]]:
    """Per weight, the dim of each of its axes, outputs first; ``""`` for an axis that does not grow."""
    return {
        name: tuple(dim_of(label) if program.grows(label) else "" for label in weight.axes)
        for name, weight in program.weights.items()
    }


def exact_in(program: Program) -> frozenset[str]:
    """The weights whose initial entries are given exactly."""
    weights = [op for op in program.ops if op.rule == "weight"]
    return frozenset(op.name for op in weights if op.params["init"] is not None or "values" in op.params)


def _title(model: str | TorchModule, options: Mapping[str, Any]) -> str:
    """The model with all its options, as one would type it: what tables and resume files tell it by."""
    request = ModelRequest(str(model)) if isinstance(model, TorchModule) else parse_model(model)
    every = {**request.options, **{k: ("no", "yes")[v] if isinstance(v, bool) else v for k, v in options.items()}}
    name = request.name if request.file is None else f"{request.file}:{request.name}"
    return f"{name}:{','.join(f'{k}={v}' for k, v in every.items())}" if options else str(model)


def _grown(text: Any) -> tuple[str, ...]:
    """``batch+time`` as labels of axes."""
    return tuple(dict.fromkeys(filter(None, (label.strip() for label in str(text).split("+")))))


def _check_grown(program: Program, model: str, grown: Sequence[str]) -> None:
    for label in grown:
        if label not in program.dims or label in program.fixed:
            axes = ", ".join(program.fixed)
            raise InputError(
                f"grow={label}: {model} declares no axis {label!r} of fixed size that could grow. "
                + (f"Those it has: {axes}; some may be sizes that it works out, for which it has options of its own." if axes
                   else "It has none.")
            )


def _hold(program: Program, model: str, fix: Mapping[str, int]) -> None:
    for dim, width in fix.items():
        if dim not in program.dims:
            raise InputError(f"{model} has no growing dim {dim!r} to hold fixed; its dims: {', '.join(program.dims)}.")
        if not isinstance(width, int) or width < 1:
            raise InputError(f"fix: {dim} is held at a whole number above zero, not at {width!r}.")
    if len(fix) == len(program.dims):
        raise InputError(f"every dim of {model} is held fixed; leave one to grow: {', '.join(program.dims)}.")
    program.hold(fix)


def _architecture(name: str, file: Path | None) -> tuple[Callable[..., Any], Mapping[str, Any]]:
    if file is None:
        entry = find("architecture", name)
        return entry.make, entry.defaults
    find("parameterization", DEFAULTS["parameterization"])  # loads the rules, which the file may import
    if not file.is_file():
        raise InputError(f"there is no file {str(file)!r} with Python in it.")
    module = _module(file, (file.resolve(), file.stat().st_mtime_ns))
    make = getattr(module, name, None)
    if not callable(make):
        functions = [k for k, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise UnknownName(f"function in {file.name}", name, functions)
    own = next((entry.defaults for entry in registry("architecture").values() if entry.make is make), {})
    return _guarded(make, file), {**DEFAULTS, **own}


def _example_inputs(request: ModelRequest, make: Callable[..., Any]) -> Callable[..., Any] | None:
    """What a file has beside a factory of torch modules: NAME_inputs, or example_inputs for all.  None: no factory."""
    if request.file is None or any(e.make is inspect.unwrap(make) for e in registry("architecture").values()):
        return None
    module = _module(request.file, (request.file.resolve(), request.file.stat().st_mtime_ns))
    found = getattr(module, f"{request.name}_inputs", None) or getattr(module, "example_inputs", None)
    return found if callable(found) else None


_TRACED: dict[Any, Found] = {}


def _traced(
    model: str | TorchModule,
    request: ModelRequest,
    make: Callable[..., Any],
    inputs: Callable[..., Any],
    options: Mapping[str, Any],
    fix: Mapping[str, int],
    stated: Sequence[str],
) -> Found:
    """A torch module's program, traced once; that of a file once per file as it stands."""
    file = request.file and (request.file.resolve(), request.file.stat().st_mtime_ns)
    key = file or model, request.name, repr(options), repr(sorted(fix.items())), tuple(stated)
    if key not in _TRACED:
        from scalecalc.trace import trace

        _TRACED[key] = trace(inspect.unwrap(make), inputs, options, fix, request.name, stated)
    return _TRACED[key]


@cache
def _module(file: Path, version: tuple[Path, int]) -> ModuleType:
    """A user's file, run once per ``version`` (where it lies, when it was written), since it may register what it defines."""
    spec = importlib.util.spec_from_file_location(f"scalecalc_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"there is no file {str(file)!r} with Python in it.")
    module = importlib.util.module_from_spec(spec)
    withdraw(_MADE.pop(version[0], ()))  # by the file as it was before it was edited
    before = registered()
    try:
        _guarded(spec.loader.exec_module, file)(module)
    finally:
        _MADE[version[0]] = registered() - before
    return module


def _guarded(call: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """The same function, whose failure inside a user's file becomes a message with the line."""
    from functools import wraps

    @wraps(call)
    def run(*args: Any, **more: Any) -> Any:
        try:
            return call(*args, **more)
        except ScalecalcError:
            raise
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == file.resolve()]
            line = lines[-1] if lines else getattr(error, "lineno", None)
            where = f"{file}, line {line}" if line else str(file)
            raise InputError(f"{where}: {type(error).__name__}: {error}") from error

    return run


def _options(name: str, make: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A model's options, converted to the type of their defaults."""
    known = inspect.signature(make).parameters
    out: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            if key in ARGUMENTS + MEASURING:
                whose = "of derive and verify" if key in ARGUMENTS else "of verify"
                raise InputError(f"{key} is no option of {name} but an argument {whose}: --{key}, or {key}=… in Python.")
            close = difflib.get_close_matches(key, ARGUMENTS + MEASURING, n=1, cutoff=0.8)
            raise UnknownName(f"option of {name}", key, [*known, *close])
        default = known[key].default
        if isinstance(default, bool):
            if str(value).lower() not in YES_NO:
                raise InputError(f"{name}:{key}={value} is neither yes nor no.")
            out[key] = YES_NO[str(value).lower()]
        elif isinstance(default, int):
            if not str(value).isdecimal() or not 1 <= int(value) <= 10_000:
                raise InputError(f"{name}:{key}={value} is no whole number between 1 and 10000.")
            out[key] = int(value)
        elif isinstance(default, float):
            out[key] = _number(f"{name}:{key}={value}", value)
        else:
            out[key] = value
    return out


def _number(given: str, value: Any) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{given} is no finite number.")
    return number


def read_parameterization(
    file: str | Path, program: Program, built: Mapping[str, WeightScaling] | None = None
) -> dict[str, WeightScaling]:
    """Exponents per weight from a TOML or JSON file: ``[W_B] init = {N_u = "-1/2"}, multiplier = {…}, lr = {…}``.

    Keys are weight names or shell patterns; an exact name wins, then the pattern with the most literal characters.
    Absent tables mean exponent 0; ``lr_log`` gives powers of logarithms in the rate.  ``weight_decay`` and ``epsilon`` are
    those of the optimizer; absent, they are the optimizer's own.  Where the weights were ``built``, by a torch module, what
    the file does not give is as it was.

    Raises:
        InputError: no such file, no TOML or JSON, a key that matches no weight, a weight that no key matches, a dim that
            the model does not have, or something that is no exponent.
    """
    path, found = Path(file), _tables(file)
    if without := globs.idle(found, program.weights):
        raise InputError(f"{path.name}: {', '.join(without)} matches no weight; the weights: {', '.join(program.weights)}.")
    own = built or {}
    return {name: _scaling(path.name, w, found, program.dims, own.get(name)) for name, w in program.weights.items()}


def _tables(file: str | Path) -> Mapping[str, Any]:
    """What a parameterization file says, as it stands."""
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"the parameterization file {str(path)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"the parameterization file {str(path)!r} is no {kind}: {error}") from error
    return found.get("parameterization", found)


def _stated(parameterization: Any) -> Sequence[str]:
    """The weights, by name or pattern, whose init a parameterization file says."""
    if not isinstance(parameterization, str) or not is_file(parameterization):
        return ()
    tables = _tables(parameterization)
    return [key for key, entry in tables.items() if isinstance(entry, Mapping) and "init" in entry]


def _scaling(
    file: str, weight: Weight, found: Mapping[str, Any], dims: Sequence[str], built: WeightScaling | None = None
) -> WeightScaling:
    key = globs.chosen(found, weight.name)
    if key is None and built is not None:
        return built
    if key is None:
        raise InputError(f"{file} says nothing of the weight {weight.name}; add a table for it, or a pattern.")
    entry = found[key]
    quantities = ("init", "multiplier", "lr", "weight_decay", "epsilon")
    takes = {*quantities, *(f"{q}_log" for q in quantities), "role", "pieces"}
    unknown = set(entry) - takes if isinstance(entry, dict) else {"?"}
    if unknown:
        raise InputError(
            f"{file}: {key} takes the tables {', '.join(quantities[:-1])} and {quantities[-1]}, and each with _log; "
            f"got {', '.join(sorted(unknown))}."
        )

    def scale(table: str) -> Scale:
        parts = [entry.get(table, {}), entry.get(f"{table}_log", {})]
        if not all(isinstance(p, dict) for p in parts) or any(dim not in dims for p in parts for dim in p):
            raise InputError(f"{file}: {key}.{table} maps dims ({', '.join(dims)}) to exponents; got {parts[0]}.")
        return Scale.from_strings(*parts)

    given = {q: scale(q) for q in quantities if q in entry or f"{q}_log" in entry}
    if built is not None:
        return replace(built, **given)
    return WeightScaling(**{q: Scale.one() for q in quantities[:3]} | given)
