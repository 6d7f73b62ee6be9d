"""What bad days do to a run: a tool for each fault, with its row in docs/reliability.md."""
