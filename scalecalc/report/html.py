"""HTML: one file that opens from disk, with no network and no script needed to read it.

Formulas are MathML, made from the LaTeX that the other reports print, so that a size is written in one way only; plots and
the diagram are SVG inside the page.  What is shown comes in through jinja2, which escapes it; what is markup already says
so (:class:`markupsafe.Markup`).  The style sheet and the script lie beside the template in ``page/``.

>>> print(size(Scale.of("N", "-1/2")))
<math><mrow><msup><mi>N</mi><mrow><mo>−</mo><mn>1</mn><mo lspace="0" rspace="0">/</mo><mn>2</mn></mrow></msup></mrow></math>
>>> print(name("<b>x"), sentence("rate N^2 of <W>"))
<code>&lt;b&gt;x</code> rate <math><mrow><msup><mi>N</mi><mrow><mn>2</mn></mrow></msup></mrow></math> of &lt;W&gt;
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from scalecalc.report import latex
from scalecalc.scale import Scale
from scalecalc.table import Slope

if TYPE_CHECKING:
    from jinja2 import Environment

# As LaTeX sets them: a solidus in an exponent without space around it, functions as names, Greek capitals upright.
_SET = {"<mo>&#x0002F;</mo>": '<mo lspace="0" rspace="0">/</mo>', "<mo>max</mo>": "<mi>max</mi>"}
_CAPITAL = re.compile("<mi>([\u0391-\u03a9])</mi>")
_REFERENCE = re.compile("&#x([0-9A-Fa-f]+);")
_MATH = re.compile(r"\$([^$]*)\$")


@cache
def math(source: str) -> Markup:
    """LaTeX mathematics as MathML; as code where it is none that can be read."""
    from latex2mathml.converter import convert

    try:
        found = convert(source)
    except Exception:  # whatever the converter makes of names that a user gave
        return Markup("<code>{}</code>").format(source)
    found = _REFERENCE.sub(lambda m: m[0] if int(m[1], 16) < 128 else chr(int(m[1], 16)), found)
    found = re.sub(r' (xmlns|display)="[^"]*"', "", found)  # whatever was a character of markup still is a reference
    for ours, theirs in _SET.items():
        found = found.replace(ours, theirs)
    return Markup(_CAPITAL.sub(r'<mi mathvariant="normal">\1</mi>', found))


def size(one: Scale) -> Markup:
    """One scale."""
    return math(one.latex())


def sizes(terms: Sequence[Scale]) -> Markup:
    """The size of a row: one, several of which none dominates, or zero."""
    if not terms:
        return math("0")
    return size(terms[0]) if len(terms) == 1 else math(r"\max(" + r",\;".join(t.latex() for t in terms) + ")")


@cache
def name(words: str) -> Markup:
    """The name of a tensor, of a sum, of weights with plus signs between them.

    It is what buttons and headings consist of, which browsers do not name by MathML; so it has its own name beside it.
    """
    found = latex.name(words)
    if not found.startswith("$"):
        return Markup("<code>{}</code>").format(words)
    return Markup(math(found.strip("$")).replace("<math>", Markup('<math aria-label="{}">').format(words), 1))


def sentence(words: str, write: Callable[[str], Markup] = math) -> Markup:
    """Words in which the sizes and the weights are set as mathematics."""
    out, place = Markup(), 0
    for start, end, inner in latex.formulas(words):
        out += escape(words[place:start]) + write(inner)
        place = end
    return out + escape(words[place:])


@cache
def light(source: str) -> Markup:
    """LaTeX of names and sizes with sub and sup: a fifth as long as MathML, for what stands in a page thousands of times.

    >>> print(light(r"N_{u}^{-1/2}"), light(r"W_{\\mathrm{in}}"), light(r"\\Delta"))
    N<sub>u</sub><sup>−1/2</sup> W<sub>in</sub> Δ
    """
    plain = latex.GREEK_LETTERS
    text = re.sub(r"\\mathrm\{([^{}]*)\}", r"\1", source).replace("-", "−")
    text = text.replace(r"\,", "\N{THIN SPACE}").replace(r"\_", "_").replace("\\ ", " ")
    text = re.sub(r"\\([A-Za-z]+) ?", lambda m: {"langle": "⟨", "rangle": "⟩", **plain}.get(m[1], m[0]), text)
    parts = re.split(r"([_^])\{([^{}]*)\}", text)
    if any(set(part) & set("\\{}_^") for part in parts[::3]) or any(set(part) & set("\\{}^") for part in parts[2::3]):
        return math(source)
    out = escape(parts[0])
    for mark, inside, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        out += Markup("<{0}>{1}</{0}>").format("sub" if mark == "_" else "sup", inside) + escape(after)
    return out


def light_name(words: str) -> Markup:
    """A name like :func:`name`, by :func:`light`."""
    found = latex.name(words)
    return light(found.strip("$")) if found.startswith("$") else Markup("<code>{}</code>").format(words)


def prose(words: str) -> Markup:
    """LaTeX prose of ours: words with mathematics between dollars."""
    out, place = Markup(), 0
    for found in _MATH.finditer(words):
        out += escape(words[place : found.start()]) + math(found[1])
        place = found.end()
    return out + escape(words[place:])


def slope(value: Slope) -> str:
    from scalecalc.report import layout

    return layout.slope(value).replace("-", "−")


@cache
def environment() -> Environment:
    """The templates, with what they call."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("scalecalc.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(size=size, sizes=sizes, name=name, sentence=sentence, prose=prose, math=math, slope=slope)
    found.filters.update(light_name=light_name, light=partial(sentence, write=light))
    found.globals["asset"] = partial(_asset, found)
    return found


def _asset(found: Environment, file: str) -> Markup:
    """A style sheet or a script, to stand inside the page."""
    assert found.loader is not None
    return Markup(found.loader.get_source(found, file)[0])


def draw(template: str, **context: Any) -> str:
    """A page."""
    return environment().get_template(template).render(**context)
