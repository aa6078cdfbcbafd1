"""ASI-Arch: architecture research that runs by itself, and whose claims can be believed."""
