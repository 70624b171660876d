"""Engines that run a model (ONNX Runtime without torch, or PyTorch), and tokenizers."""
