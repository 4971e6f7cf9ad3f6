"""Turns videos, folders, multi-view output of other tools and meshes into clips on disk."""
