"""``gs4d render``: renders a fitted run."""

from __future__ import annotations


def main(arguments: list[str], program: str = "gs4d render") -> None:
    """Parses, renders, and says where the results are."""
    from ..options import parse, split_config_flag  # seconds, in which Ctrl-C is already heard
    from ..rerender import RenderOptions, rerender

    _, rest = split_config_flag(arguments)  # 4DGen's users pass one; a run remembers its own
    options = parse(
        RenderOptions,
        rest,
        default=RenderOptions(),
        program=program,
        description="Renders a fitted run.",
    )
    for path in rerender(options):
        print(path)
