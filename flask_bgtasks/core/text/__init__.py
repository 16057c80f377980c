"""Rules for text and JSON that come from apps and strangers: what is stored, shown and left out."""
