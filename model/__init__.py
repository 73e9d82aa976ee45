"""The graph foundation model for atoms: data, backbones, training and inference, without a workflow engine."""
