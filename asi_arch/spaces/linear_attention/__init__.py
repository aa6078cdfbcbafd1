"""The main space: token mixers with a memory of constant size."""
