"""Classifiers of noisy images: training, and guidance by a run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forks import run_each
from ml_collections import ConfigDict
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tiny import tiny_config, tiny_transformer_config, train

from configs import adm64_classifier, digits_classifier, digits_unconditional
from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment, make_model
from diffusion_jax.config.schema import model_section
from diffusion_jax.diffusion import losses
from diffusion_jax.generation import guidance_models
from diffusion_jax.generation.prepared_denoiser import DiffusionModel
from diffusion_jax.generation.sampler import Sampler
from diffusion_jax.importers.imported_model import with_settings
from diffusion_jax.models import Network
from diffusion_jax.training import objectives
from diffusion_jax.training.logging import read_metrics
from diffusion_jax.training.state import init_params, param_shapes
from diffusion_jax.workdir.run_files import load_config

LABELS = np.array([3, 4, 10, 0, 9, 3, 1, 7], np.int32)  # 10 is the null label


def classifier_config(**changes) -> ConfigDict:
    config = tiny_config(loss__kind="cross_entropy", label_dropout=0.0, sampling__guidance=0.0)
    config.model = model_section(
        "noisy_classifier",
        channels=1,
        num_classes=10,
        width=8,
        multipliers=(1,),
        blocks=1,
        attention=(),
        num_heads=1,
        head_channels=None,
    )
    with config.unlocked(), config.ignore_type():
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def params_of(config, seed=0):
    """Parameters with noise: the output layer of a new network is almost 0."""
    model = make_model(config)
    params = jax.jit(lambda: init_params(model, seed, config.data.resolution))()
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params)))
    keys = jax.tree.unflatten(jax.tree.structure(params), list(keys))
    return jax.tree.map(
        lambda leaf, key: leaf + 0.2 * jax.random.normal(key, leaf.shape), params, keys
    )


def test_parameter_counts_equal_the_published_classifiers():
    """Counts of OpenAI's PyTorch modules."""
    config = adm64_classifier.get_config()
    counts = {
        (64, 4, (1, 2, 3, 4)): 65_438_568,
        (128, 2, (1, 1, 2, 3, 4)): 42_568_040,
        (256, 2, (1, 1, 2, 2, 4, 4)): 54_096_360,
        (512, 2, (0.5, 1, 1, 2, 2, 4, 4)): 54_448_360,
    }
    for (side, blocks, multipliers), count in counts.items():
        fields = {"data.resolution": side, "model.blocks": blocks, "model.multipliers": multipliers}
        shapes = param_shapes(make_model(with_settings(config, fields)), side)
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_configs_are_valid():
    for module in (adm64_classifier, digits_classifier, digits_unconditional):
        Experiment.from_config(module.get_config())


def test_cross_entropy_equals_a_hand_calculation():
    """Two classes of odds 3 to 1."""
    logits = jnp.log(jnp.array([[3.0, 1.0], [3.0, 1.0], [1.0, 3.0]]))
    labels = jnp.array([0, 1, 2])  # the last is the null label
    assert_allclose(losses.log_probability(logits, labels), np.log([0.75, 0.25, 1]), atol=1e-6)
    parts = losses.classification_loss(logits[:2], labels[:2])
    assert_allclose(parts["loss"], -np.log([0.75, 0.25]), atol=1e-6)
    assert_array_equal(parts["accuracy"], [1, 0])


HEARD = {}


class Recorder(Network):
    """Records its inputs and returns its parameters as logits."""

    def apply(self, variables, x, c_noise, *, train, examples, rngs):
        assert train
        assert "dropout" in rngs
        HEARD.update(x=x, c_noise=c_noise)
        return variables["params"]


