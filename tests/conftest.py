"""Every test runs with the shapes and types of the annotations checked."""

from jaxtyping import install_import_hook

install_import_hook("gs4d", "beartype.beartype")
