"""What :func:`scalecalc.testing.check_rule` consists of: a rule's sample, and the law that is measured on it."""
