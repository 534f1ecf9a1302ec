"""Meshes of strangers, read within bounds and from their own folder only."""
