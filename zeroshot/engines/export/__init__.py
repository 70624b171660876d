"""Export of PyTorch models to the graphs of the torch-free engine."""
