"""Every field of a config, with its default. Experiments change some; none can be added.

A section holds the arguments of one constructor, which documents them: `model` of
`diffusion_jax.models.UNet`, `schedule` of `schedules.make_schedule`, `optimizer` of
`optimizers.adamw`. Whatever is chosen by name has its options in a section of that name, such as
`sampling.ddim.eta`; `schema.add_options` adds these from the signatures, with their defaults. None
is "off", or a value that follows from others; such a field keeps its type.
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from diffusion_jax.config.schema import add_options
from diffusion_jax.models.layers.block_chain import block_options


def get_config() -> ConfigDict:
    config = ConfigDict()

    # True reproduces gmongaras/Diffusion_models_from_scratch, including its quirks.
    config.original_quirks = False
    config.seed = 0  # of parameters, noise, label dropout and the order of the data

    config.batch_size = 128  # on all devices; divisible by their number times micro_batches
    config.micro_batches = 1  # parts in which a batch is computed, to save memory
    # ZeRO-1: optimizer state and EMA are sharded over the devices, to save memory.
    config.shard_state = False
    # Devices that JAX splits a CPU into; small networks are faster on 2. No effect with GPUs.
    config.cpu_devices = 1
    config.steps = 100_000  # updates
    config.label_dropout = 0.2  # probability of the null class, for classifier-free guidance
    # Workdir of a run whose EMA parameters training starts from, where names and shapes agree.
    config.init_from = placeholder(str)

    # The target of the network; docs/choices.md has all names. Fixed once a run has started.
    config.parameterization = ConfigDict()
    config.parameterization.name = "eps"  # or x0, v, velocity, edm
    config.parameterization.sigma_data = 0.5  # standard deviation of the data, for edm

    config.ema = ConfigDict()
    config.ema.name = "constant"  # or half_life, power
    config.ema.decay = 0.9999  # of constant
    config.ema.start = 0  # of constant: number of first updates that copy the parameters

    config.data = ConfigDict()
    config.data.name = "digits"  # or imagenet64, folder:PATH, ...; see docs/guides/data.md
    config.data.split = "train"  # of folders: train, heldout or all
    # Folder of datasets; None: ~/diffusion_jax_data, or ~/tensorflow_datasets for tfds.
    config.data.data_dir = placeholder(str)
    # Folder where tfds datasets and folders are decoded; None: cache in data_dir.
    config.data.cache_dir = placeholder(str)
    config.data.resolution = 64  # side of the square images
    # How images become square: stretch, center-crop, center-crop-dhariwal, random-resized-crop.
    config.data.crop = "center-crop"
    # random-resized-crop cuts from images with this shorter side; None: 5/4 of resolution.
    config.data.shorter_side = placeholder(int)
    config.data.smallest_crop = 0.8  # smallest part of the area in random-resized-crop
    config.data.flip = False  # mirror images at random, differently in each epoch
    config.data.drop_last = False  # True: no batch has images of two epochs; some are left out
    config.data.load_into_memory = False  # all at the start, instead of reading from disk
    config.data.threads = 4  # that read ahead
    # For folders. Patterns of paths within the folder are separated by commas: "*seg*,*_old/*".
    config.data.include = placeholder(str)  # patterns of images; None: all
    config.data.exclude = placeholder(str)  # patterns of images
    config.data.labels = "auto"  # or folders, parents, file, file:COLUMN, prefix, none
    # Images of split=heldout: a part such as 0.1, or patterns.
    config.data.holdout = placeholder(str)
    config.data.convert = False  # transparent, CMYK, 16-bit and animated images; else an error
    config.data.upright = False  # rotate images by their EXIF orientation
    config.data.srgb = False  # convert colors by their profiles to sRGB
    config.data.bits = 16  # used bits of 16-bit gray images; 12: the level 4095 is white
    config.data.skip_broken = False  # leave out files that cannot be read; else an error

    config.model = ConfigDict()
    config.model.name = "unet"  # dit has other fields: see digits_dit.py
    config.model.blocks = "res,clsAtn,chnAtn"  # of each level; see docs/choices.md
    config.model.channels = 3  # of the images: 1 is gray, 3 is RGB
    config.model.width = 128  # channels after the stem
    config.model.growth = 1  # each level has 2^growth times the channels of the one before
    config.model.levels = 3  # number of times the sides are halved
    # 0: no classes; None: the number of classes of the data.
    config.model.num_classes = FieldReference(0)
    config.model.time_dim = 512  # width of the embedding of the timestep
    config.model.label_dim = 512  # and of the class
    config.model.window = 16  # side of the squares of "atn", in pixels
    config.model.num_heads = 8  # of "atn"
    config.model.dropout = 0.0  # in "res" and "conv"
    # Of convolutions and matrix products: float32, bfloat16, or auto, which training resolves at
    # its start: bfloat16 on accelerators, float32 on CPUs.
    config.model.dtype = "auto"
    # Sides of the maps whose blocks are computed again in the backward pass, such as (64, 32), to
    # save memory; on the command line --config.model.remat=64,32.
    config.model.remat = ()
    # auto: head with original_quirks, else standard; or standard, head, published, sin.
    config.model.time_embedding = "auto"

    config.model.options = block_options()  # of single blocks, such as options.conv.expansion

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # or linear, flow, edm, ...; see docs/choices.md
    config.schedule.num_steps = 1000  # of cosine and linear
    config.schedule.first_timestep = 1  # c_noise of their first step: 1, or 0
    config.schedule.rescale_timesteps = False  # multiply c_noise by 1000 / num_steps

    config.timesteps = ConfigDict()
    config.timesteps.name = "uniform"  # the schedule's own distribution; or loss_second_moment

    config.loss = ConfigDict()
    config.loss.kind = "hybrid"  # or simple, vlb, ...; see docs/choices.md
    config.loss.error = "squared"  # or absolute: the distance of the estimate from its target
    config.loss.weight = "uniform"  # of the squared error; or edm, ...; see docs/choices.md
    config.loss.vlb_weight = 0.001  # of L_vlb in hybrid and original, for mean nats of one step

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 3e-4  # the largest, after warm-up
    # Updates in which the rate rises from 0; None: a twentieth of config.steps.
    config.optimizer.warmup_steps = FieldReference(0)
    config.optimizer.decay = "constant"  # or cosine, linear, inverse_sqrt
    # Where cosine and linear reach 0 (None: at config.steps), and where inverse_sqrt begins.
    config.optimizer.decay_steps = placeholder(int)
    config.optimizer.b1 = 0.9  # decay of the mean of the gradient in Adam
    config.optimizer.b2 = 0.999  # and of its square
    config.optimizer.eps = 1e-8  # added to its root
    config.optimizer.weight_decay = 0.01  # of AdamW; 0 is Adam
    config.optimizer.clip_norm = placeholder(float)  # largest gradient norm; None: no clipping

    # Settings of sample grids during training, and defaults of sampling.
    config.sampling = ConfigDict()
    config.sampling.solver = "ddim"  # or heun, dpmpp_2m, ...; see docs/choices.md
    config.sampling.steps = 100  # of spacings without a number of their own (sections, list)
    config.sampling.stride = placeholder(int)  # in place of steps: every stride-th of the chain
    # auto is the best one for solver and schedule; or ends, karras, ...; see docs/choices.md.
    config.sampling.spacing = "auto"
    # w in (1 + w) conditional - w unconditional: the CFG scale - 1; 0 is no guidance.
    config.sampling.guidance = 1.0
    # Guidance only where low < sigma / alpha <= high; elsewhere a single pass. None: no limit.
    config.sampling.guidance_low = placeholder(float)
    config.sampling.guidance_high = placeholder(float)
    # phi in [0, 1]: how far to return to the unguided contrast.
    config.sampling.guidance_rescale = placeholder(float)
    # Workdir of a weaker run to guide with, in place of the null class.
    config.sampling.autoguidance = placeholder(str)
    config.sampling.autoguidance_checkpoint = placeholder(int)  # its step; None: the newest
    # Workdir of a classifier of noisy images to guide with.
    config.sampling.classifier = placeholder(str)
    config.sampling.classifier_checkpoint = placeholder(int)  # its step; None: the newest
    config.sampling.classifier_scale = 1.0  # s, the weight of its gradient
    config.sampling.clip = True  # the predicted x0 to [-1, 1]
    config.sampling.dynamic_threshold = placeholder(float)  # in place of clip: 0.995, for example
    config.sampling.grid_rows = 8  # one class each
    config.sampling.grid_columns = 8  # images of each

    config.log_every = 100  # steps: a line of metrics.jsonl
    config.sample_every = 10_000  # steps: a grid in samples/
    # Minutes after which one extra grid is sampled (one process only).
    config.early_sample_minutes = placeholder(float)
    config.checkpoint_every = 10_000  # steps
    config.keep_latest = 3  # checkpoints
    config.keep_every = placeholder(int)  # checkpoints at its multiples are always kept
    config.max_nan_steps = 3  # consecutive non-finite steps after which a run stops
    # Resume from the newest checkpoint instead of stopping, once from each checkpoint.
    config.roll_back = False
    add_options(config)
    return config.lock()
