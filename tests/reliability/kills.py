"""Kills a run at random moments until it is done, and compares it with one that was left alone.

python -m tests.reliability.kills [KILLS] [SEED]

30 kills take about 6 minutes on two cores.
"""

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from tests.reliability.runs import Run, left_behind

from configs import digits_dit
from diffusion_jax.runs.train import fresh_state
from diffusion_jax.training.checkpoints import Checkpoints
