"""Networks and their objectives. Knows tensors: torch and torchvision alone."""
