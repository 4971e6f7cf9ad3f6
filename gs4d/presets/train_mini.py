"""How mini was trained: ``python -m gs4d.prior.train --config train_mini``.

docs/mini.md says on what, for how long, and what came of it. --meshes FOLDER adds animated models
to the procedural objects.
"""

from pathlib import Path

from gs4d.prior.train.loop import TrainOptions

config = TrainOptions(
    model="mini",
    out=Path("output/mini"),
    base="inflate",
    # each four views of four frames: on two CPU cores, many small steps teach more than few large
    # ones
    batch=2,
    steps=1200,
    learning_rate=4e-4,
    fan_in=0,  # as the run that docs/mini.md reports
    average=0.995,
    cooldown=0.28,
    first_samples=1000,
    samples_per_step=0.3,
    measure_every=200,
)
