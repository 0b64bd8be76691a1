"""Where releases are kept: published, found, trusted, taken back."""
