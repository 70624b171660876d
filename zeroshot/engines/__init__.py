"""Engines that run a model (ONNX Runtime without torch, or PyTorch), and tokenizers."""

import os

# Read as ONNX Runtime is loaded: it would store a device ID in the user's cache, and ask a server on the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
