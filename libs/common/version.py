"""The version of the whole, as pyproject.toml has it: the images hold no installed package to ask."""

VERSION = "0.1.0"
