"""Printers: each reads a :class:`~scalecalc.table.Table` and nothing else, and none of them computes."""
