r"""The theory of arXiv 2407.07279, topic by topic: what sympy differentiates, solves and checks, and shows.

To see one: ``print(show("sigmoid"))``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from scalecalc.dynamics.derivation import Derivation, to_markdown, to_object, to_text
from scalecalc.dynamics.frequency import flow, loss, network, noise, zoh
from scalecalc.dynamics.solutions import conserved, learned, settings, sigmoid, stack, step, unbalanced
from scalecalc.errors import UnknownName

TOPICS: dict[str, Callable[[], Derivation]] = {
    one.__name__: one
    for one in (loss, flow, conserved, sigmoid, unbalanced, network, settings, zoh, step, learned, stack, noise)
}


@cache
def derivation(topic: str) -> Derivation:
    """The derivation of a topic, made and checked.

    Raises:
        UnknownName: there is no such topic.
    """
    if topic not in TOPICS:
        raise UnknownName("topic", topic, [*TOPICS, "all", "list"])
    return TOPICS[topic]()


def show(topic: str, format: str = "table", width: int = 100) -> str:
    """A derivation, or ``all`` of them, as text, Markdown or JSON; ``list`` has the topics.

    Raises:
        UnknownName: there is no such topic.
    """
    if topic == "list":
        titles = {name: (make.__doc__ or "").strip().rstrip(".") for name, make in TOPICS.items()}
        if format == "json":
            return json.dumps(titles, indent=2, ensure_ascii=False) + "\n"
        mark = "- " if format == "markdown" else ""
        return "".join(f"{mark}{name:<11} {title}\n" for name, title in titles.items())
    found = [derivation(name) for name in (TOPICS if topic == "all" else [topic])]
    if format == "json":
        return json.dumps([to_object(one) for one in found], indent=2, ensure_ascii=False) + "\n"
    printer = to_markdown if format == "markdown" else lambda one: to_text(one, width)
    return "\n".join(printer(one) for one in found)
