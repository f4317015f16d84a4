"""The compiled core: sans-IO, no clock, no randomness; imports nothing else of fastgate."""

import os
from importlib.machinery import EXTENSION_SUFFIXES

# There is no slow path in Python to fall back on, so say at once what is wrong.
if not any(
    f".{name.partition('.')[2]}" in EXTENSION_SUFFIXES
    for name in os.listdir(os.path.dirname(__file__))
):
    raise ImportError("the compiled core is missing: run `make build` or `pip install .`")
