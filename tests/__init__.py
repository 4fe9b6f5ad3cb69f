"""The run-time checker of shapes and types in tests: an int is a float, as in Python's own typing rules (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
