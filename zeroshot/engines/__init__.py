"""What runs a model: ONNX Runtime without torch, or PyTorch; and sentences to token ids."""
