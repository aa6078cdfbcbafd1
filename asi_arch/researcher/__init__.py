"""Module 2, the researcher: from what is known to a proposal."""
