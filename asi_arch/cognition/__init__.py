"""Module 1: what papers know, in our own words, and how a weakness finds it."""
