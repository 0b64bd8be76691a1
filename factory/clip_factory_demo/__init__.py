"""The demo's own photographs, rendered: see render.py."""
