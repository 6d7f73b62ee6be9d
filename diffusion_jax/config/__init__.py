"""Configs: their schema, overrides, checks, and the objects that they describe."""