@pytest.mark.parametrize("schedule", ["cosine", "edm"])
def test_a_classifier_is_trained_on_noisy_images_and_their_c_noise(schedule):
    parameterization = "edm" if schedule == "edm" else "eps"
    config = classifier_config(schedule__name=schedule, parameterization__name=parameterization)
    schedule, listener = Experiment.from_config(config).schedule, Recorder(1, 10)
    objective = objectives.classification(
        listener,
        schedule,
        Experiment.from_config(config).parameterization,
        Experiment.from_config(config).training.timestep_sampler,
    )
    logits = jax.random.normal(jax.random.key(1), (512, 10))
    batch = {"image": jnp.full((512, 8, 8, 1), 255, jnp.uint8)}  # x0 = 1 everywhere
    batch["label"] = jnp.arange(512) % 10
    parts, noisy = objective(logits, batch, jnp.arange(512), jax.random.key(0), None)
    odds = np.exp(np.float64(logits))
    wanted = -np.log(odds[np.arange(512), batch["label"]] / odds.sum(1))
    assert_allclose(parts["loss"], wanted, atol=1e-5)
    assert_array_equal(parts["accuracy"], logits.argmax(1) == batch["label"])
    level = schedule.level(noisy.position)
    assert_allclose(HEARD["c_noise"], level.c_noise)
    signal, noise = np.float64(level.alpha), np.float64(level.sigma)
    if parameterization == "edm":  # c_in of EDM, table 1
        scale = 1 / np.sqrt(noise**2 + 0.5**2)
        signal, noise = signal * scale, noise * scale
    eps = (np.float64(HEARD["x"]) - signal[:, None, None, None]) / noise[:, None, None, None]
    assert abs(eps.mean()) < 0.02
    assert abs(eps.std() - 1) < 0.02
    assert np.std(noise) > 0.1  # of many levels


@pytest.mark.parametrize("other", [{}, {"schedule__name": "edm", "parameterization__name": "edm"}])
def test_guided_samples_equal_algorithm_2(other):
    """DDIM steps by hand, with an unconditional model and a classifier of any schedule."""
    config = tiny_transformer_config(
        model__num_classes=0, sampling__steps=3, sampling__clip=False, sampling__guidance=0.0
    )
    classifier_settings = classifier_config(**other)
    params, of_classifier = params_of(config), params_of(classifier_settings, 1)
    sampler = Sampler.from_experiment(
        Experiment.from_config(config),
        batch_size=8,
        guides=guidance_models.GuidanceModels(
            classifier=DiffusionModel.from_experiment(Experiment.from_config(classifier_settings))
        ),
    )
    sampled, _ = sampler(
        parallel.replicate(params),
        LABELS,
        seed=1,
        classifier_scale=2.0,
        guide_params={"classifier": parallel.replicate(of_classifier)},
    )
    network, classifier = make_model(config), make_model(classifier_settings)

    @jax.jit
    def log_p(x, sigma):
        own = Experiment.from_config(classifier_settings).schedule.at_sigma(sigma, jnp)
        seen = x * own.alpha + 0 * x if other else x
        seen = seen / jnp.sqrt(sigma**2 + 0.25) if other else seen
        logits = classifier.apply(
            {"params": of_classifier}, seen, jnp.full((8,), own.c_noise, jnp.float32)
        )
        likelihood = jax.nn.log_softmax(logits)
        return sum(likelihood[i, label] for i, label in enumerate(LABELS.tolist()) if label < 10)

    @jax.jit
    def noise_of(x, c_noise):
        return network.apply({"params": params}, x, jnp.full((8,), c_noise, jnp.float32)).estimate

    levels = Experiment.from_config(config).sampling.sampling_schedule.levels
    x = jnp.asarray(sampler.initial_noise(8, seed=1))
    moved = 0
    for now in range(3):
        a, s = np.float32(levels.alpha[now]), np.float32(levels.sigma[now])
        b, t = np.float32(levels.alpha[now + 1]), np.float32(levels.sigma[now + 1])
        # The classifier's x is x0 + sigma eps where its schedule is EDM's.
        unit = 1 / a if other else np.float32(1)
        gradient = jax.grad(log_p)(x * unit, s / a) * unit
        eps = noise_of(x, np.float32(levels.c_noise[now]))
        moved = max(moved, float(jnp.abs(2 * s * gradient).max()))
        eps = eps - 2 * s * gradient
        x = b * (x - s * eps) / a + t * eps
    assert moved > 0.01
    assert_allclose(sampled, x, atol=1e-4 * float(jnp.abs(x).max()))


