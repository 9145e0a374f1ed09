"""The click commands; the only floor that exits."""
