"""People's answers: which photos to ask about, how answers are kept, and what they show."""
