"""Commands that score refinement against reference masks."""
