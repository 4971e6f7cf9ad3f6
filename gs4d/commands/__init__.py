"""Commands of ``gs4d`` that a checkout also has as scripts.

What takes seconds to import is imported in ``main``.
"""
