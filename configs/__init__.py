"""One file for each experiment: `base.get_config()` plus the few lines in which it differs."""
