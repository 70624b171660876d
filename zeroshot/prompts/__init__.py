"""Reads labels and template sets, and checks what a model's tokenizer would change or cut off."""
