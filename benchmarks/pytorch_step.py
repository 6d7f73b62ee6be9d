"""Training step of `pytorch_unet.UNet`, with the same loss, optimizer and EMA as in JAX."""

import math
from contextlib import AbstractContextManager

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks import pytorch_unet
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.discrete_schedules import DiscreteSchedule


class HybridLoss(nn.Module):
    """L_simple + vlb_weight L_vlb of a network that predicts eps, see `losses.hybrid`."""

    def __init__(self, schedule: DiscreteSchedule, vlb_weight: float) -> None:
        super().__init__()
        self.vlb_weight = vlb_weight
        before, whole = schedule.one_minus_alphas_bar[:-1], schedule.one_minus_alphas_bar[1:]
        beta = schedule.betas[1:]
        tables = {
            "c_noise": schedule.timesteps[1:],
            "alpha": np.sqrt(schedule.alphas_bar[1:]),
            "sigma": np.sqrt(whole),
            "of_x0": np.sqrt(schedule.alphas_bar[:-1]) * beta / whole,
            "of_x": np.sqrt(schedule.alphas[1:]) * before / whole,
            "log_beta": np.log(beta),
            "log_posterior": schedule.log_posterior_variance[1:],
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32))

    def forward(
        self, network: nn.Module, x0: Tensor, labels: Tensor, t: Tensor, noise: Tensor
    ) -> Tensor:
        """Returns the mean over the batch. t: (batch,), from 0, the least noisy step."""
        alpha, sigma, of_x0, of_x, log_beta, log_posterior = (
            table[t][:, None, None, None]
            for table in (
                *(self.alpha, self.sigma, self.of_x0),
                *(self.of_x, self.log_beta, self.log_posterior),
            )
        )
        x = alpha * x0 + sigma * noise
        estimate, fraction = network(x, self.c_noise[t], labels)
        error = (estimate - noise).square().mean((1, 2, 3))

        predicted = (x - sigma * estimate.detach()) / alpha
        log_variance = (fraction * log_beta + (1 - fraction) * log_posterior).clamp(-30, 30)
        mean, true_mean = of_x0 * predicted + of_x * x, of_x0 * x0 + of_x * x
        kl = gaussian_kl(true_mean, log_posterior, mean, log_variance).mean((1, 2, 3))
        nll = decoder_nll(x0, mean, log_variance).mean((1, 2, 3))
        return (error + self.vlb_weight * torch.where(t == 0, nll, kl)).mean()


def gaussian_kl(mean: Tensor, log_variance: Tensor, mean_p: Tensor, log_variance_p: Tensor):
    """Computes KL(N(mean, ...) || N(mean_p, ...)), per dimension."""
    difference = log_variance - log_variance_p
    distance = (mean - mean_p).square() * torch.exp(-log_variance_p)
    return 0.5 * (torch.exp(difference) - 1 - difference + distance)


def decoder_nll(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Computes -log of the probability of the 8-bit bin of x0, per dimension."""
    rate = torch.exp(-0.5 * log_variance)
    upper, lower = (x0 + 1 / 255 - mean) * rate, (x0 - 1 / 255 - mean) * rate
    inside = torch.where(x0 > mean, cdf(-lower) - cdf(-upper), cdf(upper) - cdf(lower))
    mass = torch.where(x0 < -0.999, cdf(upper), torch.where(x0 > 0.999, cdf(-lower), inside))
    return -torch.log(mass.clamp(min=1e-12))


def cdf(x: Tensor) -> Tensor:
    """Computes the standard normal CDF, accurate below -6, where torch.special.ndtr gives 0."""
    return 0.5 * torch.erfc(-math.sqrt(0.5) * x)


class Trainer:
    """A network with its optimizer (AdamW) and the EMA of its parameters.

    layout: torch.contiguous_format or torch.channels_last. compiled: True to use torch.compile.
    """

    def __init__(
        self, config: ConfigDict, device: str, layout: torch.memory_format, *, compiled: bool
    ) -> None:
        self.config, self.device, self.layout = config, device, layout
        self.network = pytorch_unet.from_config(config).to(device, memory_format=layout)
        loss = HybridLoss(Experiment.from_config(config).schedule, config.loss.vlb_weight).to(
            device
        )
        decay = get_ema_multi_avg_fn(config.ema.decay)
        self.average = AveragedModel(self.network, multi_avg_fn=decay)
        options = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=options.learning_rate,
            betas=(options.b1, options.b2),
            eps=options.eps,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.called = torch.compile(self.network) if compiled else self.network
        self.loss = torch.compile(loss) if compiled else loss

    def precision(self) -> AbstractContextManager:
        wanted = self.config.model.dtype == "bfloat16"
        return torch.autocast(self.device, torch.bfloat16, enabled=wanted)

    @torch.inference_mode()
    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Applies the network to x, float32 (batch, channels, height, width)."""
        with self.precision():
            return self.called(x, c_noise, labels)

    def step(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Makes one update and returns the loss. pixels: uint8 (batch, channels, height, width)."""
        x0 = (pixels.float() / 127.5 - 1).contiguous(memory_format=self.layout)
        dropped = torch.rand(len(x0), device=self.device) < self.config.label_dropout
        labels = torch.where(dropped, self.config.model.num_classes, labels)
        t = torch.randint(len(self.loss.c_noise), (len(x0),), device=self.device)
        with self.precision():
            loss = self.loss(self.called, x0, labels, t, torch.randn_like(x0))
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.optimizer.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        return loss.detach()
