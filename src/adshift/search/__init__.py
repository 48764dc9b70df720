"""Coreset selection and nearest-neighbor search. Arrays in, arrays out."""
