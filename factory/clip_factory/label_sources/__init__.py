"""What gives each photo its probability of yes, and what improves these probabilities."""
