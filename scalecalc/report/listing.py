"""What is registered, as a list: names, the law in words, the source.

>>> print(listing([{"name": "tanh", "words": "odd, saturating", "source": "by definition"}], "table"), end="")
tanh
    odd, saturating
    source: by definition
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

COLUMNS = ("name", "words", "source")


def listing(records: Sequence[Mapping[str, str]], format: str, *, width: int = 80) -> str:
    """The records in one of :data:`scalecalc.report.formats.FORMATS`."""
    match format:
        case "json":
            import json

            return json.dumps([{key: r[key] for key in COLUMNS} for r in records], indent=2, ensure_ascii=False) + "\n"
        case "csv":
            from scalecalc.report.formats import to_csv

            return to_csv(COLUMNS, ({key: r[key] for key in COLUMNS} for r in records))
        case "markdown":
            lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
            lines += ["| " + " | ".join(r[key].replace("|", "\\|") for key in COLUMNS) + " |" for r in records]
            return "\n".join(lines) + "\n"
        case _:
            return "".join(_person(record, width) for record in records)


def _person(record: Mapping[str, str], width: int) -> str:
    import textwrap

    lines = [record["name"]]
    for text in (record["words"], f"source: {record['source']}" if record["source"] else ""):
        lines += textwrap.wrap(text, max(width, 20), initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"
