"""csrerank."""
