"""Training of the priors that come in the box."""
