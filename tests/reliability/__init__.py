"""Fault injection: a tool for each fault, with its row in docs/reliability.md."""
