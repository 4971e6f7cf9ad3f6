"""Training of the networks that come with gs4d: ``python -m gs4d.prior.train --model lift``."""
