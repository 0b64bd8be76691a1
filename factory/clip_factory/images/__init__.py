"""Photos as they come: where from, checked, hashed, grouped."""
