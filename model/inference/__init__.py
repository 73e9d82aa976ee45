"""Trained models in use: predictor, blended branches, screening, ASE calculator."""
