"""Scores of pictures and videos against their truth: pure functions on tensors, each with its paper."""
