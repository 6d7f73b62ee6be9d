"""How good images are: features of a network, their statistics, and distances between these."""