def test_another_scale_does_not_recompile_and_0_is_off():
    config = tiny_transformer_config(model__num_classes=0, sampling__guidance=0.0)
    classifier_settings = classifier_config()
    loaded = guidance_models.GuidanceModels(
        classifier=DiffusionModel.from_experiment(Experiment.from_config(classifier_settings))
    )
    params, of_classifier = (
        parallel.replicate(params_of(c)) for c in (config, classifier_settings)
    )
    lowered = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: lowered.append(event) if "jaxpr_to_mlir" in event else None
    )
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8, guides=loaded)

    def draw(scale):
        given = {"guide_params": {"classifier": of_classifier}, "classifier_scale": scale}
        return sampler(params, LABELS, seed=1, **given)[0]

    one, before = draw(1.0), len(lowered)
    two = draw(2.0)
    assert len(lowered) == before
    assert np.abs(one[LABELS < 10] - two[LABELS < 10]).max() > 1e-3
    plain = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)(
        params, LABELS, seed=1
    )[0]
    assert_array_equal(draw(0.0), plain)
    assert_allclose(one[LABELS == 10], plain[LABELS == 10], atol=1e-5)  # without a class
    with pytest.raises(ValueError, match="guide_params of this sampler must be of classifier"):
        sampler(params, LABELS, seed=1)


def test_the_classifier_rule_of_ddpm_is_a_setting_of_sampling():
    settings = classifier_config()
    loaded = guidance_models.GuidanceModels(
        classifier=DiffusionModel.from_experiment(Experiment.from_config(settings))
    )
    found = []
    for rule in ("score", "mean"):
        config = tiny_transformer_config(
            model__num_classes=0, sampling__guidance=0.0, sampling__solver="ddpm"
        )
        config.sampling.ddpm.classifier_rule = rule
        sampler = Sampler.from_experiment(
            Experiment.from_config(config), batch_size=8, guides=loaded
        )
        params, of_classifier = (parallel.replicate(params_of(c)) for c in (config, settings))
        given = {"guide_params": {"classifier": of_classifier}, "classifier_scale": 3.0}
        found.append(sampler(params, LABELS, seed=1, **given)[0])
    score, mean = found
    assert np.abs(score[LABELS < 10] - mean[LABELS < 10]).max() > 1e-3
    assert_allclose(score[LABELS == 10], mean[LABELS == 10], atol=1e-5)  # without a class


@pytest.fixture(scope="module")
def runs(tmp_path_factory, ordinary_promotion):
    """A folder with a classifier and an unconditional model."""
    folder = tmp_path_factory.mktemp("runs")
    config = classifier_config(steps=60, batch_size=64, log_every=10, checkpoint_every=60)
    config.optimizer.learning_rate = 0.01
    train(config, folder / "classifier")
    plain = {"label_dropout": 0.0, "sampling__guidance": 0.0}
    train(tiny_transformer_config(steps=1, model__num_classes=0, **plain), folder / "plain")
    train(tiny_transformer_config(steps=1), folder / "classes")
    return folder


def test_training_lowers_the_loss_and_plots_the_accuracy_by_noise(runs):
    lines = read_metrics(runs / "classifier")
    assert lines[-1].keys() >= {"loss", "accuracy"}
    assert lines[0]["loss"] > np.log(10) - 0.2
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert 0.15 < lines[-1]["accuracy"] <= 1
    pictures = sorted((runs / "classifier" / "samples").glob("*.png"))
    with Image.open(pictures[-1]) as picture:
        rows = np.asarray(picture)[1:, -33:-1].reshape(3, -1)  # of grid_rows noises
    # More noise, more different neighbors.
    assert rows.std(axis=1).min() > 0


