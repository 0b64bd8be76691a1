"""What gives each photo a probability of yes, and what betters it."""
