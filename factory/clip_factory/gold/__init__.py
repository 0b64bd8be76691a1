"""What people said of photos: tables, the journal of a review, forms of other tools."""
