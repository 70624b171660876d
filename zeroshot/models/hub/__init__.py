"""The Hugging Face hub: files from it, short questions to it, and what can go wrong on the way."""
