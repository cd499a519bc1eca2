"""The pytest plugin: the fixture ``assert_scaling``, for a test that a module scales as it should.

```python
def test_block_scales(assert_scaling):
    assert_scaling(factory, example_inputs, parameterization="mup", optimizer="adam")
```

``--scaling-budget SECONDS`` (or ``scaling_budget`` in pytest's settings) is the time to measure that a test does not say
itself, ``--scaling-strict`` makes inconclusive rows count.  Tests that use the fixture have the marker ``scaling``
(``-m "not scaling"`` leaves them out), and a summary tells how many rows of each were settled.

pytest loads this in every run of every suite beside which scalecalc is installed: nothing but pytest is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from scalecalc.table import Table

LINES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("scaling", "width scaling of modules (scalecalc)")
    group.addoption("--scaling-budget", type=float, metavar="SECONDS", help="time to measure one module's scaling")
    group.addoption("--scaling-strict", action="store_true", help="inconclusive rows fail, too")
    parser.addini("scaling_budget", "seconds to measure one module's scaling", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "scaling: measures how a module scales with its widths (uses assert_scaling)")
    config.stash[LINES] = []
    _budget(config)


def _budget(config: pytest.Config) -> float | None:
    """The seconds that were asked for.

    Raises:
        pytest.UsageError: they are no seconds.
    """
    given = config.getoption("scaling_budget")
    try:
        found = float(config.getini("scaling_budget") or "nan") if given is None else float(given)
    except ValueError as error:
        raise pytest.UsageError(f"scaling_budget is a number of seconds, not {config.getini('scaling_budget')!r}") from error
    if found <= 0:
        raise pytest.UsageError(f"the scaling budget is a number of seconds above zero, not {found:g}")
    return found if found == found else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "assert_scaling" in getattr(item, "fixturenames", ()):
            item.add_marker("scaling")


@pytest.fixture
def assert_scaling(request: pytest.FixtureRequest) -> Callable[..., Table]:
    """``scalecalc.testing.assert_scaling`` with the budget and strictness of this run."""
    config = request.config

    def check(*model: Any, **options: Any) -> Table:
        from scalecalc.testing import assert_scaling as check_it

        __tracebackhide__ = True
        usual: dict[str, Any] = {} if (budget := _budget(config)) is None else {"budget": budget}
        usual |= {"inconclusive": False} if config.getoption("scaling_strict") else {}
        table = check_it(*model, **{**usual, **options})
        found = table.counts()
        config.stash[LINES].append(
            f"{request.node.nodeid}: {len(table.rows)} rows, {found['agrees']} agree, {found['inconclusive']} inconclusive"
        )
        return table

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[LINES]:
        terminalreporter.section("scaling")
        for line in lines:
            terminalreporter.line(line)
