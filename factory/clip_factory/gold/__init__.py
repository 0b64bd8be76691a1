"""Answers of people about photos: tables, the journal of a review, forms of other tools."""
