"""Readers and writers of files, nothing else."""
