"""Coding agents in the researcher's place: claims, checks, designs that are handed in, and their answers."""
