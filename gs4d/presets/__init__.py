"""Config files that come with gs4d; ``--configs NAME`` finds them."""