def test_a_flag_names_the_classifier(runs):
    """Labels are the classifier's, which is in the settings of the results."""
    config = load_config(runs / "plain")
    config.sampling.classifier = str(runs / "classifier")
    assert guidance_models.classes_of(config, []) == (10, [str(i) for i in range(10)])
    out = runs / "samples"
    (done,) = run_each(
        "sample",
        [
            [
                *(f"--workdir={runs / 'plain'}", f"--classifier={runs / 'classifier'}"),
                *("--labels=3,4", "--classifier_scale=3", "--count=4"),
                *("--save=npz,png", f"--out={out}"),
            ]
        ],
    )
    assert done.returncode == 0, done.stderr
    settings = json.loads((out / "settings.json").read_text())
    assert settings["labels"] == [3, 3, 4, 4]
    assert settings["classifier_scale"] == 3
    assert settings["classifier_sha256"] != settings["parameters_sha256"]
    sampler = Sampler.from_experiment(Experiment.from_config(config), batch_size=8)
    _, params = guidance_models.load_guidance_models(Experiment.from_config(config))
    assert guidance_models.checksums(params) == {"classifier_sha256": settings["classifier_sha256"]}
    assert sampler.guide_params.keys() == {"classifier"}


def test_errors_are_one_line(runs):
    plain, classes, classifier = (
        f"--workdir={runs / name}" for name in ("plain", "classes", "classifier")
    )
    by = f"--classifier={runs / 'classifier'}"
    train_digits = [f"--workdir={runs / 'new'}", "--config=configs/digits.py"]
    cases = {
        "sample": [
            (
                [classifier],
                "cannot be sampled; it can guide another run: classifier=ITS_WORKDIR",
            ),
            ([plain, f"--classifier={runs / 'plain'}"], "is no classifier of noisy images"),
            ([plain, f"--classifier={runs / 'none'}"], "sampling.classifier="),
            ([classes, f"--autoguidance={runs / 'classifier'}"], "is no generative model"),
            ([plain, "--classifier_scale=2"], "was given without a classifier"),
            ([plain, by, "--classifier_checkpoint=7"], "No checkpoint of step 7"),
            ([plain, by, "--labels=11"], "Unknown label '11'"),
            ([plain, by, "--labels=none"], "which can only guide to classes"),
            ([plain, "--guidance=2"], "guidance=2.0 was given, but the model has no classes"),
            ([plain, "--labels=3"], "the model has no classes"),
        ],
        "train": [
            (
                [*train_digits, "--config.loss.kind=cross_entropy"],
                "model.name=unet is not a classifier, and loss.kind=cross_entropy",
            ),
            (
                [
                    *(train_digits[0], "--config=configs/digits_classifier.py"),
                    "--config.loss.kind=simple",
                ],
                "model.name=noisy_classifier is a classifier, and loss.kind=simple",
            ),
            (
                [*train_digits, "--config.sampling.classifier_checkpoint=3"],
                "sampling.classifier_checkpoint=3 needs sampling.classifier",
            ),
        ],
    }
    before = sorted(runs.rglob("*"))
    for script, of_script in cases.items():
        results = run_each(script, [arguments for arguments, _ in of_script])
        for (arguments, message), done in zip(of_script, results):
            assert done.returncode == 1, (arguments, done.stdout)
            assert message in done.stderr, (arguments, done.stderr)
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert sorted(runs.rglob("*")) == before


def test_a_classifier_of_other_images_or_classes_is_refused(runs):
    config = load_config(runs / "classes")
    config.sampling.classifier = str(runs / "classifier")
    guidance_models.load_guidance_models(Experiment.from_config(config))
    named = [str(i) for i in range(10)]
    with pytest.raises(ValueError, match="names class 2 '2', and the guided run names it 'two'"):
        guidance_models.classes_of(config, ["0", "1", "two", *named[3:]])
    for field, value, message in (
        ("data.resolution", 16, "has 8 for resolution, and the guided run has 16"),
        ("model.channels", 3, "has 1 for channels, and the guided run has 3"),
        ("model.num_classes", 5, "has 10 for classes, and the guided run has 5"),
    ):
        other = config.copy_and_resolve_references()
        other.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError, match=message):
            guidance_models.load_guidance_models(Experiment.from_config(other))
