"""A matplotlib figure as SVG for the inside of a page: small, in the page's colours and font, with ids of its own.

matplotlib writes for every reader of SVG: a group around everything, fonts by ten names at every letter, six decimals.  In a
page with a hundred plots that is most of the page; what is taken away here cannot be seen.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from scalecalc.report.plots import COLORS, GROUND, INK, LINE, SOFT, draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
NAMES = ("ink", "soft", "line", "panel", "blue", "orange", "green", "purple", "gold", "red")
VARIABLES = dict(zip((INK, SOFT, LINE, GROUND, *COLORS), NAMES, strict=True))
GEOMETRY = ("d", "x", "y", "width", "height", "points", "transform", "viewBox")
_NUMBER = re.compile(r"-?\d+\.\d+")
_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_NOTHING = re.compile(r"\s*rotate\(-?0 [^)]*\)")


def inline(made: Figure, key: str, title: str) -> str:
    """The figure as an SVG element.

    Args:
        key: what its ids begin with, so that two figures of one page do not share any.
        title: what a screen reader says.
    """
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(draw(made, "svg", text=True))
    for metadata in root.findall(f"{{{SVG}}}metadata"):
        root.remove(metadata)
    values = [value for part in root.iter() for value in part.attrib.values()]
    used = {there[1:] for part in root.iter() if (there := part.get(LINK, "")).startswith("#")}
    used |= {name for value in values for name in re.findall(r"url\(#([^)]*)\)", value)}
    short = {name: f"{key}-{i}" for i, name in enumerate(sorted(used))}
    for part in root.iter():
        _attributes(part, short)
        if not part.tag.endswith(("style", "text", "tspan")):
            part.text = None
        part.tail = None
    _unwrap(root)
    root.attrib.pop("version", None)
    root.set("role", "img")
    root.set("aria-label", title)
    root.set("font-family", "var(--sans)")
    return ElementTree.tostring(root, encoding="unicode")


def _attributes(part: ElementTree.Element, short: dict[str, str]) -> None:
    own = part.attrib
    if "id" in own:
        name = own.pop("id")
        if name in short:
            own["id"] = short[name]
    if LINK in own:
        there = own.pop(LINK)  # or a picture, whole
        own["href"] = f"#{short[there[1:]]}" if there.startswith("#") else there
    for name, value in list(own.items()):
        for old, new in short.items():
            value = value.replace(f"url(#{old})", f"url(#{new})")
        if name in GEOMETRY:
            value = _NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), value)
            value = " ".join(_NOTHING.sub("", value).split())
        if name in ("style", "fill", "stroke"):
            for color, variable in VARIABLES.items():
                value = value.replace(color, f"var(--{variable})")
            value = _FAMILY.sub("", value).replace("; ", ";").replace(": ", ":").rstrip(";")
        if value:
            own[name] = value
        else:
            del own[name]


def _unwrap(part: ElementTree.Element) -> None:
    """Put the children of a group that says nothing in its place."""
    for child in list(part):
        _unwrap(child)
    for child in list(part):
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(part).index(child)
            part.remove(child)
            for offset, grandchild in enumerate(list(child)):
                part.insert(place + offset, grandchild)
