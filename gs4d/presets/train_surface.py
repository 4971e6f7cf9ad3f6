"""How the network that sees depth is trained.

python -m gs4d.prior.train --config arguments/train_surface.py --meshes MODELS
"""

from gs4d.prior.train.loop import TrainOptions

config = TrainOptions(
    model="surface",
    batch=6,  # clips of two frames
    steps=40000,
    learning_rate=1e-3,
    average=0.997,
    cooldown=0.25,
    first_samples=200,
    samples_per_step=2.0,  # every sample is seen three times on average
    most_samples=60000,
    measure_every=400,
)
