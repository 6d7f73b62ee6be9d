"""A run and its workdir: what a config builds, training, sampling and evaluating."""
