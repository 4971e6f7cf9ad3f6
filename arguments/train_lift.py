"""How the weights of lift that come with gs4d were trained: python -m gs4d.prior.train --config arguments/train_lift.py

docs/lift.md says on what, for how long, and what came of it. --meshes FOLDER adds animated models to the procedural objects.
"""

from gs4d.prior.train.loop import TrainOptions

config = TrainOptions(
    model="lift",
    batch=4,  # clips of four frames: on two CPU cores, many small steps taught more than few large ones
    steps=4500,
    learning_rate=4e-4,  # at 9e-4, the transformer was soon ignored
    average=0.997,
    cooldown=0.35,
    first_lessons=1800,
    lessons_per_step=0.4,
    measure_every=300,
)
