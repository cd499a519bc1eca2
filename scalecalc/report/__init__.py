"""Printers: each reads a record (a Table, a Comparison, an Explanation) and nothing else, and none of them computes."""
