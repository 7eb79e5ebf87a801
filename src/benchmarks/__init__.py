"""This product beside what people would use instead. Imports every other room."""
