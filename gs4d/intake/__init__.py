"""Everything in: videos, folders, other people's multi-view output and animated meshes become clips on disk."""
