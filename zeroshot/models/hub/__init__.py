"""The Hugging Face hub: downloads, metadata requests, and their errors."""
