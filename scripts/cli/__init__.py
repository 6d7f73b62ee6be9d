"""Flags, error lines and process set-up shared by the scripts."""
