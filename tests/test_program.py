"""What an architecture may record, what is refused and how, and what a program knows of its own graph."""

import pytest

from scalecalc.errors import MissingRule, ProgramError
from scalecalc.program import Program
from scalecalc.scale import Regime, Scale
from scalecalc.term import EVEN, Term
from scalecalc.value import Algebra, Value


@pytest.fixture
def program():
    return Program("net", dims=("N", "M"), fixed={"batch": 4, "in": 8, "out": 2})


# ---------------------------------------------------------------------- what is recorded


def test_one_operation_per_call(program):
    """Inputs are earlier positions; axes are matched by label, in order of first appearance."""
    a, b = program.input("a", "batch N"), program.input("b", "M batch")
    c = a * b + a
    assert [op.rule for op in program.ops] == ["input", "input", "contraction", "add"]
    assert c.axes == ("batch", "N", "M")
    assert c.op.inputs == (2, 0)
    assert program.tensor(c.index).op is c.op
    assert program.growing(c.axes) == ("N", "M")


@pytest.mark.parametrize(
    ("axes", "given", "role", "fan_in", "fan_out"),
    [
        ("N in", "", "embedding", "1", "N"),
        ("N M", "", "hidden", "M", "N"),
        ("N N'", "", "hidden", "N", "N"),
        ("out N", "", "readout", "N", "1"),
        ("N", "", "vector", "1", "N"),
        ("out in", "", "vector", "1", "1"),
        ("M N in", "", "embedding", "1", "M N"),
        ("M N", "selection_B", "selection_B", "N", "M"),
    ],
)
def test_roles_of_weights(program, axes, given, role, fan_in, fan_out):
    """Read off the growing axes, the last one being the input, unless the architecture says better."""
    program.weight("W", axes, role=given)
    weight = program.weights["W"]
    assert (weight.role, str(weight.fan_in), str(weight.fan_out)) == (role, fan_in, fan_out)
    assert weight.axes == tuple(axes.split())


def test_names(program):
    """Leaves and features by their own name; others are called after what they are made of, while that is short."""
    W, v = program.weight("W", "N M"), program.input("x", "M")
    assert (W * v).name == "W·x"
    assert (W + v).name == "W+x"
    assert program.record("relu", (v,), v.axes).name == "relu(x)"
    long = v
    for _ in range(12):  # thirteen factors do not fit
        long = long * v
    assert long.name == f"t{long.index}"
    h = program.feature("h", W * v)
    assert (h.name, program.features) == ("h", {"h": h.index})
    assert repr(h) == "Tensor(h: N M)"


def test_where_it_was_recorded(program):
    """Every operation knows the file and line of the architecture, through the helpers of this module."""
    first = program.input("x", "N")
    second = first + first
    places = [op.where.split(":") for op in (first.op, second.op)]
    assert [file for file, _ in places] == ["test_program.py"] * 2
    assert int(places[1][1]) == int(places[0][1]) + 1


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("K", r"axis 'K' in net is neither a growing dim \(N, M\) nor a fixed axis \(batch, in, out\)"),
        ("N batch'", 'axis "batch\'" in net is neither'),
        ("N N", "two axes of one tensor share a label in net: N N; give one of them a prime"),
        ("batch N batch", "share a label"),
    ],
)
def test_wrong_axes(program, axes, message):
    """Undeclared and repeated axes are errors that quote them, and nothing is recorded."""
    with pytest.raises(ProgramError, match=message):
        program.input("x", axes)
    assert program.ops == []


def test_wrong_axes_of_an_empty_program():
    """Without any fixed axis the message says so."""
    with pytest.raises(ProgramError, match="none declared"):
        Program("bare", dims=("N",)).weight("W", "N in")


@pytest.mark.parametrize("kind", ["input", "weight", "index", "feature"])
def test_a_name_used_twice(program, kind):
    """Among leaves and features of any kind."""
    x = program.input("x", "N")
    h = program.feature("h", x + x)
    again = {
        "input": lambda name: program.input(name, "N"),
        "weight": lambda name: program.weight(name, "N"),
        "index": lambda name: program.index(name, "N", 1),
        "feature": lambda name: program.feature(name, x * h),
    }[kind]
    for name in ("x", "h"):
        with pytest.raises(ProgramError, match=f"the name '{name}' is used twice in net"):
            again(name)


def test_tensors_of_two_programs(program):
    """A tensor belongs to one program."""
    other = Program("other", dims=("N",)).input("x", "N")
    for mixed in (lambda x: x + other, lambda x: x * other):
        with pytest.raises(ProgramError, match="a tensor of another program is used in net"):
            mixed(program.input(f"y{len(program.ops)}", "N"))


def test_an_operation_without_a_rule(program):
    """It may be recorded; whoever interprets it is told the operation, the place and what to write."""
    from scalecalc.derive import run

    x = program.input("x", "N")
    y = program.record("frobnicate", (x,), x.axes)
    with pytest.raises(MissingRule, match=r"'frobnicate' \(at frobnicate\(x\) \(test_program\.py:\d+\)\)"):
        run(program, Algebra(), {}, [y.index])


# ---------------------------------------------------------------------- questions


def test_what_is_needed(program):
    """live: everything a wanted tensor depends on, back to what is given; reaches: everything that depends on a leaf."""
    W, x = program.weight("W", "N M"), program.input("x", "M")
    h = W * x
    y, z = h + h, x + x
    assert program.live([y.index]) == [True, True, True, True, False]
    assert program.live([y.index], given=[h.index]) == [False, False, True, True, False]
    assert program.live([z.index, h.index]) == [True, True, True, False, True]
    assert program.live([]) == [False] * 5
    assert program.reaches("W") == {W.index, h.index, y.index}
    assert program.reaches("x") == {x.index, h.index, y.index, z.index}
    assert program.reaches("nothing") == set()
    assert program.trainable() == [True, False, True, True, False]


def test_primed_labels_are_axes_of_one_dim(program):
    """N and N' are two axes; a fixed axis has no primes."""
    square = program.weight("W", "N N'")
    assert program.growing(square.axes) == ("N", "N'")
    assert program.grows("N''")
    assert not program.grows("batch")


def test_the_end(program):
    """The output is a position; the backward pass starts there."""
    f = program.feature("f", program.weight("W", "out N") * program.input("x", "N"))
    program.end(f)
    assert program.loss == f.index


# ---------------------------------------------------------------------- interpreted


def test_every_value_points_along_itself(program):
    """The interpreter gives each result its own direction, and skips what nobody asked for."""
    from scalecalc.derive import run

    W, x = program.weight("W", "N"), program.input("x", "N")
    y, unused = W + x, x * x
    weights = {"W": Value((), (Term(Scale.of("M"), EVEN),))}
    values = run(program, Algebra(Regime.parse("free")), weights, [y.index])
    assert values[unused.index] is None
    value = values[y.index]
    assert value is not None
    assert (y.index, "N") in value.ray
    assert value.labels == ("N",)
    assert [t.size for t in value.terms] == [Scale.of("M"), Scale.one()]
