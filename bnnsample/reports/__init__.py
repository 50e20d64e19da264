"""What people look at: run records, tables, figures and the page."""
