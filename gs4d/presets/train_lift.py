"""How lift's sixth run was made, on which the weights that come with gs4d rest.

python -m gs4d.prior.train --config train_lift; docs/lift.md says what came of it, and what
came after. --meshes FOLDER adds animated models to the procedural objects.
"""

from gs4d.prior.train.loop import TrainOptions

config = TrainOptions(
    model="lift",
    # clips of two frames: on two CPU cores, many small steps taught more than few large ones
    batch=8,
    steps=7000,
    learning_rate=4e-4,
    average=0.997,
    cooldown=0.6,
    first_samples=1800,
    samples_per_step=0.45,  # 2 600 samples were half learnt by heart after 4 500 steps
    most_samples=5000,
    measure_every=1000,
)
