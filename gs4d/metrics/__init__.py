"""Scores of pictures and videos against their truth.

Pure functions on tensors, each with its paper.
"""
